package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/penny"
)

func (a *app) classicVerify() *cobra.Command {
	var nonceHex string
	c := &cobra.Command{
		Use:   "verify --nonce HEX KNOWN PENNY",
		Short: "Check a penny against a higher one that is known",
		Long: "Hashes PENNY forward until its number is that of KNOWN, and compares. Spending goes down: p_N is\n" +
			"known at first, and each lower penny pays for the difference of their numbers. Both are written as\n" +
			"on the wire, 8 bytes: number in 3 bytes, secret; or named globally, 28 bytes with the ID in front.\n\n" + forStudy,
		Args: usage(cobra.ExactArgs(2)),
		RunE: func(_ *cobra.Command, args []string) error {
			if nonceHex == "" {
				return fmt.Errorf("%w: the nonce of the pence is wanted: --nonce", errUsage)
			}
			size, idKnown, known, err := parsePenny(args[0])
			if err != nil {
				return err
			}
			other, id, p, err := parsePenny(args[1])
			if err != nil {
				return err
			}
			switch {
			case other != size:
				return fmt.Errorf("%w: secrets of %d and %d bytes", penny.ErrMalformed, size, other)
			case idKnown != nil && id != nil && string(idKnown) != string(id):
				return fmt.Errorf("%w: of other pence: %x, not %x", penny.ErrFalse, id, idKnown)
			}
			ch := penny.Chain{Size: size}
			if ch.Nonce, err = nonce(nonceHex); err != nil {
				return err
			}
			if err := ch.Verify(known, p); err != nil {
				return err
			}
			v := struct {
				Known  uint32 `json:"known"`
				Seq    uint32 `json:"seq"`
				Paid   uint32 `json:"pennies"`
				Hashes uint32 `json:"hashes"`
			}{known.Seq, p.Seq, known.Seq - p.Seq, known.Seq - p.Seq}
			a.print.summary(v, func(w io.Writer) {
				fmt.Fprintf(w, "True: penny %d leads to penny %d by %d hashes, and pays %d pennies.\n", v.Seq, v.Known, v.Hashes, v.Paid)
			})
			return nil
		},
	}
	c.Flags().StringVar(&nonceHex, "nonce", "", "24 bytes in hex")
	return c
}
