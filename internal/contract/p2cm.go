package contract

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/ecdsa"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// PubKey is a compressed public key, as used in scripts before taproot.
type PubKey [33]byte

// ParsePubKey parses a compressed key, or returns an error that wraps
// wire.ErrBadKey.
func ParsePubKey(b []byte) (k PubKey, err error) {
	if len(b) != len(k) {
		return k, fmt.Errorf("%w: %d bytes, not the %d of a compressed one", wire.ErrBadKey, len(b), len(k))
	}
	if _, err := btcec.ParsePubKey(b); err != nil {
		return k, fmt.Errorf("%w: %x", wire.ErrBadKey, b)
	}
	return PubKey(b), nil
}

// Side is one of the two parties of a conditional multisig.
type Side struct {
	ID  penny.ID // of its pence
	Key PubKey
}

// P2CM is the conditional multisig of classic pence, a P2SH output, for study
// (spec/pence.md §4). Its script has 117 bytes:
//
//	HASH160 <idA> EQUALVERIFY HASH160 <idB> EQUALVERIFY 1 <A> <B> 2 CHECKMULTISIG
//
// Either side alone can spend it with both preimages (penny.Sum's):
//
//	OP_0 <signature of A or B> <preimage of idB> <preimage of idA> <script>
//
// The script does not say who gets what, so the first side to reveal its
// preimage loses: the other has both, and can take everything.
type P2CM struct {
	sides    [2]Side
	script   []byte
	pkScript []byte
}

// Errors of conditional multisigs.
var (
	// ErrSides means that two sides cannot share a conditional multisig.
	ErrSides = errors.New("not the two sides of a conditional multisig")
	// ErrPreimage means that the HASH160 of a preimage is not the ID.
	ErrPreimage = errors.New("not the preimage of this ID")
)

// NewP2CM computes the output of two sides. Errors are ErrSides or wrap
// wire.ErrBadKey.
func NewP2CM(a, b Side) (*P2CM, error) {
	for _, s := range []Side{a, b} {
		if _, err := ParsePubKey(s.Key[:]); err != nil {
			return nil, err
		}
	}
	switch {
	case a.ID == b.ID:
		return nil, fmt.Errorf("%w: both have the same ID", ErrSides)
	case a.Key == b.Key:
		return nil, fmt.Errorf("%w: both have the same key", ErrSides)
	}
	p := &P2CM{sides: [2]Side{a, b}}
	p.script = build(txscript.NewScriptBuilder().
		AddOp(txscript.OP_HASH160).AddData(a.ID[:]).AddOp(txscript.OP_EQUALVERIFY).
		AddOp(txscript.OP_HASH160).AddData(b.ID[:]).AddOp(txscript.OP_EQUALVERIFY).
		AddOp(txscript.OP_1).AddData(a.Key[:]).AddData(b.Key[:]).AddOp(txscript.OP_2).AddOp(txscript.OP_CHECKMULTISIG))
	h := Lock(p.script)
	p.pkScript = build(txscript.NewScriptBuilder().AddOp(txscript.OP_HASH160).AddData(h[:]).AddOp(txscript.OP_EQUAL))
	return p, nil
}

// Script returns the redeem script.
func (p *P2CM) Script() []byte { return p.script }

// PkScript returns the output's script, 23 bytes.
func (p *P2CM) PkScript() []byte { return p.pkScript }

// Address returns the output's base58 address.
func (p *P2CM) Address(params *chaincfg.Params) string {
	a, err := address.NewAddressScriptHash(p.script, params)
	if err != nil {
		panic(err) // only hashes of another length fail
	}
	return a.String()
}

// P2CMSpend is a conditional multisig to be spent by one side.
type P2CMSpend struct {
	P2CM      *P2CM
	At        wire.Outpoint
	Value     wire.Sat
	Preimages [2][]byte // of A's ID and of B's
	Signer    int       // 0 for A, 1 for B
	Key       wire.Secret
}

// P2CMInputWeight returns the maximum weight of an input that spends one with
// preimages of these lengths; it varies with the signature by a byte or two.
// All bytes count four times, because P2SH has no witness.
func P2CMInputWeight(a, b int) int64 {
	const dummy, sig, script = 1, 1 + 72, 2 + 117 // with a low s, at most 71 bytes of DER plus the hash type
	n := int64(dummy + sig + pushLen(a) + pushLen(b) + script)
	return 4 * (36 + int64(btcwire.VarIntSerializeSize(uint64(n))) + n + 4)
}

// pushLen is the length of a push of n bytes, up to 520.
func pushLen(n int) int {
	switch {
	case n > 255:
		return 3 + n
	case n > txscript.OP_DATA_75:
		return 2 + n
	}
	return 1 + n
}

