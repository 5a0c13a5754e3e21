package deal_test

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// TestProof: an acknowledged message has a proof that verifies offline, and
// does not verify if any part of it is replaced.
func TestProof(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 5, 3)
	w.send(3, wire.PerAgent, 24)
	if _, err := w.sender.Proof(wire.Regtest); !errors.Is(err, deal.ErrNoProof) {
		t.Fatalf("a proof before there was anything to prove: %v", err)
	}
	w.finish()
	p, err := w.sender.Proof(wire.Regtest)
	must(t, err)
	txid, err := p.Verify()
	must(t, err)
	if txid != w.sender.Txid || p.MessageID != w.sender.Terms.Key.ID().String() {
		t.Fatal("the proof is about something else")
	}
	flip := func(s string) string {
		return s[:len(s)-1] + map[bool]string{true: "1", false: "0"}[strings.HasSuffix(s, "0")]
	}
	other := newWorld(t, 6, 3)
	other.send(3, wire.PerAgent, 24)
	other.finish()
	q, err := other.sender.Proof(wire.Regtest)
	must(t, err)
	for name, change := range map[string]func(*deal.Proof){
		"message":       func(p *deal.Proof) { p.MessageID = flip(p.MessageID) },
		"recipient":     func(p *deal.Proof) { p.Recipient = q.Recipient },
		"nobody":        func(p *deal.Proof) { p.Recipient = "" },
		"agent":         func(p *deal.Proof) { p.Agent = flip(p.Agent) },
		"funding":       func(p *deal.Proof) { p.Funding = q.Funding },
		"no funding":    func(p *deal.Proof) { p.Funding = "00" },
		"section":       func(p *deal.Proof) { p.Section = q.Section },
		"no section":    func(p *deal.Proof) { p.Section = "a0" },
		"ack":           func(p *deal.Proof) { p.Ack = q.Ack },
		"ack bit":       func(p *deal.Proof) { p.Ack = flip(p.Ack) },
		"ack short":     func(p *deal.Proof) { p.Ack = p.Ack[2:] },
		"no hex":        func(p *deal.Proof) { p.Ack = "x" },
		"network":       func(p *deal.Proof) { p.Network = wire.Mainnet },
		"version":       func(p *deal.Proof) { p.Version = 1 },
		"large funding": func(p *deal.Proof) { p.Funding = strings.Repeat("00", 2<<20) },
	} {
		c := *p
		change(&c)
		if _, err := c.Verify(); !errors.Is(err, deal.ErrBadReceipt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestProofOfAnother: a sender whose key belongs to a message other than the
// sealed one gets no acknowledgement for it; nor does one that presents a leaf
// other than the one that was read.
func TestProofOfAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 14, 3)
	w.lie = wire.Hash{1}
	w.send(3, wire.PerAgent, 24)
	w.finish()
	if w.recipient == nil || w.recipient.Phase != deal.RecipientLost || len(w.read) > 0 {
		t.Errorf("read: %+v", w.recipient)
	}
	if _, err := w.sender.Proof(wire.Regtest); !errors.Is(err, deal.ErrNoProof) {
		t.Errorf("proof: %v", err)
	}

	w = newWorld(t, 14, 3)
	w.send(3, wire.PerAgent, 24)
	w.finish()
	p, err := w.sender.Proof(wire.Regtest)
	must(t, err)
	raw, err := hex.DecodeString(p.Section)
	must(t, err)
	var s wire.Section
	must(t, wire.Unmarshal(raw, &s))
	must(t, seal.VerifyAck(ackOf(t, p), keyOf(t, w.identity), ephemeral(t, w), root(t, w), s.Leaf.Hash()))
	s.Leaf.Key = seal.MessageKey(wire.Hash{1}, 0)
	if err := seal.VerifyAck(ackOf(t, p), keyOf(t, w.identity), ephemeral(t, w), root(t, w), s.Leaf.Hash()); !errors.Is(err, seal.ErrSignature) {
		t.Errorf("another leaf of the same agent: %v", err)
	}
}

func ackOf(t *testing.T, p *deal.Proof) seal.Ack {
	raw, err := hex.DecodeString(p.Ack)
	must(t, err)
	return seal.Ack(raw)
}

func ephemeral(t *testing.T, w *world) wire.Key {
	e, err := w.sender.Terms.E()
	must(t, err)
	return e
}

func root(t *testing.T, w *world) wire.Hash {
	tx, err := contract.DecodeTx(w.sender.Funding)
	must(t, err)
	data, _ := contract.Marker(tx)
	m, err := seal.DecodeMarker(data)
	must(t, err)
	return m.Root
}

