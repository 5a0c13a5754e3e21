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
		Short: "What pence may be worth at a difficulty",
		Long: "A satoshi of new coins costs miners a number of hashes: those of a block over its subsidy. Pence may\n" +
			"be worth what it costs to forge them, with a margin of 16:\n\n" +
			"  value ≤ 2^bits / (16 · hashes per satoshi)\n\n" +
			"whatever the number of pennies: whoever finds one secret by work, most often finds many. The linked\n" +
			"specification multiplies by their number, --n, and takes no margin; that is shown beside it.\n\n" +
			"The difficulty is given, as such or as a header's nBits, or is that of the running daemon's chain.\n" +
			"Without a daemon the subsidy is that of the blocks 840,000 to 1,049,999 unless given.",
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
				return fmt.Errorf("%w: --bits takes 1 to 256", errUsage)
			case subsidy < 1 || subsidy > int64(wire.MaxSat):
				return fmt.Errorf("%w: --subsidy-sat takes 1 to %d", errUsage, int64(wire.MaxSat))
			case f.Changed("difficulty") && f.Changed("nbits"):
				return fmt.Errorf("%w: --difficulty or --nbits, not both", errUsage)
			}
			if err := checkN(n); err != nil {
				return err
			}
			var target *big.Int
			switch {
			case f.Changed("difficulty"):
				if target = penny.Target(difficulty); target == nil {
					return fmt.Errorf("%w: no block has difficulty %v", errUsage, difficulty)
				}
			default:
				if !f.Changed("nbits") {
					client, err := a.dial()
					if err != nil {
						return fmt.Errorf("%w; or give the difficulty: --difficulty", err)
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
					return fmt.Errorf("%w: no block has nBits %s", errUsage, nbits)
				}
			}
			h := penny.HashesPerSat(target, v.Subsidy)
			if h.Sign() == 0 {
				return fmt.Errorf("%w: a block without a subsidy gives work no price", errUsage)
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
				fmt.Fprintf(w, "difficulty %.8g, a subsidy of %v: %.3g hashes to the satoshi.\n", v.Difficulty, v.Subsidy, v.HashesPerSat)
				fmt.Fprintf(w, "In all, a bank with secrets of %d bits may be worth %s.\n", bits, amount(ours))
				fmt.Fprintf(w, "By the linked specification %d of its pennies would be worth %s; that is too much (spec/pence.md).\n", n, amount(linked))
				if ours.Cmp(big.NewRat(1, 1)) < 0 {
					fmt.Fprintln(w, "That is not worth a satoshi: for study only.")
				}
			})
			return nil
		},
	}
	f := c.Flags()
	f.IntVar(&bits, "bits", 8*penny.ClassicSize, "of a secret")
	f.IntVar(&n, "n", 1, "pennies, for what the linked specification says")
	f.Float64Var(&difficulty, "difficulty", 0, "as people speak of it: 1 is the least on mainnet")
	f.StringVar(&nbits, "nbits", "", "or a header's target, 8 hex digits")
	f.Int64Var(&subsidy, "subsidy-sat", 312_500_000, "new coins of a block")
	return c
}

// floor is v in units of which scale make a satoshi, rounded down; all the
// satoshi there are at most.
func floor(v *big.Rat, scale int64) *big.Int {
	if most := big.NewRat(int64(wire.MaxSat), 1); v.Cmp(most) > 0 {
		v = most
	}
	v = new(big.Rat).Mul(v, big.NewRat(scale, 1))
	return new(big.Int).Quo(v.Num(), v.Denom())
}

// amount shows an amount of satoshi that may be tiny, or more than there are.
func amount(v *big.Rat) string {
	if v.Cmp(big.NewRat(int64(wire.MaxSat), 1)) > 0 {
		return "more than all the satoshi there are"
	}
	f, _ := v.Float64()
	return fmt.Sprintf("%.3g sat", f)
}
