package contract_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"runtime"
	"testing"

	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// fundingBytes is a funding transaction without and with witnesses.
func fundingBytes(t testing.TB) (plain, full []byte, tx *btcwire.MsgTx) {
	t.Helper()
	tx, err := contract.Funding([]wire.Outpoint{outpoint(1), outpoint(2)},
		[]*btcwire.TxOut{newFrozen(t, "funding", 1, 800_000).txOut(value)}, marker(), btcwire.NewTxOut(1000, home))
	if err != nil {
		t.Fatal(err)
	}
	plain = contract.EncodeTx(tx)
	prev := txscript.NewCannedPrevOutputFetcher(home, 30_000)
	signHome(t, tx, prev)
	var b bytes.Buffer
	if err := tx.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return plain, b.Bytes(), tx
}

func TestDecodeTx(t *testing.T) {
	plain, full, tx := fundingBytes(t)
	got, err := contract.DecodeTx(plain)
	if err != nil || got.TxHash() != tx.TxHash() || got.HasWitness() {
		t.Fatal("the funding itself:", err)
	}
	if !bytes.Equal(contract.EncodeTx(tx), plain) {
		t.Error("signing changes the encoding")
	}
	if again, err := contract.ReadTx(full); err != nil || again.WitnessHash() != tx.WitnessHash() {
		t.Error("with witnesses:", err)
	}
	var empty bytes.Buffer
	_ = btcwire.NewMsgTx(2).SerializeNoWitness(&empty)
	long := append(append(clone(plain[:4]), 0xfd, 2, 0), plain[5:]...) // 2 inputs in three bytes
	for name, b := range map[string][]byte{
		"nothing":          nil,
		"witnesses":        full,
		"trailing byte":    append(clone(plain), 0),
		"twice":            append(clone(plain), plain...),
		"non-minimal":      long,
		"no inputs":        empty.Bytes(),
		"witness flag":     append(append(clone(plain[:4]), 0, 1), plain[4:]...),
		"version and flag": {2, 0, 0, 0, 0, 1},
	} {
		if _, err := contract.DecodeTx(b); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range plain {
		if _, err := contract.DecodeTx(plain[:i]); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
}

// TestDecodeTxAllocates: a count larger than the bytes can hold allocates
// nothing. btcd would first allocate 3.7 million outputs.
func TestDecodeTxAllocates(t *testing.T) {
	head := []byte{2, 0, 0, 0}
	one := append(append(clone(head), 1), make([]byte, 36+1+4)...)
	count := func(n uint32) []byte { return binary.LittleEndian.AppendUint32([]byte{0xfe}, n) }
	for name, b := range map[string][]byte{
		"inputs":      append(clone(head), count(800_000)...),
		"outputs":     append(clone(one), count(3_700_000)...),
		"script":      append(append(clone(head), 1), append(make([]byte, 36), count(4_000_000)...)...),
		"many inputs": append(clone(head), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := contract.DecodeTx(b); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<18 {
			t.Errorf("%s: %d bytes allocated for %d", name, n, len(b))
		}
	}
}

func FuzzDecodeTx(f *testing.F) {
	plain, full, _ := fundingBytes(f)
	f.Add(plain)
	f.Add(full)
	f.Add([]byte{2, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		tx, err := contract.DecodeTx(b)
		if err != nil {
			if !errors.Is(err, wire.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(contract.EncodeTx(tx), b) {
			t.Fatal("re-encodes to other bytes")
		}
		if data, ok := contract.Marker(tx); ok && len(data) != contract.MarkerSize {
			t.Fatalf("marker of %d bytes", len(data))
		}
		// A transaction without witnesses reads the same either way.
		if again, err := contract.ReadTx(b); err != nil || contract.Txid(again) != contract.Txid(tx) {
			t.Fatalf("another transaction with witnesses allowed: %v", err)
		}
	})
}

func TestMarker(t *testing.T) {
	out := func(script ...byte) *btcwire.TxOut { return btcwire.NewTxOut(0, script) }
	data := marker()
	good := append([]byte{txscript.OP_RETURN, txscript.OP_PUSHDATA1, 79}, data...)
	if built, err := txscript.NullDataScript(data); err != nil || !bytes.Equal(built, good) {
		t.Fatalf("marker script %x, %v", built, err)
	}
	tx := func(outs ...*btcwire.TxOut) *btcwire.MsgTx {
		tx := btcwire.NewMsgTx(2)
		tx.TxOut = outs
		return tx
	}
	change := func(i int, b byte) *btcwire.TxOut { s := clone(good); s[i] = b; return out(s...) }
	for _, c := range []struct {
		name string
		tx   *btcwire.MsgTx
		ok   bool
	}{
		{"one", tx(out(good...)), true},
		{"one among others", tx(out(home...), out(txscript.OP_RETURN, 1, 'x'), out(good...), out(home...)), true},
		{"none", tx(out(home...)), false},
		{"no outputs", tx(), false},
		{"two", tx(out(good...), out(good...)), false},
		{"two different", tx(out(good...), change(20, 0xaa)), false},
		{"three", tx(out(good...), out(good...), out(good...)), false},
		{"other magic", tx(change(3, 'B')), false},
		{"other magic end", tx(change(4, 'G')), false},
		{"not a return", tx(change(0, txscript.OP_DUP)), false},
		{"other push", tx(change(1, txscript.OP_PUSHDATA2)), false},
		{"other length", tx(change(2, 78)), false},
		{"a byte less", tx(out(good[:len(good)-1]...)), false},
		{"a byte more", tx(out(append(clone(good), 0)...)), false},
		{"empty script", tx(out()), false},
	} {
		got, ok := contract.Marker(c.tx)
		if ok != c.ok || (ok && !bytes.Equal(got, data)) || (!ok && got != nil) {
			t.Errorf("%s: %x, %v", c.name, got, ok)
		}
	}
	if _, err := contract.Funding(nil, nil, make([]byte, 81), nil); err == nil {
		t.Error("a marker beyond what relays")
	}
}

func TestReadSpend(t *testing.T) {
	o := newFrozen(t, "read", 3, 800_000)
	other := newFrozen(t, "other", 3, 800_000)
	claim, _, err := contract.BuildClaim([]contract.Claim{o.claim(t, 2, outpoint(0), value)}, home, 1000, 0)
	if err != nil {
		t.Fatal(err)
	}
	refund, _, err := contract.BuildRefund([]contract.Refund{o.refund(outpoint(0), value)}, home, 1000, 0)
	if err != nil {
		t.Fatal(err)
	}
	c, r := claim.TxIn[0].Witness, refund.TxIn[0].Witness
	annex := []byte{txscript.TaprootAnnexTag, 1, 2}
	with := func(w btcwire.TxWitness, i int, b []byte) btcwire.TxWitness {
		w = append(btcwire.TxWitness(nil), w...)
		w[i] = b
		return w
	}
	sig := wire.Signature(c[1][:64])
	for _, x := range []struct {
		name string
		w    btcwire.TxWitness
		want int
	}{
		{"claim", c, 2},
		{"claim with annex", append(append(btcwire.TxWitness(nil), c...), annex), 2},
		{"claim with DEFAULT", with(c, 1, c[1][:64]), 2},
		{"refund", r, -1},
		{"refund with annex", append(append(btcwire.TxWitness(nil), r...), annex), -1},
		{"nothing", nil, -2},
		{"key path", btcwire.TxWitness{make([]byte, 64)}, -2},
		{"key path with annex", btcwire.TxWitness{make([]byte, 64), annex}, -2},
		{"two annexes", append(append(btcwire.TxWitness(nil), c...), annex, annex), -2},
		{"empty elements", btcwire.TxWitness{nil, nil, nil}, -2},
		{"another output's leaf", with(c, 3, contract.ClaimScript(other.Frozen().Claims[2])), -2},
		{"σ short", with(c, 2, c[2][:31]), -2},
		{"σ long", with(c, 2, append(clone(c[2]), 0)), -2},
		{"signature short", with(c, 1, c[1][:63]), -2},
		{"signature empty", with(c, 1, nil), -2},
		{"an argument less", c[1:], -2},
		{"an argument more", append(btcwire.TxWitness{{1}}, c...), -2},
	} {
		s, err := o.ReadSpend(x.w)
		if x.want == -2 {
			if !errors.Is(err, contract.ErrNotOurs) || s != (contract.Spend{}) {
				t.Errorf("%s: %+v, %v", x.name, s.Claim, err)
			}
			continue
		}
		if err != nil || s.Claim != x.want {
			t.Errorf("%s: claim %d, %v", x.name, s.Claim, err)
		}
		if x.want == 2 && (s.Sigma != o.Agents[2].Sigma || s.SenderSig != sig) {
			t.Errorf("%s: other secrets", x.name)
		}
	}
}

// split reads a fuzzer's bytes as witness elements, each after its length.
func split(b []byte) (w btcwire.TxWitness) {
	for len(b) > 0 {
		n := min(int(b[0]), len(b)-1)
		w = append(w, b[1:1+n])
		b = b[1+n:]
	}
	return w
}

func join(w btcwire.TxWitness) (b []byte) {
	for _, e := range w {
		b = append(append(b, byte(len(e))), e...)
	}
	return b
}

func FuzzReadSpend(f *testing.F) {
	o := newFrozen(f, "read", 2, 800_000)
	claim, _, err := contract.BuildClaim([]contract.Claim{o.claim(f, 1, outpoint(0), value)}, home, 1000, 0)
	if err != nil {
		f.Fatal(err)
	}
	refund, _, err := contract.BuildRefund([]contract.Refund{o.refund(outpoint(0), value)}, home, 1000, 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(join(claim.TxIn[0].Witness))
	f.Add(join(refund.TxIn[0].Witness))
	f.Add(append(join(claim.TxIn[0].Witness), 1, txscript.TaprootAnnexTag))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		w := split(b)
		s, err := o.ReadSpend(w)
		if err != nil {
			if !errors.Is(err, contract.ErrNotOurs) || s != (contract.Spend{}) {
				t.Fatal(err)
			}
			return
		}
		if s.Claim < -1 || s.Claim > 1 {
			t.Fatalf("claim %d", s.Claim)
		}
		if s.Claim >= 0 && (!bytes.Equal(w[2], s.Sigma[:]) || !bytes.Equal(w[1][:64], s.SenderSig[:])) {
			t.Fatal("secrets that are not in the witness")
		}
	})
}

func TestValueIn(t *testing.T) {
	o := newFrozen(t, "value", 1, 800_000)
	tx := btcwire.NewMsgTx(2)
	tx.TxOut = []*btcwire.TxOut{o.txOut(value), btcwire.NewTxOut(int64(value), home), o.txOut(-1), o.txOut(wire.MaxSat + 1), o.txOut(wire.MaxSat)}
	for vout, want := range map[uint32]wire.Sat{0: value, 4: wire.MaxSat} {
		if v, err := o.ValueIn(tx, vout); err != nil || v != want {
			t.Errorf("output %d: %v, %v", vout, v, err)
		}
	}
	for _, vout := range []uint32{1, 2, 3, 5, 1 << 31, 0xffffffff} {
		if _, err := o.ValueIn(tx, vout); err == nil {
			t.Errorf("output %d passes", vout)
		}
	}
	for _, i := range []int{-1, 1, 1 << 20} {
		if _, err := o.ClaimDigest(i, outpoint(0), value); err == nil {
			t.Errorf("digest of claim %d", i)
		}
	}
	if contract.OutpointOf(contract.OutPoint(outpoint(3))) != outpoint(3) {
		t.Error("outpoint conversion")
	}
}

func mustHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
