package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/home"
	"github.com/bitgram/bitgram/wire"
)

func (a *app) bankPay() *cobra.Command {
	var count uint32
	var step, fee, reference, memo, note, key string
	var each, dry, queue, up bool
	c := a.simple("pay BANK|PAYEE [SATOSHI]", "Pay from a bank, or to an address through banks", cobra.RangeArgs(1, 2), func(c *cobra.Command, client *api.Client, args []string) error {
		ctx := c.Context()
		var amount wire.Msat
		var err error
		if len(args) == 2 {
			if amount, err = msat(args[1]); err != nil {
				return err
			}
		}
		if (amount == 0) == (count == 0) {
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
			if step != "" || fee != "" || reference != "" || memo != "" || note != "" || queue {
				return fmt.Errorf("%w: --step, --max-fee, --reference, --memo, --note and --no-wait work only for a payment to an address", errUsage)
			}
			return a.payPennies(ctx, client, args[0], api.PennyPaying{Pennies: count, Amount: amount, Each: each, RoundUp: up, Key: key}, dry)
		}
		if count != 0 || each || up {
			return fmt.Errorf("%w: --pennies, --each and --round-up work only for a payment from a bank: give the bank's ID", errUsage)
		}
		p := api.Paying{To: args[0], Amount: amount, MaxFee: amount / 20, Reference: reference, Memo: memo, Note: note, Key: cmp.Or(key, newKey())}
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
		"address, it pays through a bank with that payee or, if there is none, through bankers. If no bank has enough\n" +
		"left, several pay together, and the payee receives one payment. A payment through bankers goes in steps: the\n" +
		"payee signs for each step before the next one is sent, so a banker can steal at most one step.\n\n" +
		"SATOSHI is an amount in satoshi, with up to three decimals. A bank pays whole pennies: an amount is rounded\n" +
		"up if that is at most 1 sat or 1 % more, and otherwise refused with the amounts that can be paid.\n\n" +
		"If the command fails after the payment was ordered, the payment continues in the background. The message\n" +
		"names a key: run the same command with this --key to wait for the same payment, which pays nothing more."
	c.Example = "  bitgram bank pay 3fa9 1000.5\n" +
		"  bitgram bank pay ADDRESS 500 --dry-run\n" +
		"  bitgram bank pay ADDRESS 500 --reference 2026-117 --memo tea"
	f := c.Flags()
	f.Uint32Var(&count, "pennies", 0, "number of pennies to pay, instead of an amount")
	f.BoolVar(&each, "each", false, "send every penny; otherwise one penny pays for many")
	f.StringVar(&step, "step", "", "amount per step when paying through bankers (default: a tenth)")
	f.StringVar(&fee, "max-fee", "", "most that all bankers may take (default: a twentieth of the amount)")
	f.StringVar(&reference, "reference", "", "reference for the payee, such as an invoice's number: at most 32 bytes")
	f.StringVar(&memo, "memo", "", "message to the payee: at most 200 bytes")
	f.StringVar(&note, "note", "", "private note")
	f.StringVar(&key, "key", "", "idempotency key: a repeated command with the same key pays once (default: a random one)")
	f.BoolVar(&up, "round-up", false, "round an amount up to whole pennies, however much more that is")
	f.BoolVar(&dry, "dry-run", false, "show the route and the cost, and pay nothing")
	f.BoolVar(&queue, "no-wait", false, "return as soon as the daemon has the payment")
	return c
}

// Errors of a request with an idempotency key, after which it is unknown whether
// it was carried out.
var (
	// errPennies is returned when waiting for pennies is interrupted; the daemon
	// continues to pay them.
	errPennies = errors.New("interrupted while pennies are being paid")
	// errKeyed is returned when another request is interrupted.
	errKeyed = errors.New("interrupted before the daemon answered: it may have been done")
	// errNoAnswer is returned when the daemon is gone before it has answered.
	errNoAnswer = errors.New("the daemon did not answer: it may have been done")
)

// newKey draws an idempotency key.
func newKey() string { return rand.Text()[:16] }

// keyed adds the key to the error of a request that may have been carried out.
func keyed(ctx context.Context, err, interrupted error, key string) error {
	var told *api.Error
	switch {
	case err == nil || errors.Is(err, home.ErrNoDaemon):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("%w (--key %s)", interrupted, key)
	case errors.As(err, &told) && told.Key != "":
		return fmt.Errorf("%w (--key %s)", err, told.Key)
	case told == nil:
		return fmt.Errorf("%w: %w (--key %s)", errNoAnswer, err, key)
	}
	return err
}

// payPennies pays from a bank.
func (a *app) payPennies(ctx context.Context, client *api.Client, id string, p api.PennyPaying, dry bool) error {
	if dry {
		v, err := client.PlanPennies(ctx, id, p)
		if err != nil {
			return err
		}
		a.print.summary(v, func(w io.Writer) { fmt.Fprintf(w, "%v by %s of %v.\n", v.Amount, pennies(v.Pennies), v.Penny) })
		return nil
	}
	p.Key = cmp.Or(p.Key, newKey())
	b, err := client.PayPennies(ctx, id, p)
	if err != nil {
		return keyed(ctx, err, errPennies, p.Key)
	}
	a.print.summary(b, func(w io.Writer) {
		printBank(w, &b)
		if v := b.Payment; v != nil {
			fmt.Fprintf(w, "Paid %v by %s, payment %s.\n", v.Amount, pennies(v.Pennies), b.PaymentID)
		}
	})
	return nil
}

func (a *app) payTo(ctx context.Context, client *api.Client, p api.Paying, dry, queue bool) error {
	if dry {
		v, err := client.PlanPayment(ctx, p)
		return a.onePayment(v, err)
	}
	v, err := client.PayTo(ctx, p)
	if err != nil || queue {
		return a.onePayment(v, keyed(ctx, err, errKeyed, p.Key))
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
	way := "through " + wayOf(v.Bank, v.Bankers)
	if v.Pennies > 0 {
		way = fmt.Sprintf("by %s of bank %s", pennies(v.Pennies), v.Bank[:8])
	}
	if len(v.Parts) > 0 {
		way = fmt.Sprintf("through %d banks", len(v.Parts))
	}
	switch v.State {
	case "planned":
		fmt.Fprintf(w, "%v to %s %s, in steps of %v; fees %v.\n", v.Total, short(v.To), way, v.Step, v.Fees)
		printParts(w, v)
		if v.Exposed > 0 {
			fmt.Fprintf(w, "Credit with first hops that no payment has used: %v now, at most %v after this payment.\nClosing the bank together returns it; a banker that closes alone can keep it.\n", v.Before, v.Exposed)
		}
	default:
		fmt.Fprintf(w, "%s  %s  %v of %v to %s %s; fees %v", v.ID[:8], v.State, v.Paid, v.Total, short(v.To), way, v.Fees)
		if v.Asked > v.Paid {
			fmt.Fprintf(w, "; a step of %v is not acknowledged yet", v.Asked-v.Paid)
		}
		if v.Exposed > 0 {
			fmt.Fprintf(w, "; %v of credit unused", v.Exposed)
		}
		for _, text := range []string{v.Ref, v.Memo, v.Note} {
			if text != "" {
				fmt.Fprintf(w, "  (%s)", printable(text))
			}
		}
		fmt.Fprintln(w)
		printParts(w, v)
		if v.Why != "" && v.State != "paid" {
			fmt.Fprintf(w, "          %s\n", v.Why)
		}
	}
}

// wayOf names the bank and the bankers of a payment or of a part of it.
func wayOf(bank string, bankers []string) string {
	way := "bank " + bank[:8]
	for _, b := range bankers {
		way += ", banker " + short(b)
	}
	return way
}

// printParts lists what each bank pays, if there are several.
func printParts(w io.Writer, v *api.BankPayment) {
	for _, p := range v.Parts {
		fmt.Fprintf(w, "          %v through %s\n", p.Total, wayOf(p.Bank, p.Bankers))
	}
}
