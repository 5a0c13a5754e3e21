package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/bank"
)

func (a *app) bankReceipt() *cobra.Command {
	var out string
	c := a.simple("receipt PAYMENT", "Export the payee's signed receipt of a payment", cobra.ExactArgs(1), func(c *cobra.Command, client *api.Client, args []string) error {
		if err := checkOutput(out, false); err != nil {
			return err
		}
		r, err := client.Receipt(c.Context(), args[0])
		if err != nil {
			return err
		}
		raw, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		if out != "" {
			if err := writeWhole(out, func(w io.Writer) error {
				_, err := w.Write(append(raw, '\n'))
				return err
			}); err != nil {
				return err
			}
		}
		a.print.summary(struct {
			bank.Receipt
			Output string `json:"output,omitempty"`
		}{r, out}, func(w io.Writer) {
			if out == "" {
				fmt.Fprintf(w, "%s\n", raw)
			} else {
				fmt.Fprintf(a.err, "written to %s\n", out)
			}
		})
		return nil
	})
	c.Long = "Writes what the payee has signed for a payment to an address: the amount that it received in all, with the\n" +
		"payment's reference and memo. Anyone can check it with 'bitgram bank verify', offline and without trusting\n" +
		"the payer."
	c.Example = "  bitgram bank receipt 3fa9 -o receipt.json\n" +
		"  bitgram bank verify receipt.json"
	c.Flags().StringVarP(&out, "output", "o", "", "write to this file instead of standard output")
	return c
}

func (a *app) bankVerify() *cobra.Command {
	return &cobra.Command{
		Use:   "verify FILE|-",
		Short: "Check a receipt of a payment, offline",
		Args:  usage(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			in := a.in
			if args[0] != "-" {
				f, _, err := openInput(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			var r bank.Receipt
			const most = 64 << 10
			if err := json.NewDecoder(io.LimitReader(in, most)).Decode(&r); err != nil {
				return fmt.Errorf("%w: %w", bank.ErrReceipt, err)
			}
			if err := r.Verify(); err != nil {
				return err
			}
			a.print.summary(struct {
				Valid bool `json:"valid"`
				bank.Receipt
			}{true, r}, func(w io.Writer) {
				fmt.Fprintf(w, "%s\nsigned that it received %v on %s,\nby payment %s.\n", r.Payee, r.Total, r.Network, r.Payment)
				if r.Reference != "" {
					fmt.Fprintf(w, "Reference: %s\n", printable(r.Reference))
				}
				if r.Memo != "" {
					fmt.Fprintf(w, "Memo: %s\n", printable(r.Memo))
				}
			})
			return nil
		},
	}
}
