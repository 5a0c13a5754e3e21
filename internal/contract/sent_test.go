package contract_test

import (
	"errors"
	"reflect"
	"testing"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// spends is a transaction of some outputs of the test's coin.
func spends(vouts ...uint32) *btcwire.MsgTx {
	tx := btcwire.NewMsgTx(contract.TxVersion)
	for _, v := range vouts {
		tx.AddTxIn(&btcwire.TxIn{PreviousOutPoint: contract.OutPoint(wire.Outpoint{Txid: wire.Hash{1}, Vout: v}), Sequence: contract.Sequence})
	}
	tx.AddTxOut(btcwire.NewTxOut(1000, home))
	return tx
}

func TestSent(t *testing.T) {
	one, both := contract.NewSent(spends(0), 500, 10), contract.NewSent(spends(1, 0), 500, 10)
	if one.Txid != contract.Txid(spends(0)) || one.Height != 10 {
		t.Errorf("%+v", one)
	}
	for _, c := range []struct {
		s    *contract.Sent
		tx   *btcwire.MsgTx
		want bool
	}{{one, spends(0), true}, {one, spends(1), false}, {one, spends(0, 1), false}, {both, spends(0, 1), true}, {both, spends(0, 2), false},
		{&contract.Sent{Tx: []byte{1}}, spends(0), false}} {
		if c.s.Spends(c.tx) != c.want {
			t.Errorf("%v spends the outputs of %v: %v", c.s.Txid, c.tx.TxHash(), !c.want)
		}
	}
	var none *contract.Sent
	size := contract.VSize(contract.Weight(spends(0)))
	if r := one.Rate(); r != wire.SatPerKVB(500_000/size) {
		t.Errorf("500 sat for %d vB are %v", size, r)
	}
	if none.Rate() != 0 || (&contract.Sent{Tx: []byte{1}, Fee: 5}).Rate() != 0 {
		t.Error("no transaction has a rate")
	}
	if !one.Live() || none.Live() || one.Lost().Live() {
		t.Error("Live")
	}
	lost := one.Lost()
	if !one.Live() || lost.Lost() != lost || none.Lost() != nil {
		t.Error("Lost changes its receiver, or what is lost already")
	}
}

// TestSentTold: what counts after the network's answer, if there is one that the
// transaction was to replace and if there is none.
func TestSentTold(t *testing.T) {
	old := contract.NewSent(spends(0), 500, 10)
	next := contract.NewSent(spends(0), 900, 11)
	next.Before = old
	pair := contract.NewSent(spends(0, 1), 900, 11)
	gone := pair.Lost()
	accepted := *next
	accepted.Before = nil
	low := *pair
	low.Gone, low.Low = true, true
	revived := *pair
	for name, c := range map[string]struct {
		s            *contract.Sent
		refused, low bool
		want         *contract.Sent
		again, plan  bool
	}{
		"accepted":                       {s: old, want: old},
		"a replacement accepted":         {s: next, want: &accepted},
		"a replacement refused":          {s: next, refused: true, want: old, again: true},
		"a batch refused":                {s: pair, refused: true, want: gone, plan: true},
		"a batch refused as too low":     {s: pair, refused: true, low: true, want: &low},
		"one alone refused":              {s: old, refused: true, want: old.Lost()},
		"gone and refused again":         {s: gone, refused: true, want: gone},
		"gone and refused as too low":    {s: gone, refused: true, low: true, want: &low},
		"gone, but accepted after all":   {s: gone, want: &revived},
		"too low and refused again":      {s: &low, refused: true, low: true, want: &low},
		"no transaction that is of ours": {s: nil, refused: true},
	} {
		txid := wire.Hash{}
		if c.s != nil {
			txid = c.s.Txid
		}
		got, again, plan := c.s.Told(txid, c.refused, c.low)
		if !reflect.DeepEqual(got, c.want) || again != c.again || plan != c.plan {
			t.Errorf("%s: %+v, again %v, plan %v", name, got, again, plan)
		}
	}
	if got, again, plan := next.Told(wire.Hash{9}, true, false); got != next || again || plan {
		t.Error("an answer to another transaction counts")
	}
}

// Effects of a machine that only the codec's test has.
type (
	effect interface{ is() }
	pay    struct {
		Amount wire.Sat
		To     []byte
	}
	rest    struct{}
	unnamed struct{}
)

func (pay) is()     {}
func (rest) is()    {}
func (unnamed) is() {}

func TestEffectCodec(t *testing.T) {
	codec := contract.EffectsOf[effect](pay{}, rest{})
	for _, e := range []effect{pay{Amount: 7, To: []byte{1, 2}}, rest{}} {
		name, body, err := codec.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		got, err := codec.Decode(name, body)
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	// An effect whose fields are gone is still read.
	_, body, err := codec.Encode(pay{Amount: 7, To: []byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := codec.Decode("rest", body); err != nil || got != (rest{}) {
		t.Errorf("%v, %v", got, err)
	}
	name, body, err := codec.Encode(unnamed{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := codec.Decode(name, body); err == nil {
		t.Error("an effect of no name in the set is decoded")
	}
	for _, body := range [][]byte{nil, {0x80}, {0xa1}, []byte("pay")} {
		if got, err := codec.Decode("pay", body); err == nil {
			t.Errorf("%x is decoded as %+v", body, got)
		}
	}
}

func TestFactDepth(t *testing.T) {
	var none *contract.Fact
	f := &contract.Fact{Height: 10}
	if none.Depth(20) != 0 || f.Depth(9) != 0 || f.Depth(10) != 1 || f.Depth(15) != 6 {
		t.Error("confirmations are counted wrongly")
	}
}

// TestBankOutput: a bank is recognised at its output only.
func TestBankOutput(t *testing.T) {
	b := newBank(t, "output", 4, 5, 40_000, 500)
	tx := b.Bank.Funding([]wire.Outpoint{{Txid: wire.Hash{1}}}, 7000, home)
	if len(tx.TxOut) != 2 || tx.TxOut[1].Value != 7000 || len(b.Bank.Funding([]wire.Outpoint{{Txid: wire.Hash{1}}}, 0, nil).TxOut) != 1 {
		t.Fatalf("%d outputs", len(tx.TxOut))
	}
	if err := b.Bank.In(tx, 0); err != nil {
		t.Error(err)
	}
	for _, vout := range []uint32{1, 2, 1<<32 - 1} {
		if err := b.Bank.In(tx, vout); !errors.Is(err, contract.ErrNotIn) {
			t.Errorf("output %d: %v", vout, err)
		}
	}
	tx.TxOut[0].Value++
	if err := b.Bank.In(tx, 0); !errors.Is(err, contract.ErrNotIn) {
		t.Errorf("another value: %v", err)
	}
	// Its last penny, of count 0, is where verification begins.
	c, last := b.Bank.Chain(), b.Bank.Last()
	if last.Seq != b.Bank.Ladder().N() || c.Size != wire.PennySize {
		t.Errorf("the last penny has number %d, secrets of %d bytes", last.Seq, c.Size)
	}
	// What a final transaction pays out is recognised by its script.
	f := final(t, false, []contract.FinalPart{b.part(0, 20)}, 1000)
	script, err := b.Bank.PayoutScript(public(payoutKey(0)))
	if err != nil {
		t.Fatal(err)
	}
	at, ok := f.PayoutAt(0)
	if !ok || f.Len() != 1 || string(f.Unsigned().TxOut[at.Vout].PkScript) != string(script) {
		t.Error("another script than the payout's")
	}
	if _, err := b.Bank.PayoutScript(wire.Key{}); err == nil {
		t.Error("a payout to no key")
	}
}