// TestCancel: a message can be cancelled as long as its funding is not signed.
// Its coins are then free, and late answers of agents change nothing.
func TestCancel(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 7, 3)
	cancelled := map[deal.SenderPhase]bool{}
	w.reached = func(_ *world, state any) {
		s, ok := state.(deal.Sender)
		if !ok {
			return
		}
		n, effects, err := s.Step(deal.Cancelled{})
		if s.Phase >= deal.SenderPublishing {
			if !errors.Is(err, deal.ErrTooLate) {
				t.Errorf("cancelled while %v: %v", s.Phase, err)
			}
			return
		}
		must(t, err)
		cancelled[s.Phase] = true
		if n.Phase != deal.SenderFailed || n.FailedBy != "cancelled" || !n.Interest().Done || len(effects) != 2 || effects[0] != (deal.UnlockCoins{}) {
			t.Errorf("cancelled while %v: %v, %v, %v", s.Phase, n.Phase, n.Interest(), effects)
		}
		for _, ev := range []deal.Event{deal.Quoted{}, deal.CopiesSealed{}, deal.CoinsLocked{}, deal.NoCoins{}, deal.Placed{}, deal.NotPlaced{}, deal.Broadcasted{}} {
			if again, effects, err := n.Step(ev); err == nil && (again.Phase != deal.SenderFailed || len(effects) > 0) {
				t.Errorf("cancelled while %v, then %T: %v, %v", s.Phase, ev, again.Phase, effects)
			}
		}
	}
	w.send(3, wire.PerAgent, 24)
	w.finish()
	for p := deal.SenderQuoting; p < deal.SenderPublishing; p++ {
		if !cancelled[p] {
			t.Errorf("never tried while %v", p)
		}
	}
}

// TestDiscard: a sender's record is removed only if nothing is at stake. A
// recipient's message is removed at once, and running effects clean up after
// it.
func TestDiscard(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 8, 3)
	early := 0
	w.reached = func(_ *world, state any) {
		switch s := state.(type) {
		case deal.Sender:
			n, _, err := s.Step(deal.Discarded{})
			if s.Interest().Done != (err == nil) || err == nil && !n.Interest().Forget || err != nil && !errors.Is(err, deal.ErrTooEarly) {
				t.Errorf("discarded while %v: %v", s.Phase, err)
			}
			if err != nil {
				early++
			}
		case deal.Recipient:
			n, effects, err := s.Step(deal.Discarded{})
			must(t, err)
			if n.Phase != deal.RecipientDiscarded || !n.Interest().Done || n.Interest().Forget || len(effects) != 2 {
				t.Errorf("discarded while %v: %v, %v", s.Phase, n.Phase, effects)
			}
			for _, ev := range []deal.Event{deal.Located{}, deal.Fetched{}, deal.NotFetched{}, deal.Revealed{}, deal.NotRevealed{}, deal.Opened{}, deal.NotOpened{},
				deal.AckLeft{}, deal.Connected{}, deal.Disconnected{}, deal.Discarded{}} {
				again, effects, err := n.Step(ev)
				must(t, err)
				for _, e := range effects {
					switch e.(type) {
					case deal.DropPayload, deal.DropMessage:
					default:
						t.Errorf("discarded while %v, then %T: %T", s.Phase, ev, e)
					}
				}
				if again.Phase != deal.RecipientDiscarded {
					t.Errorf("discarded while %v, then %T: %v", s.Phase, ev, again.Phase)
				}
			}
		}
	}
	w.send(3, wire.PerAgent, 24)
	w.finish()
	if early == 0 {
		t.Error("never too early")
	}
}

