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
		Short: "Verify a penny against a higher one that is known",
		Long: "Hashes PENNY forward until its number is that of KNOWN, and compares. Pennies are spent in descending\n" +
			"order: p_N is known at first, and each lower penny pays the difference of the numbers. Both are written\n" +
			"as on the wire: 8 bytes, of which the first 3 are the number and the rest is the secret; or 28 bytes,\n" +
			"with the ID of the pence in front.\n\n" + forStudy,
		Args: usage(cobra.ExactArgs(2)),
		RunE: func(_ *cobra.Command, args []string) error {
			if nonceHex == "" {
				return fmt.Errorf("%w: missing flag --nonce: give the nonce of the pence", errUsage)
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
				return fmt.Errorf("%w: it belongs to other pence: %x, not %x", penny.ErrFalse, id, idKnown)
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
				fmt.Fprintf(w, "Valid: penny %d leads to penny %d by %d hashes, and pays %d pennies.\n", v.Seq, v.Known, v.Hashes, v.Paid)
			})
			return nil
		},
	}
	c.Flags().StringVar(&nonceHex, "nonce", "", "nonce of the pence, 24 bytes in hex")
	return c
}
