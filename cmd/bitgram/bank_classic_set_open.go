package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func (a *app) setOpen() *cobra.Command {
	var path, id, opened string
	c := &cobra.Command{
		Use:   "open --set FILE --id ID --opened FILE",
		Short: "Open all pence of a set except the picked one",
		Long:  "Writes the p₀ of all other pence, and records the pick in the set. Opening the set for another pick would\nreveal the secret of the pence in use, and is refused.",
		Args:  usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := given(c, "set", "id", "opened"); err != nil {
				return err
			}
			var f setFile
			if err := readSet(path, &f); err != nil {
				return err
			}
			if _, err := f.offer(); err != nil {
				return err
			}
			switch _, ours := f.Pence[id]; {
			case !ours:
				return fmt.Errorf("%w: --id %q: not an ID of this set", errUsage, shorten(id))
			case f.Picked != "" && f.Picked != id:
				return fmt.Errorf("%w: %s", errPicked, shorten(f.Picked))
			}
			o := openedFile{ID: id, Secrets: hexMap{}}
			for other := range f.Pence {
				p0, ok := f.Secrets[other]
				if !ok {
					return fmt.Errorf("%w: the set lacks the secret of %s", errInput, other)
				}
				if other != id {
					o.Secrets[other] = p0
				}
			}
			if err := checkOutput(opened, false); err != nil {
				return err
			}
			// Recorded before anything is revealed.
			f.Picked = id
			if err := writeSet(path, &f); err != nil {
				return fmt.Errorf("%w: %w", errOutput, err)
			}
			if err := writeSet(opened, &o); err != nil {
				return fmt.Errorf("%w: %w", errOutput, err)
			}
			a.print.summary(struct {
				ID     string `json:"id"`
				Opened int    `json:"opened"`
				File   string `json:"file"`
			}{id, len(o.Secrets), opened}, func(w io.Writer) {
				fmt.Fprintf(w, "Opened %d pence in %s; %s stays secret.\n", len(o.Secrets), opened, id)
			})
			return nil
		},
	}
	c.Flags().StringVar(&path, "set", "", "file with the set and its secrets")
	c.Flags().StringVar(&id, "id", "", "ID that the other side picked")
	c.Flags().StringVar(&opened, "opened", "", "file for the secrets of the others")
	return c
}
