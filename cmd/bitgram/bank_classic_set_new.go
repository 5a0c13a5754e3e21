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
		Long:  "Draws 100 pence of N pennies each. The set has their secrets and is A's alone; the offer is for B.",
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
				return fmt.Errorf("%w: %s is there, and its secrets are not written over", errOutput, set)
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
				fmt.Fprintf(w, "%d pence of %d pennies, nonce %s.\nThe offer is in %s, for the other side; the secrets are in %s, for nobody.\n", len(f.Pence), f.N, f.Nonce, offer, set)
			})
			return nil
		},
	}
	c.Flags().IntVar(&n, "n", 0, fmt.Sprintf("how many pennies each, 1 to %d", penny.MaxSeq))
	c.Flags().StringVar(&nonceHex, "nonce", "", "24 bytes in hex; drawn at random where there is none")
	c.Flags().StringVar(&set, "set", "", "where the set with its secrets goes")
	c.Flags().StringVar(&offer, "offer", "", "where the offer goes")
	return c
}

// roll is the sum of pence, unless it is interrupted.
func roll(ctx context.Context, p *penny.Pence) (penny.Sum, error) {
	sum := p.Steps(func(at penny.Penny, _ [32]byte) bool { return at.Seq%(1<<16) != 0 || ctx.Err() == nil })
	return sum, ctx.Err()
}
