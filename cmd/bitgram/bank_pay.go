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
	c := a.simple("pay BANK|PAYEE [SATOSHI]", "Pay from a bank, or to an address through banks", cobra.RangeArgs(1, 2), func(c *cobra.Command, client *api.Client, args []string) error {
		ctx := c.Context()
		var amount wire.Msat
		var err error
		if len(args) == 2 {
			if amount, err = msat(args[1]); err != nil {
				return err
			}
		}
		if (amount == 0) == (pennies == 0) {
			return fmt.Errorf("%w: give either an amount or --pennies", errUsage)
		}
		_, keys, err := a.keys()
		if err != nil {
			return err
		}
		// 64 digits may be the ID of a bank, or a public key.
		_, notKey := wire.ParseRecipient(keys.Network, args[0])
		_, notBank := client.Bank(ctx, args[0])
		if notBank == nil || notKey != nil {
			if dry || step != "" || fee != "" || memo != "" || queue {
				return fmt.Errorf("%w: --dry-run, --step, --max-fee, --memo and --no-wait work only for a payment to an address", errUsage)
			}
			b, err := client.PayPennies(ctx, args[0], pennies, amount, each)
			if err != nil && ctx.Err() != nil {
				err = errPennies
			}
			return a.oneBank(b, err)
		}
		if pennies != 0 || each {
			return fmt.Errorf("%w: --pennies and --each work only for a payment from a bank: give the bank's ID", errUsage)
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
	c.Long = "Pays with pennies. With the ID of a bank (its first digits are enough), it pays that bank's payee. With an\n" +
		"address, it pays through a bank with that payee or, if there is none, through bankers. A payment through\n" +
		"bankers goes in steps: the payee signs for each step before the next one is sent, so a banker can steal\n" +
		"at most one step.\n\n" +
		"SATOSHI is an amount in satoshi, with up to three decimals."
	c.Example = "  bitgram bank pay 3fa9 1000.5\n" +
		"  bitgram bank pay ADDRESS 500 --dry-run\n" +
		"  bitgram bank pay ADDRESS 500 --memo tea"
	f := c.Flags()
	f.Uint32Var(&pennies, "pennies", 0, "number of pennies to pay, instead of an amount")
	f.BoolVar(&each, "each", false, "send every penny; otherwise one penny pays for many")
	f.StringVar(&step, "step", "", "amount per step when paying through bankers (default: a tenth)")
	f.StringVar(&fee, "max-fee", "", "most that all bankers may take (default: a twentieth of the amount)")
	f.StringVar(&memo, "memo", "", "private note")
	f.BoolVar(&dry, "dry-run", false, "show the route and the cost, and pay nothing")
	f.BoolVar(&queue, "no-wait", false, "return as soon as the daemon has the payment")
	return c
}

// errPennies is returned when waiting for pennies is interrupted; the daemon goes
// on paying them.
var errPennies = errors.New("interrupted while pennies are being paid")

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

// errPaymentGoesOn is returned when waiting for a payment is interrupted; the
// daemon goes on with it.
var errPaymentGoesOn = errors.New("interrupted while waiting for a payment")

// errPayment is returned when a payment ends before all of it is paid.
var errPayment = errors.New("the payment ended before all was paid")

// awaitPayment waits until a payment has ended.
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
		return fmt.Errorf("%w: %v of %v acknowledged: %s", errPayment, v.Paid, v.Total, v.Why)
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
	way := "through bank " + v.Bank[:8]
	for _, b := range v.Bankers {
		way += ", banker " + short(b)
	}
	switch v.State {
	case "planned":
		fmt.Fprintf(w, "%v to %s %s, in steps of %v; fees %v.\n", v.Total, short(v.To), way, v.Step, v.Fees)
	default:
		fmt.Fprintf(w, "%s  %s  %v of %v to %s %s; fees %v", v.ID[:8], v.State, v.Paid, v.Total, short(v.To), way, v.Fees)
		if v.Asked > v.Paid {
			fmt.Fprintf(w, "; a step of %v is not acknowledged yet", v.Asked-v.Paid)
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
