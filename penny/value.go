package penny

import (
	"math/big"

	"github.com/bitgram/bitgram/wire"
)

// margin is the safety factor by which MaxValue divides the work's worth.
const margin = 16

// HashesPerSat returns how many hashes miners compute per satoshi of new coins:
// the expected hashes of a block with target (Bitcoin's nBits, expanded),
// divided by its subsidy. It returns zero for an impossible target or subsidy.
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

// Difficulty converts a target to the usual difficulty; it returns zero for an
// impossible target.
func Difficulty(target *big.Int) float64 {
	if target == nil || target.Sign() <= 0 {
		return 0
	}
	d, _ := new(big.Rat).SetFrac(one, target).Float64()
	return d
}

// Target converts a difficulty to a target, or returns nil if there is none.
func Target(difficulty float64) *big.Int {
	d := new(big.Rat).SetFloat64(difficulty) // nil if it is not finite
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

// MaxValue returns the safe value in satoshi of a whole bank whose secrets have
// this many bits, from the work to forge one penny:
//
//	value ≤ 2^bits / (16 · hashes per satoshi)
//
// The result is a fraction of satoshi. It is zero if hashesPerSat is zero.
func MaxValue(bits int, hashesPerSat *big.Rat) *big.Rat {
	if bits < 0 || hashesPerSat.Sign() <= 0 {
		return new(big.Rat)
	}
	v := new(big.Rat).SetInt(new(big.Int).Lsh(big.NewInt(1), uint(bits)))
	return v.Quo(v, new(big.Rat).Mul(big.NewRat(margin, 1), hashesPerSat))
}
