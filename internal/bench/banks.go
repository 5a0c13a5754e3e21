package main

import (
	"context"
	"io"

	"github.com/bitgram/bitgram/internal/bankbench"
)

// banks measures what 'bitgram bank bench' does.
func banks(ctx context.Context, w io.Writer) error {
	table(w, "Penny banks, a payer and a payee in one process over loopback", "figure", "measured", "wanted")
	_, err := bankbench.Run(ctx, bankbench.Options{Found: func(f bankbench.Figure) { row(w, f.What, f.Measured(), f.Wanted()) }})
	return err
}
