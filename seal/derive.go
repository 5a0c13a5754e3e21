package seal

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"

	"github.com/bitgram/bitgram/wire"
	"github.com/btcsuite/btcd/btcec/v2"
)

// prefix versions every label.
const prefix = "bitgram/1/"

// The roles. Each is shorter than a key, so info strings with and without a
// peer, whose lengths differ by a key, cannot collide: the pair (role, suffix)
// can be recovered from the string.
const (
	roleTag     = "tag"
	roleMask    = "mask"
	roleFetch   = "fetch"
	roleContent = "content"
	roleRelease = "release"
	roleSender  = "sender"
	roleNonce   = "adaptor-nonce"
	roleAck     = "ack"
	roleAckBox  = "ack-box"
	roleCopy    = "copy"
	roleHolding = "holding"
)

// extract is HKDF-Extract with SHA-256 and the salt "bitgram/1/" + label.
func extract(label string, ikm []byte) wire.Secret {
	prk, err := hkdf.Extract(sha256.New, ikm, []byte(prefix+label))
	if err != nil {
		panic("seal: hkdf extract: " + err.Error()) // fixed sizes: can't happen
	}
	return wire.Secret(prk)
}

// expand fills out with HKDF-Expand under info "bitgram/1/" + role ‖ parts…
func expand(prk *wire.Secret, out []byte, role string, parts ...[]byte) {
	info := make([]byte, 0, 192)
	info = append(info, prefix...)
	info = append(info, role...)
	for _, p := range parts {
		info = append(info, p...)
	}
	okm, err := hkdf.Expand(sha256.New, prk[:], string(info), len(out))
	if err != nil {
		panic("seal: hkdf expand: " + err.Error()) // fixed sizes: can't happen
	}
	copy(out, okm)
	clear(okm)
}

// ecdh returns the x coordinate of k·p. The parity of p does not matter.
func ecdh(k *btcec.ModNScalar, p *btcec.PublicKey) (x [32]byte) {
	var in, out btcec.JacobianPoint
	p.AsJacobian(&in)
	btcec.ScalarMultNonConst(k, &in, &out)
	out.ToAffine()
	out.X.PutBytes(&x)
	return x
}

// scalar reduces 48 big-endian bytes modulo n, with a bias below 2⁻¹²⁸. It
// replaces zero by 1 (probability 2⁻²⁵⁶), so that it never fails, and negates a
// scalar whose public key has an odd y.
func scalar(b *[48]byte) wire.Secret {
	// b = hi·2²⁵⁶ + lo; 2²⁵⁶ mod n is (2²⁵⁶-1 mod n) + 1.
	var hi, lo, shift, one btcec.ModNScalar
	one.SetInt(1)
	var ff [32]byte
	for i := range ff {
		ff[i] = 0xff
	}
	shift.SetBytes(&ff)
	shift.Add(&one)
	hi.SetByteSlice(b[:16])
	lo.SetByteSlice(b[16:])
	hi.Mul(&shift).Add(&lo)
	if hi.IsZero() {
		hi = one
	}
	priv, err := wire.Secret(hi.Bytes()).PrivKey()
	if err != nil {
		panic("seal: reduced scalar out of range") // just reduced: can't happen
	}
	return wire.SecretOf(priv)
}

// unset rejects a key of zeros. No derivation yields one, but a caller that
// ignored an error, or used a zero Secrets, would encrypt with it.
func unset(key wire.Secret) error {
	if key == (wire.Secret{}) {
		return fmt.Errorf("%w: key of zeros", wire.ErrBadKey)
	}
	return nil
}
