package bankbench

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/chain/devchain"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/node/banking"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// town is a chain, a payee that listens on loopback, its payers, and perhaps a
// banker, which is one of them.
type town struct {
	dir    string
	chain  *devchain.Chain
	payee  *node.Node
	payers []*payer
	peer   bank.Peer
}

// payer is one that opens banks.
type payer struct {
	*node.Node
	accepted chan error // of the bank that is being opened
}

// network measures two whole nodes, with their files, over libp2p on loopback.
func (b *bench) network(ctx context.Context) (err error) {
	t := &town{}
	if t.dir, err = os.MkdirTemp(b.opt.Dir, "bitgram-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	if err := t.open(); err != nil {
		return err
	}
	if err := b.openings(ctx, t); err != nil {
		return fmt.Errorf("opening: %w", err)
	}
	if err := b.payments(ctx, t); err != nil {
		return fmt.Errorf("payments: %w", err)
	}
	return nil
}

func (t *town) open() (err error) {
	if t.chain, err = devchain.Open(filepath.Join(t.dir, "chain")); err != nil {
		return err
	}
	cfg := t.config("payee")
	cfg.Banking = &banking.Policy{OfferPause: time.Millisecond, Policy: bank.Policy{MinValue: 1000, MaxRungs: penny.MaxRungs, MaxBanks: 1000}}
	cfg.Listen = []string{"/ip4/127.0.0.1/tcp/0"}
	if t.payee, err = node.Open(cfg); err != nil {
		return err
	}
	t.payee.Start()
	t.peer = bank.Peer{Key: t.payee.Key(), Addrs: t.payee.Addrs()}
	return nil
}

func (t *town) close() error {
	var errs []error
	for _, p := range t.payers {
		errs = append(errs, p.Close())
	}
	if t.payee != nil {
		errs = append(errs, t.payee.Close())
	}
	if t.chain != nil {
		errs = append(errs, t.chain.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(t.dir))...)
}

func (t *town) config(name string) node.Config {
	seed := make([]byte, 64)
	_, _ = rand.Read(seed) // never fails (crypto/rand)
	return node.Config{Dir: filepath.Join(t.dir, name), Network: wire.Regtest, Seed: seed, Chain: t.chain}
}

// payer adds a payer with this many coins, each enough for a bank.
func (t *town) payer(ctx context.Context, coins int) (*payer, error) {
	return t.add(ctx, t.config(fmt.Sprintf("payer-%d", len(t.payers))), coins)
}

// add adds a node that opens banks, with this many coins.
func (t *town) add(ctx context.Context, cfg node.Config, coins int) (*payer, error) {
	p := &payer{accepted: make(chan error, 64)}
	more := cfg.Observe
	cfg.Observe = func(c engine.Change) {
		if more != nil {
			more(c)
		}
		s, ok := c.State.(bank.Payer)
		if !ok {
			return
		}
		switch before, _ := c.Before.(bank.Payer); {
		case s.Phase == before.Phase:
		case s.Phase == bank.PayerPublishing:
			p.accepted <- nil
		case s.Phase == bank.PayerFailed:
			p.accepted <- errors.New(s.Failure)
		}
	}
	var err error
	if p.Node, err = node.Open(cfg); err != nil {
		return nil, err
	}
	t.payers = append(t.payers, p)
	p.Start()
	for range coins {
		_, script, err := p.Coins.NewAddress(ctx)
		if err != nil {
			return nil, err
		}
		if _, err := t.chain.Faucet(ctx, script, bankValue+20_000); err != nil {
			return nil, err
		}
	}
	return p, t.mine(ctx, 1)
}

// mine mines blocks and waits until all parties have seen them and are idle.
func (t *town) mine(ctx context.Context, n int) error {
	refs, err := t.chain.Mine(ctx, n, append([]byte{0x51, 0x20}, bytes.Repeat([]byte{2}, 32)...))
	if err != nil {
		return err
	}
	tip := refs[len(refs)-1].Height
	for _, p := range t.payers {
		if err := rest(ctx, p.Node, tip); err != nil {
			return err
		}
	}
	return rest(ctx, t.payee, tip)
}

// rest waits until a node has seen a height and is idle.
func rest(ctx context.Context, n *node.Node, tip wire.Height) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for quiet := 0; quiet < 2; quiet++ {
		if !n.Engine().Idle(tip) {
			quiet = -1
		}
		select {
		case <-time.After(200 * time.Microsecond):
		case <-ctx.Done():
			return fmt.Errorf("a node is still busy: %w", ctx.Err())
		}
	}
	return nil
}

// bankValue is what a bank of these measurements holds.
const bankValue wire.Sat = 50_000

