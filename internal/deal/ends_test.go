package deal_test

import (
	"bytes"
	"testing"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/wire"
)

// TestRecipientEnds: a message that can hardly be opened any more is shown as
// failed, also while the recipient still waits for a claim or looks for agents.
func TestRecipientEnds(t *testing.T) {
	m := deal.MarginsFor(wire.Regtest)
	base := deal.Recipient{Margins: m, Confirmed: &contract.Fact{Height: 100}}
	releasing := base
	releasing.Phase = deal.RecipientReleasing
	releasing.Sources = []deal.Source{{Frozen: wire.Frozen{Expiry: 160}, Released: 110, Held: true}}
	opening := releasing
	opening.Phase = deal.RecipientOpening
	month := wire.Height(100 + 30*m.BlocksPerDay + m.Slack + m.Final)
	for _, c := range []struct {
		name string
		r    deal.Recipient
		tip  wire.Height
		want string
	}{
		{"releasing", releasing, 160 + wire.Height(m.Final) - 1, "queued"},
		{"released in vain", releasing, 160 + wire.Height(m.Final), "failed"},
		{"opening", opening, 1000, "queued"},
		{"found", base, month - 1, "queued"},
		{"never located", base, month, "failed"},
	} {
		c.r.Tip = c.tip
		if got := c.r.State(); got != c.want {
			t.Errorf("%s at %d: %s", c.name, c.tip, got)
		}
	}
}

// TestRefundApart: once a joint refund is refused for another reason than its fee,
// each output has a refund of its own.
func TestRefundApart(t *testing.T) {
	s := deal.Sender{Phase: deal.SenderPublished, Refund: &contract.Sent{}}
	s, _, err := s.Step(deal.Broadcasted{Err: "fee too low", TooLow: true})
	if err != nil || s.Apart {
		t.Fatalf("apart because the fee was too low, %v", err)
	}
	if s, _, err = s.Step(deal.Broadcasted{Err: "conflict"}); err != nil || !s.Apart {
		t.Fatalf("still together, %v", err)
	}
}

// TestRefundReplaced: a refund is replaced only once the estimate has risen by what
// the node asks of a replacement, and not before the network has answered. If the
// replacement is refused, the refund before counts again, and the outputs stay
// together; if that is refused too, they are refunded apart.
func TestRefundReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 3)
	w.present = false
	w.send(3, wire.PerAgent, 24)
	w.mine(int(w.sender.Legs[0].Quote.Expiry - w.tip()))
	first := w.sender.Refund
	if first == nil || first.Before != nil {
		t.Fatalf("the refund is %+v", first)
	}
	step := func(s deal.Sender, ev deal.Event) (deal.Sender, []byte) {
		t.Helper()
		s, effects, err := s.Step(ev)
		must(t, err)
		var sent []byte
		for _, e := range effects {
			if b, ok := e.(deal.Broadcast); ok {
				if sent != nil {
					t.Fatal("two refunds")
				}
				sent = b.Tx
			}
		}
		return s, sent
	}
	at := func(rate, increment wire.SatPerKVB, above wire.Height) deal.Event {
		return deal.Connected{Block: contract.Block{Height: w.tip() + above, FeeRate: rate, Increment: increment}}
	}
	// A rise by a tenth suffices only where the node asks for no more.
	s, sent := step(w.sender, at(feeRate*11/10, 1000, 1))
	if s.Refund.Txid != first.Txid || !bytes.Equal(sent, first.Tx) {
		t.Error("replaced by less than the node asks for")
	}
	s, sent = step(w.sender, at(feeRate*11/10, 100, 1))
	second := s.Refund
	if second.Txid == first.Txid || second.Before == nil || second.Before.Txid != first.Txid || !bytes.Equal(sent, second.Tx) {
		t.Fatalf("not replaced: %+v", second)
	}
	s, sent = step(s, at(feeRate*3, 100, 2))
	if s.Refund.Txid != second.Txid || !bytes.Equal(sent, second.Tx) {
		t.Error("replaced before it was answered")
	}
	back, sent := step(s, deal.Broadcasted{Txid: second.Txid, Err: "it does not replace an unconfirmed transaction"})
	if back.Refund.Txid != first.Txid || back.Apart || !bytes.Equal(sent, first.Tx) {
		t.Errorf("after the refusal: %v, apart %v", back.Refund.Txid, back.Apart)
	}
	if back, sent = step(back, deal.Broadcasted{Txid: first.Txid}); back.Apart || sent != nil {
		t.Error("apart although the first one is accepted")
	}
	if back, _ = step(back, deal.Broadcasted{Txid: first.Txid, Err: "conflict"}); !back.Apart {
		t.Error("not apart although the only one is refused")
	}
	kept, sent := step(s, deal.Broadcasted{Txid: second.Txid})
	if kept.Refund.Txid != second.Txid || kept.Refund.Before != nil || sent != nil {
		t.Errorf("after it was accepted: %+v", kept.Refund)
	}
	// The answer to another transaction is not the refund's.
	if other, _ := step(kept, deal.Broadcasted{Txid: wire.Hash{1}, Err: "conflict"}); other.Apart || other.Refund.Gone {
		t.Error("the refusal of another transaction counts")
	}
}

