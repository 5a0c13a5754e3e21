package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/demo"
	"github.com/bitgram/bitgram/wire"
)

// letter is what the demo sends if it is given no file.
const letter = "Dear stranger,\n\nnobody but you can read this, nobody could lose it without losing its pay,\nand nobody had to trust anybody.\n"

func (a *app) demoCommand() *cobra.Command {
	opt := demo.Options{}
	var scenario string
	var list strings.Builder
	for _, s := range demo.Scenarios {
		fmt.Fprintf(&list, "\n  %-18s %s", s.Name, s.Help)
	}
	c := &cobra.Command{
		Use:   "demo [FILE]",
		Short: "Play a whole network in one process: a message is delivered",
		Long: "Runs a whole network in this process, on its own regtest chain: agents, a sender and a recipient, each\n" +
			"with its own keys, files and network host. FILE (default: a short letter) is encrypted, sealed for three\n" +
			"agents, paid for by frozen outputs, picked up and read. A ledger accounts for every satoshi. Nothing is\n" +
			"left behind. To send a file named bank, write ./bank.\n\nScenarios:" + list.String(),
		Example: "  bitgram demo\n" +
			"  bitgram demo letter.txt -o received.txt\n" +
			"  bitgram demo --scenario absent-recipient",
		Args: usage(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) (err error) {
			if a.network != string(wire.Regtest) {
				return fmt.Errorf("%w: --network %s: the demo runs only on its own regtest chain", errUsage, a.network)
			}
			if opt.Scenario, err = demo.Find(scenario); err != nil {
				return err
			}
			opt.Body = strings.NewReader(letter)
			if len(args) == 1 {
				f, size, err := openInput(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				opt.Body, opt.Size, opt.Filename = f, size, filepath.Base(args[0])
			}
			opt.Log = a.log()
			opt.Progress = a.print.progress
			opt.Tell = func(e demo.Event) { a.print.event(e.Party, e.Text) }
			res, err := demo.Run(c.Context(), opt)
			if err != nil {
				return err
			}
			a.print.summary(res, func(w io.Writer) { printDemo(w, res, opt) })
			return booked(&res.Books)
		},
	}
	f := c.Flags()
	f.StringVar(&scenario, "scenario", demo.Scenarios[0].Name, "scenario to play")
	f.BoolVar(&opt.OneOfMany, "one-of-many", false, "freeze one output for all agents instead of one for each, in any scenario")
	f.IntVar(&opt.Agents, "agents", 5, "number of agents in the network; the message goes to three of them")
	f.StringVarP(&opt.Out, "output", "o", "", "write what the recipient received to this file")
	f.StringVar(&opt.Blocks, "export-blocks", "", "write the chain to this file, one block in hex per line from height 1")
	c.AddCommand(a.demoBankCommand())
	return c
}

// booked returns an error if the ledger does not balance.
func booked(b *demo.Books) error {
	if !b.Balanced {
		return errors.New("the books do not balance: this is a bug")
	}
	return nil
}

func printDemo(w io.Writer, r *demo.Result, opt demo.Options) {
	fmt.Fprintln(w)
	switch {
	case r.Delivered:
		fmt.Fprintf(w, "Delivered: %s, received as sent (SHA-256 %s…).\n", plural(r.Bytes, "byte"), r.SHA256Received[:16])
		if opt.Out != "" {
			fmt.Fprintf(w, "Written to %s.\n", opt.Out)
		}
	case r.Refunded:
		fmt.Fprintln(w, "Not picked up: the sender has its money back, less the miners' fees.")
	default:
		fmt.Fprintf(w, "Ended as: %s.\n", r.State)
	}
	fmt.Fprintf(w, "\nOn the chain, at height %d:\n  funding  %s\n", r.Height, r.FundingTxid)
	for _, t := range r.ClaimTxids {
		fmt.Fprintf(w, "  claim    %s\n", t)
	}
	for _, t := range r.RefundTxids {
		fmt.Fprintf(w, "  refund   %s\n", t)
	}
	printBooks(w, &r.Books)
}

func printBooks(w io.Writer, b *demo.Books) {
	fmt.Fprintln(w, "\nLedger, in satoshi:")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "party\tstarted with\tholds\tchange\t")
	sum := int64(0)
	for _, p := range b.Ledger {
		fmt.Fprintf(t, "%s\t%d\t%d\t%+d\t\n", p.Name, int64(p.Received), int64(p.Holds), int64(p.Change))
		sum += int64(p.Change)
	}
	fmt.Fprintf(t, "sum\t\t\t%d\t\n", sum)
	t.Flush()
	if b.Balanced {
		fmt.Fprintln(w, "Every satoshi is accounted for.")
	}
}
