package node

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/chain/devchain"
	"github.com/bitgram/bitgram/internal/node/banking"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

// stuck is a node that answers and does not progress while it is held.
type stuck struct {
	*devchain.Chain
	how string

	mu   sync.Mutex
	held bool
	tip  chain.BlockRef // when it was held
}

func (s *stuck) hold(t *testing.T, held bool) {
	tip, err := s.Chain.Tip(t.Context())
	must(t, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held, s.tip = held, tip
}

// is reports whether the node is held in this way.
func (s *stuck) is(how string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held && s.how == how
}

const stuckLag = 20 // blocks; a bank on regtest stops 48 blocks before its end

func (s *stuck) Tip(ctx context.Context) (chain.BlockRef, error) {
	switch {
	case s.is("frozen"):
		return s.tip, nil
	case s.is("syncing"):
		return chain.BlockRef{}, chain.ErrSyncing
	case s.is("lags"):
		tip, err := s.Chain.Tip(ctx)
		if err != nil {
			return tip, err
		}
		hash, err := s.HashAt(ctx, tip.Height-stuckLag)
		return chain.BlockRef{Hash: hash, Height: tip.Height - stuckLag}, err
	}
	return s.Chain.Tip(ctx)
}

func (s *stuck) Block(ctx context.Context, hash chainhash.Hash) (*btcwire.MsgBlock, wire.Height, error) {
	if s.is("lacks blocks") {
		return nil, 0, chain.ErrNotFound
	}
	return s.Chain.Block(ctx, hash)
}

func (s *stuck) FeeRate(ctx context.Context, blocks int) (wire.SatPerKVB, error) {
	if s.is("estimates nothing") {
		return 0, chain.ErrUnavailable
	}
	return s.Chain.FeeRate(ctx, blocks)
}

func (s *stuck) Broadcast(ctx context.Context, tx *btcwire.MsgTx) error {
	switch {
	case s.is("takes nothing"):
		return chain.ErrUnavailable
	case s.is("finds everything too low"):
		return chain.ErrFeeTooLow
	case s.is("refuses everything"):
		return chain.ErrRejected
	case s.is("relays nothing"):
		return nil
	}
	return s.Chain.Broadcast(ctx, tx)
}

// said is a log that a test reads.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) has(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.text.String(), text)
}

// TestStuckNode: a payee whose Bitcoin node answers and does not progress until the
// last blocks before a deadline closes its bank in time once the node goes on, and
// its log or state says what was wrong meanwhile. A node that lags, or estimates no
// fees, holds up nothing.
func TestStuckNode(t *testing.T) {
	tier.NotShort(t)
	list := []struct {
		how     string
		log     string // what the log says
		trouble bool   // so does the engine, and with it status and health
	}{
		{"frozen", "a bank is closed late", false},
		{"syncing", "still syncing", true},
		{"lacks blocks", "no such block", true},
		{"estimates nothing", "the last one counts", false},
		{"takes nothing", "not available", false},
		{"finds everything too low", "", false},
		{"refuses everything", "", false},
		{"relays nothing", "", false},
		{"lags", "", false},
	}
	for _, i := range tier.NewSample(t).Choose(len(list), tier.Pick(0, 1, 0)) {
		c := list[i]
		t.Run(c.how, func(t *testing.T) {
			w := emptyTown(t)
			from := w.home("payer", nil)
			from.start()
			s, log := &stuck{Chain: w.chain, how: c.how}, new(said)
			to := w.payeeOn("payee", s)
			to.cfg.Log = slog.New(slog.NewTextHandler(log, nil))
			to.start()
			w.mine(1)
			w.fund(from, 1_000_000)
			id, err := from.node.Banks.OpenBank(t.Context(), banking.Terms{Peer: to.peer(), Value: 50_000, Rungs: 14, PerRung: 100, Blocks: 90, MaxFee: 10_000})
			must(t, err)
			w.settle()
			w.mine(3)
			w.pay(from, id, 1400)
			must(t, from.node.Close())
			delete(w.homes, "payer")
			y := w.payeeOf(to, id)
			tip := func() wire.Height {
				at, err := w.chain.Tip(t.Context())
				must(t, err)
				return at.Height
			}
			until := func(what string, f func() bool) {
				t.Helper()
				for end := time.Now().Add(2 * time.Minute); !f(); time.Sleep(2 * time.Millisecond) {
					if time.Now().After(end) {
						t.Fatalf("%s: at block %d of %d, the payee at %d: %+v", what, tip(), y.Expiry, to.node.Engine().Position().Height, w.payeeOf(to, id).Alone)
					}
				}
			}
			// mine waits until the payee knows as much as its node tells.
			mine := func() {
				_, err := w.chain.Mine(t.Context(), 1, w.miner)
				must(t, err)
				until("it does not follow", func() bool {
					at, err := s.Tip(t.Context())
					return err != nil || s.is("lacks blocks") || to.node.Engine().Position().Height >= at.Height
				})
			}
			spent := func() bool {
				_, err := w.chain.Output(t.Context(), y.At)
				return errors.Is(err, chain.ErrNoOutput)
			}
			margins := y.Margins
			s.hold(t, true)
			release := y.Expiry - wire.Height(margins.Bump) + 2
			latest := y.Expiry - wire.Height(margins.Close)
			works := true
			switch c.how {
			case "lags":
				release = y.Expiry - wire.Height(margins.Stop) + stuckLag + 3
				latest = release + 1
			case "estimates nothing":
				release = y.Expiry - wire.Height(margins.Stop) + 3
				latest = release + 1
			default:
				works = false
			}
			for tip() < release && !spent() {
				mine()
				time.Sleep(10 * time.Millisecond)
			}
			if !works && spent() {
				t.Fatal("the node was not stuck")
			}
			if got := to.node.Engine().Trouble() != nil; got != c.trouble {
				t.Errorf("the engine is in trouble: %v", to.node.Engine().Trouble())
			}
			if !works {
				s.hold(t, false)
				mine()
			}
			until("it is not closed", spent)
			mine()
			if tip() > latest {
				t.Errorf("closed at %d, %d before the end", tip(), y.Expiry-tip())
			}
			s.hold(t, false)
			mine()
			until("its close is not seen", func() bool { return w.payeeOf(to, id).Spend != nil })
			if end := w.payeeOf(to, id); end.Spend.Rung != 14 || end.State() != bank.StateClosed {
				t.Errorf("%s at rung %d", end.State(), end.Spend.Rung)
			}
			if !log.has(c.log) {
				t.Errorf("the log does not say %q:\n%s", c.log, log.text.String())
			}
		})
	}
}
