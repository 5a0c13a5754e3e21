package main

import (
	"fmt"
	"io"
	"math/big"

	"github.com/btcsuite/btcd/blockchain"
	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

func (a *app) classicValue() *cobra.Command {
	var bits, n int
	var difficulty float64
	var nbits string
	var subsidy int64
	c := &cobra.Command{
		Use:   "value",
		Short: "Compute how much pence may be worth at a difficulty",
		Long: "A satoshi of new coins costs miners a number of hashes: the hashes of a block divided by its subsidy.\n" +
			"Pence may be worth what it costs to forge them, with a margin of 16:\n\n" +
			"  value ≤ 2^bits / (16 · hashes per satoshi)\n\n" +
			"for any number of pennies: a search that finds one secret usually finds many. The linked specification\n" +
			"multiplies by the number of pennies, --n, and has no margin; that value is shown as well.\n\n" +
			"Give the difficulty with --difficulty or as a header's --nbits; the default is that of the running\n" +
			"daemon's chain. Without a daemon, the default subsidy is that of blocks 840,000 to 1,049,999.",
		Example: "  bitgram bank classic value --difficulty 1.4e14\n" +
			"  bitgram bank classic value --difficulty 40007470271.271 --subsidy-sat 2500000000 --n 16777215",
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			f := c.Flags()
			v := struct {
				Bits         int      `json:"bits"`
				Height       *uint32  `json:"height,omitempty"`
				Difficulty   float64  `json:"difficulty"`
				NBits        string   `json:"nbits,omitempty"`
				Subsidy      wire.Sat `json:"subsidy_sat"`
				HashesPerSat float64  `json:"hashes_per_sat"`
				Value        *big.Int `json:"value_sat"`
				ValuePsat    *big.Int `json:"value_psat"`
				Pennies      int      `json:"n"`
				LinkedPsat   *big.Int `json:"linked_spec_value_psat"`
			}{Bits: bits, Pennies: n, Subsidy: wire.Sat(subsidy)}
			switch {
			case bits < 1 || bits > 256:
				return fmt.Errorf("%w: --bits %d: must be 1 to 256", errUsage, bits)
			case subsidy < 1 || subsidy > int64(wire.MaxSat):
				return fmt.Errorf("%w: --subsidy-sat %d: must be 1 to %d", errUsage, subsidy, int64(wire.MaxSat))
			case f.Changed("difficulty") && f.Changed("nbits"):
				return fmt.Errorf("%w: pass either --difficulty or --nbits", errUsage)
			}
			if err := checkN(n); err != nil {
				return err
			}
			var target *big.Int
			switch {
			case f.Changed("difficulty"):
				if target = penny.Target(difficulty); target == nil {
					return fmt.Errorf("%w: --difficulty %v: not a difficulty that a block can have", errUsage, difficulty)
				}
			default:
				if !f.Changed("nbits") {
					client, err := a.dial()
					if err != nil {
						return fmt.Errorf("%w; without a daemon, pass --difficulty", err)
					}
					d, err := client.Difficulty(c.Context())
					if err != nil {
						return err
					}
					nbits, v.Height = d.Bits, &d.Height
					if !f.Changed("subsidy-sat") {
						v.Subsidy = d.Subsidy
					}
				}
				b, err := unhex("--nbits", nbits, 4)
				if err != nil {
					return err
				}
				v.NBits = nbits
				target = blockchain.CompactToBig(uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]))
				if target.Sign() <= 0 || target.BitLen() > 256 {
					return fmt.Errorf("%w: --nbits %s: not a target that a block can have", errUsage, nbits)
				}
			}
			h := penny.HashesPerSat(target, v.Subsidy)
			if h.Sign() == 0 {
				return fmt.Errorf("%w: --subsidy-sat: a block without a subsidy puts no price on work", errUsage)
			}
			v.Difficulty = penny.Difficulty(target)
			v.HashesPerSat, _ = h.Float64()
			ours := penny.MaxValue(bits, h)
			linked := new(big.Rat).SetFrac(penny.ThawWork(bits, uint32(n)), big.NewInt(1))
			linked.Quo(linked, h)
			v.Value, v.ValuePsat, v.LinkedPsat = floor(ours, 1), floor(ours, 1e12), floor(linked, 1e12)
			a.print.summary(v, func(w io.Writer) {
				if v.Height != nil {
					fmt.Fprintf(w, "Block %d: ", *v.Height)
				}
				fmt.Fprintf(w, "difficulty %.8g, subsidy %v: %.3g hashes per satoshi.\n", v.Difficulty, v.Subsidy, v.HashesPerSat)
				fmt.Fprintf(w, "A bank with secrets of %d bits may be worth %s in total.\n", bits, amount(ours))
				fmt.Fprintf(w, "By the linked specification, %s would be worth %s; that is too much (spec/pence.md).\n", fmt.Sprintf("%d of its pennies", n), amount(linked))
				if ours.Cmp(big.NewRat(1, 1)) < 0 {
					fmt.Fprintln(w, "That is less than a satoshi: for study only.")
				}
			})
			return nil
		},
	}
	f := c.Flags()
	f.IntVar(&bits, "bits", 8*penny.ClassicSize, "size of a secret, in bits")
	f.IntVar(&n, "n", 1, "number of pennies, for the value by the linked specification")
	f.Float64Var(&difficulty, "difficulty", 0, "difficulty; 1 is the least on mainnet")
	f.StringVar(&nbits, "nbits", "", "target in a block header, 8 hex digits, instead of --difficulty")
	f.Int64Var(&subsidy, "subsidy-sat", 312_500_000, "new coins of a block, in sat")
	return c
}

// floor returns v satoshi in units of which scale make a satoshi, rounded down,
// and at most all the satoshi there are.
func floor(v *big.Rat, scale int64) *big.Int {
	if most := big.NewRat(int64(wire.MaxSat), 1); v.Cmp(most) > 0 {
		v = most
	}
	v = new(big.Rat).Mul(v, big.NewRat(scale, 1))
	return new(big.Int).Quo(v.Num(), v.Denom())
}

// amount shows an amount of satoshi that may be tiny, or more than exist.
func amount(v *big.Rat) string {
	if v.Cmp(big.NewRat(int64(wire.MaxSat), 1)) > 0 {
		return "more than all the satoshi that exist"
	}
	f, _ := v.Float64()
	return fmt.Sprintf("%.3g sat", f)
}
