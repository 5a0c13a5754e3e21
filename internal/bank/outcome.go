package bank

import (
	"fmt"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// Outcome is what each side of a bank gets if everything stopped now.
type Outcome struct {
	Payee   wire.Sat  // after the fee of a close alone
	Payer   wire.Sat  // before the fee of taking it
	Fee     wire.Sat  // of the close, at the present rate
	Between wire.Msat // paid, and of no rung yet
	Text    string    // the same in words
}

// Outcome tells what each side gets, with a count of pennies paid, if nobody ever
// spoke again. A close that is on the chain has said it already.
func (o *Ours) Outcome(count uint32, rate wire.SatPerKVB) (out Outcome) {
	l := &o.Ladder
	g := l.Rung(count)
	switch s := o.Spend; {
	case s != nil && s.state() == StateRefunded:
		out.Payer, out.Text = l.Value, "The payer took all of it back."
	case s != nil:
		out.Payer = s.Change
		out.Payee = l.Value - s.Change
		out.Text = fmt.Sprintf("It is closed: %v to the payee, less the fee, and %v back to the payer.", out.Payee, out.Payer)
	case o.Confirmed == nil:
		out.Payer, out.Text = l.Value, "Its funding has no confirmation: nothing is at stake yet."
	default:
		out.Between = l.Paid(count) - l.Paid(g*l.PerRung)
		out.Fee = CloseCost(l.Rungs, rate)
		out.Payee, out.Payer = l.Share(g)-out.Fee, l.Change(g)
		if g == 0 || out.Payee < contract.Dust {
			out.Payee, out.Payer, out.Between = 0, l.Value, l.Paid(count)
			why := "no rung is reached"
			if g > 0 {
				why = fmt.Sprintf("rung %d of %d brings %v, and closing alone costs %v", g, l.Rungs, l.Share(g), out.Fee)
				out.Text = fmt.Sprintf("The payee could close only together with other banks: %s. Else the payer takes all of it back from block %d on.", why, o.Expiry)
				return out
			}
			out.Text = fmt.Sprintf("The payer takes all of it back from block %d on: %s, so that %v in pennies bring the payee nothing.", o.Expiry, why, out.Between)
			return out
		}
		out.Text = fmt.Sprintf("The payee closes at rung %d of %d and gets %v, after a fee of %v; %v go back to the payer a block later.", g, l.Rungs, out.Payee, out.Fee, out.Payer)
		if out.Between > 0 {
			out.Text += fmt.Sprintf(" %v in pennies lie between two rungs and count only where both close.", out.Between)
		}
	}
	return out
}

// Together is what each side gets where both close, and the fee, which the payee
// pays; ok is false where the payee's share would not pay for it.
func (o *Ours) Together(count uint32, rate wire.SatPerKVB) (payee, payer, fee wire.Sat, ok bool) {
	paid := o.Paid(count)
	fee = TogetherCost(o.Ladder.Rungs, rate)
	return paid - fee, o.Ladder.Value - paid, fee, o.Spend == nil && o.Confirmed != nil && paid-fee >= contract.Dust
}
