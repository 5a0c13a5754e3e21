package bank

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/bitgram/bitgram/wire"
)

// Receipt is what the final payee of a payment has signed, with all that is needed
// to verify it offline (spec/bank.md §7): the payment's id commits to the network,
// the reference and the memo, and the signature covers id, payee and total.
type Receipt struct {
	Network   wire.Network `json:"network"`
	Payment   string       `json:"payment_id"`
	Payee     string       `json:"payee" doc:"address of the payee, who signed"`
	Total     wire.Msat    `json:"total_msat" doc:"what the payee has received in all"`
	Step      uint32       `json:"step" doc:"number of the step for which it signed"`
	Salt      string       `json:"salt"`
	Reference string       `json:"reference"`
	Memo      string       `json:"memo"`
	Signature string       `json:"signature"`
}

// Errors of receipts.
var (
	// ErrNoReceipt means that the payee has signed nothing yet, or that an older
	// version made the payment.
	ErrNoReceipt = errors.New("there is no receipt")
	// ErrReceipt means that a receipt proves nothing.
	ErrReceipt = errors.New("false receipt")
)

// NewReceipt returns the receipt of a payment for what is acknowledged.
func NewReceipt(n wire.Network, s *Sending) (*Receipt, error) {
	r := &Receipt{Network: n, Payment: s.ID.String(), Payee: wire.EncodeAddress(n, s.Order.Payee), Total: s.Ack.Total, Step: s.Ack.Index,
		Salt: hex.EncodeToString(s.Order.Text.Salt[:]), Reference: s.Order.Text.Reference, Memo: s.Order.Text.Memo, Signature: hex.EncodeToString(s.Ack.Sig[:])}
	return r, r.Verify()
}

// Verify verifies a receipt alone, without any state. The error wraps ErrReceipt.
func (r *Receipt) Verify() error {
	var id wire.Hash
	var sig wire.Signature
	text := wire.NoteText{Reference: r.Reference, Memo: r.Memo}
	for what, f := range map[string]struct {
		from string
		to   []byte
	}{"payment_id": {r.Payment, id[:]}, "salt": {r.Salt, text.Salt[:]}, "signature": {r.Signature, sig[:]}} {
		if b, err := hex.DecodeString(f.from); err != nil || copy(f.to, b) != len(b) || len(b) != len(f.to) {
			return fmt.Errorf("%w: %s is not %d hex digits", ErrReceipt, what, 2*len(f.to))
		}
	}
	payee, err := wire.ParseRecipient(r.Network, r.Payee)
	if err != nil {
		return fmt.Errorf("%w: the payee: %w", ErrReceipt, err)
	}
	if err := text.Check(); err != nil || wire.PaymentID(r.Network, &text) != id {
		return fmt.Errorf("%w: the payment has another network, reference or memo", ErrReceipt)
	}
	if payee.Verify(wire.TransferDigest(id, r.Step, r.Total, payee), sig) != nil {
		return fmt.Errorf("%w: the payee did not sign it", ErrReceipt)
	}
	return nil
}
