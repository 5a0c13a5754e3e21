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
	Out    string // path for the story's result; empty for none
	Blocks string // path for the exported chain; empty for none
	// Tell is called with each event, in plain words.
	Tell func(Event)
	Log  *slog.Logger
}

// Event is an event of a story.
type Event struct {
	Party string `json:"party"`
	Text  string `json:"text"`
}

// ErrOutput means that an output file cannot be written.
var ErrOutput = errors.New("cannot write the output")

// world is a chain, and the parties that a story puts on it.
type world struct {
	common Common
	dir    string // all parties' files; removed in the end
	chain  *devchain.Chain
	miner  []byte
	// running returns the parties that are online now.
	running func() []*node.Node
	// after, if set, is called after all parties have seen a block.
	after func(context.Context) error
}

// newWorld opens a chain, after checking that the output can be written.
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
	w := &world{common: c, dir: dir, miner: append([]byte{0x51, 0x20}, bytes.Repeat([]byte{2}, 32)...)} // nobody's key: the miner spends nothing here
	if w.chain, err = devchain.Open(filepath.Join(dir, "chain")); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return w, nil
}

// close closes the chain and removes all files; the parties must be closed
// before.
func (w *world) close() error { return errors.Join(w.chain.Close(), os.RemoveAll(w.dir)) }

func (w *world) tell(party, format string, a ...any) {
	w.common.Tell(Event{Party: party, Text: fmt.Sprintf(format, a...)})
}

// config returns the configuration of a new home.
func (w *world) config(name string, observe func(engine.Change)) node.Config {
	seed := make([]byte, 64)
	_, _ = rand.Read(seed) // never fails (crypto/rand)
	return node.Config{Dir: filepath.Join(w.dir, name), Network: wire.Regtest, Seed: seed, Chain: w.chain, Log: w.common.Log, Observe: observe}
}

// start starts the online parties and waits until they are in the network.
func (w *world) start(ctx context.Context) error {
	for _, n := range w.running() {
		n.Start()
	}
	for _, n := range w.running() {
		if err := n.Directory.WaitNetwork(ctx); err != nil {
			return err
		}
	}
	return nil
}

// fund pays a party from the faucet; the money arrives with the next block.
func (w *world) fund(ctx context.Context, n *node.Node, amount wire.Sat) error {
	_, script, err := n.Coins.NewAddress(ctx)
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
			return fmt.Errorf("the network is still busy at height %d: %w", tip.Height, ctx.Err())
		}
	}
	return nil
}

// mine mines a block with the mempool's content, and lets all parties react.
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

// export writes the chain to the requested path.
func (w *world) export() error {
	if w.common.Blocks == "" {
		return nil
	}
	return writeFile(w.common.Blocks, w.chain.Export)
}

// checkWritable checks before the work whether path can be written after it.
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

// writeFile writes a file atomically.
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
