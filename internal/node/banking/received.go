package banking

import (
	"context"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// noteOf returns the note that accompanies a step of ours: the proof that we
// ordered it and, with the first step, what the payment is for. It is the same if
// the step is repeated.
func (b *Banks) noteOf(t *wire.Transfer, o *bank.Order) (*wire.Note, error) {
	if o.Text == nil {
		return &wire.Note{}, nil
	}
	n := &wire.Note{Proof: o.Text.Proof(t.ID, t.Index, t.Total)}
	if t.Index != 1 {
		return n, nil
	}
	raw, err := wire.Marshal(o.Text)
	if err != nil {
		return nil, err
	}
	n.E, n.Box, err = seal.SealNote(wire.Secret(wire.Tagged("payment-note-secret", o.Text.Salt[:], t.ID[:])), o.Payee, t.ID, raw)
	return n, err
}

// readNote reads the note of a new step as its final payee, and returns the text
// of the first step. That step must have one, to which the payment's id commits,
// because the payee signs the id. Every step must be proved: otherwise a banker
// could add a step of its own, after which the payer's next one is refused.
func (b *Banks) readNote(r *bank.Relay, t *wire.Transfer, n *wire.Note) (first *wire.NoteText, err error) {
	text := r.Text
	if t.Index == 1 {
		if first, err = b.openNote(t, n); err != nil {
			return nil, err
		}
		text = first
	}
	// A payment of an older version has no text.
	if text == nil {
		return nil, nil
	}
	if proof := text.Proof(t.ID, t.Index, t.Total); subtle.ConstantTimeCompare(proof[:], n.Proof[:]) != 1 {
		return nil, wire.Refuse(wire.BadRequest, "step %d of %v in all is not proved to be the payer's", t.Index, t.Total)
	}
	return first, nil
}

func (b *Banks) openNote(t *wire.Transfer, n *wire.Note) (*wire.NoteText, error) {
	raw, err := seal.OpenNote(b.cfg.Identity, n.E, t.ID, n.Box)
	if err != nil {
		return nil, wire.Refuse(wire.BadRequest, "the payment's note: %w", err)
	}
	text := new(wire.NoteText)
	if err := wire.Unmarshal(raw, text); err != nil {
		return nil, wire.Refuse(wire.BadRequest, "the payment's note: %w", err)
	}
	if wire.PaymentID(b.cfg.Network, text) != t.ID {
		return nil, wire.Refuse(wire.BadRequest, "the payment's id is not that of its note on %s", b.cfg.Network)
	}
	return text, nil
}

// Received lists the payments that this node received as their final payee,
// oldest first.
func (b *Banks) Received(ctx context.Context, f func(bank.Relay) error) error {
	return b.Relays(ctx, func(r bank.Relay) error {
		if r.Out != (bank.ID{}) || r.Index == 0 {
			return nil
		}
		return f(r)
	})
}

// Charge uses credit of a bank as its payee, for what its payer bought with pennies
// that it paid directly. Without it they stay credit for payments over this node, if
// it is a banker, because only the payer's own state knows what they were for. With
// the key of an earlier request nothing more is used. It returns bank.ErrEmpty if
// there is less credit, bank.ErrNotOpen if the bank gives none, or ErrKey.
func (b *Banks) Charge(ctx context.Context, id bank.ID, amount wire.Msat, key string) error {
	if amount == 0 {
		return fmt.Errorf("%w: a charge of %v", bank.ErrOrder, amount)
	}
	terms := wire.Tagged("bank-order-charge", id[:], binary.BigEndian.AppendUint64(nil, uint64(amount)))
	known, unlock, err := b.once(ctx, key, orderCharge, terms)
	if err != nil {
		return err
	}
	defer unlock()
	if known != nil {
		return nil
	}
	o := Order{What: orderCharge, Of: id, Terms: terms, At: time.Now().Unix()}
	_, err = b.cfg.Engine.TellWith(ctx, payeeRef(id), bank.Passed{Amount: amount}, func(tx engine.Tx) error { return o.keep(tx, key) })
	var refusal *wire.Refusal
	switch {
	case errors.Is(err, engine.ErrNoContract):
		return ErrNoBank
	case errors.As(err, &refusal) && refusal.Code == wire.NoCredit:
		return fmt.Errorf("%w: %w", bank.ErrEmpty, refusal.Err)
	case errors.As(err, &refusal):
		return fmt.Errorf("%w: %w", bank.ErrNotOpen, refusal.Err)
	}
	return err
}

// Receipt returns what the final payee of a payment of ours has signed, or
// bank.ErrNoReceipt.
func (b *Banks) Receipt(s *bank.Sending) (*bank.Receipt, error) {
	if s.Order.Text == nil || s.Acked == 0 {
		return nil, fmt.Errorf("%w: %v acknowledged", bank.ErrNoReceipt, s.Acked)
	}
	return bank.NewReceipt(b.cfg.Network, s)
}
