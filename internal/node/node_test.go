package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node/delivery"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/store"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/wire"
)

// failed sends and wants the sender to give up for a reason, with every coin
// free again and nothing kept.
func (w *town) failed(l delivery.Letter, by string) {
	w.t.Helper()
	sender := w.homes["sender"].node
	ref, err := sender.Delivery.Send(w.t.Context(), l)
	must(w.t, err)
	w.settle()
	w.mine(1)
	state, err := sender.Engine().State(w.t.Context(), ref)
	must(w.t, err)
	s := state.(deal.Sender)
	if s.State() != "failed" || s.FailedBy != by || s.Failure == "" {
		w.t.Errorf("%s by %q: %s; wanted failed by %q", s.State(), s.FailedBy, s.Failure, by)
	}
	b, err := sender.Coins.Balance(w.t.Context())
	must(w.t, err)
	if b.Locked != 0 || b.Pending != 0 {
		w.t.Errorf("%v locked, %v pending after a failure", b.Locked, b.Pending)
	}
	left, err := os.ReadDir(filepath.Join(w.homes["sender"].cfg.Dir, dirOutgoing))
	must(w.t, err)
	if len(left) != 0 {
		w.t.Errorf("%d payloads are left", len(left))
	}
}

func (w *town) letter() delivery.Letter {
	return delivery.Letter{To: w.homes["recipient"].node.Key(), Body: bytes.NewReader([]byte("hello")), Agents: 3, MaxCost: 100_000, Blocks: 24}
}

func TestFailuresCostNothing(t *testing.T) {
	tier.NotShort(t)
	w := newTown(t, 3)
	w.mine(1)
	t.Run("no funds", func(t *testing.T) { w.t = t; w.failed(w.letter(), "funds") })
	w.t = t
	w.fund(w.homes["sender"], 1_000_000)
	t.Run("price above the cap", func(t *testing.T) {
		w.t = t
		l := w.letter()
		l.MaxCost = 500
		w.failed(l, "price")
	})
	t.Run("fee above the cap", func(t *testing.T) {
		w.t = t
		l := w.letter()
		l.MaxCost = 2300 // the agents' 2,163 fit, the funding's fee does not
		w.failed(l, "price")
	})
	few := func(t *testing.T, l delivery.Letter) {
		t.Helper()
		if _, err := w.homes["sender"].node.Delivery.Send(t.Context(), l); !errors.Is(err, deal.ErrTooFewAgents) {
			t.Errorf("%v, wanted too few agents", err)
		}
		left, err := os.ReadDir(filepath.Join(w.homes["sender"].cfg.Dir, dirOutgoing))
		must(t, err)
		if len(left) != 0 {
			t.Errorf("%d payloads are left", len(left))
		}
	}
	t.Run("storage too long", func(t *testing.T) {
		l := w.letter()
		l.Blocks = 2000
		few(t, l)
	})
	t.Run("an agent is gone", func(t *testing.T) {
		w.t = t
		gone := w.homes["agent-1"]
		must(t, gone.node.Close())
		delete(w.homes, "agent-1")
		few(t, w.letter())
		gone.open()
		w.homes["agent-1"] = gone
	})
	w.t = t
	t.Run("empty", func(t *testing.T) {
		l := w.letter()
		l.Body = bytes.NewReader(nil)
		if _, err := w.homes["sender"].node.Delivery.Send(t.Context(), l); !errors.Is(err, delivery.ErrEmpty) {
			t.Errorf("an empty letter: %v", err)
		}
	})
	t.Run("too few there", func(t *testing.T) {
		l := w.letter()
		l.Agents = 4
		few(t, l)
	})
}

// moody is a chain whose node may refuse what others take, or forget a
// transaction of its mempool until that is broadcast again.
type moody struct {
	chain.Backend
	refuses atomic.Bool
	away    atomic.Bool // for broadcasts
	forgot  atomic.Pointer[chainhash.Hash]
}

