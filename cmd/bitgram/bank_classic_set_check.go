package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/penny"
)

func (a *app) setCheck() *cobra.Command {
	var offerPath, openedPath, id string
	c := &cobra.Command{
		Use:   "check --offer FILE --opened FILE --id ID",
		Short: "Check opened pence against the offer",
		Long: "Computes all pence except the picked one from their p₀. If one of them is false, the set is refused with\n" +
			"exit code 6; the offer and the opened secrets together prove it to anyone.",
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := given(c, "offer", "opened", "id"); err != nil {
				return err
			}
			var f offerFile
			var o openedFile
			if err := errors.Join(readSet(offerPath, &f), readSet(openedPath, &o)); err != nil {
				return err
			}
			offer, err := f.offer()
			if err != nil {
				return err
			}
			ids := f.ids()
			pick := slices.Index(ids, id)
			switch {
			case pick < 0:
				return fmt.Errorf("%w: --id %q: not an ID of this offer", errUsage, shorten(id))
			case o.ID != id:
				return fmt.Errorf("%w: the secrets were opened for the pick %q", errInput, shorten(o.ID))
			case len(o.Secrets) != penny.SetSize-1:
				return fmt.Errorf("%w: %d pence are opened: must be %d", errInput, len(o.Secrets), penny.SetSize-1)
			}
			var p0 [penny.SetSize]penny.Secret
			for i, other := range ids {
				if i == pick {
					continue
				}
				text, ok := o.Secrets[other]
				if !ok {
					return fmt.Errorf("%w: %s is not opened", errInput, other)
				}
				if p0[i], err = secretOf("a p₀", text, offer.Size); err != nil {
					return err
				}
			}
			var lie *penny.FalseSetError
			switch err := checkOpened(c.Context(), offer, pick, &p0); {
			case errors.As(err, &lie):
				return fmt.Errorf("%w: %s: %s", errFalseSet, ids[lie.Index], lie.What)
			case err != nil:
				return err
			}
			v := struct {
				ID      string `json:"id"`
				PN      string `json:"pn"`
				N       uint32 `json:"n"`
				Nonce   string `json:"nonce"`
				Last    string `json:"last_penny"`
				Checked int    `json:"checked"`
			}{id, f.Pence[id], f.N, f.Nonce, hex.EncodeToString(offer.Encode(nil, penny.Penny{Seq: f.N, Secret: offer.Last[pick]})), len(o.Secrets)}
			a.print.summary(v, func(w io.Writer) {
				fmt.Fprintf(w, "%d pence are as offered. Accepted: %s of %d pennies, the last of which is %s.\nIf its maker cheats, it is false with a chance of 1 in %d.\n", v.Checked, id, v.N, v.Last, penny.SetSize)
			})
			return nil
		},
	}
	c.Flags().StringVar(&offerPath, "offer", "", "file with the offer")
	c.Flags().StringVar(&openedPath, "opened", "", "file with the opened secrets")
	c.Flags().StringVar(&id, "id", "", "ID of the picked pence")
	return c
}

// checkOpened checks an offer until ctx ends: long pence take minutes.
func checkOpened(ctx context.Context, o *penny.Offer, pick int, p0 *[penny.SetSize]penny.Secret) error {
	done := make(chan error, 1)
	go func() { done <- o.CheckOpened(pick, p0) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
