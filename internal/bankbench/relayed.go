package bankbench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/node/banking"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// stage runs f in a town of its own.
func (b *bench) stage(f func(*town) error) (err error) {
	t := &town{}
	if t.dir, err = os.MkdirTemp(b.opt.Dir, "bitgram-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	if err := t.open(); err != nil {
		return err
	}
	return f(t)
}

// published waits until the payers have published what they have opened.
func (t *town) published(ctx context.Context) error {
	for _, p := range t.payers {
		if err := rest(ctx, p.Node, 0); err != nil {
			return err
		}
	}
	return nil
}

// steps notes when a payer's payments proceed.
type steps struct {
	mu    sync.Mutex
	last  wire.Msat
	at    []time.Time
	ended chan error
}

func (s *steps) see(c engine.Change) {
	p, ok := c.State.(bank.Sending)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.Acked != s.last {
		s.last, s.at = p.Acked, append(s.at, time.Now())
	}
	if before, ok := c.Before.(bank.Sending); p.Ended && (!ok || !before.Ended) {
		var err error
		if !p.Done() {
			err = errors.New(p.Why)
		}
		s.ended <- err
	}
}

// relayed measures the steps of a payment from a payer over a banker to a payee.
// A step is done when its final payee's signature is stored by the payer.
func (b *bench) relayed(ctx context.Context) error {
	return b.stage(func(t *town) error {
		cfg := t.config("banker")
		cfg.Banking = &banking.Policy{OfferPause: time.Millisecond, Policy: bank.Policy{MinValue: 1000, MaxRungs: penny.MaxRungs, MaxBanks: 1000}, Fees: &wire.Fees{Base: 10, PPM: 1000}}
		cfg.Listen = []string{"/ip4/127.0.0.1/tcp/0"}
		banker, err := t.add(ctx, cfg, 1)
		if err != nil {
			return err
		}
		seen := &steps{ended: make(chan error, 1)}
		cfg = t.config("payer")
		cfg.Observe = seen.see
		p, err := t.add(ctx, cfg, 1)
		if err != nil {
			return err
		}
		const rungs, perRung = 1022, 10
		if _, _, err := p.openBank(ctx, bank.Peer{Key: banker.Key(), Addrs: banker.Addrs()}, rungs, perRung); err != nil {
			return err
		}
		if _, _, err := banker.openBank(ctx, t.peer, rungs, perRung); err != nil {
			return err
		}
		if err := t.published(ctx); err != nil {
			return err
		}
		if err := t.mine(ctx, int(bank.MarginsFor(wire.Regtest).Conf)); err != nil {
			return err
		}
		pay := func(n int) error {
			_, err := p.Banks.PayTo(ctx, banking.Payment{To: t.payee.Key(), Amount: wire.Msat(n * 1000), Step: 1000, MaxFee: bankValue.Msat()})
			if err != nil {
				return err
			}
			select {
			case err = <-seen.ended:
			case <-ctx.Done():
				err = ctx.Err()
			}
			return errors.Join(err, rest(ctx, p.Node, 0))
		}
		b.working("paying over a banker")
		if err := pay(5); err != nil { // connects
			return err
		}
		seen.mu.Lock()
		seen.at, seen.last = nil, 0
		seen.mu.Unlock()
		began := processor()
		n := b.pick(20, 300)
		if err := pay(n); err != nil {
			return err
		}
		cost := float64((processor() - began).Microseconds()) / float64(n) / 1e3
		var took []float64
		for i := 1; i < len(seen.at); i++ {
			took = append(took, seen.at[i].Sub(seen.at[i-1]).Seconds()*1e3)
		}
		if len(took) == 0 {
			return errors.New("no steps were seen")
		}
		b.found(Figure{Name: "relayed_step", What: "a payment's step over a banker, signed by its payee, median", Value: median(took), Unit: "ms", Max: 5,
			Note: fmt.Sprintf("%.1f ms of processor time, of all three", cost)})
		return nil
	})
}

// thousand measures pennies of as many banks as a busy payee has, and what they
// leave when they are closed.
func (b *bench) thousand(ctx context.Context) error {
	return b.stage(func(t *town) error {
		banks := b.pick(20, 1000)
		fresh, err := b.stored(ctx, t.payee)
		if err != nil {
			return err
		}
		const batch = 50 // opened at the same time
		p, err := t.payer(ctx, banks)
		if err != nil {
			return err
		}
		var ids []bank.ID
		for len(ids) < banks {
			b.working("opening banks, %d of %d", len(ids), banks)
			n := min(batch, banks-len(ids))
			for range n {
				id, _, err := p.openBank(ctx, t.peer, 14, uint32(b.pick(500, 15_000)))
				if err != nil {
					return err
				}
				ids = append(ids, id)
			}
			if err := errors.Join(t.published(ctx), t.mine(ctx, 1)); err != nil {
				return err
			}
		}
		if err := t.mine(ctx, int(bank.MarginsFor(wire.Regtest).Conf)); err != nil {
			return err
		}
		if _, err := p.pay(ctx, ids, 2, 1); err != nil {
			return err
		}
		few, err := b.rate(ctx, p, "banks_50_of_1000", fmt.Sprintf("%d of %d banks at once, one penny in flight each", min(many, banks), banks), ids[:min(many, banks)], b.pick(100, 1000), 1, 0)
		if err != nil {
			return err
		}
		all, err := b.rate(ctx, p, "banks_1000_window_1", fmt.Sprintf("%d banks at once, one penny in flight each", banks), ids, b.pick(10, 100), 1, 0)
		if err != nil {
			return err
		}
		if banks > many { // in a quick run they are the same banks
			b.found(Figure{Name: "banks_1000_ratio", What: fmt.Sprintf("%d banks, of the rate of %d", banks, many), Value: all / few, Min: 0.8})
		}
		return b.closed(ctx, t, p, ids, fresh)
	})
}

// closed measures what closed banks leave in the payee's database, which had a
// size before them.
func (b *bench) closed(ctx context.Context, t *town, p *payer, ids []bank.ID, fresh float64) error {
	for i, id := range ids {
		b.working("paying a rung, %d of %d", i+1, len(ids))
		if _, err := p.Banks.PayPennies(ctx, id, uint32(b.pick(500, 15_000)), banking.Streaming{Window: 512}); err != nil {
			return err
		}
	}
	for i, id := range ids {
		b.working("closing banks, %d of %d", i+1, len(ids))
		if err := p.Banks.CloseBank(ctx, engine.Ref{Kind: bank.KindPayer, ID: id}); err != nil {
			return err
		}
		if i%50 == 49 || i == len(ids)-1 {
			if err := t.mine(ctx, 1); err != nil {
				return err
			}
		}
	}
	if err := t.mine(ctx, 2*int(bank.MarginsFor(wire.Regtest).Final)); err != nil {
		return err
	}
	full, err := b.stored(ctx, t.payee)
	if err != nil {
		return err
	}
	b.found(Figure{Name: "closed_bytes", What: "bytes that a closed bank leaves in the payee's database", Value: (full - fresh) / float64(len(ids)), Unit: "bytes", Max: float64(b.pick(8<<10, 1<<10))}) // a few banks bear all of what is there once
	return nil
}

// stored returns the size of a copy of a node's database, without free pages.
func (b *bench) stored(ctx context.Context, n *node.Node) (float64, error) {
	dir, err := os.MkdirTemp(b.opt.Dir, "bitgram-copy-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "copy")
	if err := n.Snapshot(ctx, path); err != nil {
		return 0, err
	}
	i, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return float64(i.Size()), nil
}
