package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/wire"
)

func (a *app) bankPay() *cobra.Command {
	var pennies uint32
	var step, fee, memo string
	var each, dry, queue bool
	c := a.simple("pay BANK|PAYEE [SATOSHI]", "Pay: pennies of a bank, or an amount to a key", cobra.RangeArgs(1, 2), func(c *cobra.Command, client *api.Client, args []string) error {
		ctx := c.Context()
		var amount wire.Msat
		var err error
		if len(args) == 2 {
			if amount, err = msat(args[1]); err != nil {
				return err
			}
		}
		if (amount == 0) == (pennies == 0) {
			return fmt.Errorf("%w: give an amount, or --pennies", errUsage)
		}
		_, keys, err := a.keys()
		if err != nil {
			return err
		}
		// 64 digits may be a bank's, or a key's.
		_, notKey := wire.ParseRecipient(keys.Network, args[0])
		_, notBank := client.Bank(ctx, args[0])
		if notBank == nil || notKey != nil {
			if dry || step != "" || fee != "" || memo != "" || queue {
				return fmt.Errorf("%w: --dry-run, --step, --max-fee, --memo and --no-wait are for payments to an address", errUsage)
			}
			b, err := client.PayPennies(ctx, args[0], pennies, amount, each)
			if err != nil && ctx.Err() != nil {
				err = errPennies
			}
			return a.oneBank(b, err)
		}
		if pennies != 0 || each {
			return fmt.Errorf("%w: --pennies and --each are for one bank: name it", errUsage)
		}
		p := api.Paying{To: args[0], Amount: amount, MaxFee: amount / 20, Memo: memo}
		if step != "" {
			if p.Step, err = msat(step); err != nil {
				return err
			}
		}
		if fee != "" {
			if p.MaxFee, err = msat(fee); err != nil {
				return err
			}
		}
		return a.payTo(ctx, client, p, dry, queue)
	})
	c.Long = "Pays out of banks. With the ID of a bank (or its first digits) pennies of it go to its payee. With a payee's\n" +
		"address the amount goes over a bank with it or, where there is none, over bankers, step by step: each step\n" +
		"is acknowledged by the payee's signature before the next, so that a banker that steals has one step.\n" +
		"Amounts are satoshi, with up to three decimals."
	f := c.Flags()
	f.Uint32Var(&pennies, "pennies", 0, "how many pennies, instead of an amount")
	f.BoolVar(&each, "each", false, "send the pennies one by one; otherwise one penny pays for many")
	f.StringVar(&step, "step", "", "how much at a time over bankers; a tenth of the amount by itself")
	f.StringVar(&fee, "max-fee", "", "what all bankers may take; a twentieth of the amount by itself")
	f.StringVar(&memo, "memo", "", "what it is for, for you")
	f.BoolVar(&dry, "dry-run", false, "say which way it would go and what it costs, and pay nothing")
	f.BoolVar(&queue, "no-wait", false, "return as soon as the daemon has it")
	return c
}

// errPennies: the wait was interrupted, not the pennies.
var errPennies = errors.New("interrupted while pennies go out")

func (a *app) payTo(ctx context.Context, client *api.Client, p api.Paying, dry, queue bool) error {
	if dry {
		v, err := client.PlanPayment(ctx, p)
		return a.onePayment(v, err)
	}
	v, err := client.PayTo(ctx, p)
	if err != nil || queue {
		return a.onePayment(v, maybe(ctx, err))
	}
	return a.awaitPayment(ctx, client, v.ID)
}

// errPaymentGoesOn: the wait was interrupted, not the payment.
var errPaymentGoesOn = errors.New("interrupted while waiting for a payment")

// errPayment: a payment has ended before all was paid.
var errPayment = errors.New("the payment ended before all was paid")

// awaitPayment waits until a payment has come to its end.
func (a *app) awaitPayment(ctx context.Context, client *api.Client, id string) error {
	var v api.BankPayment
	var err error
	done := false
	if lost := a.until(ctx, client, about(func(e api.BankPayment) bool { return e.ID == id }), func() bool {
		v, err = client.Payment(ctx, id)
		done = err != nil || v.State != "paying"
		if !done {
			a.print.working(fmt.Sprintf("%v of %v acknowledged", v.Paid, v.Total))
		}
		return done
	}); !done {
		if ctx.Err() != nil {
			return errPaymentGoesOn
		}
		return lost
	}
	if err == nil && v.State != "paid" {
		return fmt.Errorf("%w: %v of %v are acknowledged: %s", errPayment, v.Paid, v.Total, v.Why)
	}
	return a.onePayment(v, err)
}

func (a *app) onePayment(v api.BankPayment, err error) error {
	if err != nil {
		return err
	}
	a.print.summary(v, func(w io.Writer) { printPayment(w, &v) })
	return nil
}

func printPayment(w io.Writer, v *api.BankPayment) {
	way := "over bank " + v.Bank[:8]
	for _, b := range v.Bankers {
		way += ", banker " + short(b)
	}
	switch v.State {
	case "planned":
		fmt.Fprintf(w, "%v to %s %s, in steps of %v; fees %v.\n", v.Total, short(v.To), way, v.Step, v.Fees)
	default:
		fmt.Fprintf(w, "%s  %s  %v of %v to %s %s; fees %v", v.ID[:8], v.State, v.Paid, v.Total, short(v.To), way, v.Fees)
		if v.Asked > v.Paid {
			fmt.Fprintf(w, "; a step of %v is not acknowledged", v.Asked-v.Paid)
		}
		if v.Memo != "" {
			fmt.Fprintf(w, "  (%s)", v.Memo)
		}
		fmt.Fprintln(w)
		if v.Why != "" && v.State != "paid" {
			fmt.Fprintf(w, "          %s\n", v.Why)
		}
	}
}
