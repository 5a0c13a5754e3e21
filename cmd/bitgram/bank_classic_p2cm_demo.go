package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/demo"
	"github.com/bitgram/bitgram/wire"
)

func (a *app) classicP2CMDemo() *cobra.Command {
	opt := demo.P2CMOptions{}
	c := &cobra.Command{
		Use:   "demo",
		Short: "Play conditional multisigs: as agreed, stolen, thawed",
		Long: "On its own regtest chain, with Bitcoin's consensus rules, A and B fund three conditional multisigs. The\n" +
			"first is paid out as agreed. In the second, A reveals its preimage first, and B takes everything. In the\n" +
			"third, A is gone, and B thaws A's pence, whose secrets have 2 bytes, by brute force. Every transaction\n" +
			"is shown. Nothing is left behind.\n\n" + forStudy,
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if a.network != string(wire.Regtest) {
				return fmt.Errorf("%w: --network %s: the demo runs only on its own regtest chain", errUsage, a.network)
			}
			opt.Tell = func(e demo.Event) { a.print.event(e.Party, e.Text) }
			opt.Show = func(t demo.Transaction) {
				a.print.line("transaction", t, func(w io.Writer) {
					fmt.Fprintf(w, "\n  %s %s, %d vB, %v of fee\n", t.Name, t.Txid, t.VSize, t.Fee)
					if t.ScriptSig != "" {
						fmt.Fprintf(w, "  spends by %s\n", t.ScriptSig)
					}
					fmt.Fprintf(w, "  %s\n\n", t.Hex)
				})
			}
			r, err := demo.RunP2CM(c.Context(), opt)
			if err != nil {
				return err
			}
			a.print.summary(r, func(w io.Writer) {
				fmt.Fprintf(w, "\nOf %v, A holds %v, B %v and miners %v, at height %d.\n", r.Funded, r.Holds[0].Holds, r.Holds[1].Holds, r.Fees, r.Height)
				if r.Balanced {
					fmt.Fprintln(w, "Every satoshi is accounted for.")
				}
			})
			if !r.Balanced {
				return errors.New("the books do not balance: this is a bug")
			}
			return nil
		},
	}
	c.Flags().StringVar(&opt.Blocks, "export-blocks", "", "write the chain to this file, one block in hex per line from height 1")
	return c
}
