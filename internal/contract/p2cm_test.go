package contract_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"
	"pgregory.net/rapid"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// compressed is the compressed public key of a secret of these tests.
func compressed(s wire.Secret) contract.PubKey {
	k, err := s.PrivKey()
	if err != nil {
		panic(err)
	}
	return contract.PubKey(k.PubKey().SerializeCompressed())
}

// two is a conditional multisig with all its secrets.
type two struct {
	*contract.P2CM
	Pence [2]penny.Pence
	Sums  [2]penny.Sum
	Keys  [2]wire.Secret
}

func newTwo(t testing.TB, name string, n uint32) *two {
	t.Helper()
	w := &two{}
	var sides [2]contract.Side
	for i, side := range []string{"A", "B"} {
		h := sha([]byte(name + side))
		w.Pence[i] = penny.Pence{Chain: penny.Chain{Nonce: penny.Nonce(h[:24]), Size: penny.ClassicSize}, N: n}
		copy(w.Pence[i].P0[:penny.ClassicSize], h[24:])
		w.Sums[i], w.Keys[i] = w.Pence[i].Sum(), secret("%s key %s", name, side)
		sides[i] = contract.Side{ID: w.Sums[i].ID, Key: compressed(w.Keys[i])}
	}
	var err error
	if w.P2CM, err = contract.NewP2CM(sides[0], sides[1]); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *two) spend(at wire.Outpoint, v wire.Sat, signer int) contract.P2CMSpend {
	return contract.P2CMSpend{P2CM: w.P2CM, At: at, Value: v, Preimages: [2][]byte{w.Sums[0].Preimage, w.Sums[1].Preimage}, Signer: signer, Key: w.Keys[signer]}
}

func (w *two) txOut(v wire.Sat) *btcwire.TxOut { return btcwire.NewTxOut(int64(v), w.PkScript()) }

func p2cmTx(t testing.TB, s contract.P2CMSpend, rate wire.SatPerKVB, outs ...*btcwire.TxOut) *btcwire.MsgTx {
	t.Helper()
	tx, fee, err := contract.BuildP2CM(s, outs, home, rate, 0)
	return build(t, tx, fee, err)
}

// TestP2CM: either side can spend with both preimages, by policy and by
// consensus, and anyone can read which side did and with what.
func TestP2CM(t *testing.T) {
	g := regtest(t)
	for _, n := range []uint32{0, 1, 1000} {
		w := newTwo(t, t.Name(), n)
		at := g.fund(t, w.txOut(value), w.txOut(value))
		for signer := range 2 {
			tx := p2cmTx(t, w.spend(at[signer], value, signer), 1000, btcwire.NewTxOut(5000, home))
			if got, most := weightOf(tx), int64(contract.TxOverheadWeight)+contract.P2CMInputWeight(len(w.Sums[0].Preimage), len(w.Sums[1].Preimage))+2*contract.P2TROutputWeight; got > most || got < most-16 {
				t.Errorf("weight %d, wanted %d or a little less", got, most)
			}
			r, err := w.ReadSpend(tx, 0)
			if err != nil || r.Signer != signer || !bytes.Equal(r.Preimages[0], w.Sums[0].Preimage) || !bytes.Equal(r.Preimages[1], w.Sums[1].Preimage) {
				t.Errorf("N=%d, side %d: %+v, %v", n, signer, r, err)
			}
			g.confirms(t, tx)
		}
	}
}

