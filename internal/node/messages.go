package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/wire"
)

// ErrNoMessage: no message of that ID is here.
var ErrNoMessage = errors.New("no such message")

// ErrUnread: the message is on its way, or was lost.
var ErrUnread = errors.New("the message is not here")

// Sent lists the messages of this sender, in the order in which they were sent.
func (n *Node) Sent(ctx context.Context, f func(engine.Ref, deal.Sender) error) error {
	return each(ctx, n.store, deal.KindSender, f)
}

// Received lists the messages that were found for this recipient, in the order
// of the chain; not those that the user discarded.
func (n *Node) Received(ctx context.Context, f func(engine.Ref, deal.Recipient) error) error {
	return each(ctx, n.store, deal.KindRecipient, func(ref engine.Ref, r deal.Recipient) error {
		if r.Phase == deal.RecipientDiscarded {
			return nil
		}
		return f(ref, r)
	})
}

// each calls f for every contract of a kind, until f fails.
func each[S any](ctx context.Context, s engine.Store, kind engine.Kind, f func(engine.Ref, S) error) error {
	return s.View(ctx, func(tx engine.Tx) error {
		return tx.Each(kind, true, func(ref engine.Ref, raw []byte) error {
			var state S
			if err := wire.Unmarshal(raw, &state); err != nil {
				return fmt.Errorf("%s: %w", ref, err)
			}
			return f(ref, state)
		})
	})
}

// ErrAmbiguous: more than one message begins with the given digits.
var ErrAmbiguous = errors.New("more than one message begins so")

// minPrefix is how many digits of a message ID must be given.
const minPrefix = 4

// Find finds a message by its ID, or by the first digits of it, among those of
// the first of kinds that has one: the state is a deal.Sender or a
// deal.Recipient. ErrNoMessage, ErrAmbiguous. An ID may be both sent and
// received: of a message to oneself, or because a stranger repeats a key that he
// saw; the latter can't be read.
func (n *Node) Find(ctx context.Context, prefix string, kinds ...engine.Kind) (ref engine.Ref, state any, err error) {
	prefix = strings.ToLower(prefix)
	if len(prefix) < minPrefix {
		return ref, nil, fmt.Errorf("%w: %q has fewer than %d digits", ErrNoMessage, prefix, minPrefix)
	}
	var id wire.MessageID
	best := -1
	see := func(r engine.Ref, k wire.MessageKey, s any, read bool) error {
		rank := 2 * slices.Index(kinds, r.Kind)
		if k == (wire.MessageKey{}) || rank < 0 || !strings.HasPrefix(k.ID().String(), prefix) {
			return nil
		}
		if state != nil && k.ID() != id {
			return fmt.Errorf("%w: %s", ErrAmbiguous, prefix)
		}
		if !read {
			rank++
		}
		if state == nil || rank < best {
			ref, state, id, best = r, s, k.ID(), rank
		}
		return nil
	}
	if err := n.Sent(ctx, func(r engine.Ref, s deal.Sender) error { return see(r, s.Terms.Key, s, true) }); err != nil {
		return ref, nil, err
	}
	if err := n.Received(ctx, func(r engine.Ref, s deal.Recipient) error { return see(r, s.Key, s, s.Phase == deal.RecipientRead) }); err != nil {
		return ref, nil, err
	}
	if state == nil {
		return ref, nil, fmt.Errorf("%w: %s", ErrNoMessage, prefix)
	}
	return ref, state, nil
}

// Message opens the MIME message of a received contract: ErrUnread before it is
// read.
func (n *Node) Message(ref engine.Ref) (*os.File, error) {
	f, err := os.Open(n.files.path(dirIncoming, ref.ID, ".eml"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrUnread
	}
	return f, err
}

// Cancel takes a message back before anything is paid: deal.ErrTooLate.
func (n *Node) Cancel(ctx context.Context, ref engine.Ref) error {
	_, err := n.engine.Tell(ctx, ref, deal.Cancelled{})
	return err
}

// Discard deletes a message that was received, or one that was sent and has
// come to its end: deal.ErrTooEarly.
func (n *Node) Discard(ctx context.Context, ref engine.Ref) error {
	_, err := n.engine.Tell(ctx, ref, deal.Discarded{})
	return err
}

// Roster are the agents that the node has met, by key.
func (n *Node) Roster() (list []wire.Advertisement) {
	for _, m := range n.roster.all() {
		list = append(list, m.Ad)
	}
	slices.SortFunc(list, func(a, b wire.Advertisement) int { return bytes.Compare(a.Agent[:], b.Agent[:]) })
	return list
}
