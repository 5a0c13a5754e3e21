package main

import (
	"crypto/rand"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func (a *app) setPick() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use:   "pick --offer FILE",
		Short: "Pick one pence of an offer at random",
		Args:  usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := given(c, "offer"); err != nil {
				return err
			}
			var f offerFile
			if err := readSet(path, &f); err != nil {
				return err
			}
			if _, err := f.offer(); err != nil {
				return err
			}
			ids := f.ids()
			var b [1]byte
			for b[0] = 255; int(b[0]) >= 2*len(ids); {
				_, _ = rand.Read(b[:]) // never fails (crypto/rand)
			}
			id := ids[int(b[0])%len(ids)]
			a.print.summary(struct {
				ID    string `json:"id"`
				PN    string `json:"pn"`
				N     uint32 `json:"n"`
				Nonce string `json:"nonce"`
			}{id, f.Pence[id], f.N, f.Nonce}, func(w io.Writer) { fmt.Fprintln(w, id) })
			return nil
		},
	}
	c.Flags().StringVar(&path, "offer", "", "file with the offer")
	return c
}
