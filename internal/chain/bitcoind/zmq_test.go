package bitcoind

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/testing/conform"
)

// greeting is what a publisher of libzmq 4.3.4 says first: ZMTP 3.1, NULL, and
// READY as a PUB.
const greeting = "\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x01NULL\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03PUB"

// hashblock is a message as Bitcoin Core publishes it: topic, hash, counter.
var hashblock = "\x01\x09hashblock\x01\x20" + strings.Repeat("\xaa", 32) + "\x00\x04\x01\x00\x00\x00"

// publisher is the other side of one subscriber after another.
type publisher struct {
	net.Listener
	t *testing.T
}

func publish(t *testing.T, at string) *publisher {
	t.Helper()
	l, err := net.Listen("tcp", at)
	conform.Must(t, err)
	t.Cleanup(func() { l.Close() })
	return &publisher{l, t}
}

// accept takes a subscriber as far as its subscription. Like libzmq it wants
// to be waited for.
func (p *publisher) accept() net.Conn {
	p.t.Helper()
	conform.Must(p.t, p.Listener.(*net.TCPListener).SetDeadline(time.Now().Add(2*time.Minute)))
	conn, err := p.Accept()
	conform.Must(p.t, err)
	p.t.Cleanup(func() { conn.Close() })
	for _, step := range []struct{ theirs, ours string }{
		{"\xff\x00\x00\x00\x00\x00\x00\x00\x00\x7f\x03\x00NULL" + strings.Repeat("\x00", 48), greeting[:64]},
		{"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB", greeting[64:]},
		{"\x00\x0a\x01hashblock", ""},
	} {
		got := make([]byte, len(step.theirs))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != step.theirs {
			p.t.Fatalf("the subscriber says %q, %v, want %q", got, err, step.theirs)
		}
		conform.Must(p.t, conn.SetReadDeadline(time.Now().Add(5*time.Millisecond)))
		if n, _ := conn.Read(got); n > 0 {
			p.t.Fatalf("the subscriber goes on with %q before its turn", got[:n])
		}
		conform.Must(p.t, conn.SetReadDeadline(time.Time{}))
		p.send(conn, step.ours)
	}
	return conn
}

func (p *publisher) send(conn net.Conn, said string) {
	p.t.Helper()
	_, err := io.WriteString(conn, said)
	conform.Must(p.t, err)
}

// TestZMQ: news come at once by a publisher, one that is configured or one that
// the node tells of, and again after it was gone.
func TestZMQ(t *testing.T) {
	t.Parallel()
	for _, told := range []bool{false, true} {
		t.Run(fmt.Sprintf("told by the node %v", told), func(t *testing.T) {
			p := startProxy(t)
			pub := publish(t, "127.0.0.1:0")
			_, port, _ := net.SplitHostPort(pub.Addr().String())
			cfg := Config{URL: p.URL, Poll: time.Hour}
			if told {
				p.set("getzmqnotifications", func([]json.RawMessage, json.RawMessage) (any, *Error) {
					return []map[string]any{{"type": "pubrawtx", "address": "tcp://127.0.0.1:1", "hwm": 1000},
						{"type": "pubhashblock", "address": "tcp://0.0.0.0:" + port, "hwm": 1000}}, nil
				})
			} else {
				cfg.ZMQ = "tcp://127.0.0.1:" + port
			}
			c := newClient(t, cfg)
			news := c.Watch(t.Context())
			signal(t, news)
			conn := pub.accept()
			for range 3 {
				mine(t, p.node, 1)
				pub.send(conn, hashblock)
				signal(t, news)
			}
			// Whatever else comes makes nobody look, and breaks nothing.
			pub.send(conn, "\x04\x05\x04PING\x01\x05rawtx\x00\x09hashblock\x00\x00")
			mine(t, p.node, 1)
			pub.send(conn, hashblock)
			signal(t, news)
			// A block of which nobody heard, while the connection was away.
			conn.Close()
			mine(t, p.node, 1)
			conn = pub.accept()
			signal(t, news)
			mine(t, p.node, 1)
			pub.send(conn, hashblock)
			signal(t, news)
			conform.Must(t, c.Close())
			if _, err := conn.Read(make([]byte, 1)); err == nil {
				t.Error("the subscriber stays after Close")
			}
		})
	}
}