// TestRefundsApart: outputs that are refunded apart have a transaction each, and a
// refusal concerns that one alone. What is not worth its fee for a day is the rest,
// left to be gathered with others; the sender must not forget it while a reorg can
// bring more back.
func TestRefundsApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 3)
	w.present = false
	w.send(3, wire.PerAgent, 24)
	w.mine(int(w.sender.Legs[0].Quote.Expiry-w.tip()) - 1)
	step := func(s deal.Sender, ev deal.Event) (deal.Sender, []deal.Effect) {
		t.Helper()
		s, effects, err := s.Step(ev)
		must(t, err)
		return s, effects
	}
	at := func(rate wire.SatPerKVB, above uint32) deal.Event {
		return deal.Connected{Block: contract.Block{Height: w.tip() + wire.Height(above), FeeRate: rate, Increment: 1000}}
	}
	s, _ := step(w.sender, at(feeRate, 1))
	s, _ = step(s, deal.Broadcasted{Txid: s.Refund.Txid, Err: "conflict"})
	s, effects := step(s, at(feeRate, 2))
	if len(effects) != 3 || len(s.Refunds) != 3 {
		t.Fatalf("%d transactions, %d refunds", len(effects), len(s.Refunds))
	}
	seen := map[wire.Hash]bool{}
	for i, r := range s.Refunds {
		if tx, err := contract.ReadTx(r.Tx); err != nil || len(tx.TxIn) != 1 || seen[r.Txid] {
			t.Errorf("refund %d: %v, %v", i, r.Txid, err)
		}
		seen[r.Txid] = true
	}
	refused, effects := step(s, deal.Broadcasted{Txid: s.Refunds[1].Txid, Err: "conflict"})
	if !refused.Refunds[1].Gone || refused.Refunds[0].Gone || refused.Refunds[2].Gone || s.Refunds[1].Gone || len(effects) != 0 {
		t.Errorf("after one refusal: %+v", refused.Refunds)
	}
	if again, effects := step(refused, at(feeRate, 3)); len(effects) != 3 || again.Refunds[1].Gone || again.Refunds[0].Txid != s.Refunds[0].Txid {
		t.Errorf("in the next block: %d transactions", len(effects))
	}

	// Fees are too high for a day and more: nothing is worth a refund.
	const dear = feeRate * 500
	day := w.sender.Terms.Margins.BlocksPerDay
	left := w.sender
	for h := uint32(1); h <= day; h++ {
		if left, effects = step(left, at(dear, h)); len(effects) != 0 || left.Rest() != 0 {
			t.Fatalf("after %d blocks: %v, a rest of %v", h, effects, left.Rest())
		}
	}
	left, effects = step(left, at(dear, day+1))
	var sum wire.Sat
	for _, v := range left.Values {
		sum += v
	}
	if len(effects) != 1 || effects[0] != (deal.Gather{}) || left.Rest() != sum {
		t.Errorf("after a day: %v, a rest of %v, of %v", effects, left.Rest(), sum)
	}
	if _, _, err := left.Step(deal.Discarded{}); err != nil {
		t.Errorf("a rest keeps a message: %v", err)
	}
	left.Spends[0] = &deal.SpendFact{Fact: contract.Fact{Height: left.Tip}}
	if _, _, err := left.Step(deal.Discarded{}); err == nil {
		t.Error("forgotten while a reorg can bring an output back")
	}
	if left.Rest() != sum-left.Values[0] {
		t.Errorf("the rest without what is spent is %v", left.Rest())
	}
	// Fees fall: it is refunded after all.
	if back, effects := step(left, at(feeRate, day+2)); back.Rest() != 0 || len(effects) != 1 {
		t.Errorf("once fees fell: %v, a rest of %v", effects, back.Rest())
	}
}

// TestFundingTooLow: a funding that is refused for its fee is built again, with new
// quotes, until the attempts are used up.
func TestFundingTooLow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 3)
	w.send(3, wire.PerAgent, 24)
	s := w.sender
	s.Phase, s.Confirmed, s.Attempt = deal.SenderPublishing, nil, 0
	next, effects, err := s.Step(deal.Broadcasted{Err: "min relay fee not met", TooLow: true})
	must(t, err)
	if next.Phase != deal.SenderQuoting || next.Attempt != 1 || len(next.Legs) != 0 || next.Funding != nil || len(effects) != 2 || effects[0] != (deal.UnlockCoins{}) {
		t.Errorf("%+v, %v", next.Phase, effects)
	}
	s.Attempt = 100
	if next, _, err = s.Step(deal.Broadcasted{Err: "min relay fee not met", TooLow: true}); err != nil || next.State() != "failed" {
		t.Errorf("%s, %v", next.State(), err)
	}
}
