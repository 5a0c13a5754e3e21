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

// PubKey is a compressed public key, as scripts before taproot have them.
type PubKey [33]byte

// ParsePubKey reads one: wire.ErrBadKey.
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

// P2CM is the conditional multisig of classic pence, a P2SH output
// (spec/pence.md) for the study of them. Its script, 117 bytes:
//
//	HASH160 <idA> EQUALVERIFY HASH160 <idB> EQUALVERIFY 1 <A> <B> 2 CHECKMULTISIG
//
// Spending path: either side alone, with both preimages:
//
//	OP_0 <signature of A or B> <preimage of idB> <preimage of idA> <script>
//
// where a preimage is penny.Sum's. The script does not say who gets what, so
// whoever tells its preimage first has lost: the other has both, and takes all.
type P2CM struct {
	sides    [2]Side
	script   []byte
	pkScript []byte
}

// What a conditional multisig refuses.
var (
	// ErrSides: sides that cannot share one.
	ErrSides = errors.New("not the two sides of a conditional multisig")
	// ErrPreimage: not what an ID is the HASH160 of.
	ErrPreimage = errors.New("not the preimage of this ID")
)

// NewP2CM computes the output of two sides: ErrSides, wire.ErrBadKey.
func NewP2CM(a, b Side) (*P2CM, error) {
	for _, s := range []Side{a, b} {
		if _, err := ParsePubKey(s.Key[:]); err != nil {
			return nil, err
		}
	}
	switch {
	case a.ID == b.ID:
		return nil, fmt.Errorf("%w: one preimage would stand for both", ErrSides)
	case a.Key == b.Key:
		return nil, fmt.Errorf("%w: they have one key", ErrSides)
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

// Script is the redeem script.
func (p *P2CM) Script() []byte { return p.script }

// PkScript is the output's script, 23 bytes.
func (p *P2CM) PkScript() []byte { return p.pkScript }

// Address is the output's, base58.
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

// P2CMInputWeight is the weight of an input that spends one with preimages of
// those lengths, at most: what it pushes varies with the signature by a byte or
// two. All of it counts four times, for P2SH has no witness.
func P2CMInputWeight(a, b int) int64 {
	const dummy, sig, script = 1, 1 + 72, 2 + 117 // a low s, so 71 bytes of DER at most, and the hash type
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

// BuildP2CM builds and signs the transaction that spends a conditional multisig:
// to outs, and what is left of its value less a fee at rate, or of at least
// minFee, to script. It returns the fee. ErrPreimage, wire.ErrBadKey for another
// key than the signer's, ErrUneconomic.
func BuildP2CM(s P2CMSpend, outs []*btcwire.TxOut, script []byte, rate wire.SatPerKVB, minFee wire.Sat) (*btcwire.MsgTx, wire.Sat, error) {
	if s.Signer < 0 || s.Signer > 1 {
		return nil, 0, fmt.Errorf("%w: no side %d", ErrSides, s.Signer)
	}
	for i, side := range s.P2CM.sides {
		// An ID may be the hash of anything; what is longer no script can push.
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
	// CHECKMULTISIG takes one element more than it needs, which has to be empty.
	b := txscript.NewScriptBuilder().AddOp(txscript.OP_0).AddData(sig)
	tx.TxIn[0].SignatureScript = build(push(push(b, s.Preimages[1]), s.Preimages[0]).AddData(s.P2CM.script))
	return tx, fee, nil
}

// push is AddData, which takes the one byte 0 for the number and pushes nothing.
// That byte is a preimage where p₀ is all there is.
func push(b *txscript.ScriptBuilder, data []byte) *txscript.ScriptBuilder {
	if len(data) == 1 && data[0] == 0 {
		return b.AddOp(txscript.OP_DATA_1).AddOp(0)
	}
	return b.AddData(data)
}

// privKey is the private key of side i with the parity that the script has.
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

// P2CMRevealed is what a spend told everybody.
type P2CMRevealed struct {
	Preimages [2][]byte // of A's ID and of B's
	Signer    int       // who took it: 0 for A, 1 for B
}

// ReadSpend tells who spent the output by input n of tx, and what that revealed:
// ErrNotOurs. Of a transaction that no block has yet it checks preimages and
// signature.
func (p *P2CM) ReadSpend(tx Tx, n int) (r P2CMRevealed, err error) {
	if n < 0 || n >= len(tx.TxIn) {
		return r, ErrNotOurs
	}
	stack := pushes(tx.TxIn[n].SignatureScript)
	// More may lie beneath: in P2SH only policy minds.
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

// pushes is what a script that only pushes leaves; nil for any other.
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
