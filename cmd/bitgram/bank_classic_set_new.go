package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/penny"
)

func (a *app) setNew() *cobra.Command {
	var n int
	var nonceHex, set, offer string
	c := &cobra.Command{
		Use:   "new --n N --set FILE --offer FILE",
		Short: "Make a set and its offer",
		Long:  "Draws 100 pence of N pennies each. The set file holds their secrets, for A alone; the offer file is for B.",
		Args:  usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := given(c, "n", "set", "offer"); err != nil {
				return err
			}
			if err := checkN(n); err != nil {
				return err
			}
			for _, path := range []string{set, offer} {
				if err := checkOutput(path, false); err != nil {
					return err
				}
			}
			if _, err := os.Lstat(set); err == nil {
				return fmt.Errorf("%w: --set %s: exists, and its secrets are not overwritten", errOutput, set)
			}
			ch := penny.Chain{Size: penny.ClassicSize}
			var err error
			if ch.Nonce, err = nonce(nonceHex); err != nil {
				return err
			}
			f := setFile{offerFile: offerFile{N: uint32(n), Nonce: ch.Nonce.String(), Pence: hexMap{}}, Secrets: hexMap{}}
			for len(f.Pence) < penny.SetSize {
				p := penny.Pence{Chain: ch, N: f.N}
				_, _ = rand.Read(p.P0[:p.Size]) // never fails (crypto/rand)
				sum, err := roll(c.Context(), &p)
				if err != nil {
					return err
				}
				f.Pence[sum.ID.String()] = hex.EncodeToString(sum.Last.Secret[:p.Size])
				f.Secrets[sum.ID.String()] = hex.EncodeToString(p.P0[:p.Size])
				a.print.working(fmt.Sprintf("%d of %d pence", len(f.Pence), penny.SetSize))
			}
			if err := errors.Join(writeSet(set, &f), writeSet(offer, &f.offerFile)); err != nil {
				return fmt.Errorf("%w: %w", errOutput, err)
			}
			a.print.summary(struct {
				N     uint32 `json:"n"`
				Nonce string `json:"nonce"`
				Pence int    `json:"pence"`
				Set   string `json:"set"`
				Offer string `json:"offer"`
			}{f.N, f.Nonce, len(f.Pence), set, offer}, func(w io.Writer) {
				fmt.Fprintf(w, "%d pence of %d pennies, nonce %s.\nGive the offer in %s to the other side. Keep the secrets in %s to yourself.\n", len(f.Pence), f.N, f.Nonce, offer, set)
			})
			return nil
		},
	}
	c.Flags().IntVar(&n, "n", 0, fmt.Sprintf("number of pennies in each pence, 1 to %d", penny.MaxSeq))
	c.Flags().StringVar(&nonceHex, "nonce", "", "nonce, 24 bytes in hex (default: random)")
	c.Flags().StringVar(&set, "set", "", "new file for the set with its secrets")
	c.Flags().StringVar(&offer, "offer", "", "file for the offer")
	return c
}

// roll rolls up pence to their sum. It stops with ctx.
func roll(ctx context.Context, p *penny.Pence) (penny.Sum, error) {
	sum := p.Steps(func(at penny.Penny, _ [32]byte) bool { return at.Seq%(1<<16) != 0 || ctx.Err() == nil })
	return sum, ctx.Err()
}
