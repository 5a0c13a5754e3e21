package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) bankReceived() *cobra.Command {
	var out string
	c := a.simple("received", "List the payments that this home received", cobra.NoArgs, func(c *cobra.Command, client *api.Client, _ []string) error {
		if err := checkOutput(out, false); err != nil {
			return err
		}
		list, err := client.Received(c.Context())
		if err != nil {
			return err
		}
		if out != "" {
			if err := writeWhole(out, func(w io.Writer) error { return writeReceived(w, list) }); err != nil {
				return err
			}
		}
		a.print.summary(struct {
			Received []api.Received `json:"received"`
			Output   string         `json:"output,omitempty"`
		}{list, out}, func(w io.Writer) {
			if out != "" {
				fmt.Fprintf(a.err, "written to %s\n", out)
				return
			}
			if len(list) == 0 {
				fmt.Fprintln(w, "No payments.")
			}
			for _, r := range list {
				fmt.Fprintf(w, "%s  %s  %v", r.ID[:8], when(r.At), r.Amount)
				if r.Reference != "" {
					fmt.Fprintf(w, "  reference %s", printable(r.Reference))
				}
				if r.Memo != "" {
					fmt.Fprintf(w, "  (%s)", printable(r.Memo))
				}
				fmt.Fprintln(w)
			}
		})
		return nil
	})
	c.Long = "Lists the payments to this home's address, oldest first, each with the reference and the memo that its payer\n" +
		"wrote. Pennies that a payer sends without a payment are shown by 'bitgram bank list' only.\n\n" +
		"With --csv FILE it writes them to a file for other programs: payment ID, bank ID, time of the first and of\n" +
		"the last step, amount in msat, reference and memo. --json prints the same."
	c.Example = "  bitgram bank received\n" +
		"  bitgram bank received --csv received.csv"
	c.Flags().StringVar(&out, "csv", "", "write the list to this file")
	return c
}

// when shows a Unix time; 0 is that of an older version, which kept none.
func when(at int64) string {
	if at == 0 {
		return "-"
	}
	return time.Unix(at, 0).UTC().Format(time.RFC3339)
}

// writeReceived writes payments as CSV. A text that a spreadsheet would take for
// a formula begins with an apostrophe.
func writeReceived(w io.Writer, list []api.Received) error {
	c := csv.NewWriter(w)
	_ = c.Write([]string{"payment_id", "bank_id", "first_time", "time", "amount_msat", "reference", "memo"})
	for _, r := range list {
		_ = c.Write([]string{r.ID, r.Bank, when(r.Since), when(r.At), strconv.FormatUint(uint64(r.Amount), 10), cell(r.Reference), cell(r.Memo)})
	}
	c.Flush()
	return c.Error()
}

func cell(text string) string {
	if text != "" {
		switch text[0] {
		case '=', '+', '-', '@', '\t', '\r':
			return "'" + text
		}
	}
	return text
}
