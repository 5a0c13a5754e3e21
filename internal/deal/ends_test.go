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
