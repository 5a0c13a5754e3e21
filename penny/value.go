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
