package deal_test

import (
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
