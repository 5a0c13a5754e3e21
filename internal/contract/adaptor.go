package contract

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/bitgram/bitgram/wire"
)

// Errors of adaptor signatures.
var (
	// ErrBadPreSignature means that a pre-signature does not verify under the
	// key, point and digest.
	ErrBadPreSignature = errors.New("bad adaptor pre-signature")
	// ErrForeignSignature means that a signature does not complete the
	// pre-signature, so it does not reveal τ.
	ErrForeignSignature = errors.New("signature does not complete the pre-signature")
)

// PreSign returns the adaptor pre-signature of digest under key, locked to the
// even point T. Completing it to a BIP340 signature requires τ and reveals it.
//
//	R = kG + T; if R.y is odd, k and T are negated
//	e = H[BIP0340/challenge](R.x ‖ P ‖ digest)
//	s′ = k + e·d
//
// The nonce is k = H[adaptor-nonce](nonceKey ‖ digest ‖ P ‖ T ‖ ctr). So both
// ends compute the same pre-signature from the same inputs, and two digests
// never share a nonce (spec/delivery.md §6, invariant NonceOnce).
func PreSign(key, nonceKey wire.Secret, T wire.Key, digest wire.Hash) (ps wire.PreSignature, err error) {
	priv, err := key.PrivKey()
	if err != nil {
		return ps, err
	}
	point, err := T.Point()
	if err != nil {
		return ps, err
	}
	P := wire.XOnly(priv.PubKey())
	var t btcec.JacobianPoint
	point.AsJacobian(&t)
	for ctr := uint32(0); ; ctr++ {
		h := wire.Tagged("adaptor-nonce", nonceKey[:], digest[:], P[:], T[:], binary.BigEndian.AppendUint32(nil, ctr))
		var k btcec.ModNScalar
		if k.SetBytes((*[32]byte)(&h)) != 0 || k.IsZero() {
			continue
		}
		var kG, R btcec.JacobianPoint
		btcec.ScalarBaseMultNonConst(&k, &kG)
		btcec.AddNonConst(&kG, &t, &R)
		if isInfinity(&R) {
			continue
		}
		R.ToAffine()
		ps[0] = 2
		if R.Y.IsOdd() {
			ps[0] = 3
			k.Negate()
		}
		R.X.PutBytesUnchecked(ps[1:33])
		e := challenge(wire.Key(ps[1:33]), P, digest)
		s := priv.Key // even y: PrivKey normalises
		s.Mul(&e).Add(&k)
		s.PutBytesUnchecked(ps[33:])
		k.Zero()
		return ps, nil
	}
}

// VerifyPreSignature returns ErrBadPreSignature unless ps is P's pre-signature
// of digest locked to T. It needs no secret.
func VerifyPreSignature(ps wire.PreSignature, P, T wire.Key, digest wire.Hash) error {
	s, odd, err := parsePreSignature(ps)
	if err != nil {
		return err
	}
	pub, err := P.Point()
	if err != nil {
		return err
	}
	point, err := T.Point()
	if err != nil {
		return err
	}
	e := challenge(wire.Key(ps[1:33]), P, digest)
	e.Negate()
	var sG, p, eP, n, t, R btcec.JacobianPoint
	btcec.ScalarBaseMultNonConst(&s, &sG)
	pub.AsJacobian(&p)
	btcec.ScalarMultNonConst(&e, &p, &eP)
	btcec.AddNonConst(&sG, &eP, &n) // ±kG
	point.AsJacobian(&t)
	if odd {
		t.Y.Negate(1).Normalize()
	}
	btcec.AddNonConst(&n, &t, &R) // ±(kG+T), which has even y
	if isInfinity(&R) {
		return ErrBadPreSignature
	}
	R.ToAffine()
	if R.Y.IsOdd() || *R.X.Bytes() != [32]byte(ps[1:33]) {
		return ErrBadPreSignature
	}
	return nil
}

// Complete turns ps into a BIP340 signature with τ, whose point must be the T
// of the pre-signature.
func Complete(ps wire.PreSignature, tau wire.Secret) (sig wire.Signature, err error) {
	s, odd, err := parsePreSignature(ps)
	if err != nil {
		return sig, err
	}
	priv, err := tau.PrivKey()
	if err != nil {
		return sig, err
	}
	t := priv.Key
	if odd {
		t.Negate()
	}
	s.Add(&t)
	copy(sig[:32], ps[1:33])
	s.PutBytesUnchecked(sig[32:])
	return sig, nil
}

// ExtractTau extracts τ from a signature that completes ps, and checks τG = T.
// For any other signature it returns ErrForeignSignature.
func ExtractTau(ps wire.PreSignature, sig wire.Signature, T wire.Key) (tau wire.Secret, err error) {
	pre, odd, err := parsePreSignature(ps)
	if err != nil {
		return tau, err
	}
	var s btcec.ModNScalar
	if s.SetByteSlice(sig[32:]) || wire.Key(sig[:32]) != wire.Key(ps[1:33]) {
		return tau, ErrForeignSignature
	}
	s.Add(pre.Negate())
	if odd {
		s.Negate()
	}
	tau = wire.Secret(s.Bytes())
	if err := CheckTau(tau, T); err != nil {
		return wire.Secret{}, fmt.Errorf("%w: %w", ErrForeignSignature, err)
	}
	return tau, nil
}

// CheckTau reports whether τG = T.
func CheckTau(tau wire.Secret, T wire.Key) error {
	priv, err := tau.PrivKey()
	if err != nil {
		return err
	}
	if wire.XOnly(priv.PubKey()) != T {
		return errors.New("τG is not T")
	}
	return nil
}

func parsePreSignature(ps wire.PreSignature) (s btcec.ModNScalar, odd bool, err error) {
	if ps[0] != 2 && ps[0] != 3 {
		return s, false, fmt.Errorf("%w: parity byte %d", ErrBadPreSignature, ps[0])
	}
	if s.SetByteSlice(ps[33:]) {
		return s, false, fmt.Errorf("%w: s′ out of range", ErrBadPreSignature)
	}
	return s, ps[0] == 3, nil
}

func challenge(rx, P wire.Key, digest wire.Hash) (e btcec.ModNScalar) {
	h := chainhash.TaggedHash(chainhash.TagBIP0340Challenge, rx[:], P[:], digest[:])
	e.SetByteSlice(h[:])
	return
}

func isInfinity(p *btcec.JacobianPoint) bool {
	return (p.X.IsZero() && p.Y.IsZero()) || p.Z.IsZero()
}
