package demo

import (
	"fmt"

	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/wire"
)

// observe describes a change in plain words. Only changes that matter to people
// are described.
func (w *message) observe(party string, c engine.Change) {
	switch s := c.State.(type) {
	case deal.Sender:
		w.observeSender(party, &s, c.Event)
	case deal.Agent:
		before, _ := c.Before.(deal.Agent)
		w.observeAgent(party, &before, &s, c.Event)
	case deal.Recipient:
		before, _ := c.Before.(deal.Recipient)
		w.observeRecipient(party, &before, &s, c.Event)
	}
}

func (w *message) observeSender(party string, s *deal.Sender, ev engine.Event) {
	switch ev := ev.(type) {
	case nil:
		w.tell(party, "encrypts the message: %d bytes that only the recipient can open", s.Terms.PayloadSize)
		w.tell(party, "finds %d agents in the DHT near the message's place, and asks them for their price", len(s.Terms.Candidates))
	case deal.Quoted:
		if s.Phase == deal.SenderSealing {
			w.tell(party, "gets %d quotes and accepts the %d cheapest: %s", len(ev.Quotes), len(s.Legs), prices(s))
		}
	case deal.CoinsLocked:
		if s.Phase == deal.SenderPlacing {
			w.tell(party, "freezes %s; seals a copy for each agent under a key that nobody but the agent can reveal", frozen(s))
		}
	case deal.Placed:
		n := 0
		for _, l := range s.Legs {
			if l.Held {
				n++
			}
		}
		w.tell(party, "stored by %d of %d agents", n, len(s.Legs))
	case deal.NotPlaced:
		w.tell(party, "an agent did not accept its copy: %s", ev.Why)
	case deal.Broadcasted:
		if s.Phase == deal.SenderPublished && len(s.Spends) > 0 && s.Refund == nil {
			w.tell(party, "broadcasts the funding %s", txid(s.Txid))
		}
	case deal.Connected:
		for i, f := range s.Spends {
			if f == nil || f.Height != ev.Height {
				continue
			}
			switch {
			case s.Receipt(i):
				w.tell(party, "block %d: an agent claimed its output; that is the delivery receipt", ev.Height)
			case f.Claim == -1 && i == firstAt(s, ev.Height):
				w.tell(party, "block %d: what was not picked up is refunded", ev.Height)
			}
		}
	case deal.AckArrived:
		if s.Delivered() {
			w.tell(party, "has the recipient's signed acknowledgement")
		}
	}
}

// firstAt returns the index of the first output spent by a refund at height h.
func firstAt(s *deal.Sender, h wire.Height) int {
	for i, f := range s.Spends {
		if f != nil && f.Claim == -1 && f.Height == h {
			return i
		}
	}
	return -1
}

func prices(s *deal.Sender) string {
	text := ""
	for i, l := range s.Legs {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%d", l.Quote.Value)
	}
	return text + " sat each, claim fee included"
}

func frozen(s *deal.Sender) string {
	if len(s.Values) == 1 {
		return fmt.Sprintf("%v in one output for all agents", s.Values[0])
	}
	var sum wire.Sat
	for _, v := range s.Values {
		sum += v
	}
	return fmt.Sprintf("%v in %d outputs", sum, len(s.Values))
}

func (w *message) observeAgent(party string, before, a *deal.Agent, ev engine.Event) {
	switch ev := ev.(type) {
	case deal.Offered:
		w.tell(party, "recomputes the output, the root and its pre-signature byte for byte, and keeps the copy")
	case deal.Released:
		if before.Sigma == nil {
			text := "has the recipient's secret and answers with its own"
			if w.opt.Scenario.silent {
				text = "has the recipient's secret and does not answer"
			} else if a.Quote.Shape == wire.OneOfMany {
				text = "has the recipient's secret and claims at once: its own travels with the claim"
			}
			w.tell(party, "%s", text)
		}
	case deal.ClaimBuilt:
		if ev.Broadcast && (before.Claim == nil || before.Claim.Txid != ev.Sent.Txid) {
			w.tell(party, "claims its output in %s", txid(ev.Sent.Txid))
		}
	case deal.Connected:
		if a.Phase() == deal.AgentClaimed && a.Spend.Height == ev.Height {
			w.tell(party, "block %d: paid", ev.Height)
		}
	}
}

func (w *message) observeRecipient(party string, before, r *deal.Recipient, ev engine.Event) {
	switch ev := ev.(type) {
	case nil:
		w.tell(party, "finds a message in block %d: its tag is for this key; looks up its place in the DHT", r.Tip)
	case deal.Located:
		if r.Phase == deal.RecipientFetching && before.Phase != r.Phase {
			w.tell(party, "%d agents there prove that they hold it", len(r.Sources))
		}
	case deal.Fetched:
		w.tell(party, "fetched a sealed copy; it is the one that the sender committed to")
	case deal.NotRevealed:
		if r.Sources[r.Current].Silent && !before.Sources[r.Current].Silent {
			w.tell(party, "gave its secret and got no answer; waits for the agent's claim")
		}
	case deal.Opened:
		w.tell(party, "reads the message: %d bytes, signed by %s", r.Size, wire.EncodeAddress(wire.Regtest, r.Sender))
	case deal.Connected:
		if r.Phase == deal.RecipientOpening {
			w.tell(party, "block %d: reads the agent's key from its claim", ev.Height)
		}
	}
}
