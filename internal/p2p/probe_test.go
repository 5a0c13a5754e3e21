package p2p

import (
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

func addrPort(t *testing.T, text string) netip.AddrPort {
	t.Helper()
	m, err := multiaddr.NewMultiaddr(text)
	must(t, err)
	a, err := manet.ToNetAddr(m)
	must(t, err)
	at, err := netip.ParseAddrPort(a.String())
	must(t, err)
	return at
}

// TestProbe: whoever listens says who it is; who is silent, talks nonsense or is
// not there does not keep the caller.
func TestProbe(t *testing.T) {
	agent := newHost(t, Config{Identity: secret(1), Listen: []string{overTCP}})
	caller := newHost(t, Config{Limits: quick})
	id, err := caller.Probe(t.Context(), addrPort(t, agent.Addrs()[0]))
	if must(t, err); id != agent.ID() {
		t.Errorf("%s, wanted %s", id, agent.ID())
	}
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
		_, err = caller.Probe(t.Context(), netip.MustParseAddrPort(l.Addr().String()))
		wantErr(t, err, ErrUnreachable)
		if took := time.Since(start); took > 10*quick.Frame {
			t.Errorf("%s: it took %v", name, took)
		}
		must(t, l.Close())
		_, err = caller.Probe(t.Context(), netip.MustParseAddrPort(l.Addr().String())) // nobody is there
		wantErr(t, err, ErrUnreachable)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = caller.Probe(ctx, addrPort(t, agent.Addrs()[0]))
	wantErr(t, err, ErrUnreachable)
}
