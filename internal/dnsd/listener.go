package dnsd

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// listener limits the number of connections, in total and per network, and the
// duration of a write, because the DNS library waits for a client that does not
// read.
type listener struct {
	net.Listener
	mu    sync.Mutex
	conns map[*conn]struct{}
	of    map[netip.Prefix]int
}

func newListener(l net.Listener) *listener {
	return &listener{Listener: l, conns: map[*conn]struct{}{}, of: map[netip.Prefix]int{}}
}

// Accept implements net.Listener. It closes excess connections at once.
func (l *listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from, _ := addrOf(raw.RemoteAddr())
		c := &conn{Conn: raw, l: l, from: networkOf(from)}
		if l.enter(c, from.IsLoopback()) {
			return c, nil
		}
		_ = raw.Close()
	}
}

func (l *listener) enter(c *conn, local bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.conns) >= maxConns || !local && l.of[c.from] >= maxConnsOf {
		return false
	}
	l.conns[c] = struct{}{}
	l.of[c.from]++
	return true
}

// end closes all connections.
func (l *listener) end() {
	l.mu.Lock()
	var list []*conn
	for c := range l.conns {
		list = append(list, c)
	}
	l.mu.Unlock()
	for _, c := range list {
		_ = c.Close()
	}
}

// conn is one connection.
type conn struct {
	net.Conn
	l    *listener
	from netip.Prefix
}

// Write implements net.Conn. It fails if the client does not read.
func (c *conn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(askPatience)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(b)
	if err != nil {
		_ = c.Close()
	}
	return n, err
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.l.mu.Lock()
	if _, ok := c.l.conns[c]; ok {
		delete(c.l.conns, c)
		if c.l.of[c.from]--; c.l.of[c.from] == 0 {
			delete(c.l.of, c.from)
		}
	}
	c.l.mu.Unlock()
	return c.Conn.Close()
}

// networkOf returns the network that counts as one client.
func networkOf(from netip.Addr) netip.Prefix {
	bits := 24
	if from.Is6() {
		bits = 56
	}
	p, _ := from.Prefix(bits) // the zero one for no address
	return p
}
