package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/bitgram/bitgram/internal/chain/devchain"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/node/delivery"
	"github.com/bitgram/bitgram/wire"
)

// latency sends messages one after another through three agents on loopback.
func latency(ctx context.Context, w io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "bitgram-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	chain, err := devchain.Open(filepath.Join(dir, "chain"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, chain.Close()) }()
	changes := make(chan engine.Change, 1024)
	var seeds []string
	open := func(name string, p *deal.Policy, observe func(engine.Change)) (*node.Node, error) {
		seed := make([]byte, 64)
		_, _ = rand.Read(seed)
		cfg := node.Config{Dir: filepath.Join(dir, name), Network: wire.Regtest, Seed: seed, Chain: chain, Policy: p, Seeds: seeds, Observe: observe}
		if p != nil {
			cfg.Listen = []string{"/ip4/127.0.0.1/tcp/0"}
		}
		n, err := node.Open(cfg)
		if err == nil {
			n.Start()
		}
		return n, err
	}
	for i := range 3 {
		n, err := open(fmt.Sprintf("agent-%d", i), &deal.Policy{Rate: 20_000_000, MaxSize: 1 << 30, MaxBlocks: 1008, ValidFor: 100, Patience: 1}, nil)
		if err != nil {
			return err
		}
		defer n.Close()
		seeds = append(seeds, n.Seed()...)
	}
	tell := func(c engine.Change) { changes <- c }
	sender, err := open("sender", nil, tell)
	if err != nil {
		return err
	}
	defer sender.Close()
	recipient, err := open("recipient", nil, tell)
	if err != nil {
		return err
	}
	defer recipient.Close()
	_, script, err := sender.Coins.NewAddress(ctx)
	if err != nil {
		return err
	}
	if _, err := chain.Faucet(ctx, script, 1_000_000); err != nil {
		return err
	}
	if err := mine(ctx, chain, 1, sender, recipient); err != nil {
		return err
	}
	// until waits for the change that ok picks.
	until := func(ok func(engine.Change) bool) error {
		timeout := time.After(30 * time.Second)
		for {
			select {
			case c := <-changes:
				if ok(c) {
					return nil
				}
			case <-timeout:
				return errors.New("a message got stuck")
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	var stored, opened []float64
	const messages, warm = 30, 5
	for i := range messages + warm {
		body := make([]byte, 4096)
		_, _ = rand.Read(body)
		began := time.Now()
		if _, err := sender.Delivery.Send(ctx, delivery.Letter{To: recipient.Key(), Body: bytes.NewReader(body), Agents: 3, MaxCost: 100_000, Blocks: 24}); err != nil {
			return err
		}
		if err := until(func(c engine.Change) bool {
			s, ok := c.State.(deal.Sender)
			return ok && s.Phase == deal.SenderPublishing
		}); err != nil {
			return err
		}
		all := time.Since(began)
		if err := until(func(c engine.Change) bool {
			s, ok := c.State.(deal.Sender)
			return ok && s.Phase == deal.SenderPublished
		}); err != nil {
			return err
		}
		if err := mine(ctx, chain, 3, sender, recipient); err != nil {
			return err
		}
		var fetching time.Time
		var took time.Duration
		if err := until(func(c engine.Change) bool {
			r, ok := c.State.(deal.Recipient)
			if !ok {
				return false
			}
			before, _ := c.Before.(deal.Recipient)
			if r.Phase == deal.RecipientFetching && before.Phase != r.Phase {
				fetching = time.Now()
			}
			took = time.Since(fetching)
			return r.Phase == deal.RecipientRead && before.Phase != r.Phase
		}); err != nil {
			return err
		}
		if i >= warm {
			stored = append(stored, ms(all))
			opened = append(opened, ms(took))
		}
	}
	row(w, "sender to three agents, request to all stored", fmt.Sprintf("%.1f ms", median(stored)), fmt.Sprintf("%.1f ms", quantile(stored, 0.9)), "< 60 ms")
	row(w, "recipient, fetch to unsealed", fmt.Sprintf("%.1f ms", median(opened)), fmt.Sprintf("%.1f ms", quantile(opened, 0.9)), "< 40 ms")
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func mine(ctx context.Context, c *devchain.Chain, n int, nodes ...*node.Node) error {
	refs, err := c.Mine(ctx, n, append([]byte{0x51, 0x20}, bytes.Repeat([]byte{2}, 32)...))
	if err != nil {
		return err
	}
	for _, node := range nodes {
		if err := node.Engine().WaitHeight(ctx, refs[len(refs)-1].Height); err != nil {
			return err
		}
	}
	return nil
}
