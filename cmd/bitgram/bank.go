package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

func (a *app) bankCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "bank",
		Short: "Penny banks: payments that cost one hash",
		Long: "A penny bank is a timelocked escrow of two parties, in which a preimage of a hash chain is a payment:\n" +
			"one hash to verify, no signature, and settled by the payee alone if the payer vanishes.\n\n" +
			"Banks are opened with those who take them ('bitgram up --bank'). A PEER is an address, or ADDRESS@MULTIADDR\n" +
			"where it is no agent in the DHT; 'bitgram banker' shows one's own.",
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.bankOpen(), a.bankList(), a.bankShow(), a.bankPay(), a.bankPayments(), a.bankResume(), a.bankEnd(), a.bankClose(), a.bankCancel(), a.bankPair(),
		a.classicCommand(), a.bankBenchCommand())
	return c
}

// errBankGoesOn: the wait was interrupted, not the bank.
var errBankGoesOn = errors.New("interrupted while waiting for a bank")

// msat reads an amount: satoshi, with up to three decimals.
func msat(s string) (wire.Msat, error) {
	text := strings.TrimSuffix(strings.ReplaceAll(s, "_", ""), "sat")
	whole, frac, _ := strings.Cut(strings.TrimSpace(text), ".")
	if len(frac) > 3 {
		return 0, fmt.Errorf("%w: %q has more than three decimals", errMsat, s)
	}
	n, err := strconv.ParseUint(whole+(frac + "000")[:3], 10, 64)
	if err != nil || n == 0 || n > uint64(wire.MaxSat.Msat()) {
		return 0, fmt.Errorf("%w: %q", errMsat, s)
	}
	return wire.Msat(n), nil
}

// errMsat marks text that is not an amount of satoshi with decimals.
var errMsat = errors.New("not an amount")