// TestP2CMRefused: nothing else can spend it.
func TestP2CMRefused(t *testing.T) {
	g := regtest(t)
	w, other := newTwo(t, t.Name(), 9), newTwo(t, t.Name()+" other", 9)
	at := g.fund(t, w.txOut(value))[0]
	good := p2cmTx(t, w.spend(at, value, 0), 2000)
	stack := func(tx *btcwire.MsgTx) (list [][]byte) {
		for z := txscript.MakeScriptTokenizer(0, tx.TxIn[0].SignatureScript); z.Next(); {
			list = append(list, clone(z.Data()))
		}
		return list
	}
	with := func(list ...[]byte) *btcwire.MsgTx {
		b := txscript.NewScriptBuilder()
		for _, x := range list {
			b.AddData(x)
		}
		s, err := b.Script()
		if err != nil {
			t.Fatal(err)
		}
		tx := good.Copy()
		tx.TxIn[0].SignatureScript = s
		return tx
	}
	s := stack(good)
	sig, b, a, script := s[1], s[2], s[3], s[4]
	sign := func(key wire.Secret, ht txscript.SigHashType) []byte {
		k, _ := key.PrivKey()
		raw, err := txscript.RawTxInSignature(good, 0, w.Script(), ht, k)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	foreign, err := txscript.RawTxInSignature(p2cmTx(t, w.spend(at, value, 0), 3000), 0, w.Script(), txscript.SigHashAll, must(w.Keys[0].PrivKey()))
	if err != nil {
		t.Fatal(err)
	}
	penultimate := penny.NewPurse(w.Pence[0]).At(8)
	for name, tx := range map[string]*btcwire.MsgTx{
		"A's preimage missing":         with(nil, sig, b, script),
		"B's preimage missing":         with(nil, sig, a, script),
		"empty preimages":              with(nil, sig, nil, nil, script),
		"another's preimage for A":     with(nil, sig, b, other.Sums[0].Preimage, script),
		"another's preimage for B":     with(nil, sig, other.Sums[1].Preimage, a, script),
		"preimages swapped":            with(nil, sig, a, b, script),
		"a digest for a preimage":      with(nil, sig, b, w.Sums[0].Digest[:], script),
		"an ID for a preimage":         with(nil, sig, b, w.Sums[0].ID[:], script),
		"a penny for a preimage":       with(nil, sig, b, penultimate.Secret[:penny.ClassicSize], script),
		"p₀ for a preimage":            with(nil, sig, b, w.Pence[0].P0[:penny.ClassicSize], script),
		"a stranger's signature":       with(nil, sign(other.Keys[0], txscript.SigHashAll), b, a, script),
		"no signature":                 with(nil, nil, b, a, script),
		"another spend's signature":    with(nil, foreign, b, a, script),
		"no dummy, as the spec has it": with(sig, b, a, script),
		"a dummy that is not empty":    with([]byte{0x2a}, sig, b, a, script),
		"another script":               with(nil, sig, b, a, other.Script()),
	} {
		g.refused(t, tx, badScript, "%s", name)
		if r, err := w.ReadSpend(tx, 0); !errors.Is(err, contract.ErrNotOurs) && name != "a dummy that is not empty" {
			t.Errorf("%s is read as %+v, %v", name, r, err)
		}
	}
	changed := good.Copy()
	changed.TxOut[0].Value--
	g.refused(t, changed, badScript, "an output changed after signing")
	// Only policy forbids an extra element below.
	if err := g.TestAccept(context.Background(), with([]byte("beneath"), nil, sig, b, a, script)); !errors.Is(err, chain.ErrRejected) {
		t.Error("policy takes an element beneath:", err)
	}
	if r, err := w.ReadSpend(with([]byte("beneath"), nil, sig, b, a, script), 0); err != nil || r.Signer != 0 {
		t.Error("with an element beneath:", r, err)
	}
	// The signer may choose any hash type.
	for _, ht := range []txscript.SigHashType{txscript.SigHashNone, txscript.SigHashSingle | txscript.SigHashAnyOneCanPay} {
		tx := with(nil, sign(w.Keys[1], ht), b, a, script)
		g.accepts(t, tx)
		if r, err := w.ReadSpend(tx, 0); err != nil || r.Signer != 1 {
			t.Error(ht, r, err)
		}
	}

	// The builder refuses the same before it signs anything.
	for name, change := range map[string]func(*contract.P2CMSpend){
		"preimages swapped": func(s *contract.P2CMSpend) { s.Preimages[0], s.Preimages[1] = s.Preimages[1], s.Preimages[0] },
		"none":              func(s *contract.P2CMSpend) { s.Preimages[1] = nil },
		"another's key":     func(s *contract.P2CMSpend) { s.Key = w.Keys[1] },
		"no key":            func(s *contract.P2CMSpend) { s.Key = wire.Secret{} },
		"no such side":      func(s *contract.P2CMSpend) { s.Signer = 2 },
		"too little":        func(s *contract.P2CMSpend) { s.Value = 700 },
	} {
		s := w.spend(at, value, 0)
		change(&s)
		_, _, err := contract.BuildP2CM(s, nil, home, 1000, 0)
		if !errors.Is(err, contract.ErrPreimage) && !errors.Is(err, wire.ErrBadKey) && !errors.Is(err, contract.ErrSides) && !errors.Is(err, contract.ErrUneconomic) {
			t.Errorf("%s: %v", name, err)
		}
	}
	side := func(id byte, key contract.PubKey) contract.Side { return contract.Side{ID: penny.ID{id}, Key: key} }
	ka, kb := compressed(w.Keys[0]), compressed(w.Keys[1])
	for name, sides := range map[string][2]contract.Side{
		"one ID":   {side(1, ka), side(1, kb)},
		"one key":  {side(1, ka), side(2, ka)},
		"no key":   {side(1, ka), side(2, contract.PubKey{})},
		"no point": {side(1, ka), side(2, contract.PubKey(append([]byte{2}, bytes.Repeat([]byte{0xff}, 32)...)))},
	} {
		if _, err := contract.NewP2CM(sides[0], sides[1]); !errors.Is(err, contract.ErrSides) && !errors.Is(err, wire.ErrBadKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	g.confirms(t, good)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestFirstRevealerLoses: the script does not say who gets what. A side that
// reveals its preimage, to the other or to the mempool, has given everything
// away.
func TestFirstRevealerLoses(t *testing.T) {
	g := regtest(t)
	ctx := context.Background()
	w := newTwo(t, t.Name(), 100)
	at := g.fund(t, w.txOut(value), w.txOut(value))

	// They agree to share. A first reveals its preimage to B, so that B can
	// sign; B takes everything instead, with only that from A.
	told := contract.P2CMSpend{P2CM: w.P2CM, At: at[0], Value: value, Preimages: [2][]byte{w.Sums[0].Preimage, w.Sums[1].Preimage}, Signer: 1, Key: w.Keys[1]}
	all := p2cmTx(t, told, 1000)
	if len(all.TxOut) != 1 {
		t.Fatal(all.TxOut)
	}
	g.confirms(t, all)

	// B revealed to A instead, and A broadcasts the fair spend. B reads A's
	// preimage there, and replaces it with a spend to itself at a higher fee.
	fair, fee, err := contract.BuildP2CM(w.spend(at[1], value, 0), []*btcwire.TxOut{btcwire.NewTxOut(int64(value)/2, home)}, home, 1000, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Broadcast(ctx, fair); err != nil {
		t.Fatal(err)
	}
	seen, err := w.ReadSpend(fair, 0)
	if err != nil {
		t.Fatal(err)
	}
	theft, _, err := contract.BuildP2CM(contract.P2CMSpend{P2CM: w.P2CM, At: at[1], Value: value, Preimages: seen.Preimages, Signer: 1, Key: w.Keys[1]},
		nil, home, 1000, fee+1000)
	if err != nil {
		t.Fatal(err)
	}
	g.confirms(t, theft)
}

// TestP2CMAnyKeys: for keys of either parity and pence of any length and size,
// the built spend executes and is read back.
func TestP2CMAnyKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := contract.P2CMSpend{At: outpoint(1), Value: value, Signer: rapid.IntRange(0, 1).Draw(t, "signer")}
		var sides [2]contract.Side
		for i := range sides {
			p := penny.Pence{N: rapid.Uint32Range(0, 3).Draw(t, "n")}
			p.Size = rapid.SampledFrom([]int{1, 2, penny.ClassicSize, penny.MinSize, penny.MaxSize}).Draw(t, "size")
			copy(p.P0[:p.Size], rapid.SliceOfN(rapid.Byte(), p.Size, p.Size).Draw(t, "p0"))
			p.Nonce[0] = byte(i)
			sum := p.Sum()
			k := must(secret("any %d", rapid.Byte().Draw(t, "key")).PrivKey()).Key
			if rapid.Bool().Draw(t, "odd") {
				k.Negate()
			}
			priv := btcec.PrivKeyFromScalar(&k)
			sides[i] = contract.Side{ID: sum.ID, Key: contract.PubKey(priv.PubKey().SerializeCompressed())}
			s.Preimages[i] = sum.Preimage
			if i == s.Signer {
				s.Key = wire.SecretOf(priv)
			}
		}
		var err error
		if s.P2CM, err = contract.NewP2CM(sides[0], sides[1]); errors.Is(err, contract.ErrSides) {
			t.Skip("the same")
		} else if err != nil {
			t.Fatal(err)
		}
		tx, _, err := contract.BuildP2CM(s, nil, home, 1000, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := execute(tx, 0, txscript.NewCannedPrevOutputFetcher(s.P2CM.PkScript(), int64(value))); err != nil {
			t.Fatal(err)
		}
		r, err := s.P2CM.ReadSpend(tx, 0)
		if err != nil || r.Signer != s.Signer || !bytes.Equal(r.Preimages[0], s.Preimages[0]) || !bytes.Equal(r.Preimages[1], s.Preimages[1]) {
			t.Fatal(r, err)
		}
	})
}

// FuzzReadP2CM: every scriptSig that consensus accepts is read, and no other
// causes a panic.
func FuzzReadP2CM(f *testing.F) {
	w := newTwo(f, "fuzz", 3)
	good := p2cmTx(f, w.spend(outpoint(1), value, 1), 1000)
	f.Add(good.TxIn[0].SignatureScript)
	f.Add([]byte{})
	f.Add([]byte{txscript.OP_0, txscript.OP_1NEGATE, txscript.OP_16, txscript.OP_DATA_2, 1})
	f.Add(append([]byte{txscript.OP_0, txscript.OP_0, txscript.OP_0, txscript.OP_0, txscript.OP_PUSHDATA1, 117}, w.Script()...))
	prev := txscript.NewCannedPrevOutputFetcher(w.PkScript(), int64(value))
	f.Fuzz(func(t *testing.T, script []byte) {
		tx := good.Copy()
		tx.TxIn[0].SignatureScript = script
		_, err := w.ReadSpend(tx, 0)
		if err != nil && !errors.Is(err, contract.ErrNotOurs) {
			t.Fatal(err)
		}
		if err != nil && execute(tx, 0, prev) == nil {
			t.Fatal("a spend is not read:", err)
		}
	})
}

type vectorP2CM struct {
	Comment   string        `json:"comment"`
	Sides     [2]vectorSide `json:"sides"`
	Script    hexBytes      `json:"script"`
	PkScript  hexBytes      `json:"pk_script"`
	Mainnet   string        `json:"address_mainnet"`
	Regtest   string        `json:"address_regtest"`
	Outpoint  hexBytes      `json:"outpoint"`
	Value     wire.Sat      `json:"value"`
	PayTo     hexBytes      `json:"pay_to_script"`
	SigHashes [2]hexBytes   `json:"sighashes"`
	Spends    [2]hexBytes   `json:"spend_txs"`
	Txids     [2]string     `json:"txids"`
}

type vectorSide struct {
	Nonce    hexBytes `json:"nonce"`
	P0       hexBytes `json:"p0"`
	N        uint32   `json:"n"`
	Last     hexBytes `json:"last_penny"`
	Preimage hexBytes `json:"preimage"`
	Digest   hexBytes `json:"digest"`
	ID       hexBytes `json:"id"`
	Secret   hexBytes `json:"secret_key"`
	Key      hexBytes `json:"public_key"`
}

// TestP2CMVectors pins every byte; signatures are deterministic.
func TestP2CMVectors(t *testing.T) {
	w := newTwo(t, "vector", 1000)
	v := vectorP2CM{Comment: "A conditional multisig of classic pence and its spends by A and by B (spec/pence.md), at 1,000 sat/kvB to pay_to_script.",
		Script: w.Script(), PkScript: w.PkScript(), Mainnet: w.Address(&chaincfg.MainNetParams), Regtest: w.Address(&chaincfg.RegressionNetParams),
		Outpoint: outpoint(7).Bytes(), Value: value, PayTo: home}
	for i := range 2 {
		p, sum := w.Pence[i], w.Sums[i]
		key := compressed(w.Keys[i])
		v.Sides[i] = vectorSide{p.Nonce[:], p.P0[:p.Size], p.N, p.Encode(nil, sum.Last), sum.Preimage, sum.Digest[:], sum.ID[:], w.Keys[i][:], key[:]}
		tx := p2cmTx(t, w.spend(outpoint(7), value, i), 1000)
		d, err := txscript.CalcSignatureHash(w.Script(), txscript.SigHashAll, tx, 0)
		if err != nil {
			t.Fatal(err)
		}
		v.SigHashes[i], v.Spends[i], v.Txids[i] = d, full(t, tx), tx.TxHash().String()
	}
	got := append(must(json.MarshalIndent(v, "", "  ")), '\n')
	path := filepath.Join("..", "..", "spec", "vectors", "p2cm.json")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; run with -update only if the change of the protocol is meant", path)
	}
}