func (m *moody) Broadcast(ctx context.Context, tx *btcwire.MsgTx) error {
	if m.refuses.Load() {
		return chain.ErrRejected
	}
	if m.away.Load() {
		return chain.ErrUnavailable
	}
	if f := m.forgot.Load(); f != nil {
		for _, in := range tx.TxIn {
			if in.PreviousOutPoint.Hash == *f {
				return chain.ErrConflict
			}
		}
		if tx.TxHash() == *f {
			m.forgot.Store(nil)
		}
	}
	return m.Backend.Broadcast(ctx, tx)
}

// moodyTown is a town whose sender has money, and a moody node.
func moodyTown(t *testing.T, purse wire.Sat) (*town, *Node, *moody) {
	w := newTown(t, 1)
	w.fund(w.homes["sender"], purse)
	h := w.homes["sender"]
	must(t, h.node.Close())
	m := &moody{Backend: h.cfg.Chain}
	h.cfg.Chain = m
	h.open()
	must(t, h.node.Coins.Synced(t.Context()))
	return w, h.node, m
}

// TestRate: a payment pays the rate that is asked for, also below the estimate;
// one that no node relays is refused, and its coins are free.
func TestRate(t *testing.T) {
	tier.NotShort(t)
	w, n, _ := moodyTown(t, 1_000_000)
	addr, _, err := w.homes["recipient"].node.Coins.NewAddress(t.Context())
	must(t, err)
	if _, err := n.Coins.Pay(t.Context(), addr, 10_000, wallet.Fee{Rate: 500}); !errors.Is(err, chain.ErrFeeTooLow) {
		t.Errorf("half the relay minimum: %v", err)
	}
	if b, err := n.Coins.Balance(t.Context()); err != nil || b.Confirmed != 1_000_000 {
		t.Errorf("%+v, %v after a refusal", b, err)
	}
	tx, err := n.Coins.Pay(t.Context(), addr, 10_000, wallet.Fee{Rate: 1000})
	must(t, err)
	fee := wire.Sat(1_000_000)
	for _, o := range tx.TxOut {
		fee -= wire.Sat(o.Value)
	}
	vsize := contract.VSize(int64(tx.SerializeSizeStripped()*3 + tx.SerializeSize()))
	if b, err := n.Coins.Balance(t.Context()); err != nil || b.Spendable() != 990_000-fee || b.Leaving() != 10_000+fee {
		t.Errorf("%v spendable, %v leaving, fee %v, %v", b.Spendable(), b.Leaving(), fee, err)
	}
	if n.Engine().FeeRate() <= 1000 || fee < wire.SatPerKVB(1000).Fee(vsize) || fee > wire.SatPerKVB(1000).Fee(vsize)+2 {
		t.Errorf("%v for %d vB at an estimate of %v", fee, vsize, n.Engine().FeeRate())
	}
}

// TestAbandon: a payment that was made while the node was away, and is refused
// later, is shown and can be taken back; one that is out can't.
func TestAbandon(t *testing.T) {
	w, n, moody := moodyTown(t, 1_000_000)
	addr, _, err := w.homes["recipient"].node.Coins.NewAddress(t.Context())
	must(t, err)
	moody.away.Store(true)
	tx, err := n.Coins.Pay(t.Context(), addr, 10_000, wallet.Fee{})
	must(t, err)
	kept := func() (n1, all int) {
		list, err := n.Coins.History(t.Context())
		must(t, err)
		for _, r := range list {
			if r.Kept {
				n1++
			}
		}
		return n1, len(list)
	}
	if k, _ := kept(); k != 1 {
		t.Errorf("%d payments are kept", k)
	}
	must(t, n.Coins.Abandon(t.Context(), contract.Txid(tx)))
	if b, err := n.Coins.Balance(t.Context()); err != nil || b.Spendable() != 1_000_000 {
		t.Errorf("%+v, %v", b, err)
	}
	if err := n.Coins.Abandon(t.Context(), contract.Txid(tx)); !errors.Is(err, wallet.ErrUnknownTx) {
		t.Errorf("twice: %v", err)
	}
	moody.away.Store(false)
	tx, err = n.Coins.Pay(t.Context(), addr, 10_000, wallet.Fee{})
	must(t, err)
	if k, _ := kept(); k != 0 {
		t.Errorf("%d payments are kept", k)
	}
	if err := n.Coins.Abandon(t.Context(), contract.Txid(tx)); !errors.Is(err, wallet.ErrOut) {
		t.Errorf("one that is out: %v", err)
	}
	bumped, err := n.Coins.Bump(t.Context(), contract.Txid(tx), wallet.Fee{})
	must(t, err)
	w.mine(1)
	for _, txid := range []wire.Hash{contract.Txid(tx), contract.Txid(bumped)} {
		if err := n.Coins.Abandon(t.Context(), txid); !errors.Is(err, wallet.ErrOut) {
			t.Errorf("%v: %v", txid, err)
		}
	}
}

