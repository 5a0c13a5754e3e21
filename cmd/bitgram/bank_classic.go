package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/penny"
)

// forStudy stands in every help and under what could be taken for more.
const forStudy = "The classic form is for study: secrets of 5 bytes can be found by work, and a bank of them is\n" +
	"worth a fraction of a satoshi today ('bank classic value'). Never put money behind it."

func (a *app) classicCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "classic",
		Short: "Pence as they were first described, step by step, for study",
		Long: "Replays the specification of penny banks (github.com/quartzjer/pennybank, spec.md) offline:\n\n" +
			"  pence    a chain of pennies and its roll-up to digest and ID\n" +
			"  verify   one penny against another\n" +
			"  set      a set of 100 pence: offer, pick, open, check\n" +
			"  value    what pence may be worth at a difficulty\n" +
			"  p2cm     the conditional multisig, and spends of it on a chain in this process\n" +
			"  thaw     missing pennies, found by work\n\n" + forStudy + "\n" +
			"spec/pence.md says where this differs from that specification, and why.",
		SuggestionsMinimumDistance: 2,
		Args:                       noSuchCommand,
		RunE:                       func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.classicPence(), a.classicVerify(), a.classicSet(), a.classicValue(), a.classicP2CM(), a.classicThaw())
	return c
}

// unhex reads the hex of a flag or an argument that has one of those lengths.
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
	return nil, fmt.Errorf("%w: %s takes %s hex digits, not %q", errUsage, what, strings.Join(digits, " or "), shorten(s))
}

// nonce reads --nonce, or draws one.
func nonce(s string) (n penny.Nonce, err error) {
	if s == "" {
		_, _ = rand.Read(n[:]) // never fails (crypto/rand)
		return n, nil
	}
	b, err := unhex("--nonce", s, len(n))
	copy(n[:], b)
	return n, err
}

// secretOf reads a secret of a chain's size.
func secretOf(what, s string, size int) (out penny.Secret, err error) {
	b, err := unhex(what, s, size)
	copy(out[:], b)
	return out, err
}

func checkN(n int) error {
	if n < 1 || n > penny.MaxSeq {
		return fmt.Errorf("%w: --n takes 1 to %d pennies", errUsage, penny.MaxSeq)
	}
	return nil
}

// given wants flags to have been given.
func given(c *cobra.Command, names ...string) error {
	for _, name := range names {
		if !c.Flags().Changed(name) {
			return fmt.Errorf("%w: --%s is wanted", errUsage, name)
		}
	}
	return nil
}

// parsePenny reads a penny, alone or with the ID of its pence in front; its
// length tells which, and the chain's size.
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
