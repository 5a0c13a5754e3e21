package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/deal"
)

func (a *app) proofCommand() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "proof ID",
		Short: "Export a proof that a message was delivered",
		Long: "Writes a proof that the recipient signed for a message. Anyone can check it with 'bitgram verify', offline\n" +
			"and without trusting the sender.",
		Example: "  bitgram proof 3fa9 -o proof.json\n" +
			"  bitgram verify proof.json",
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.dial()
			if err != nil {
				return err
			}
			if err := checkOutput(out, false); err != nil {
				return err
			}
			p, err := client.Proof(c.Context(), args[0])
			if err != nil {
				return err
			}
			raw, err := json.MarshalIndent(p, "", "  ")
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
				deal.Proof
				Output string `json:"output,omitempty"`
			}{p, out}, func(w io.Writer) {
				if out == "" {
					fmt.Fprintf(w, "%s\n", raw)
				} else {
					fmt.Fprintf(a.err, "written to %s\n", out)
				}
			})
			return nil
		},
	}
	c.Flags().StringVarP(&out, "output", "o", "", "write to this file instead of standard output")
	return c
}