// TestMempoolLost: a payment from change goes out though the node has forgotten
// what it stands on.
func TestMempoolLost(t *testing.T) {
	tier.NotShort(t)
	w, n, moody := moodyTown(t, 1_000_000)
	addr, _, err := w.homes["recipient"].node.Coins.NewAddress(t.Context())
	must(t, err)
	first, err := n.Coins.Pay(t.Context(), addr, 10_000, wallet.Fee{})
	must(t, err)
	forgot := first.TxHash()
	moody.forgot.Store(&forgot)
	second, err := n.Coins.Pay(t.Context(), addr, 20_000, wallet.Fee{})
	must(t, err)
	if second.TxIn[0].PreviousOutPoint.Hash != forgot {
		t.Fatal("it stands on nothing")
	}
	w.mine(1)
	b, err := w.homes["recipient"].node.Coins.Balance(t.Context())
	must(t, err)
	if b.Confirmed != 30_000 {
		t.Errorf("%+v came", b)
	}
}

// TestPublish: a funding goes out in time or not at all; one that no node ever
// had gives its coins back, and one that a node had keeps them.
func TestPublish(t *testing.T) {
	const purse = 1_000_000
	_, n, moody := moodyTown(t, purse)
	ref := engine.Ref{Kind: deal.KindSender, ID: wire.Hash{1}}
	tip := n.Engine().Position().Height
	funding := func(over wire.Sat) (tx *btcwire.MsgTx) {
		must(t, n.store.Update(t.Context(), func(x engine.Tx) error {
			picked, err := n.wallet.Lock(x, ref.ID[:], 10_000, 1000, 1000, tip)
			if err != nil {
				return err
			}
			tx, err = contract.Funding(picked.Inputs, nil, []byte("marker"), btcwire.NewTxOut(int64(picked.Change+over), picked.ChangeScript))
			return err
		}))
		return tx
	}
	publish := func(tx *btcwire.MsgTx, until wire.Height, ok bool, free wire.Sat) {
		t.Helper()
		why, err := n.Coins.Fund(t.Context(), ref, contract.EncodeTx(tx), tx.TxOut[len(tx.TxOut)-1].PkScript, until)
		must(t, err)
		if (why == "") != ok {
			t.Errorf("until %d: %s", until, why)
		}
		must(t, n.store.Update(t.Context(), func(x engine.Tx) error { return n.wallet.Unlock(x, ref.ID[:]) }))
		b, err := n.Coins.Balance(t.Context())
		must(t, err)
		if b.Confirmed != free {
			t.Errorf("until %d: %v free, not %v", until, b.Confirmed, free)
		}
		txs := 0
		must(t, n.store.View(t.Context(), func(x engine.Tx) error {
			list, err := n.wallet.Unconfirmed(x)
			txs = len(list)
			return err
		}))
		if (txs == 0) != (free > 0) {
			t.Errorf("until %d: %d to be sent again", until, txs)
		}
	}
	publish(funding(0), tip, false, purse)       // late, never signed
	publish(funding(purse), tip+1, false, purse) // spends what is not there
	signed := funding(0)
	must(t, n.store.Update(t.Context(), func(x engine.Tx) error { return n.wallet.Sign(x, signed, true) }))
	publish(signed, tip, false, purse) // late, signed before a crash
	tx := funding(0)
	publish(tx, tip+1, true, 0)
	publish(tx, tip, true, 0) // it is out: never too late
	moody.refuses.Store(true)
	publish(tx, tip, true, 0) // and never given up because a node refuses it
}

