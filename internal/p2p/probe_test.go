package p2p

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

func addr(t *testing.T, text string) multiaddr.Multiaddr {
	t.Helper()
	m, err := multiaddr.NewMultiaddr(text)
	must(t, err)
	return m
}

// TestProbe: whoever listens says who it is; who is silent, talks nonsense or is
// not there does not keep the caller.
func TestProbe(t *testing.T) {
	caller := newHost(t, Config{})
	for i, listen := range []string{overTCP, overQUIC} {
		agent := newHost(t, Config{Identity: secret(byte(i + 1)), Listen: []string{listen}})
		at := addr(t, agent.Addrs()[0])
		id, err := caller.Probe(t.Context(), at)
		if must(t, err); id != agent.ID() {
			t.Errorf("%s: %s, wanted %s", at, id, agent.ID())
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = caller.Probe(ctx, at)
		wantErr(t, err, ErrUnreachable)
	}
	// Of strangers some are silent: these are waited for, for a moment.
	quick := Limits{Frame: 300 * time.Millisecond, MinRate: 1 << 20, Streams: 64}
	caller = newHost(t, Config{Limits: quick})
	for name, serve := range map[string]func(net.Conn){
		"silent":   func(net.Conn) {},
		"nonsense": func(c net.Conn) { _, _ = io.WriteString(c, "220 mail.example.org ESMTP\r\n") },
		"endless": func(c net.Conn) {
			for {
				if _, err := c.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		},
		"closes": func(c net.Conn) { _ = c.Close() },
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go serve(c)
			}
		}()
		start := time.Now()
		at, err := manet.FromNetAddr(l.Addr())
		must(t, err)
		_, err = caller.Probe(t.Context(), at)
		wantErr(t, err, ErrUnreachable)
		if took := time.Since(start); took > time.Minute {
			t.Errorf("%s: it took %v", name, took)
		}
		must(t, l.Close())
		_, err = caller.Probe(t.Context(), at) // nobody is there
		wantErr(t, err, ErrUnreachable)
	}
	for name, answer := range map[string][]byte{"silent": nil, "nonsense": make([]byte, 1200)} {
		l, err := net.ListenPacket("udp", "127.0.0.1:0")
		must(t, err)
		go func() {
			buf := make([]byte, 2048)
			for {
				_, from, err := l.ReadFrom(buf)
				if err != nil {
					return
				}
				if answer != nil {
					_, _ = l.WriteTo(answer, from)
				}
			}
		}()
		start := time.Now()
		at, err := manet.FromNetAddr(l.LocalAddr())
		must(t, err)
		_, err = caller.Probe(t.Context(), at.Encapsulate(addr(t, "/quic-v1")))
		wantErr(t, err, ErrUnreachable)
		if took := time.Since(start); took > time.Minute {
			t.Errorf("%s, by UDP: it took %v", name, took)
		}
		must(t, l.Close())
	}
	for _, not := range []string{"/dns4/example.org/tcp/1", "/ip4/127.0.0.1/udp/1", "/ip4/0.0.0.0/tcp/1", "/ip4/127.0.0.1/tcp/1/ws"} {
		_, err := caller.Probe(t.Context(), addr(t, not))
		wantErr(t, err, ErrUnreachable)
	}
}
