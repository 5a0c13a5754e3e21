package contract

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/bitgram/bitgram/wire"
)

// verifyAll reports whether sigs are all BIP340 signatures by key, each of the
// digest of the same index. It is the batch verification of BIP340 for a single
// key: the equations s·G = R + e·P, each times a factor that nobody can choose,
// are added up. A false signature passes with a probability of 2⁻¹²⁸. For a
// thousand signatures it takes a third of the time of verifying each, which
// strangers could otherwise waste.
func verifyAll(key wire.Key, digests []wire.Hash, sigs []wire.Signature) bool {
	p, err := key.Point()
	if err != nil {
		return false
	}
	seed := sha256.New()
	seed.Write(key[:])
	for i := range sigs {
		seed.Write(digests[i][:])
		seed.Write(sigs[i][:])
	}
	var sums, sumE btcec.ModNScalar
	points := make([]btcec.JacobianPoint, len(sigs))
	factors := make([][16]byte, len(sigs))
	root := wire.Hash(seed.Sum(nil))
	for i := range sigs {
		var s, e, a btcec.ModNScalar
		if s.SetByteSlice(sigs[i][32:]) {
			return false
		}
		r, err := wire.Key(sigs[i][:32]).Point() // with even y
		if err != nil {
			return false
		}
		r.AsJacobian(&points[i])
		e.SetByteSlice(chainhash.TaggedHash(chainhash.TagBIP0340Challenge, sigs[i][:32], key[:], digests[i][:])[:])
		f := wire.Tagged("batch-factor", root[:], binary.BigEndian.AppendUint32(nil, uint32(i)))
		factors[i] = [16]byte(f[:16])
		a.SetByteSlice(factors[i][:])
		sums.Add(s.Mul(&a))
		sumE.Add(e.Mul(&a))
	}
	var left, right, pub, sum btcec.JacobianPoint
	btcec.ScalarBaseMultNonConst(&sums, &left)
	p.AsJacobian(&pub)
	btcec.ScalarMultNonConst(&sumE, &pub, &right)
	sumOf(points, factors, &sum)
	btcec.AddNonConst(&right, &sum, &pub)
	left.ToAffine()
	pub.ToAffine()
	return left.X.Equals(&pub.X) && left.Y.Equals(&pub.Y)
}

// sumOf adds up the points, each times its factor, a 128-bit number in big-endian
// order: digit by digit, the points with the same digit first (Pippenger's
// method). The points must be affine.
func sumOf(points []btcec.JacobianPoint, factors [][16]byte, sum *btcec.JacobianPoint) {
	const few = 256
	bits := 8 // of a digit
	if len(points) < few {
		bits = 4
	}
	buckets := make([]btcec.JacobianPoint, 1<<bits)
	var total btcec.JacobianPoint // the point at infinity is all zeros
	for digit := range 128 / bits {
		for range bits {
			var twice btcec.JacobianPoint
			btcec.DoubleNonConst(&total, &twice)
			total = twice
		}
		clear(buckets)
		for i := range points {
			at := digit * bits
			d := int(factors[i][at/8]) >> (8 - bits - at%8) & (1<<bits - 1)
			if d != 0 {
				add(&buckets[d], &points[i])
			}
		}
		// Σ d·bucket[d], as the sum of the partial sums from the highest d down.
		var running btcec.JacobianPoint
		for d := len(buckets) - 1; d > 0; d-- {
			add(&running, &buckets[d])
			add(&total, &running)
		}
	}
	*sum = total
}

// add adds q to p.
func add(p, q *btcec.JacobianPoint) {
	var out btcec.JacobianPoint
	btcec.AddNonConst(p, q, &out)
	*p = out
}