// BuildP2CM builds and signs the transaction that spends a conditional multisig
// to outs, and pays the rest, less a fee at rate or of at least minFee, to
// script. It returns the fee. Errors are ErrPreimage, wire.ErrBadKey if the key
// is not the signer's, and ErrUneconomic.
func BuildP2CM(s P2CMSpend, outs []*btcwire.TxOut, script []byte, rate wire.SatPerKVB, minFee wire.Sat) (*btcwire.MsgTx, wire.Sat, error) {
	if s.Signer < 0 || s.Signer > 1 {
		return nil, 0, fmt.Errorf("%w: no side %d", ErrSides, s.Signer)
	}
	for i, side := range s.P2CM.sides {
		// An ID may be the hash of anything, but a script cannot push longer
		// data.
		if len(s.Preimages[i]) > txscript.MaxScriptElementSize || penny.ID(Lock(s.Preimages[i])) != side.ID {
			return nil, 0, fmt.Errorf("%w: %v", ErrPreimage, side.ID)
		}
	}
	priv, err := s.P2CM.privKey(s.Signer, s.Key)
	if err != nil {
		return nil, 0, err
	}
	tx := btcwire.NewMsgTx(TxVersion)
	tx.AddTxIn(&btcwire.TxIn{PreviousOutPoint: OutPoint(s.At), Sequence: Sequence})
	weight := TxOverheadWeight + P2CMInputWeight(len(s.Preimages[0]), len(s.Preimages[1])) + 4*int64(8+1+len(script))
	rest := s.Value
	for _, o := range outs {
		tx.AddTxOut(o)
		weight += 4 * int64(o.SerializeSize())
		rest -= wire.Sat(o.Value)
	}
	fee, err := payRest(tx, script, rest, weight, rate, minFee)
	if err != nil {
		return nil, 0, err
	}
	sig, err := txscript.RawTxInSignature(tx, 0, s.P2CM.script, txscript.SigHashAll, priv)
	if err != nil {
		return nil, 0, err
	}
	// CHECKMULTISIG consumes one extra element, which must be empty.
	b := txscript.NewScriptBuilder().AddOp(txscript.OP_0).AddData(sig)
	tx.TxIn[0].SignatureScript = build(push(push(b, s.Preimages[1]), s.Preimages[0]).AddData(s.P2CM.script))
	return tx, fee, nil
}

// push is AddData, except for the single byte 0, which AddData would encode as
// a number and push as empty. A preimage can be that byte if it is only p₀.
func push(b *txscript.ScriptBuilder, data []byte) *txscript.ScriptBuilder {
	if len(data) == 1 && data[0] == 0 {
		return b.AddOp(txscript.OP_DATA_1).AddOp(0)
	}
	return b.AddData(data)
}

// privKey returns the private key of side i with the parity used in the script.
func (p *P2CM) privKey(i int, key wire.Secret) (*btcec.PrivateKey, error) {
	priv, err := key.PrivKey()
	if err != nil {
		return nil, err
	}
	if priv.PubKey().SerializeCompressed()[0] != p.sides[i].Key[0] {
		k := priv.Key
		priv = btcec.PrivKeyFromScalar(k.Negate())
	}
	if PubKey(priv.PubKey().SerializeCompressed()) != p.sides[i].Key {
		return nil, fmt.Errorf("%w: not that of the side that signs", wire.ErrBadKey)
	}
	return priv, nil
}

// P2CMRevealed is what a spend reveals publicly.
type P2CMRevealed struct {
	Preimages [2][]byte // of A's ID and of B's
	Signer    int       // the spender: 0 for A, 1 for B
}

// ReadSpend returns which side spent the output by input n of tx, and what that
// revealed, or ErrNotOurs. It checks preimages and signature, so it also works
// for unconfirmed transactions.
func (p *P2CM) ReadSpend(tx Tx, n int) (r P2CMRevealed, err error) {
	if n < 0 || n >= len(tx.TxIn) {
		return r, ErrNotOurs
	}
	stack := pushes(tx.TxIn[n].SignatureScript)
	// There may be more below them: only policy forbids that in P2SH.
	if len(stack) < 5 {
		return r, ErrNotOurs
	}
	stack = stack[len(stack)-5:]
	if !bytes.Equal(stack[4], p.script) {
		return r, ErrNotOurs
	}
	r.Preimages = [2][]byte{stack[3], stack[2]}
	for i, side := range p.sides {
		if penny.ID(Lock(r.Preimages[i])) != side.ID {
			return r, fmt.Errorf("%w: %w", ErrNotOurs, ErrPreimage)
		}
	}
	sig := stack[1]
	if len(sig) < 1 {
		return r, ErrNotOurs
	}
	digest, err := txscript.CalcSignatureHash(p.script, txscript.SigHashType(sig[len(sig)-1]), tx, n)
	if err != nil {
		return r, fmt.Errorf("%w: %v", ErrNotOurs, err)
	}
	parsed, err := ecdsa.ParseDERSignature(sig[:len(sig)-1])
	if err != nil {
		return r, fmt.Errorf("%w: %v", ErrNotOurs, err)
	}
	for i, side := range p.sides {
		if key, err := btcec.ParsePubKey(side.Key[:]); err == nil && parsed.Verify(digest, key) {
			r.Signer = i
			return r, nil
		}
	}
	return r, fmt.Errorf("%w: neither side signed", ErrNotOurs)
}

// pushes returns the stack of a script that consists only of pushes, or nil.
func pushes(script []byte) (stack [][]byte) {
	z := txscript.MakeScriptTokenizer(0, script)
	for z.Next() {
		switch op := z.Opcode(); {
		case op == txscript.OP_1NEGATE:
			stack = append(stack, []byte{0x81})
		case op >= txscript.OP_1 && op <= txscript.OP_16:
			stack = append(stack, []byte{op - txscript.OP_1 + 1})
		case op > txscript.OP_PUSHDATA4:
			return nil
		default:
			stack = append(stack, slices.Clone(z.Data()))
		}
	}
	if z.Err() != nil {
		return nil
	}
	return stack
}