// TestWaiting: a message whose coins are locked elsewhere waits for them, asks
// for new quotes when the old ones expire, and fails only if no block can help.
func TestWaiting(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 9, 3)
	polls, dry := 0, true
	w.reached = func(_ *world, state any) {
		s, ok := state.(deal.Sender)
		if !ok || s.Phase != deal.SenderFunding || s.Waiting || !dry {
			return
		}
		dry = false
		poor, effects, err := s.Step(deal.NoCoins{Need: 100, Have: 10, Soon: 99})
		must(t, err)
		if poor.Phase != deal.SenderFailed || poor.FailedBy != "funds" || len(effects) != 2 {
			t.Errorf("without hope: %v, %v", poor.Phase, effects)
		}
		n, effects, err := s.Step(deal.NoCoins{Need: 100, Have: 10, Soon: 100})
		must(t, err)
		if n.Phase != deal.SenderFunding || !n.Waiting || len(effects) != 0 || n.Interest().Wake == 0 || n.Interest().Done {
			t.Fatalf("with hope: %v, %v, %+v", n.Phase, effects, n.Interest())
		}
		if c, _, err := n.Step(deal.Cancelled{}); err != nil || c.Phase != deal.SenderFailed || c.Interest().Wake != 0 {
			t.Errorf("cancelled: %v, %v", c.Phase, err)
		}
		for h := n.Legs[0].Quote.From + 1; ; h++ {
			var ev deal.Connected
			ev.Height = h
			next, effects, err := n.Step(ev)
			must(t, err)
			if len(effects) != 1 {
				t.Fatalf("at %d: %v", h, effects)
			}
			if _, ok := effects[0].(deal.AskQuotes); ok {
				if next.Phase != deal.SenderQuoting || h+6 <= n.Legs[0].Quote.ValidUntil {
					t.Errorf("asked again at %d, valid until %d", h, n.Legs[0].Quote.ValidUntil)
				}
				break
			}
			if _, ok := effects[0].(deal.LockCoins); !ok {
				t.Fatalf("at %d: %T", h, effects[0])
			}
			polls++
			if _, freed, err := n.Step(deal.CoinsFreed{}); err != nil || len(freed) != 1 {
				t.Errorf("coins freed: %v, %v", freed, err)
			}
			if _, freed, err := next.Step(deal.CoinsFreed{}); err != nil || len(freed) != 0 {
				t.Errorf("coins freed while asked for: %v, %v", freed, err)
			}
			if next, _, err = next.Step(deal.NoCoins{Need: 100, Have: 10, Soon: 100}); err != nil || !next.Waiting {
				t.Fatalf("at %d: %v", h, err)
			}
			n = next
		}
	}
	w.send(3, wire.PerAgent, 24)
	if dry || polls < 3 {
		t.Errorf("%d blocks asked", polls)
	}
}

// TestRestored: a restored home relies on nothing that may have changed since
// the backup: no quote, no message that was not paid for, no copy.
func TestRestored(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10, 3)
	senders, recipients := map[deal.SenderPhase]bool{}, map[deal.RecipientPhase]bool{}
	quoted, held := 0, 0
	w.reached = func(w *world, state any) {
		for _, a := range w.agents {
			for _, q := range a.quotes {
				void, effects, err := q.Step(deal.Restored{})
				must(t, err)
				if in := void.Interest(); len(effects) != 0 || void.Phase() != deal.AgentClosed || !in.Done || !in.Forget {
					t.Errorf("a quote after a restore: %v, %v", void.Phase(), effects)
				}
				quoted++
			}
			if a.state == nil || a.state.Package == nil || a.state.Dropped {
				continue
			}
			same, effects, err := a.state.Step(deal.Restored{CopyHere: true})
			must(t, err)
			if len(effects) != 0 || same.Phase() != a.state.Phase() || same.Serves() != a.state.Serves() {
				t.Errorf("an agent with its copy: %v, %v", same.Phase(), effects)
			}
			gone, effects, err := a.state.Step(deal.Restored{})
			must(t, err)
			if len(effects) != 1 || gone.Serves() || gone.Phase() != a.state.Phase() || gone.Claimable() != a.state.Claimable() {
				t.Errorf("an agent without its copy: %v, %v", gone.Phase(), effects)
			}
			held++
		}
		switch s := state.(type) {
		case deal.Sender:
			n, effects, err := s.Step(deal.Restored{})
			must(t, err)
			senders[s.Phase] = true
			if paid := s.Phase >= deal.SenderPublishing; paid != (n.Phase == s.Phase && len(effects) == 0) || !paid && n.FailedBy != "restored" {
				t.Errorf("a sender while %v: %v, %v", s.Phase, n.Phase, effects)
			}
			if s.Phase <= deal.SenderPlacing && n.Interest().Done != (s.Phase < deal.SenderPlacing) {
				t.Errorf("a sender while %v: %+v", s.Phase, n.Interest())
			}
		case deal.Recipient:
			n, effects, err := s.Step(deal.Restored{})
			must(t, err)
			recipients[s.Phase] = true
			if s.Phase >= deal.RecipientRead {
				if n.Phase != s.Phase || len(effects) != 0 {
					t.Errorf("a recipient while %v: %v", s.Phase, n.Phase)
				}
				return
			}
			if n.Phase != deal.RecipientFound || len(effects) != 1 || n.Tip != s.Tip {
				t.Errorf("a recipient while %v: %v, %v", s.Phase, n.Phase, effects)
			}
			for i := range n.Sources {
				if n.Sources[i].Held || n.Sources[i].Released != s.Sources[i].Released {
					t.Errorf("a source while %v: %+v", s.Phase, n.Sources[i])
				}
			}
		}
	}
	w.send(3, wire.PerAgent, 24)
	w.finish()
	if len(senders) < 5 || len(recipients) < 5 || quoted == 0 || held == 0 {
		t.Errorf("seen %v, %v, %d quotes, %d copies", senders, recipients, quoted, held)
	}
}

