package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) walletBackup() *cobra.Command {
	c := a.simple("backup FILE", "Write an encrypted backup of the home", cobra.ExactArgs(1), func(c *cobra.Command, client *api.Client, args []string) error {
		if err := checkOutput(args[0], false); err != nil {
			return err
		}
		content, err := client.Backup(c.Context())
		if err != nil {
			return err
		}
		defer content.Close()
		var n int64
		if err := writeWhole(args[0], func(w io.Writer) error {
			n, err = io.Copy(w, content)
			return err
		}); err != nil {
			return err
		}
		a.print.summary(struct {
			File  string `json:"file"`
			Bytes int64  `json:"bytes"`
		}{args[0], n}, func(w io.Writer) {
			fmt.Fprintf(w, "%s written to %s. The home's words or its passphrase open the backup; if the home has no passphrase, anyone with this file has the money.\n", plural(n, "byte"), args[0])
		})
		return nil
	})
	c.Long = "Writes an encrypted backup of the home: the seed, the contracts with their secrets, and received messages.\n" +
		"'bitgram wallet restore' makes a home from it. To keep a backup current, use 'bitgram up --backup FILE'."
	return c
}
