package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/bank"
)

func (a *app) bankCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "bank",
		Short: "Pay through penny banks: one hash per payment",
		Long: "A penny bank is a timelocked escrow of two parties, in which a preimage of a hash chain is a payment. A\n" +
			"payment takes one hash to verify and no signature, and the payee can settle alone if the payer\n" +
			"vanishes.\n\n" +
			"A payee accepts banks if its daemon runs with --bank. PEER is the payee's address, or ADDRESS@MULTIADDR\n" +
			"if the payee is not listed in the DHT; 'bitgram banker' prints yours.",
		Example: "  bitgram bank open PEER 100000 --dry-run\n" +
			"  bitgram bank open PEER 100000 --wait\n" +
			"  bitgram bank pay PAYEE 12.5\n" +
			"  bitgram bank list",
		SuggestionsMinimumDistance: 2,
		Args:                       noSuchCommand,
		RunE:                       func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.bankOpen(), a.bankList(), a.bankShow(), a.bankPay(), a.bankPayments(), a.bankReceived(), a.bankCharge(), a.bankReceipt(), a.bankVerify(), a.bankResume(), a.bankEnd(), a.bankClose(), a.bankCancel(), a.bankBump(), a.bankPair(),
		a.classicCommand(), a.bankBenchCommand())
	return c
}

// errNoPair is returned if a bank is open, but not the reverse bank that was ordered
// with it.
var errNoPair = errors.New("the payee opens no reverse bank")

// errBankGoesOn is returned when waiting for a bank is interrupted; the daemon
// goes on with it.
var errBankGoesOn = errors.New("interrupted while waiting for a bank")

// awaitBank waits until done is true of a bank, or the bank has failed.
func (a *app) awaitBank(ctx context.Context, client *api.Client, id string, done func(api.Bank) bool) (b api.Bank, err error) {
	finished := false
	if lost := a.until(ctx, client, about(func(e api.Bank) bool { return e.ID == id }), func() bool {
		b, err = client.Bank(ctx, id)
		var told *api.Error
		if errors.As(err, &told) && told.Code == api.CodeUnknownBank {
			err = nil // a bank that a peer is about to open to us
			return false
		}
		if err == nil && b.State == bank.StateFailed {
			err = &failure{by: b.FailedBy, why: b.Why}
		}
		finished = err != nil || done(b)
		return finished
	}); !finished {
		if ctx.Err() != nil {
			return b, errBankGoesOn
		}
		return b, lost
	}
	return b, err
}

func (a *app) oneBank(b api.Bank, err error) error {
	if err != nil {
		return err
	}
	a.print.summary(b, func(w io.Writer) { printBank(w, &b) })
	return nil
}

func printBank(w io.Writer, b *api.Bank) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, name+"\t"+format+"\n", args...) }
	row("bank", "%s", b.ID)
	row("side", "%s", b.Side)
	row("state", "%s", b.State)
	if b.Peer != "" {
		row("payee", "%s", b.Peer)
	}
	if b.Memo != "" {
		row("memo", "%s", b.Memo)
	}
	if b.Pair != "" {
		row("reverse bank", "%s", b.Pair)
	} else if b.PairWhy != "" {
		row("reverse bank", "none: %s", b.PairWhy)
	} else if b.PairWanted > 0 {
		row("reverse bank", "the payee is asked once this one is open: %v", b.PairWanted)
	}
	row("value", "%v, in %d pennies of %v", b.Value, b.Pennies, b.Penny)
	row("paid", "%v by %d pennies: rung %d of %d", b.PaidMsat, b.Paid, b.Rung, b.Rungs)
	if b.Side == "payer" && b.Acked != b.Paid {
		row("acknowledged", "%d pennies", b.Acked)
	}
	if b.Assigned > 0 {
		if b.Side == "payee" {
			row("used", "%v by payments and charges", b.Assigned)
		} else {
			row("used", "%v by payments", b.Assigned)
		}
	}
	if b.Unused > 0 {
		row("unused", "%v of credit, which a close by both returns", b.Unused)
	}
	if b.Funding != "" {
		row("funding", "%s, %d of %d confirmations", b.Funding, min(b.Depth, b.Conf), b.Conf)
	}
	if b.Close != "" {
		row("close", "%s", b.Close)
	}
	row("expires", "at block %d; pennies are accepted until block %d", b.Expiry, b.LastPenny)
	if b.Why != "" {
		row("why", "%s", b.Why)
	}
	t.Flush()
	fmt.Fprintf(w, "If everything stopped now: %s\n", b.Stopped.Text)
}