// openBank opens a bank and returns once its payee has accepted it.
func (p *payer) openBank(ctx context.Context, to bank.Peer, rungs, perRung uint32) (id bank.ID, took time.Duration, err error) {
	began := time.Now()
	id, err = p.Banks.OpenBank(ctx, banking.Terms{Peer: to, Value: bankValue, Rungs: rungs, PerRung: perRung, Blocks: 1000, MaxFee: 10_000})
	if err != nil {
		return id, 0, err
	}
	select {
	case err = <-p.accepted:
		return id, time.Since(began), err
	case <-ctx.Done():
		return id, 0, ctx.Err()
	}
}

// openings measures the time from the user's request to the payee's acceptance:
// the chain is computed, all rungs are signed, sent to the payee and verified,
// and both sides have stored them.
func (b *bench) openings(ctx context.Context, t *town) error {
	type kind struct {
		name           string
		rungs, perRung uint32
		max            float64
	}
	runs, kinds := 9, []kind{{"open_126", 126, 1000, 150}, {"open_126_million", 126, 7937, 0}, {"open_1022", penny.MaxRungs, 1000, 1000}}
	if b.opt.Quick {
		runs, kinds = 2, []kind{{"open_126", 126, 100, 150}, {"open_1022", penny.MaxRungs, 100, 1000}}
	}
	p, err := t.payer(ctx, len(kinds)*(runs+1))
	if err != nil {
		return err
	}
	for _, k := range kinds {
		var times []float64
		for i := range runs + 1 {
			b.working("opening a bank with %d rungs, %d of %d", k.rungs, i+1, runs+1)
			_, took, err := p.openBank(ctx, t.peer, k.rungs, k.perRung)
			if err != nil {
				return err
			}
			if i > 0 { // the first also connects
				times = append(times, took.Seconds()*1e3)
			}
			if err := t.mine(ctx, 1); err != nil {
				return err
			}
		}
		b.found(Figure{Name: k.name, What: fmt.Sprintf("opening a bank, %d rungs and %s pennies", k.rungs, thousands(float64(k.rungs*k.perRung))),
			Value: median(times), Unit: "ms", Max: k.max})
	}
	return b.exchanged(ctx, t)
}

// exchanged counts the bytes sent in both directions to open a large bank,
// including the start of the connection.
func (b *bench) exchanged(ctx context.Context, t *town) (err error) {
	b.working("counting bytes")
	relay, err := newRelay(t.peer.Addrs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, relay.close()) }()
	p, err := t.payer(ctx, 1)
	if err != nil {
		return err
	}
	if _, _, err := p.openBank(ctx, bank.Peer{Key: t.peer.Key, Addrs: []string{relay.addr()}}, penny.MaxRungs, 100); err != nil {
		return err
	}
	b.found(Figure{Name: "open_1022_bytes", What: "bytes exchanged to open a bank of 1022 rungs, with the connection's beginning", Value: float64(relay.bytes.Load()), Unit: "bytes", Max: 200 << 10})
	return t.mine(ctx, 1)
}

// relay forwards TCP and counts the bytes.
type relay struct {
	net.Listener
	to    string
	bytes atomic.Int64
	mu    sync.Mutex
	conns []net.Conn
	wg    sync.WaitGroup
}

func newRelay(to []string) (*relay, error) {
	r := &relay{}
	for _, a := range to { // /ip4/127.0.0.1/tcp/PORT
		if f := strings.Split(a, "/"); len(f) == 5 && f[1] == "ip4" && f[3] == "tcp" {
			r.to = net.JoinHostPort(f[2], f[4])
		}
	}
	if r.to == "" {
		return nil, fmt.Errorf("no TCP address in %v", to)
	}
	var err error
	if r.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	r.wg.Go(r.serve)
	return r, nil
}

func (r *relay) addr() string {
	return fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", r.Addr().(*net.TCPAddr).Port)
}

func (r *relay) serve() {
	for {
		in, err := r.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", r.to)
		if err != nil {
			in.Close()
			continue
		}
		r.mu.Lock()
		r.conns = append(r.conns, in, out)
		r.mu.Unlock()
		for _, p := range [][2]net.Conn{{in, out}, {out, in}} {
			r.wg.Go(func() {
				_, _ = io.Copy(counted{p[0], &r.bytes}, p[1])
				_ = p[0].Close()
			})
		}
	}
}

