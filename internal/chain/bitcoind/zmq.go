package bitcoind

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"time"
)

const (
	zmqTopic    = "hashblock"
	maxFrame    = 1 << 10 // bytes; the parts of a hashblock message have 9, 32 and 4
	zmqTimeout  = 10 * time.Second
	zmqRetry    = time.Second // doubled after each failure
	zmqMaxRetry = time.Minute
)

// zmqAddress reads tcp://host:port.
func zmqAddress(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "tcp" || u.Port() == "" {
		return "", fmt.Errorf("a ZMQ publisher must be like tcp://127.0.0.1:28332, not %q", s)
	}
	return u.Host, nil
}

// listen makes follow poll at each block that the node publishes, until Close.
func (c *Client) listen() {
	wait, warned := zmqRetry, false
	for {
		if addr := c.publisher(); addr != "" {
			connected, err := subscribe(c.life, addr, func(block bool) {
				if block {
					c.zmqState.hears()
				} else {
					c.zmqState.connects()
				}
				c.published.Store(true)
				c.look()
			})
			c.published.Store(false)
			c.zmqState.fails(err)
			if connected {
				wait = zmqRetry
			}
			level := slog.LevelDebug
			if c.zmq != "" && !warned && c.life.Err() == nil { // the user asked for it
				level, warned = slog.LevelWarn, true
			} else if connected {
				warned = false
			}
			c.log.Log(c.life, level, "the ZMQ publisher is away; blocks are noticed by polling", "addr", addr, "err", err)
		} else {
			wait = zmqMaxRetry
		}
		if !c.sleep(wait) {
			return
		}
		wait = min(2*wait, zmqMaxRetry)
	}
}

// look makes follow poll the tip now.
func (c *Client) look() {
	select {
	case c.poke <- struct{}{}:
	default:
	}
}

// publisher returns the address at which the node publishes hashblock, or "".
func (c *Client) publisher() string {
	if c.zmq != "" {
		addr, _ := zmqAddress(c.zmq) // New looked at it
		return addr
	}
	var offers []struct{ Type, Address string }
	if err := c.ask(c.life, &offers, "getzmqnotifications"); err != nil { // not in btcd
		return ""
	}
	for _, o := range offers {
		if addr := offered(c.rpc.url, o.Address); o.Type == "pub"+zmqTopic && addr != "" {
			return addr
		}
	}
	return ""
}

// offered returns the address at which we can reach what the node at nodeURL
// publishes at address, as the node sees it, or "". Only the port is used: a
// node must not be able to make us connect to another host.
func offered(nodeURL, address string) string {
	node, err := url.Parse(nodeURL)
	if err != nil {
		return ""
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "tcp" || u.Port() == "" || local(u.Hostname()) && !local(node.Hostname()) {
		return ""
	}
	return net.JoinHostPort(node.Hostname(), u.Port())
}

func local(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// subscribe connects to a publisher and calls news once it is connected, and with
// true for each block, until the connection or ctx ends; connected says whether it
// connected at all.
//
// The protocol is ZMTP 3.0 (https://rfc.zeromq.org/spec/23/) with the NULL
// mechanism: both sides send a greeting of 64 bytes and the command READY; the
// subscriber sends 1 and its topic; then messages of frames follow. A frame is
// a byte of flags, its size in one byte or eight, and its body. libzmq closes
// the connection of a peer that does not wait for the answer at each step.
func subscribe(ctx context.Context, addr string, news func(block bool)) (connected bool, err error) {
	conn, err := (&net.Dialer{Timeout: zmqTimeout}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(zmqTimeout)); err != nil {
		return false, err
	}
	r := bufio.NewReader(conn)
	var ours, theirs [64]byte
	copy(ours[:], "\xff\x00\x00\x00\x00\x00\x00\x00\x00\x7f\x03\x00NULL")
	if _, err := conn.Write(ours[:]); err != nil {
		return false, err
	}
	if _, err := io.ReadFull(r, theirs[:]); err != nil {
		return false, err
	}
	if theirs[0] != 0xff || theirs[9]&1 == 0 || theirs[10] < 3 || !bytes.Equal(theirs[12:32], ours[12:32]) {
		return false, errors.New("not a ZMTP 3 publisher without authentication")
	}
	if _, err := io.WriteString(conn, "\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB"); err != nil {
		return false, err
	}
	flags, body, err := readFrame(conn, r)
	if err != nil {
		return false, err
	}
	if flags&flagCommand == 0 || !bytes.HasPrefix(body, []byte("\x05READY")) {
		return false, errors.New("the ZMQ publisher is not ready")
	}
	if _, err := io.WriteString(conn, "\x00\x0a\x01"+zmqTopic); err != nil {
		return false, err
	}
	news(false) // to look for what was missed so far
	for first := true; ; {
		if first { // the next block may be hours away
			if err := conn.SetDeadline(time.Time{}); err != nil {
				return true, err
			}
		}
		flags, body, err := readFrame(conn, r)
		if err != nil {
			return true, err
		}
		if flags&flagCommand != 0 {
			continue
		}
		if first && string(body) == zmqTopic {
			news(true)
		}
		first = flags&flagMore == 0
	}
}

// The flags of a frame.
const flagMore, flagLong, flagCommand = 1, 2, 4

// readFrame waits for a frame until conn's deadline; once a frame has begun it
// must end within zmqTimeout.
func readFrame(conn net.Conn, r *bufio.Reader) (flags byte, body []byte, err error) {
	if flags, err = r.ReadByte(); err != nil {
		return 0, nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(zmqTimeout)); err != nil {
		return 0, nil, err
	}
	var size [8]byte
	field := size[7:]
	if flags&flagLong != 0 {
		field = size[:]
	}
	if _, err := io.ReadFull(r, field); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint64(size[:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("a ZMQ frame of %d bytes", n)
	}
	body = make([]byte, n)
	_, err = io.ReadFull(r, body)
	return flags, body, err
}
