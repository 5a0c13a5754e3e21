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
		Short: "Measure penny banks on this machine, without a daemon",
		Long: "Measures penny banks on this machine: verifying pennies, compared with bare hashes; payments between two\n" +
			"nodes over libp2p on loopback, each durable at the payee before it is acknowledged, compared with the\n" +
			"disk's own rate of syncs; opening banks; and the size of closing them on the chain. It runs on its own\n" +
			"regtest chain, uses no home and leaves nothing behind. Beside each figure is the target for an\n" +
			"otherwise idle machine.",
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if a.network != string(wire.Regtest) {
				return fmt.Errorf("%w: --network %s: the benchmark runs only on its own regtest chain", errUsage, a.network)
			}
			if opt.Dir != "" {
				if s, err := os.Stat(opt.Dir); err != nil || !s.IsDir() {
					return fmt.Errorf("%w: --dir %q: not a directory", errUsage, opt.Dir)
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
	f.BoolVar(&opt.Quick, "quick", false, "take fewer and shorter measurements, in a few seconds")
	f.StringVar(&opt.Dir, "dir", "", "directory for temporary files, on the disk to measure (default: the system's)")
	return c
}

func printBankBench(w io.Writer, list []bankbench.Figure, short int) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "figure\tmeasured\ttarget\t")
	for _, f := range list {
		wanted := f.Wanted()
		if !f.OK() {
			wanted += ", missed"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t\n", f.What, f.Measured(), wanted)
	}
	t.Flush()
	if short > 0 {
		fmt.Fprintf(w, "\n%s missed the target: check whether other programs keep the machine or the disk busy.\n", plural(short, "figure"))
	}
}