// awaitBank waits until a bank is as wanted, or can't become so.
func (a *app) awaitBank(ctx context.Context, client *api.Client, id string, done func(api.Bank) bool) (b api.Bank, err error) {
	finished := false
	if lost := a.until(ctx, client, about(func(e api.Bank) bool { return e.ID == id }), func() bool {
		b, err = client.Bank(ctx, id)
		var told *api.Error
		if errors.As(err, &told) && told.Code == api.CodeUnknownBank {
			err = nil // a bank that others open to us
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

func (a *app) bankOpen() *cobra.Command {
	var o api.Opening
	var fee, pair int64
	var ttl string
	var dry, wait bool
	c := a.simple("open PEER SATOSHI", "Open a bank: put money where a payee can be paid from it, penny by penny", cobra.ExactArgs(2), func(c *cobra.Command, client *api.Client, args []string) error {
		ctx := c.Context()
		value, err := satoshi(args[1])
		if err != nil {
			return err
		}
		if o.Days, err = daysOf("ttl", ttl); err != nil {
			return err
		}
		if o.Rungs < 1 || o.Rungs > wire.MaxRungs || o.Pennies < 1 || o.Pennies > penny.MaxSeq {
			return fmt.Errorf("%w: --rungs is 1 to %d, --pennies 1 to %d", errUsage, wire.MaxRungs, penny.MaxSeq)
		}
		o.Peer, o.Value, o.MaxFee = args[0], wire.Sat(value), wire.Sat(fee)
		q, err := client.QuoteBank(ctx, o)
		if err != nil {
			return err
		}
		if dry {
			a.print.summary(q, func(w io.Writer) { printBankQuote(w, &q) })
			return nil
		}
		if q.Warning != "" {
			a.print.event("bank", "warning: "+q.Warning)
		}
		b, err := client.OpenBank(ctx, o)
		if err != nil {
			return maybe(ctx, err)
		}
		if b, err = a.awaitBank(ctx, client, b.ID, func(b api.Bank) bool { return b.State != bank.StateOpening || b.Funding != "" && !wait }); err != nil {
			return err
		}
		if pair > 0 {
			if b, err = a.awaitBank(ctx, client, b.ID, func(b api.Bank) bool { return b.State != bank.StateOpening }); err != nil {
				return err
			}
			if b.Pair, err = client.PairBank(ctx, b.ID, wire.Sat(pair)); err != nil {
				return err
			}
			if wait {
				if _, err = a.awaitBank(ctx, client, b.Pair, func(b api.Bank) bool { return b.State != bank.StateOpening }); err != nil {
					return err
				}
			}
		}
		a.print.summary(b, func(w io.Writer) {
			fmt.Fprintf(w, "Bank %s: %v in %d pennies of %v, %d to a rung.\nFunding %s, %d of %d confirmations.\n", b.ID, b.Value, b.Pennies, b.Penny, b.Pennies/b.Rungs, b.Funding, b.Depth, b.Conf)
			if b.Pair != "" {
				fmt.Fprintf(w, "The payee opens bank %s the other way.\n", b.Pair)
			}
		})
		return nil
	})
	f := c.Flags()
	f.Uint32Var(&o.Pennies, "pennies", 100_000, "into how many pennies the value is cut; rounded up to whole rungs")
	f.Uint32Var(&o.Rungs, "rungs", 126, "at how many counts the payee can close, up to 1,022")
	f.StringVar(&ttl, "ttl", "30d", "when it ends: what is not closed by then can be taken back")
	f.Int64Var(&fee, "max-fee", 10_000, "satoshi that its funding may cost at most")
	f.StringVar(&o.Memo, "memo", "", "what it is for, for you")
	f.Int64Var(&pair, "pair", 0, "ask the payee for a bank of so many satoshi the other way")
	f.BoolVar(&dry, "dry-run", false, "say what it costs, and open nothing")
	f.BoolVar(&wait, "wait", false, "return once pennies can be paid")
	return c
}

// daysOf is days for a flag of a name.
func daysOf(flag, s string) (float64, error) {
	d, err := days(s)
	if err != nil {
		return 0, fmt.Errorf("%w: --%s %q: say 30d, 36h or 2w", errUsage, flag, s)
	}
	return d, nil
}

func printBankQuote(w io.Writer, q *api.BankQuote) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "value\t%v\n", q.Value)
	fmt.Fprintf(t, "pennies\t%d of %v, in %d rungs of %v\n", q.Pennies, q.Penny, q.Rungs, q.Rung)
	fmt.Fprintf(t, "funding\t%v of fee, about\n", q.Funding)
	fmt.Fprintf(t, "a close\t%v of fee, which the payee pays\n", q.Close)
	t.Flush()
	if q.Warning != "" {
		fmt.Fprintf(w, "Warning: %s.\n", q.Warning)
	}
}

func (a *app) bankList() *cobra.Command {
	return a.simple("list", "Your banks, and what each side would get if everything stopped now", cobra.NoArgs, func(c *cobra.Command, client *api.Client, _ []string) error {
		list, err := client.Banks(c.Context())
		if err != nil {
			return err
		}
		a.print.summary(struct {
			Banks []api.Bank `json:"banks"`
		}{list}, func(w io.Writer) {
			if len(list) == 0 {
				fmt.Fprintln(w, "None.")
			}
			for i := range list {
				b := &list[i]
				whom := "from a payer"
				if b.Side == "payer" {
					whom = "to " + short(b.Peer)
				}
				fmt.Fprintf(w, "%s  %-8s  %s, %v of %v paid, ends at %d\n          %s\n", b.ID[:8], b.State, whom, b.PaidMsat, b.Value, b.Expiry, b.Stopped.Text)
			}
		})
		return nil
	})
}

func (a *app) bankShow() *cobra.Command {
	return a.simple("show ID", "One bank", cobra.ExactArgs(1), func(c *cobra.Command, client *api.Client, args []string) error {
		b, err := client.Bank(c.Context(), args[0])
		return a.oneBank(b, err)
	})
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
		row("the other way", "bank %s", b.Pair)
	}
	row("value", "%v, in %d pennies of %v", b.Value, b.Pennies, b.Penny)
	row("paid", "%v by %d pennies: rung %d of %d", b.PaidMsat, b.Paid, b.Rung, b.Rungs)
	if b.Side == "payer" && b.Acked != b.Paid {
		row("acknowledged", "%d pennies", b.Acked)
	}
	if b.Assigned > 0 {
		row("used", "%v by payments", b.Assigned)
	}
	if b.Funding != "" {
		row("funding", "%s, %d of %d confirmations", b.Funding, min(b.Depth, b.Conf), b.Conf)
	}
	if b.Close != "" {
		row("close", "%s", b.Close)
	}
	row("ends", "at block %d; no penny is taken from %d on", b.Expiry, b.LastPenny)
	if b.Why != "" {
		row("why", "%s", b.Why)
	}
	t.Flush()
	fmt.Fprintf(w, "If everything stopped now: %s\n", b.Stopped.Text)
}

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

func (a *app) bankPayments() *cobra.Command {
	return a.simple("payments", "Payments to keys", cobra.NoArgs, func(c *cobra.Command, client *api.Client, _ []string) error {
		list, err := client.Payments(c.Context())
		if err != nil {
			return err
		}
		a.print.summary(struct {
			Payments []api.BankPayment `json:"payments"`
		}{list}, func(w io.Writer) {
			if len(list) == 0 {
				fmt.Fprintln(w, "None.")
			}
			for i := range list {
				printPayment(w, &list[i])
			}
		})
		return nil
	})
}

func (a *app) bankResume() *cobra.Command {
	return a.simple("resume PAYMENT", "Go on with a payment that ended before all was paid", cobra.ExactArgs(1), func(c *cobra.Command, client *api.Client, args []string) error {
		v, err := client.ResumePayment(c.Context(), args[0])
		if err != nil {
			return err
		}
		return a.awaitPayment(c.Context(), client, v.ID)
	})
}

func (a *app) bankEnd() *cobra.Command {
	return a.simple("end PAYMENT", "End a payment after the step under way", cobra.ExactArgs(1), func(c *cobra.Command, client *api.Client, args []string) error {
		v, err := client.EndPayment(c.Context(), args[0])
		return a.onePayment(v, err)
	})
}

func (a *app) bankClose() *cobra.Command {
	var dry, wait bool
	c := a.simple("close ID", "Close a bank: together with the payee, or, as payee, alone", cobra.ExactArgs(1), func(c *cobra.Command, client *api.Client, args []string) error {
		ctx := c.Context()
		b, err := client.Bank(ctx, args[0])
		if err != nil {
			return err
		}
		if dry {
			a.print.summary(b, func(w io.Writer) { fmt.Fprintln(w, closeQuote(&b)) })
			return nil
		}
		a.print.event("bank", closeQuote(&b))
		if b, err = client.CloseBank(ctx, b.ID); err != nil {
			return maybe(ctx, err)
		}
		if b, err = a.awaitBank(ctx, client, b.ID, func(b api.Bank) bool {
			return b.State == bank.StateClosed || b.State == bank.StateRefunded || !wait && (b.State == bank.StateClosing || b.Why != "" && b.Side == "payer" || b.State == bank.StateStopped && b.Side == "payee")
		}); err != nil {
			return err
		}
		return a.oneBank(b, nil)
	})
	c.Flags().BoolVar(&dry, "dry-run", false, "say what each side would get, and close nothing")
	c.Flags().BoolVar(&wait, "wait", false, "return once the close has a block")
	return c
}

// closeQuote says what a close will bring.
func closeQuote(b *api.Bank) string {
	if t := b.Together; t != nil && b.Side == "payer" {
		return fmt.Sprintf("Both close: %v to the payee, after a fee of %v, and %v back here a block later. Should the payee not answer: %s", t.Payee, t.Fee, t.Payer, b.Stopped.Text)
	}
	return b.Stopped.Text
}

func (a *app) bankCancel() *cobra.Command {
	return a.simple("cancel ID", "Take a bank back before it is paid for", cobra.ExactArgs(1), func(c *cobra.Command, client *api.Client, args []string) error {
		b, err := client.CancelBank(c.Context(), args[0])
		return a.oneBank(b, err)
	})
}

func (a *app) bankPair() *cobra.Command {
	return a.simple("pair ID SATOSHI", "Ask the payee of a bank for one the other way", cobra.ExactArgs(2), func(c *cobra.Command, client *api.Client, args []string) error {
		value, err := satoshi(args[1])
		if err != nil {
			return err
		}
		id, err := client.PairBank(c.Context(), args[0], wire.Sat(value))
		if err != nil {
			return maybe(c.Context(), err)
		}
		a.print.summary(struct {
			ID string `json:"bank_id"`
		}{id}, func(w io.Writer) {
			fmt.Fprintf(w, "The payee opens bank %s, of which you will be the payee.\n", id)
		})
		return nil
	})
}

func (a *app) bankerCommand() *cobra.Command {
	return a.simple("banker", "What this home takes in penny banks, passes on and earns", cobra.NoArgs, func(c *cobra.Command, client *api.Client, _ []string) error {
		b, err := client.Banker(c.Context())
		if err != nil {
			return err
		}
		a.print.summary(b, func(w io.Writer) {
			switch {
			case !b.Payee:
				fmt.Fprintln(w, "This daemon takes no banks: start it with 'bitgram up --bank', or with --banker to pass payments on.")
				return
			case b.Banker:
				fmt.Fprintf(w, "A banker, for %v and %v %% of each step.\n", b.Base, float64(b.PPM)/10_000)
			default:
				fmt.Fprintln(w, "Takes banks, and passes nothing on.")
			}
			for _, r := range b.Reach {
				fmt.Fprintf(w, "Open a bank with it: bitgram bank open %s SATOSHI\n", r)
			}
			fmt.Fprintf(w, "%d banks open to it, %d of its own; %v held in pennies that are not settled.\n", b.Incoming, b.Outgoing, b.Held)
			fmt.Fprintf(w, "%d payments: %v taken, of which %v for this home; %v earned.\n", b.Payments, b.Passed, b.Received, b.Earned)
		})
		return nil
	})
}

// bankFlags of up.
type bankFlags struct {
	on, banker bool
	min, rung  int64
	max        int
	back       int64
	base       float64
	percent    float64
}

// fees are what the flags ask for passing a step on.
func (o *bankFlags) fees() (*wire.Fees, error) {
	base, ppm := o.base*1000, o.percent*10_000
	if !(base >= 0 && base <= float64(wire.MaxSat)) || !(ppm >= 0 && ppm <= 1_000_000) {
		return nil, fmt.Errorf("%w: --banker-fee and --banker-percent are no fees", errUsage)
	}
	return &wire.Fees{Base: wire.Msat(math.Ceil(base)), PPM: uint32(math.Ceil(ppm))}, nil
}
