package soak

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bitgram/bitgram/internal/testing/ports"
)

// wires join network namespaces, one for each party and one for the chain. Every
// packet between them passes through here, where it is delayed, lost or stopped:
// no kernel has to know how (netem), no program is needed, and nothing is left
// behind.
type wires struct {
	t      *testing.T
	town   *town
	spaces []*space // the chain's, and the parties'

	mu            sync.Mutex
	rand          *rand.Rand
	delay, jitter time.Duration // of a packet between parties
	loss          float64
	lost          atomic.Int64
}

// space is a network namespace with one interface; nil is the one we are in.
type space struct {
	net   *os.File
	tun   *os.File
	ip    net.IP
	apart bool // on the other side of a partition
}

// ip is the next space's, in a network that is seen nowhere else.
func (w *wires) ip() net.IP { return net.IPv4(10, 7, 0, byte(1+len(w.spaces))).To4() }

// newWires moves a town's parties, which do not run yet, into namespaces.
func newWires(w *town) *wires {
	w.t.Helper()
	n := &wires{t: w.t, town: w, rand: rand.New(rand.NewPCG(1, 2))}
	node := n.space()
	at := strings.TrimPrefix(w.rpc, "http://")
	_, port, err := net.SplitHostPort(at)
	must(w.t, err)
	near := net.JoinHostPort(node.ip.String(), port)
	w.near = "http://" + near
	n.relay(node, near, nil, at)
	for _, p := range w.parties() {
		s := n.space()
		p.ip = s.ip.String()
		p.run = func(c *exec.Cmd) error { return s.in(c.Start) }
	}
	w.arrange()
	for i, p := range w.parties() {
		api := fmt.Sprintf("127.0.0.1:%d", ports.Free(w.t))
		p.args = append(p.args, "--api", api)
		n.relay(nil, api, n.spaces[1+i], api)
	}
	return n
}

// space makes one. It ends with the test.
func (n *wires) space() *space {
	n.t.Helper()
	s := &space{ip: n.ip()}
	lack := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		lack <- s.open()
	}()
	if err := <-lack; err != nil {
		n.t.Skipf("no network namespaces with interfaces of their own can be made here: %v", err)
	}
	n.mu.Lock()
	n.spaces = append(n.spaces, s)
	n.mu.Unlock()
	var done sync.WaitGroup
	done.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			size, err := s.tun.Read(buf)
			if err != nil {
				return
			}
			n.pass(s, bytes.Clone(buf[:size]))
		}
	})
	n.t.Cleanup(func() {
		_ = s.tun.Close()
		_ = s.net.Close()
		done.Wait()
	})
	return s
}

// open puts the calling thread into a new namespace and brings up its loopback
// and its wire.
func (s *space) open() (err error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if s.net, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return err
	}
	ctl, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(ctl)
	// Not blocking, so that Close ends a Read.
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("/dev/net/tun: %w", err)
	}
	const wire = "wire"
	for _, step := range []struct {
		fd   int
		name string
		ask  uint
		set  func(*unix.Ifreq) error
	}{
		{fd, wire, unix.TUNSETIFF, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI); return nil }},
		{ctl, wire, unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(s.ip) }},
		{ctl, wire, unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error { return r.SetInet4Addr(net.CIDRMask(24, 32)) }},
		{ctl, wire, unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil }},
		{ctl, "lo", unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil }},
	} {
		r, err := unix.NewIfreq(step.name)
		if err == nil {
			err = step.set(r)
		}
		if err == nil {
			err = unix.IoctlIfreq(step.fd, step.ask, r)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("interface %s: %w", step.name, err), unix.Close(fd))
		}
	}
	s.tun = os.NewFile(uintptr(fd), wire)
	return nil
}

// in runs f inside.
func (s *space) in(f func() error) error {
	if s == nil {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good
		err := unix.Setns(int(s.net.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// pass carries a packet from one space to another.
func (n *wires) pass(from *space, packet []byte) {
	if len(packet) < 20 || packet[0]>>4 != 4 {
		return // IPv6 looks for its neighbours
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, to := range n.spaces {
		if !to.ip.Equal(net.IP(packet[16:20])) {
			continue
		}
		wait, cut := time.Duration(0), from.apart != to.apart
		if i > 0 && from != n.spaces[0] { // a Bitcoin node stands beside its user
			wait = max(0, n.delay-n.jitter+time.Duration(n.rand.Int64N(int64(2*n.jitter)+1)))
			cut = cut || n.rand.Float64() < n.loss
		}
		if cut {
			n.lost.Add(1)
		} else {
			time.AfterFunc(wait, func() { _, _ = to.tun.Write(packet) }) // it may be down already
		}
	}
}

// weather sets what happens to packets between parties.
func (n *wires) weather(delay, jitter time.Duration, loss float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay, n.jitter, n.loss = delay, jitter, loss
}

// part cuts some parties off from all others and from the chain, and joins
// those that were before.
func (n *wires) part(off ...*party) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, p := range n.town.parties() {
		off := slices.Contains(off, p)
		n.spaces[1+i].apart = off
		p.away.Store(off)
	}
}

// relay has whoever connects to an address in one space speak to one in another.
func (n *wires) relay(from *space, listen string, to *space, dial string) {
	n.t.Helper()
	var l net.Listener
	must(n.t, from.in(func() (err error) {
		l, err = net.Listen("tcp", listen)
		return err
	}))
	n.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				var out net.Conn
				if to.in(func() (err error) {
					out, err = net.Dial("tcp", dial)
					return err
				}) != nil {
					return // nobody is there
				}
				go func() {
					_, _ = io.Copy(out, in)
					_ = out.Close()
				}()
				_, _ = io.Copy(in, out)
			}()
		}
	}()
}