// silence takes σ and answers nothing, or something wrong.
type silence struct {
	p2p.Service
	wrong bool
}

func (s silence) Release(ctx context.Context, r *wire.Release) (*wire.Reveal, error) {
	reveal, err := s.Service.Release(ctx, r)
	if err != nil {
		return nil, err
	}
	if s.wrong {
		reveal.Tau[0] ^= 1
		return reveal, nil
	}
	return nil, errors.New("silence")
}

// TestClaimImpliesTau: whatever agents answer, their claim gives the message
// away, over real sockets and in both shapes.
func TestClaimImpliesTau(t *testing.T) {
	tier.NotShort(t)
	for name, c := range map[string]struct {
		shape wire.Shape
		serve func(p2p.Service) p2p.Service
	}{
		"honest, one of many": {shape: wire.OneOfMany},
		"silent":              {serve: func(s p2p.Service) p2p.Service { return silence{Service: s} }},
		"wrong":               {serve: func(s p2p.Service) p2p.Service { return silence{Service: s, wrong: true} }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTown(t, 3)
			const purse = 1_000_000
			for _, h := range w.homes {
				if h.cfg.Policy != nil && c.serve != nil {
					must(t, h.node.Close())
					h.cfg.Serve = c.serve
					h.open()
				}
			}
			w.fund(w.homes["sender"], purse)
			body := []byte("through the chain")
			s := w.follow(w.send(body, c.shape))
			if s.State() != "delivered" {
				t.Errorf("%s: %s", s.State(), s.Failure)
			}
			if got := w.read(); !bytes.Equal(got, body) {
				t.Errorf("read %q", got)
			}
			w.balanced(purse)
		})
	}
}

// TestPointOnce: a point that a sender was quoted once is never taken again,
// also after a restart.
func TestPointOnce(t *testing.T) {
	tier.NotShort(t)
	w := newTown(t, 3)
	w.fund(w.homes["sender"], 1_000_000)
	ref := w.send([]byte("first"), wire.PerAgent)
	state, err := w.homes["sender"].node.Engine().State(t.Context(), ref)
	must(t, err)
	first := state.(deal.Sender)
	h := w.homes["sender"]
	must(t, h.node.Close())
	h.open()
	w.settle()
	must(t, h.node.store.View(t.Context(), func(tx engine.Tx) error {
		for _, l := range first.Legs {
			used, err := tx.Get(bucketPoints, l.Quote.Point[:])
			if err != nil {
				return err
			}
			if !bytes.Equal(used, ref.ID[:]) {
				t.Errorf("point %v is not remembered", l.Quote.Point)
			}
		}
		return nil
	}))
	// The agent's side: the point is the deal's name, and names are taken once.
	for _, l := range first.Legs {
		for _, h := range w.homes {
			if h.node.Key() != l.Candidate.Agent {
				continue
			}
			state, err := h.node.Engine().State(t.Context(), agentRef(l.Quote.Point))
			must(t, err)
			if err := h.node.Engine().Create(t.Context(), engine.Creation{Ref: agentRef(l.Quote.Point), State: state}); !errors.Is(err, engine.ErrExists) {
				t.Errorf("a second deal under one point: %v", err)
			}
		}
	}
}

// garble hands out copies that are not the ones it took.
type garble struct {
	p2p.Service
	cut bool
}

func (g garble) Copy(ctx context.Context, t *wire.Token, nonce wire.Hash, self, from peer.ID) (io.ReadCloser, uint64, error) {
	f, size, err := g.Service.Copy(ctx, t, nonce, self, from)
	if err != nil {
		return nil, 0, err
	}
	raw, err := io.ReadAll(f)
	if err != nil {
		return nil, 0, err
	}
	if g.cut {
		raw = raw[:len(raw)/2]
	} else {
		raw[len(raw)/2] ^= 1
	}
	return struct {
		io.Reader
		io.Closer
	}{bytes.NewReader(raw), f}, size, nil
}

