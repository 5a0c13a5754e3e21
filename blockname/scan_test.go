package blockname

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"
	"testing"

	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/wire"
)

// returns is a minimal OP_RETURN output script of data.
func returns(t testing.TB, data []byte) []byte {
	t.Helper()
	s, err := txscript.NewScriptBuilder().AddOp(txscript.OP_RETURN).AddData(data).Script()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// rawBlock serialises a block of txs transactions with outs OP_RETURN outputs
// each; the i-th output of the block burns i and carries text(i). With witness,
// every second transaction has one.
func rawBlock(t testing.TB, txs, outs int, witness bool, text func(i int) []byte) []byte {
	t.Helper()
	block := btcwire.MsgBlock{Header: btcwire.BlockHeader{Version: 1}}
	n := 0
	for i := range txs {
		tx := btcwire.NewMsgTx(2)
		in := &btcwire.TxIn{PreviousOutPoint: btcwire.OutPoint{Index: uint32(i)}, SignatureScript: make([]byte, i%3), Sequence: math.MaxUint32}
		if witness && i%2 == 0 {
			in.Witness = btcwire.TxWitness{make([]byte, 64), {}, make([]byte, 33)}
		}
		tx.AddTxIn(in)
		if witness && i%2 == 0 {
			tx.AddTxIn(&btcwire.TxIn{})
		}
		for range outs {
			tx.AddTxOut(&btcwire.TxOut{Value: int64(n), PkScript: returns(t, text(n))})
			n++
		}
		block.Transactions = append(block.Transactions, tx)
	}
	var b bytes.Buffer
	if err := block.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestScan checks that hints come in the order of transactions and outputs,
// with their burns and positions, and that malformed ones are counted.
func TestScan(t *testing.T) {
	texts := []string{"*!a01020304", "*!A01020304", "hello", "*.a.b010203040035", "*!a01020304", "*?", "*", ""}
	raw := rawBlock(t, 6, 4, true, func(i int) []byte { return []byte(texts[i%len(texts)]) })
	got, err := ScanRaw(raw)
	if err != nil {
		t.Fatal(err)
	}
	want, ok := slowScanRaw(raw)
	if !ok || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v\nbtcd\n%+v", got, want)
	}
	if len(got.Hints) != 9 || got.Malformed != 3 {
		t.Fatalf("%d hints, %d malformed", len(got.Hints), got.Malformed)
	}
	var where []string
	for _, f := range got.Hints {
		where = append(where, fmt.Sprint(f.Hint.Name, " ", f.Out.Vout, " ", int64(f.Value)))
	}
	if s := fmt.Sprint(where); s != "[a 0 0 a.b 3 3 a 0 4 a 0 8 a.b 3 11 a 0 12 a 0 16 a.b 3 19 a 0 20]" {
		t.Fatal(s)
	}
	if got.Hints[0].Out.Txid != got.Hints[1].Out.Txid || got.Hints[1].Out.Txid == got.Hints[2].Out.Txid {
		t.Fatal("txids")
	}
}

// TestScanScripts checks that any single push carries a hint and that nothing
// else does.
func TestScanScripts(t *testing.T) {
	found := 0
	for _, s := range scripts() {
		tx := btcwire.NewMsgTx(2)
		tx.AddTxOut(&btcwire.TxOut{PkScript: s})
		b := Scan([]*btcwire.MsgTx{tx})
		found += len(b.Hints)
		if b.Malformed != 0 {
			t.Errorf("%x is malformed", s)
		}
	}
	if found != 4 {
		t.Errorf("%d scripts with a hint", found)
	}
}

// An output whose value is impossible yields no hint.
func TestScanValues(t *testing.T) {
	tx := btcwire.NewMsgTx(2)
	for _, v := range []int64{0, 1, int64(wire.MaxSat), int64(wire.MaxSat) + 1, -1, math.MinInt64, math.MaxInt64} {
		tx.AddTxOut(&btcwire.TxOut{Value: v, PkScript: returns(t, []byte("*!a01020304"))})
	}
	if b := Scan([]*btcwire.MsgTx{tx}); len(b.Hints) != 3 || b.Malformed != 4 {
		t.Errorf("%+v", b)
	}
}

// TestScanRawRefuses truncates and extends a block.
func TestScanRawRefuses(t *testing.T) {
	raw := rawBlock(t, 2, 2, true, func(int) []byte { return []byte("*!a01020304") })
	for i := range raw {
		if b, err := ScanRaw(raw[:i]); !errors.Is(err, ErrBlock) || b.Hints != nil {
			t.Fatalf("%d of %d bytes: %v", i, len(raw), err)
		}
	}
	for _, b := range [][]byte{append(bytes.Clone(raw), 0), make([]byte, maxBlock+1)} {
		if _, err := ScanRaw(b); !errors.Is(err, ErrBlock) {
			t.Fatal(err)
		}
	}
}
