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
		Short: "A million payments of one hash each; the payer vanishes, the payee settles alone",
		Long: "Runs a payer and a payee in this process, on a regtest chain of their own, each with its own\n" +
			"keys, files and network host. The payer opens a penny bank and streams pennies one by one; each\n" +
			"is checked by one hash, and durable at the payee before it is acknowledged. Then the payer\n" +
			"vanishes for good, and blocks come until the payee closes the bank by itself, before the\n" +
			"payer's timelock. A ledger accounts for every satoshi. Nothing is left behind.\n\n" +
			"The bank has 126 rungs. A penny is worth one satoshi; of fewer pennies than a million each is\n" +
			"worth more, so that the bank stays worth its close. What is paid beyond the highest rung that\n" +
			"was reached is lost to the payee: that is its risk, and the ledger shows it. The payer's change\n" +
			"lies in the close, where only the payer's key takes it; in this story it never comes back.\n\nScenarios:" + list.String(),
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			known := slices.ContainsFunc(demo.BankScenarios, func(s struct{ Name, Help string }) bool { return s.Name == scenario })
			if !known {
				return fmt.Errorf("%w: %q", demo.ErrBankScenario, scenario)
			}
			if a.network != string(wire.Regtest) {
				return fmt.Errorf("%w: the demo runs on a regtest chain of its own", errUsage)
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
	f.StringVar(&scenario, "scenario", demo.BankScenarios[0].Name, "which story to play")
	f.IntVar(&opt.Pennies, "pennies", 1_000_000, "how many pennies are paid")
	f.IntVar(&opt.Window, "window", 4096, "how many may be on their way, not acknowledged yet")
	f.StringVarP(&opt.Out, "output", "o", "", "write the payee's proof of what it was paid to this file, as JSON")
	f.StringVar(&opt.Blocks, "export-blocks", "", "write the chain to this file, one block in hex a line from height 1")
	return c
}

func printDemoBank(w io.Writer, r *demo.BankResult, opt *demo.BankOptions) {
	fmt.Fprintf(w, "\nPaid: %d pennies of %v, %d a second.\n", r.Pennies, r.PennyMsat, r.Rate)
	fmt.Fprintf(w, "Settled by the payee alone: rung %d of %d, worth %v, less %v of fee.\n", r.Rung, r.Rungs, r.Settled+r.CloseFee, r.CloseFee)
	fmt.Fprintf(w, "Between the rungs, lost to the payee: %v.\n", r.Lost)
	if opt.Out != "" {
		fmt.Fprintf(w, "The payee's proof is in %s.\n", opt.Out)
	}
	fmt.Fprintf(w, "\nOn the chain, %d blocks high:\n  funding  %s\n  close    %s\n", r.Height, r.FundingTxid, r.CloseTxid)
	printBooks(w, &r.Books)
}

func printDemoBankers(w io.Writer, r *demo.BankersResult) {
	fmt.Fprintf(w, "\nSigned for by the payee: %v of %v, in steps of %v; %v went to the bankers.\n", r.Paid, r.Ordered, r.Step, r.Fees)
	if r.Lost > 0 {
		fmt.Fprintf(w, "Stolen: %v. One step with its fees is %v of it; a banker counts no credit that closing would cost, and keeps what covers that.\n", r.Taken, r.Lost)
	}
	fmt.Fprintf(w, "\nOn the chain, %d blocks high:\n", r.Height)
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
