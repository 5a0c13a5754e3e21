package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/penny"
)

// pennyStep is one line of a roll-up.
type pennyStep struct {
	Seq    uint32 `json:"seq"`
	Secret string `json:"secret"`
	Penny  string `json:"penny"`
	Digest string `json:"digest"`
}

func (a *app) classicPence() *cobra.Command {
	var nonceHex, p0 string
	var n int
	var steps bool
	c := &cobra.Command{
		Use:   "pence --n N",
		Short: "Make pence and roll them up to their digest and ID",
		Long: "Walks the chain from p₀ and rolls it up:\n\n" +
			"  pⱼ = SHA256(nonce ‖ j in 3 bytes ‖ pⱼ₋₁)[0:5]\n" +
			"  d₀ = SHA256(p₀),  dⱼ = SHA256(dⱼ₋₁ ‖ nonce ‖ j in 3 bytes ‖ pⱼ₋₁),  ID = RIPEMD160(d_N)\n\n" +
			"The default for nonce and p₀ is random. p₀ may also have 1 to 4 bytes, which can be thawed in a moment,\n" +
			"or 16, as in banks with money. --steps shows every pⱼ and dⱼ.\n\n" + forStudy,
		Example: "  bitgram bank classic pence --n 5 --steps\n" +
			"  bitgram bank classic pence --nonce " + strings.Repeat("00", penny.NonceSize) + " --p0 0000000000 --n 1",
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := given(c, "n"); err != nil {
				return err
			}
			if n < 0 || n > penny.MaxSeq {
				return fmt.Errorf("%w: --n %d: must be 0 to %d", errUsage, n, penny.MaxSeq)
			}
			p := penny.Pence{Chain: penny.Chain{Size: penny.ClassicSize}, N: uint32(n)}
			var err error
			if p.Nonce, err = nonce(nonceHex); err != nil {
				return err
			}
			if p0 == "" {
				_, _ = rand.Read(p.P0[:p.Size]) // never fails (crypto/rand)
			} else {
				p.Size = len(p0) / 2
				if p.Size > penny.ClassicSize && p.Size != penny.MinSize || p.Size < 1 {
					return fmt.Errorf("%w: --p0 %q: must be 1 to %d bytes, or %d, in hex", errUsage, shorten(p0), penny.ClassicSize, penny.MinSize)
				}
				if p.P0, err = secretOf("--p0", p0, p.Size); err != nil {
					return err
				}
			}
			sum := p.Steps(func(at penny.Penny, digest [32]byte) bool {
				if steps {
					s := pennyStep{at.Seq, hex.EncodeToString(at.Secret[:p.Size]), hex.EncodeToString(p.Encode(nil, at)), hex.EncodeToString(digest[:])}
					a.print.line("penny", s, func(w io.Writer) { fmt.Fprintf(w, "p%-8d %s   d%-8d %s\n", s.Seq, s.Secret, s.Seq, s.Digest) })
				}
				return at.Seq%(1<<12) != 0 || c.Context().Err() == nil
			})
			if err := c.Context().Err(); err != nil {
				return err
			}
			v := struct {
				N        uint32 `json:"n"`
				Nonce    string `json:"nonce"`
				P0       string `json:"p0"`
				PN       string `json:"pn"`
				Last     string `json:"last_penny"`
				Preimage string `json:"preimage"`
				Digest   string `json:"digest"`
				ID       string `json:"id"`
				Global   string `json:"global,omitempty"`
			}{p.N, p.Nonce.String(), hex.EncodeToString(p.P0[:p.Size]), hex.EncodeToString(sum.Last.Secret[:p.Size]), hex.EncodeToString(p.Encode(nil, sum.Last)),
				hex.EncodeToString(sum.Preimage), hex.EncodeToString(sum.Digest[:]), sum.ID.String(), ""}
			if p.Size == penny.ClassicSize {
				v.Global = hex.EncodeToString(p.Global(sum.ID, sum.Last))
			}
			a.print.summary(v, func(w io.Writer) {
				fmt.Fprintf(w, "nonce     %s\np0        %s   secret, until the last penny is spent\n", v.Nonce, v.P0)
				fmt.Fprintf(w, "p%-8d %s   public\n", v.N, v.PN)
				fmt.Fprintf(w, "as penny  %s\npreimage  %s   secret, until the bank is closed\ndigest    %s\nID        %s\n", v.Last, v.Preimage, v.Digest, v.ID)
				if v.Global != "" {
					fmt.Fprintf(w, "global    %s\n", v.Global)
				}
			})
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&nonceHex, "nonce", "", "nonce, 24 bytes in hex (default: random)")
	f.StringVar(&p0, "p0", "", "secret end of the chain, 5 bytes in hex (default: random)")
	f.IntVar(&n, "n", 0, fmt.Sprintf("number of pennies, 0 to %d", penny.MaxSeq))
	f.BoolVar(&steps, "steps", false, "show every penny and digest")
	return c
}
