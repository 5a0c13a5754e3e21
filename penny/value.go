package penny

import (
	"math/big"

	"github.com/bitgram/bitgram/wire"
)

// margin divides what the work is worth.
const margin = 16

// HashesPerSat is how many hashes miners make for a satoshi of new coins: the
// expected hashes of a block of a target (Bitcoin's nBits, expanded), over its
// subsidy. It is zero for a target or a subsidy that no block has.
func HashesPerSat(target *big.Int, subsidy wire.Sat) *big.Rat {
	if target == nil || target.Sign() <= 0 || target.BitLen() > 256 || subsidy <= 0 {
		return new(big.Rat)
	}
	work := new(big.Int).Lsh(big.NewInt(1), 256)
	work.Div(work, new(big.Int).Add(target, big.NewInt(1)))
	return new(big.Rat).SetFrac(work, big.NewInt(int64(subsidy)))
}

// one is the target of difficulty 1.
var one = new(big.Int).Lsh(big.NewInt(0xffff), 208)

// Difficulty is a target as people speak of it; zero where no block has it.
func Difficulty(target *big.Int) float64 {
	if target == nil || target.Sign() <= 0 {
		return 0
	}
	d, _ := new(big.Rat).SetFrac(one, target).Float64()
	return d
}

// Target is that of a difficulty; nil for what is none.
func Target(difficulty float64) *big.Int {
	d := new(big.Rat).SetFloat64(difficulty) // nil where it is not finite
	if d == nil || d.Sign() <= 0 {
		return nil
	}
	t := new(big.Rat).SetInt(one)
	t.Quo(t, d)
	target := new(big.Int).Quo(t.Num(), t.Denom())
	if target.Sign() == 0 || target.BitLen() > 256 {
		return nil
	}
	return target
}

// MaxValue bounds what a whole bank may be worth whose secrets have that many
// bits, by the work to forge one penny of it:
//
//	value ≤ 2^bits / (16 · hashes per satoshi)
//
// as a fraction of satoshi; zero where no hash has a price.
func MaxValue(bits int, hashesPerSat *big.Rat) *big.Rat {
	if bits < 0 || hashesPerSat.Sign() <= 0 {
		return new(big.Rat)
	}
	v := new(big.Rat).SetInt(new(big.Int).Lsh(big.NewInt(1), uint(bits)))
	return v.Quo(v, new(big.Rat).Mul(big.NewRat(margin, 1), hashesPerSat))
}
