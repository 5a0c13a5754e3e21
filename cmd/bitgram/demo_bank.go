package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/demo"
	"github.com/bitgram/bitgram/wire"
)

func (a *app) demoBankCommand() *cobra.Command {
	opt := demo.BankOptions{}
	var scenario string
	var list strings.Builder
	for _, s := range demo.BankScenarios {
		fmt.Fprintf(&list, "\n  %-18s %s", s.Name, s.Help)
	}
	c := &cobra.Command{
		Use:   "bank",
		Short: "Play a penny bank: a million payments of one hash each",
		Long: "Runs a payer and a payee in this process, on their own regtest chain, each with its own keys, files and\n" +
			"network host. The payer opens a penny bank and streams pennies one by one; each is checked with one hash,\n" +
			"and durable at the payee before it is acknowledged. Then the payer vanishes for good. Blocks come until\n" +
			"the payee closes the bank alone, before the payer's timelock. A ledger accounts for every satoshi.\n" +
			"Nothing is left behind.\n\n" +
			"The bank has 126 rungs. A penny is worth one satoshi; with fewer than a million pennies, each is worth\n" +
			"more, so that the bank remains worth closing. What is paid beyond the highest rung reached is lost to\n" +
			"the payee: that is the payee's risk, and the ledger shows it. The payer's change is an output of the\n" +
			"close that only the payer's key can spend; here the payer never comes back for it.\n\nScenarios:" + list.String(),
		Example: "  bitgram demo bank --pennies 20000\n" +
			"  bitgram demo bank --scenario thief",
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			known := slices.ContainsFunc(demo.BankScenarios, func(s struct{ Name, Help string }) bool { return s.Name == scenario })
			if !known {
				return fmt.Errorf("%w: %q", demo.ErrBankScenario, scenario)
			}
			if a.network != string(wire.Regtest) {
				return fmt.Errorf("%w: --network %s: the demo runs only on its own regtest chain", errUsage, a.network)
			}
			opt.Log = a.log()
			opt.Tell = func(e demo.Event) { a.print.event(e.Party, e.Text) }
			opt.Progress = func(done, all uint32, rate float64) {
				a.print.working(fmt.Sprintf("%d of %d pennies, %.0f/s", done, all, rate))
			}
			if scenario != demo.BankScenarios[0].Name {
				for _, name := range []string{"pennies", "window", "output"} {
					if c.Flags().Changed(name) {
						return fmt.Errorf("%w: --%s belongs to the scenario %s", errUsage, name, demo.BankScenarios[0].Name)
					}
				}
				res, err := demo.RunBankers(c.Context(), scenario == demo.BankScenarios[2].Name, opt.Common)
				if err != nil {
					return err
				}
				a.print.summary(res, func(w io.Writer) { printDemoBankers(w, res) })
				return booked(&res.Books)
			}
			res, err := demo.RunBank(c.Context(), opt)
			if err != nil {
				return err
			}
			a.print.summary(res, func(w io.Writer) { printDemoBank(w, res, &opt) })
			return booked(&res.Books)
		},
	}
	f := c.Flags()
	f.StringVar(&scenario, "scenario", demo.BankScenarios[0].Name, "scenario to play")
	f.IntVar(&opt.Pennies, "pennies", 1_000_000, "number of pennies to pay")
	f.IntVar(&opt.Window, "window", 4096, "most pennies sent and not yet acknowledged")
	f.StringVarP(&opt.Out, "output", "o", "", "write the payee's proof of payment to this file, as JSON")
	f.StringVar(&opt.Blocks, "export-blocks", "", "write the chain to this file, one block in hex per line from height 1")
	return c
}

func printDemoBank(w io.Writer, r *demo.BankResult, opt *demo.BankOptions) {
	fmt.Fprintf(w, "\nPaid: %d pennies of %v, %d per second.\n", r.Pennies, r.PennyMsat, r.Rate)
	fmt.Fprintf(w, "Settled by the payee alone: rung %d of %d, worth %v, less %v of fee.\n", r.Rung, r.Rungs, r.Settled+r.CloseFee, r.CloseFee)
	fmt.Fprintf(w, "Between the rungs, lost to the payee: %v.\n", r.Lost)
	if opt.Out != "" {
		fmt.Fprintf(w, "The payee's proof is in %s.\n", opt.Out)
	}
	fmt.Fprintf(w, "\nOn the chain, at height %d:\n  funding  %s\n  close    %s\n", r.Height, r.FundingTxid, r.CloseTxid)
	printBooks(w, &r.Books)
}

func printDemoBankers(w io.Writer, r *demo.BankersResult) {
	fmt.Fprintf(w, "\nSigned for by the payee: %v of %v, in steps of %v; %v went to the bankers.\n", r.Paid, r.Ordered, r.Step, r.Fees)
	if r.Lost > 0 {
		fmt.Fprintf(w, "Stolen: %v, of which %v is one step with its fees. The rest is what a banker keeps back to cover the cost of closing.\n", r.Taken, r.Lost)
	}
	fmt.Fprintf(w, "\nOn the chain, at height %d:\n", r.Height)
	for _, k := range []struct {
		what string
		list []string
	}{{"funding", r.FundingTxids}, {"close", r.CloseTxids}, {"refund", r.RefundTxids}} {
		for _, t := range k.list {
			fmt.Fprintf(w, "  %-8s %s\n", k.what, t)
		}
	}
	printBooks(w, &r.Books)
}
