package demo

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/bitgram/bitgram/internal/chain/devchain"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/wire"
)

// Common are the options of every story.
type Common struct {
	Out    string // where the story's outcome is written; empty for nowhere
	Blocks string // where the chain is exported to; empty for nowhere
	// Tell is told what happens, in plain words.
	Tell func(Event)
	Log  *slog.Logger
}

// Event is one thing that happened.
type Event struct {
	Party string `json:"party"`
	Text  string `json:"text"`
}

// ErrOutput: a file cannot be written where it was asked for.
var ErrOutput = errors.New("cannot write the output")

// world is a chain, and the parties that a story puts on it.
type world struct {
	common Common
	dir    string // of everybody's files; it is removed in the end
	chain  *devchain.Chain
	miner  []byte
	// running are the parties that take part now.
	running func() []*node.Node
	// after, where set, is what a story does once everybody has seen a block.
	after func(context.Context) error
}

// newWorld opens a chain, once it is clear that the outcome can be written.
func newWorld(c Common) (*world, error) {
	for _, path := range []string{c.Out, c.Blocks} {
		if err := checkWritable(path); err != nil {
			return nil, err
		}
	}
	if c.Tell == nil {
		c.Tell = func(Event) {}
	}
	dir, err := os.MkdirTemp("", "bitgram-demo-")
	if err != nil {
		return nil, err
	}
	w := &world{common: c, dir: dir, miner: append([]byte{0x51, 0x20}, bytes.Repeat([]byte{2}, 32)...)} // nobody's: the miner spends nothing here
	if w.chain, err = devchain.Open(filepath.Join(dir, "chain")); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return w, nil
}

// close ends the chain and removes all files; the parties are closed before.
func (w *world) close() error { return errors.Join(w.chain.Close(), os.RemoveAll(w.dir)) }

func (w *world) tell(party, format string, a ...any) {
	w.common.Tell(Event{Party: party, Text: fmt.Sprintf(format, a...)})
}

// config is a new home's.
func (w *world) config(name string, observe func(engine.Change)) node.Config {
	seed := make([]byte, 64)
	_, _ = rand.Read(seed) // never fails (crypto/rand)
	return node.Config{Dir: filepath.Join(w.dir, name), Network: wire.Regtest, Seed: seed, Chain: w.chain, Log: w.common.Log, Observe: observe}
}

// start starts those who take part, and waits until they are in the network.
func (w *world) start(ctx context.Context) error {
	for _, n := range w.running() {
		n.Start()
	}
	for _, n := range w.running() {
		if err := n.WaitNetwork(ctx); err != nil {
			return err
		}
	}
	return nil
}

// fund gives a party money from the faucet; it is there with the next block.
func (w *world) fund(ctx context.Context, n *node.Node, amount wire.Sat) error {
	_, script, err := n.NewAddress(ctx)
	if err != nil {
		return err
	}
	_, err = w.chain.Faucet(ctx, script, amount)
	return err
}

func (w *world) height(ctx context.Context) wire.Height {
	tip, err := w.chain.Tip(ctx)
	if err != nil {
		return 0
	}
	return tip.Height
}

// settle waits until every party has seen the tip and has nothing left to do.
func (w *world) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tip, err := w.chain.Tip(ctx)
	if err != nil {
		return err
	}
	for quiet := 0; quiet < 2; {
		idle := true
		for _, n := range w.running() {
			idle = idle && n.Engine().Idle(tip.Height)
		}
		if quiet++; !idle {
			quiet = 0
		}
		select {
		case <-time.After(500 * time.Microsecond):
		case <-ctx.Done():
			return fmt.Errorf("the network does not come to rest at height %d: %w", tip.Height, ctx.Err())
		}
	}
	return nil
}

// mine adds a block with whatever is in the mempool, and lets everybody react.
func (w *world) mine(ctx context.Context) error {
	if _, err := w.chain.Mine(ctx, 1, w.miner); err != nil {
		return err
	}
	if err := w.settle(ctx); err != nil {
		return err
	}
	if w.after == nil {
		return nil
	}
	return w.after(ctx)
}

// mineUntil mines until done, at most limit blocks.
func (w *world) mineUntil(ctx context.Context, limit int, done func() (bool, error)) error {
	for range limit {
		if ok, err := done(); ok || err != nil {
			return err
		}
		if err := w.mine(ctx); err != nil {
			return err
		}
	}
	return fmt.Errorf("not reached within %d blocks", limit)
}

// export writes the chain where it was asked for.
func (w *world) export() error {
	if w.common.Blocks == "" {
		return nil
	}
	return writeFile(w.common.Blocks, w.chain.Export)
}

// checkWritable finds out before the work whether path can be written after
// it.
func checkWritable(path string) error {
	if path == "" {
		return nil
	}
	if s, err := os.Stat(path); err == nil && s.IsDir() {
		return fmt.Errorf("%w: %s is a directory", ErrOutput, path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".bitgram-*")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrOutput, err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// writeFile writes a file that appears whole or not at all.
func writeFile(path string, fill func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".bitgram-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := errors.Join(fill(f), f.Sync(), f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