// TestRestoredRecipient: a recipient restored at any moment still reads its
// message, and gives σ to no second agent because of it.
func TestRestoredRecipient(t *testing.T) {
	t.Parallel()
	for at := deal.RecipientFound; at < deal.RecipientRead; at++ {
		w := newWorld(t, 11, 3)
		done := false
		w.reached = func(w *world, state any) {
			if r, ok := state.(deal.Recipient); ok && r.Phase == at && !done {
				done = true
				w.stepRecipient(deal.Restored{})
			}
		}
		w.send(3, wire.PerAgent, 24)
		w.finish()
		released := 0
		for _, s := range w.recipient.Sources {
			if s.Released != 0 {
				released++
			}
		}
		if !done || w.recipient.Phase != deal.RecipientRead || released != 1 {
			t.Errorf("restored while %v (%v): ends %v, σ with %d", at, done, w.recipient.Phase, released)
		}
	}
}

// TestRestoredRefund: a home restored to the moment before its funding was
// published finds it on the chain, and refunds what no agent earned.
func TestRestoredRefund(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 12, 3)
	var restored *deal.Sender
	w.reached = func(w *world, state any) {
		if s, ok := state.(deal.Sender); ok && s.Phase == deal.SenderPlacing && restored == nil {
			n, _, err := s.Step(deal.Restored{})
			must(t, err)
			restored = &n
		}
	}
	w.present = false
	from := w.tip()
	w.send(3, wire.PerAgent, 24)
	w.finish()
	if w.sender.State() != "refunded" || restored == nil {
		t.Fatalf("%s, %v", w.sender.State(), restored)
	}
	sent := 0
	for h := from + 1; h <= w.tip(); h++ {
		ev := deal.Connected{Block: contract.Block{Height: h, FeeRate: feeRate, Txs: w.block(h).Transactions}}
		if !wants(restored.Interest(), ev) {
			continue
		}
		n, effects, err := restored.Step(ev)
		must(t, err)
		restored = &n
		for _, e := range effects {
			if _, ok := e.(deal.Broadcast); ok {
				sent++
			}
		}
	}
	if restored.State() != "refunded" || !restored.Interest().Done || sent == 0 || restored.Refund.Txid != w.sender.Refund.Txid {
		t.Errorf("%s, %+v, %d refunds", restored.State(), restored.Interest(), sent)
	}
}

// TestNeverConfirmed: a message whose funding no block includes is over once
// its coins are spent otherwise, or its time is up; and it is refunded if a
// block includes it after all.
func TestNeverConfirmed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 13, 3)
	var s deal.Sender
	w.reached = func(w *world, state any) {
		if n, ok := state.(deal.Sender); ok && n.Phase == deal.SenderPublishing && s.Phase == 0 {
			s = n
		}
	}
	w.send(3, wire.PerAgent, 24)
	expiry, final := s.Frozen[0].Expiry, wire.Height(s.Terms.Margins.Final)
	other := btcwire.NewMsgTx(2)
	at := contract.OutPoint(s.Inputs[0])
	other.AddTxIn(btcwire.NewTxIn(&at, nil, nil))
	for name, c := range map[string]struct {
		refused bool
		other   wire.Height // in this block
		end     wire.Height
	}{
		"refused":            {true, 0, expiry + final - 1},
		"refused and spent":  {true, s.Tip + 20, s.Tip + 20 + final - 1},
		"never taken":        {false, 0, expiry + final - 1},
		"spent by something": {false, s.Tip + 20, s.Tip + 20 + final - 1},
	} {
		var ev deal.Broadcasted
		if c.refused {
			ev.Err = "no"
		}
		n, _, err := s.Step(ev)
		must(t, err)
		var end wire.Height
		for h := s.Tip + 1; end == 0 && h < expiry+100; h++ {
			ev := deal.Connected{Block: contract.Block{Height: h, FeeRate: feeRate}}
			if h == c.other {
				ev.Txs = []*btcwire.MsgTx{other}
			}
			if !wants(n.Interest(), ev) {
				continue
			}
			var effects []deal.Effect
			n, effects, err = n.Step(ev)
			must(t, err)
			for _, e := range effects {
				if p, ok := e.(deal.Publish); ok && (c.refused || p.Until == 0 || p.Until > n.Legs[0].Quote.ValidUntil) {
					t.Errorf("%s: published at %d, until %d", name, h, p.Until)
				}
			}
			if n.Interest().Done {
				end = h
			}
		}
		if end != c.end || n.State() != "failed" || n.FailedBy != "rejected" {
			t.Errorf("%s: over at %d, not %d: %s by %s", name, end, c.end, n.State(), n.FailedBy)
		}
	}
}