func TestOffered(t *testing.T) {
	const here, far = "http://127.0.0.1:8332", "https://node.example:8332"
	for _, x := range []struct{ node, offer, want string }{
		{here, "tcp://127.0.0.1:28332", "127.0.0.1:28332"},
		{"http://[::1]:8332", "tcp://127.0.0.1:28332", "[::1]:28332"},
		{"http://localhost:8332", "tcp://[::1]:28332", "localhost:28332"},
		{far, "tcp://127.0.0.1:28332", ""}, // its loopback, not ours
		{far, "tcp://0.0.0.0:28332", "node.example:28332"},
		{far, "tcp://*:28332", "node.example:28332"},
		{far, "tcp://[::]:28332", "node.example:28332"},
		{here, "tcp://198.51.100.7:28332", "127.0.0.1:28332"}, // the port at most
		{here, "tcp://127.0.0.1", ""},
		{here, "ipc:///tmp/x", ""},
		{here, "", ""},
		{here, "tcp://%zz:1", ""},
	} {
		if got := offered(x.node, x.offer); got != x.want {
			t.Errorf("%s at %s: %q, want %q", x.offer, x.node, got, x.want)
		}
	}
}

// TestHostilePublisher: nothing that a publisher says or leaves unsaid hurts,
// and nobody looks who was not told of a block.
func TestHostilePublisher(t *testing.T) {
	const long = "\x02\x00\x00\x00\x00\x00\x00\x04\x01" // 1025 bytes
	for name, said := range map[string]string{
		"nothing":            "",
		"half a greeting":    greeting[:32],
		"HTTP":               "HTTP/1.1 400 Bad Request\r\n\r\n" + strings.Repeat("x", 100),
		"ZMTP 2":             greeting[:10] + "\x01" + greeting[11:],
		"a password":         strings.Replace(greeting, "NULL\x00", "PLAIN", 1),
		"no READY":           greeting[:64] + hashblock,
		"ERROR":              greeting[:64] + "\x04\x0a\x05ERROR\x03no!",
		"a large READY":      greeting[:64] + "\x06\xff\xff\xff\xff\xff\xff\xff\xff",
		"a large frame":      greeting + long + strings.Repeat("x", 1025),
		"a very large frame": greeting + "\x03\x7f\xff\xff\xff\xff\xff\xff\xff",
	} {
		t.Run(name, func(t *testing.T) {
			pub := publish(t, "127.0.0.1:0")
			go func() {
				conn, err := pub.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(conn, said)
				_ = conn.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, conn)
				conn.Close()
			}()
			looks := 0
			if _, err := subscribe(t.Context(), pub.Addr().String(), func(bool) { looks++ }); err == nil {
				t.Error("no error")
			}
			if looks > 0 && !strings.HasPrefix(said, greeting) || looks > 1 {
				t.Errorf("%d looks", looks)
			}
		})
	}
	t.Run("silence", func(t *testing.T) {
		pub := publish(t, "127.0.0.1:0")
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		begin := time.Now()
		if _, err := subscribe(ctx, pub.Addr().String(), func(bool) { t.Error("a look") }); err == nil || time.Since(begin) > zmqTimeout/2 {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
}

// FuzzFrame: no frame is larger than the bound, or than the bytes that came.
func FuzzFrame(f *testing.F) {
	for _, seed := range []string{"", "\x00", "\x00\x00", "\x01\x05hello", "\x02\x00\x00\x00\x00\x00\x00\x00\x01x", "\x02\xff\xff\xff\xff\xff\xff\xff\xff", hashblock} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		go func() {
			_, _ = theirs.Write(raw)
			theirs.Close()
		}()
		for r := bufio.NewReader(ours); ; {
			_, body, err := readFrame(ours, r)
			if err != nil {
				return
			}
			if len(body) > maxFrame || len(body) > len(raw) {
				t.Fatalf("a frame of %d bytes", len(body))
			}
		}
	})
}
