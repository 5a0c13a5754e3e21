package main

import (
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/bankbench"
	"github.com/bitgram/bitgram/wire"
)

func (a *app) bankBenchCommand() *cobra.Command {
	opt := bankbench.Options{}
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure penny banks on this machine; no daemon is needed",
		Long: "Measures penny banks on this machine: verifying pennies against bare hashes, payments between two\n" +
			"whole nodes over libp2p on loopback, each durable at the payee before it is acknowledged, against\n" +
			"the disk's own rate of syncs, opening banks, and what closing them takes on the chain. It runs on\n" +
			"a regtest chain of its own, touches no home and leaves nothing behind. What is wanted of a machine\n" +
			"that does nothing else stands beside.",
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if a.network != string(wire.Regtest) {
				return fmt.Errorf("%w: it runs on a regtest chain of its own", errUsage)
			}
			if opt.Dir != "" {
				if s, err := os.Stat(opt.Dir); err != nil || !s.IsDir() {
					return fmt.Errorf("%w: --dir %s is no directory", errUsage, opt.Dir)
				}
			}
			opt.Working = a.print.working
			opt.Found = func(f bankbench.Figure) {
				if a.json {
					a.print.line("figure", struct {
						bankbench.Figure
						OK bool `json:"ok"`
					}{f, f.OK()}, nil)
				}
			}
			list, err := bankbench.Run(c.Context(), opt)
			if err != nil {
				return err
			}
			short := []string{}
			for _, f := range list {
				if !f.OK() {
					short = append(short, f.Name)
				}
			}
			sum := struct {
				Figures int      `json:"figures"`
				Short   []string `json:"short_of_wanted"`
			}{len(list), short}
			a.print.summary(sum, func(w io.Writer) { printBankBench(w, list, len(short)) })
			return nil
		},
	}
	f := c.Flags()
	f.BoolVar(&opt.Quick, "quick", false, "fewer and shorter runs, in a few seconds")
	f.StringVar(&opt.Dir, "dir", "", "where its files lie meanwhile: the disk that is measured (default the system's place for them)")
	return c
}

func printBankBench(w io.Writer, list []bankbench.Figure, short int) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "figure\tmeasured\twanted\t")
	for _, f := range list {
		wanted := f.Wanted()
		if !f.OK() {
			wanted += ", short"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t\n", f.What, f.Measured(), wanted)
	}
	t.Flush()
	if short > 0 {
		fmt.Fprintf(w, "\n%d are short of what is wanted: look whether other programs keep the machine or the disk busy.\n", short)
	}
}
