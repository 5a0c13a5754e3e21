package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) walletBackup() *cobra.Command {
	return a.simple("backup FILE", "Write an encrypted backup of the home: seed, contracts and their secrets, received messages", cobra.ExactArgs(1), func(c *cobra.Command, client *api.Client, args []string) error {
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
			fmt.Fprintf(w, "%d bytes in %s. The home's words open it, and its passphrase; without a passphrase whoever has the file has the money.\n", n, args[0])
		})
		return nil
	})
}
