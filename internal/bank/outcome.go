package bank

import (
	"fmt"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// Outcome is what each side of a bank would get if both stopped now.
type Outcome struct {
	Payee   wire.Sat  // after the fee of a lone close
	Payer   wire.Sat  // before the fee of taking it
	Fee     wire.Sat  // of the close, at the current rate
	Between wire.Msat // paid, and of no rung yet
	Text    string    // the same in words
}

// Outcome returns what each side would get, with a count of pennies paid, if
// neither side ever spoke again. If a close is on the chain, it returns that
// close's result.
func (o *Ours) Outcome(count uint32, rate wire.SatPerKVB) (out Outcome) {
	l := &o.Ladder
	g := l.Rung(count)
	switch s := o.Spend; {
	case s != nil && s.state() == StateRefunded:
		out.Payer, out.Text = l.Value, "The payer was refunded in full."
	case s != nil && s.Joint && count == 0: // the payer of a job's bank does not count its pennies
		out.Text = "It is closed with the other banks of its job."
	case s != nil && s.Joint:
		out.Payee = o.Paid(count)
		out.Payer = l.Value - out.Payee
		out.Text = fmt.Sprintf("It is closed with the other banks of its job: %v to the payee, less the fee, and %v back to the payer.", out.Payee, out.Payer)
	case s != nil:
		out.Payer = s.Change
		out.Payee = l.Value - s.Change
		out.Text = fmt.Sprintf("It is closed: %v to the payee, less the fee, and %v back to the payer.", out.Payee, out.Payer)
	case o.Confirmed == nil && o.Funded && count > 0:
		out.Payer, out.Between = l.Value, l.Paid(count)
		out.Text = fmt.Sprintf("A reorg has removed the funding. Until it confirms again, the payee cannot close, and %v in pennies are at stake for it.", out.Between)
	case o.Confirmed == nil:
		out.Payer, out.Text = l.Value, "The funding is not confirmed; nothing is at stake yet."
	default:
		out.Between = l.Paid(count) - l.Paid(g*l.PerRung)
		out.Fee = CloseCost(l.Rungs, rate)
		out.Payee, out.Payer = l.Share(g)-out.Fee, l.Change(g)
		if g == 0 || out.Payee < contract.Dust {
			out.Payee, out.Payer, out.Between = 0, l.Value, l.Paid(count)
			why := "no rung is reached"
			if g > 0 {
				why = fmt.Sprintf("rung %d of %d pays %v, and closing alone costs %v", g, l.Rungs, l.Share(g), out.Fee)
				out.Text = fmt.Sprintf("The payee could close only together with other banks: %s. Otherwise the payer is refunded in full from block %d on.", why, o.Expiry)
				return out
			}
			out.Text = fmt.Sprintf("The payer is refunded in full from block %d on: %s, so %v in pennies are lost to the payee.", o.Expiry, why, out.Between)
			return out
		}
		out.Text = fmt.Sprintf("The payee closes at rung %d of %d and gets %v, after a fee of %v; %v return to the payer a block later.", g, l.Rungs, out.Payee, out.Fee, out.Payer)
		if out.Between > 0 {
			out.Text += fmt.Sprintf(" %v in pennies are between two rungs and count only in a cooperative close.", out.Between)
		}
	}
	return out
}

// Together returns what each side gets in a cooperative close, and the fee,
// which the payee pays; ok is false if the payee's part would not cover it.
func (o *Ours) Together(count uint32, rate wire.SatPerKVB) (payee, payer, fee wire.Sat, ok bool) {
	paid := o.Paid(count)
	fee = TogetherCost(o.Ladder.Rungs, rate)
	return paid - fee, o.Ladder.Value - paid, fee, o.Spend == nil && o.Confirmed != nil && paid-fee >= contract.Dust
}
