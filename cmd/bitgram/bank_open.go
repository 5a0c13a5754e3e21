package main

import (
	"cmp"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

func (a *app) bankOpen() *cobra.Command {
	var o api.Opening
	var fee, pair int64
	var ttl string
	var dry, wait bool
	c := a.simple("open PEER SATOSHI", "Open a bank: fund an escrow from which to pay a payee", cobra.ExactArgs(2), func(c *cobra.Command, client *api.Client, args []string) error {
		ctx := c.Context()
		value, err := satoshi(args[1])
		if err != nil {
			return err
		}
		if o.Days, err = daysOf("ttl", ttl); err != nil {
			return err
		}
		if o.Rungs < 1 || o.Rungs > wire.MaxRungs || o.Pennies < 1 || o.Pennies > penny.MaxSeq {
			return fmt.Errorf("%w: --rungs %d --pennies %d: must be 1 to %d and 1 to %d", errUsage, o.Rungs, o.Pennies, wire.MaxRungs, penny.MaxSeq)
		}
		o.Peer, o.Value, o.MaxFee, o.Pair = args[0], wire.Sat(value), wire.Sat(fee), wire.Sat(pair)
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
		if o.Key == "" {
			o.Key = newKey()
		}
		b, err := client.OpenBank(ctx, o)
		if err != nil {
			return keyed(ctx, err, errKeyed, o.Key)
		}
		// Until the payee has accepted it and its funding is broadcast, it can
		// still be refused.
		if b, err = a.awaitBank(ctx, client, b.ID, func(b api.Bank) bool { return b.State != bank.StateOpening || b.Published && !wait }); err != nil {
			return err
		}
		if pair > 0 {
			if b, err = a.awaitBank(ctx, client, b.ID, func(b api.Bank) bool {
				return b.Pair != "" || b.PairWhy != "" || b.State != bank.StateOpening && b.State != bank.StateOpen
			}); err != nil {
				return err
			}
			if b.Pair == "" {
				return fmt.Errorf("%w: %s", errNoPair, cmp.Or(b.PairWhy, "the bank is "+b.State))
			}
			if wait {
				if _, err = a.awaitBank(ctx, client, b.Pair, func(b api.Bank) bool { return b.State != bank.StateOpening }); err != nil {
					return err
				}
			}
		}
		a.print.summary(b, func(w io.Writer) {
			fmt.Fprintf(w, "Bank %s: %v in %d pennies of %v, %d per rung.\nFunding %s, %d of %d confirmations.\n", b.ID, b.Value, b.Pennies, b.Penny, b.Pennies/b.Rungs, b.Funding, b.Depth, b.Conf)
			if b.Pair != "" {
				fmt.Fprintf(w, "The payee opens the reverse bank %s.\n", b.Pair)
			}
		})
		return nil
	})
	c.Long = "Opens a bank: freezes SATOSHI for a payee, to be paid penny by penny. PEER is the payee's address, or\n" +
		"ADDRESS@MULTIADDR if the payee is not listed in the DHT.\n\n" +
		"The command returns when the payee has accepted the bank and its funding is broadcast, or fails with the\n" +
		"payee's reason. With --wait it returns when pennies can be paid.\n\n" +
		"The payee can close the bank alone at certain counts of pennies, the rungs. More rungs cost more to open\n" +
		"and leave less at risk between two of them."
	c.Example = "  bitgram bank open PEER 100000 --dry-run\n" +
		"  bitgram bank open PEER 100000 --pennies 10000 --ttl 60d --wait"
	f := c.Flags()
	f.Uint32Var(&o.Pennies, "pennies", 100_000, "number of pennies, rounded up to whole rungs")
	f.Uint32Var(&o.Rungs, "rungs", 126, "number of settlement levels (rungs), at most 1,022")
	f.StringVar(&ttl, "ttl", "30d", "lifetime: what is not closed by then can be taken back")
	f.Int64Var(&fee, "max-fee", 10_000, "most that the funding transaction may cost, in sat")
	f.StringVar(&o.Memo, "memo", "", "private note")
	f.StringVar(&o.Key, "key", "", "idempotency key: a repeated command with the same key opens one bank (default: a random one)")
	f.Int64Var(&pair, "pair", 0, "also ask the payee to open a reverse bank of this many sat, once this one is open")
	f.BoolVar(&dry, "dry-run", false, "show the cost and open nothing")
	f.BoolVar(&wait, "wait", false, "wait until pennies can be paid")
	return c
}

func printBankQuote(w io.Writer, q *api.BankQuote) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "value\t%v\n", q.Value)
	fmt.Fprintf(t, "pennies\t%d of %v, in %d rungs of %v\n", q.Pennies, q.Penny, q.Rungs, q.Rung)
	fmt.Fprintf(t, "funding\tabout %v of fee\n", q.Funding)
	fmt.Fprintf(t, "a close\t%v of fee, paid by the payee\n", q.Close)
	t.Flush()
	if q.Warning != "" {
		fmt.Fprintf(w, "Warning: %s.\n", q.Warning)
	}
}