func (r *relay) close() error {
	err := r.Close()
	r.mu.Lock()
	for _, c := range r.conns {
		_ = c.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
	return err
}

type counted struct {
	io.Writer
	n *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// Of the payments at once.
const (
	many = 50
	// unfunded is the maximum number of unfunded banks of one payer at a payee.
	unfunded = 10
)

// payments measures pennies; each is durable at the payee before it is
// acknowledged.
func (b *bench) payments(ctx context.Context, t *town) error {
	p, err := t.payer(ctx, many+1)
	if err != nil {
		return err
	}
	var ids []bank.ID
	for i := range many + 1 {
		b.working("opening banks, %d of %d", i+1, many+1)
		rungs, perRung := uint32(14), uint32(b.pick(1000, 15_000))
		if i == many {
			rungs, perRung = 126, uint32(b.pick(2500, 40_000))
		}
		id, _, err := p.openBank(ctx, t.peer, rungs, perRung)
		if err != nil {
			return err
		}
		ids = append(ids, id)
		if i%unfunded == unfunded-1 || i == many {
			if err := t.mine(ctx, 1); err != nil {
				return err
			}
		}
	}
	if err := t.mine(ctx, int(bank.MarginsFor(wire.Regtest).Conf)); err != nil {
		return err
	}
	disk, err := newDisk(t.dir)
	if err != nil {
		return err
	}
	defer disk.close()
	run := func(what string, ids []bank.ID, pennies, window int) (float64, error) {
		b.working("%s", what)
		return p.pay(ctx, ids, uint32(pennies), uint32(window))
	}
	if _, err := run("first payments", ids, 10, 10); err != nil {
		return err
	}

	var single, syncs, ratios []float64
	for range b.pick(3, 9) {
		b.working("writing and syncing")
		s, err := disk.rate(b.pick(100, 500))
		if err != nil {
			return err
		}
		r, err := run("one bank, one penny in flight", ids[:1], b.pick(200, 1000), 1)
		if err != nil {
			return err
		}
		single, syncs, ratios = append(single, r), append(syncs, s), append(ratios, r/s)
	}
	b.found(Figure{Name: "fsync", What: "write of 4 KiB and fsync, on the disk of the payee's files", Value: median(syncs), Unit: "/s"})
	b.found(Figure{Name: "one_in_flight_ratio", What: "one bank, one penny in flight, of that rate", Value: median(ratios), Min: 0.5, Note: thousands(median(single)) + "/s"})
	for _, k := range []struct {
		name, what             string
		ids                    []bank.ID
		window, pennies, quick int
		min                    float64
	}{
		{"banks_50_window_1", "50 banks at once, one penny in flight each", ids[:many], 1, 1000, 100, 20_000},
		{"banks_50_window_16", "50 banks at once, a window of 16 each", ids[:many], 16, 4000, 1000, 20_000},
		{"bank_1_window_4096", "one bank, a window of 4096", ids[many:], 4096, 400_000, 100_000, 0},
	} {
		if _, err := b.rate(ctx, p, k.name, k.what, k.ids, b.pick(k.quick, k.pennies), k.window, k.min); err != nil {
			return err
		}
	}
	return nil
}

// rate measures pennies of several banks at once, with the processor's time for
// each, of both sides together.
func (b *bench) rate(ctx context.Context, p *payer, name, what string, ids []bank.ID, pennies, window int, min float64) (float64, error) {
	var rates, costs []float64
	for range b.pick(2, 7) {
		b.working("%s", what)
		began := processor()
		r, err := p.pay(ctx, ids, uint32(pennies), uint32(window))
		if err != nil {
			return 0, err
		}
		rates, costs = append(rates, r), append(costs, float64((processor()-began).Microseconds())/float64(len(ids)*pennies))
	}
	b.found(Figure{Name: name, What: what, Value: median(rates), Unit: "/s", Min: min, Note: number(median(costs), "µs") + " of processor time a penny"})
	return median(rates), nil
}

// pay pays pennies one by one from several banks at once, and returns the total
// rate per second.
func (p *payer) pay(ctx context.Context, ids []bank.ID, pennies, window uint32) (float64, error) {
	errs := make(chan error, len(ids))
	began := time.Now()
	for _, id := range ids {
		go func() {
			_, err := p.Banks.PayPennies(ctx, id, pennies, banking.Streaming{Each: true, Window: window})
			errs <- err
		}()
	}
	var all error
	for range ids {
		all = errors.Join(all, <-errs)
	}
	rate := float64(len(ids)) * float64(pennies) / time.Since(began).Seconds()
	// The executor also handles each order; the next run must not wait for it.
	return rate, errors.Join(all, rest(ctx, p.Node, 0))
}

// disk writes a page and syncs it, repeatedly.
type disk struct{ f *os.File }

func newDisk(dir string) (*disk, error) {
	f, err := os.Create(filepath.Join(dir, "fsync"))
	return &disk{f}, err
}

func (d *disk) rate(n int) (float64, error) {
	page := make([]byte, 4096)
	began := time.Now()
	for range n {
		if _, err := d.f.WriteAt(page, 0); err != nil {
			return 0, err
		}
		if err := d.f.Sync(); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

func (d *disk) close() { _ = d.f.Close() }
