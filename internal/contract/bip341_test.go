package contract

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/wire"
)

type hexed []byte

func (h *hexed) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	raw, err := hex.DecodeString(s)
	*h = raw
	return err
}

// TestBIP341 holds the tree, the tweak, the control blocks and the digests
// against BIP341's wallet-test-vectors.json.
func TestBIP341(t *testing.T) {
	raw, err := os.ReadFile("testdata/bip341.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		ScriptPubKey []struct {
			Given struct {
				InternalPubkey hexed
				ScriptTree     json.RawMessage
			}
			Expected struct {
				ScriptPubKey            hexed
				ScriptPathControlBlocks []hexed
			}
		}
		KeyPathSpending []struct {
			Given struct {
				RawUnsignedTx hexed
				UtxosSpent    []struct {
					ScriptPubKey hexed
					AmountSats   int64
				}
			}
			InputSpending []struct {
				Given struct {
					TxinIndex int
					HashType  uint32
				}
				Intermediary struct{ SigHash hexed }
				Expected     struct{ Witness []hexed }
			}
		}
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	trees := 0
	for i, c := range v.ScriptPubKey {
		if string(c.Given.ScriptTree) == "null" {
			continue
		}
		trees++
		internal, err := schnorr.ParsePubKey(c.Given.InternalPubkey)
		if err != nil {
			t.Fatal(err)
		}
		leaves, ids := pairsFirst(t, c.Given.ScriptTree)
		script, control, err := assemble(internal, leaves)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(script, c.Expected.ScriptPubKey) {
			t.Errorf("%d: script %x, wanted %x", i, script, c.Expected.ScriptPubKey)
		}
		for n, cb := range control {
			if want := c.Expected.ScriptPathControlBlocks[ids[n]]; !bytes.Equal(cb, want) {
				t.Errorf("%d, leaf %d: control block %x, wanted %x", i, ids[n], cb, want)
			}
		}
	}
	if trees < 5 {
		t.Errorf("only %d trees", trees)
	}
	for _, c := range v.KeyPathSpending {
		tx, err := DecodeTx(c.Given.RawUnsignedTx)
		if err != nil {
			t.Fatal(err)
		}
		prev := txscript.NewMultiPrevOutFetcher(nil)
		for i, u := range c.Given.UtxosSpent {
			prev.AddPrevOut(tx.TxIn[i].PreviousOutPoint, btcwire.NewTxOut(u.AmountSats, u.ScriptPubKey))
		}
		hashes := txscript.NewTxSigHashes(tx, prev)
		for _, in := range c.InputSpending {
			d, err := txscript.CalcTaprootSignatureHash(hashes, txscript.SigHashType(in.Given.HashType), tx, in.Given.TxinIndex, prev)
			if err != nil || !bytes.Equal(d, in.Intermediary.SigHash) {
				t.Errorf("input %d: digest %x, wanted %x (%v)", in.Given.TxinIndex, d, in.Intermediary.SigHash, err)
				continue
			}
			key := wire.Key(c.Given.UtxosSpent[in.Given.TxinIndex].ScriptPubKey[2:])
			if err := key.Verify(wire.Hash(d), wire.Signature(in.Expected.Witness[0][:64])); err != nil {
				t.Errorf("input %d: %v", in.Given.TxinIndex, err)
			}
		}
	}
}

// pairsFirst flattens a tree of the vectors so that merge builds it again: of
// three leaves the pair comes first, and which side it stands on does not show
// (BIP341 sorts siblings).
func pairsFirst(t *testing.T, raw json.RawMessage) (leaves []txscript.TapLeaf, ids []int) {
	var leaf struct {
		ID          int
		Script      hexed
		LeafVersion byte
	}
	if json.Unmarshal(raw, &leaf) == nil {
		return []txscript.TapLeaf{txscript.NewTapLeaf(txscript.TapscriptLeafVersion(leaf.LeafVersion), leaf.Script)}, []int{leaf.ID}
	}
	var sides []json.RawMessage
	if err := json.Unmarshal(raw, &sides); err != nil || len(sides) != 2 {
		t.Fatalf("tree %s: %v", raw, err)
	}
	a, ai := pairsFirst(t, sides[0])
	b, bi := pairsFirst(t, sides[1])
	if len(a) < len(b) {
		a, ai, b, bi = b, bi, a, ai
	}
	if len(a)+len(b) > 3 {
		t.Fatalf("a tree that merge does not build: %s", raw)
	}
	return append(a, b...), append(ai, bi...)
}