// TestWrongCopies: truncated and altered copies are noticed before σ is given,
// another agent serves, and where all of them are wrong the money comes back.
func TestWrongCopies(t *testing.T) {
	tier.NotShort(t)
	for name, honest := range map[string]int{"one honest agent": 1, "none": 0} {
		t.Run(name, func(t *testing.T) {
			w := newTown(t, 3)
			const purse = 1_000_000
			for i, h := range []*home{w.homes["agent-0"], w.homes["agent-1"], w.homes["agent-2"]} {
				if i >= 3-honest {
					continue
				}
				must(t, h.node.Close())
				h.cfg.Serve = func(s p2p.Service) p2p.Service { return garble{s, i == 0} }
				h.open()
			}
			w.fund(w.homes["sender"], purse)
			s := w.follow(w.send([]byte("whole"), wire.PerAgent))
			if want := []string{"refunded", "delivered"}[honest]; s.State() != want {
				t.Errorf("%s, wanted %s", s.State(), want)
			}
			if honest > 0 && string(w.read()) != "whole" {
				t.Error("read something else")
			}
			w.balanced(purse)
		})
	}
}

// TestInboxLimit: a message that is larger than its recipient wants is not
// fetched, and says so; with another limit it is read.
func TestInboxLimit(t *testing.T) {
	tier.NotShort(t)
	w := newTown(t, 3)
	w.fund(w.homes["sender"], 1_000_000)
	h := w.homes["recipient"]
	must(t, h.node.Close())
	h.cfg.MaxMessage = 600
	h.open()
	body := bytes.Repeat([]byte("large "), 1000)
	w.send(body, wire.PerAgent)
	w.mine(4)
	seen := 0
	must(t, h.node.Delivery.Received(t.Context(), func(ref engine.Ref, r deal.Recipient) error {
		seen++
		if r.Phase != deal.RecipientFound || !strings.Contains(r.Failure, "this inbox takes 600") {
			t.Errorf("%v: %s", r.Phase, r.Failure)
		}
		return nil
	}))
	if left, err := os.ReadDir(filepath.Join(h.cfg.Dir, dirIncoming)); err != nil || len(left) > 0 || seen != 1 {
		t.Errorf("%d messages, %d files, %v", seen, len(left), err)
	}
	must(t, h.node.Close())
	h.cfg.MaxMessage = 1 << 20
	h.open()
	w.mine(2)
	if got := w.read(); !bytes.Equal(got, body) {
		t.Errorf("read %d bytes", len(got))
	}
}

// TestUnreadable: a contract that cannot be read keeps its files, and keeps
// neither the node from starting, also after a restore, nor others from being
// read.
func TestUnreadable(t *testing.T) {
	tier.NotShort(t)
	w := newTown(t, 3)
	w.fund(w.homes["sender"], 1_000_000)
	w.fund(w.homes["sender"], 1_000_000)
	bad := w.send([]byte("one"), wire.PerAgent)
	h := w.homes["sender"]
	must(t, h.node.Close())
	path := filepath.Join(h.cfg.Dir, fileDB)
	st, err := store.Open(path)
	must(t, err)
	must(t, st.Update(t.Context(), func(tx engine.Tx) error {
		return tx.Save(bad, []byte("junk"), contract.Interest{Wake: 1, Txids: []wire.Hash{{1}}})
	}))
	must(t, st.Close())
	must(t, MarkRestored(t.Context(), path))
	h.open()
	w.send([]byte("two"), wire.PerAgent)
	w.mine(6)
	if _, err := os.Stat(h.node.files.Path(dirOutgoing, bad.ID, "")); err != nil {
		t.Errorf("its payload: %v", err)
	}
	if _, err := h.node.Engine().State(t.Context(), bad); err == nil {
		t.Error("it can be read")
	}
	read := 0
	must(t, w.homes["recipient"].node.Delivery.Received(t.Context(), func(_ engine.Ref, r deal.Recipient) error {
		if r.Phase == deal.RecipientRead {
			read++
		}
		return nil
	}))
	if read < 1 {
		t.Errorf("%d messages are read", read)
	}
}
