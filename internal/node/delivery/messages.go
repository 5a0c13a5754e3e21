package delivery

import (
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

// ErrNoMessage means that there is no message with this ID.
var ErrNoMessage = errors.New("no such message")

// ErrUnread means that the message has not arrived, or was lost.
var ErrUnread = errors.New("the message is not here")

// Sent lists the messages of this sender, in the order of sending.
func (d *Delivery) Sent(ctx context.Context, f func(engine.Ref, deal.Sender) error) error {
	return engine.Each(ctx, d.cfg.Store, deal.KindSender, f)
}

// Received lists the messages found for this recipient, in the order of the
// chain, without those that the user discarded.
func (d *Delivery) Received(ctx context.Context, f func(engine.Ref, deal.Recipient) error) error {
	return engine.Each(ctx, d.cfg.Store, deal.KindRecipient, func(ref engine.Ref, r deal.Recipient) error {
		if r.Phase == deal.RecipientDiscarded {
			return nil
		}
		return f(ref, r)
	})
}

// minPrefix is the minimum number of digits of a message ID.
const minPrefix = 4

// Find finds a message by its ID, or the first digits of it, among those of the
// first of kinds that has one. The state is a deal.Sender or a deal.Recipient.
// It returns ErrNoMessage or engine.ErrAmbiguous. An ID may be both sent and
// received: for a message to oneself, or because a stranger repeats a key; the
// latter cannot be read.
func (d *Delivery) Find(ctx context.Context, prefix string, kinds ...engine.Kind) (ref engine.Ref, state any, err error) {
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
			return fmt.Errorf("%w: %s", engine.ErrAmbiguous, prefix)
		}
		if !read {
			rank++
		}
		if state == nil || rank < best {
			ref, state, id, best = r, s, k.ID(), rank
		}
		return nil
	}
	if err := d.Sent(ctx, func(r engine.Ref, s deal.Sender) error { return see(r, s.Terms.Key, s, true) }); err != nil {
		return ref, nil, err
	}
	if err := d.Received(ctx, func(r engine.Ref, s deal.Recipient) error { return see(r, s.Key, s, s.Phase == deal.RecipientRead) }); err != nil {
		return ref, nil, err
	}
	if state == nil {
		return ref, nil, fmt.Errorf("%w: %s", ErrNoMessage, prefix)
	}
	return ref, state, nil
}

// Message opens the MIME message of a received contract. It returns ErrUnread
// before the message is read.
func (d *Delivery) Message(ref engine.Ref) (*os.File, error) {
	f, err := os.Open(d.message(ref))
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrUnread
	}
	return f, err
}

// Cancel cancels a message before anything is paid. It returns deal.ErrTooLate
// otherwise.
func (d *Delivery) Cancel(ctx context.Context, ref engine.Ref) error {
	_, err := d.cfg.Engine.Tell(ctx, ref, deal.Cancelled{})
	return err
}

// Discard deletes a received message, or a sent one that has ended. It returns
// deal.ErrTooEarly otherwise.
func (d *Delivery) Discard(ctx context.Context, ref engine.Ref) error {
	_, err := d.cfg.Engine.Tell(ctx, ref, deal.Discarded{})
	return err
}
