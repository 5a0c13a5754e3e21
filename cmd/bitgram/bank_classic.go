package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/penny"
)

// forStudy is the warning in the help and output of the classic form.
const forStudy = "The classic form is for study: secrets of 5 bytes can be found by brute force, and a bank of them is\n" +
	"worth a fraction of a satoshi today ('bitgram bank classic value'). Never put money behind it."

func (a *app) classicCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "classic",
		Short: "Study pence as they were first described, step by step",
		Long: "Replays the specification of penny banks (github.com/quartzjer/pennybank, spec.md) offline:\n\n" +
			"  pence    a chain of pennies, rolled up to its digest and ID\n" +
			"  verify   one penny against another\n" +
			"  set      a set of 100 pence: offer, pick, open, check\n" +
			"  value    how much pence may be worth at a difficulty\n" +
			"  p2cm     the conditional multisig, and spends of it on a chain in this process\n" +
			"  thaw     missing pennies, found by brute force\n\n" + forStudy + "\n\n" +
			"spec/pence.md lists the differences from that specification and the reasons.",
		SuggestionsMinimumDistance: 2,
		Args:                       noSuchCommand,
		RunE:                       func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.classicPence(), a.classicVerify(), a.classicSet(), a.classicValue(), a.classicP2CM(), a.classicThaw())
	return c
}

// unhex decodes the hex value of a flag or argument, which must have one of these
// sizes in bytes.
func unhex(what, s string, sizes ...int) ([]byte, error) {
	b, err := hex.DecodeString(s)
	for _, n := range sizes {
		if err == nil && len(b) == n {
			return b, nil
		}
	}
	digits := make([]string, len(sizes))
	for i, n := range sizes {
		digits[i] = fmt.Sprint(2 * n)
	}
	return nil, fmt.Errorf("%w: %s %q: must be %s hex digits", errUsage, what, shorten(s), strings.Join(digits, " or "))
}

// nonce decodes --nonce, or draws a random one if it is empty.
func nonce(s string) (n penny.Nonce, err error) {
	if s == "" {
		_, _ = rand.Read(n[:]) // never fails (crypto/rand)
		return n, nil
	}
	b, err := unhex("--nonce", s, len(n))
	copy(n[:], b)
	return n, err
}

// secretOf decodes a secret of size bytes.
func secretOf(what, s string, size int) (out penny.Secret, err error) {
	b, err := unhex(what, s, size)
	copy(out[:], b)
	return out, err
}

func checkN(n int) error {
	if n < 1 || n > penny.MaxSeq {
		return fmt.Errorf("%w: --n %d: must be 1 to %d", errUsage, n, penny.MaxSeq)
	}
	return nil
}

// given checks that required flags were passed.
func given(c *cobra.Command, names ...string) error {
	for _, name := range names {
		if !c.Flags().Changed(name) {
			return fmt.Errorf("%w: missing flag --%s", errUsage, name)
		}
	}
	return nil
}

// parsePenny decodes a penny, alone or with the 20-byte ID of its pence in front.
// Its length says which it is, and the size of the chain's secrets.
func parsePenny(text string) (size int, id []byte, p penny.Penny, err error) {
	b, err := hex.DecodeString(text)
	if err != nil {
		return 0, nil, p, fmt.Errorf("%w: %q is not hex", penny.ErrMalformed, shorten(text))
	}
	if len(b) == len(penny.ID{})+3+penny.ClassicSize {
		id, b = b[:20], b[20:]
	}
	c := penny.Chain{Size: len(b) - 3}
	if err := c.Check(); err != nil {
		return 0, nil, p, fmt.Errorf("%w: %d bytes: %w", penny.ErrMalformed, len(b), err)
	}
	p, err = c.Decode(b)
	return c.Size, id, p, err
}
