package contract_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

var update = flag.Bool("update", false, "write the vectors instead of comparing")

type hexBytes []byte

func (b hexBytes) MarshalJSON() ([]byte, error) { return json.Marshal(hex.EncodeToString(b)) }

type vectorFile struct {
	Comment string         `json:"comment"`
	Outputs []vectorOutput `json:"outputs"`
	Funding vectorFunding  `json:"funding"`
	Batch   hexBytes       `json:"batch_claim_tx"`
}

type vectorOutput struct {
	Shape       string        `json:"shape"`
	Blinding    hexBytes      `json:"blinding"`
	InternalKey hexBytes      `json:"internal_key"`
	Expiry      wire.Height   `json:"expiry"`
	RefundKey   hexBytes      `json:"refund_secret"`
	RefundLeaf  hexBytes      `json:"refund_script"`
	RefundPath  hexBytes      `json:"refund_control_block"`
	PkScript    hexBytes      `json:"pk_script"`
	Outpoint    hexBytes      `json:"outpoint"`
	Value       wire.Sat      `json:"value"`
	RefundTx    hexBytes      `json:"refund_tx"`
	Claims      []vectorClaim `json:"claims"`
}

type vectorClaim struct {
	SenderSecret hexBytes `json:"sender_secret"`
	NonceKey     hexBytes `json:"nonce_key"`
	ClaimSecret  hexBytes `json:"claim_secret"`
	Sigma        hexBytes `json:"sigma"`
	Tau          hexBytes `json:"tau"`
	T            hexBytes `json:"T"`
	Script       hexBytes `json:"script"`
	ControlBlock hexBytes `json:"control_block"`
	Digest       hexBytes `json:"claim_digest"`
	PreSig       hexBytes `json:"pre_signature"`
	Signature    hexBytes `json:"completed_signature"`
	ClaimTx      hexBytes `json:"claim_tx"`
}

type vectorFunding struct {
	CoinSecret hexBytes `json:"coin_secret"`
	CoinScript hexBytes `json:"coin_script"`
	CoinValue  wire.Sat `json:"coin_value"`
	Marker     hexBytes `json:"marker"`
	Unsigned   hexBytes `json:"tx_without_witness"`
	Signed     hexBytes `json:"tx"`
	Txid       hexBytes `json:"txid_internal_order"`
}

func full(t testing.TB, tx *btcwire.MsgTx) hexBytes {
	t.Helper()
	var b bytes.Buffer
	if err := tx.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestVectors pins every byte that goes to the chain. All signatures are
// deterministic, so other implementations can compare whole transactions.
func TestVectors(t *testing.T) {
	const coin, each wire.Sat = 100_000, 30_000
	fos := []*frozenOutput{newFrozen(t, "vector one", 1, 840_000), newFrozen(t, "vector many", 3, 127)}
	tx, err := contract.Funding([]wire.Outpoint{outpoint(0)}, []*btcwire.TxOut{fos[0].txOut(each), fos[1].txOut(each)},
		marker(), btcwire.NewTxOut(39_000, home))
	if err != nil {
		t.Fatal(err)
	}
	v := vectorFile{Comment: "Frozen outputs and their transactions (spec/delivery.md). All fields are hex; " +
		"claims and refunds pay to coin_script at 2,000 sat/kvB."}
	v.Funding = vectorFunding{CoinSecret: wallet[:], CoinScript: home, CoinValue: coin, Marker: marker(), Unsigned: contract.EncodeTx(tx)}
	signHome(t, tx, txscript.NewCannedPrevOutputFetcher(home, int64(coin)))
	id := contract.Txid(tx)
	v.Funding.Signed, v.Funding.Txid = full(t, tx), id[:]
	var batch []contract.Claim
	for n, o := range fos {
		f := o.Frozen()
		at := wire.Outpoint{Txid: id, Vout: uint32(n)}
		internal, err := contract.InternalKey(f.Blinding)
		if err != nil {
			t.Fatal(err)
		}
		refund, _, err := contract.BuildRefund([]contract.Refund{o.refund(at, each)}, home, 2000, 0)
		if err != nil {
			t.Fatal(err)
		}
		out := vectorOutput{Shape: wire.Shape(n).String(), Blinding: f.Blinding[:], InternalKey: schnorr.SerializePubKey(internal),
			Expiry: f.Expiry, RefundKey: o.Refund[:], RefundLeaf: refund.TxIn[0].Witness[1], RefundPath: refund.TxIn[0].Witness[2],
			PkScript: o.PkScript(), Outpoint: at.Bytes(), Value: each, RefundTx: full(t, refund)}
		for i, a := range o.Agents {
			c := o.claim(t, i, at, each)
			ps, digest := o.preSign(t, i, at, each)
			sig, err := contract.Complete(ps, a.Tau)
			if err != nil {
				t.Fatal(err)
			}
			claim, _, err := contract.BuildClaim([]contract.Claim{c}, home, 2000, 0)
			if err != nil {
				t.Fatal(err)
			}
			w := claim.TxIn[0].Witness
			out.Claims = append(out.Claims, vectorClaim{SenderSecret: a.Sender[:], NonceKey: a.Nonce[:], ClaimSecret: a.Claim[:],
				Sigma: a.Sigma[:], Tau: a.Tau[:], T: a.T[:], Script: w[3], ControlBlock: w[4], Digest: digest[:],
				PreSig: ps[:], Signature: sig[:], ClaimTx: full(t, claim)})
			if i == len(o.Agents)-1 {
				batch = append(batch, c)
			}
		}
		v.Outputs = append(v.Outputs, out)
	}
	claim, _, err := contract.BuildClaim(batch, home, 2000, 0)
	if err != nil {
		t.Fatal(err)
	}
	v.Batch = full(t, claim)

	got, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	path := filepath.Join("..", "..", "spec", "vectors", "contract.json")
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

// bip341 is the BIP's file, unmodified; testdata/README.md names its source.
type bip341 struct {
	ScriptPubKey []struct {
		Given struct {
			InternalPubkey string
			ScriptTree     json.RawMessage
		}
		Intermediary struct {
			LeafHashes    []string
			MerkleRoot    *string
			Tweak         string
			TweakedPubkey string
		}
		Expected struct {
			ScriptPubKey            string
			BIP350Address           string
			ScriptPathControlBlocks []string
		}
	}
	KeyPathSpending []struct {
		Given struct {
			RawUnsignedTx string
			UtxosSpent    []struct {
				ScriptPubKey string
				AmountSats   int64
			}
		}
		InputSpending []struct {
			Given struct {
				TxinIndex       int
				InternalPrivkey string
				MerkleRoot      *string
				HashType        byte
			}
			Intermediary struct{ InternalPubkey, Tweak, TweakedPrivkey, SigHash string }
			Expected     struct{ Witness []string }
		}
		Auxiliary struct{ FullySignedTx string }
	}
}

type bip341Leaf struct {
	Script      string
	LeafVersion byte
}

// tree computes a tree of the vectors with txscript's nodes, and the leaves
// with their paths from left to right.
func tree(t *testing.T, raw json.RawMessage) (txscript.TapNode, []txscript.TapLeaf, [][]byte) {
	t.Helper()
	if raw[0] == '{' {
		var l bip341Leaf
		if err := json.Unmarshal(raw, &l); err != nil {
			t.Fatal(err)
		}
		leaf := txscript.NewTapLeaf(txscript.TapscriptLeafVersion(l.LeafVersion), mustHex(t, l.Script))
		return leaf, []txscript.TapLeaf{leaf}, [][]byte{nil}
	}
	var sides [2]json.RawMessage
	if err := json.Unmarshal(raw, &sides); err != nil {
		t.Fatal(err)
	}
	l, leaves, paths := tree(t, sides[0])
	r, more, morePaths := tree(t, sides[1])
	lh, rh := l.TapHash(), r.TapHash()
	for i := range paths {
		paths[i] = append(paths[i], rh[:]...)
	}
	for i := range morePaths {
		morePaths[i] = append(morePaths[i], lh[:]...)
	}
	return txscript.NewTapBranch(l, r), append(leaves, more...), append(paths, morePaths...)
}

// tweak is the hash that BIP341 tweaks internal with.
func tweak(internal *btcec.PublicKey, root []byte) string {
	h := chainhash.TaggedHash(chainhash.TagTapTweak, schnorr.SerializePubKey(internal), root)
	return hex.EncodeToString(h[:])
}

// TestBIP341 checks the parts of txscript that compute our outputs and
// signatures against the BIP's vectors.
func TestBIP341(t *testing.T) {
	raw, err := os.ReadFile("testdata/bip341.json")
	if err != nil {
		t.Fatal(err)
	}
	var v bip341
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.ScriptPubKey) != 7 || len(v.KeyPathSpending) != 1 || len(v.KeyPathSpending[0].InputSpending) != 7 {
		t.Fatal("not the whole file")
	}
	for i, c := range v.ScriptPubKey {
		internal, err := schnorr.ParsePubKey(mustHex(t, c.Given.InternalPubkey))
		if err != nil {
			t.Fatal(err)
		}
		var key *btcec.PublicKey
		var control []string
		var root []byte
		if string(c.Given.ScriptTree) == "null" {
			key = txscript.ComputeTaprootKeyNoScript(internal)
		} else {
			node, leaves, paths := tree(t, c.Given.ScriptTree)
			h := node.TapHash()
			root = h[:]
			if hex.EncodeToString(root) != *c.Intermediary.MerkleRoot {
				t.Errorf("%d: merkle root %x", i, root)
			}
			key = txscript.ComputeTaprootOutputKey(internal, root)
			for n, l := range leaves {
				if h := l.TapHash(); hex.EncodeToString(h[:]) != c.Intermediary.LeafHashes[n] {
					t.Errorf("%d: leaf %d hashes to %x", i, n, h[:])
				}
				cb := txscript.ControlBlock{InternalKey: internal, OutputKeyYIsOdd: key.SerializeCompressed()[0] == 3,
					LeafVersion: l.LeafVersion, InclusionProof: paths[n]}
				b, err := cb.ToBytes()
				if err != nil {
					t.Fatal(err)
				}
				control = append(control, hex.EncodeToString(b))
			}
		}
		if h := tweak(internal, root); h != c.Intermediary.Tweak || wire.XOnly(key).String() != c.Intermediary.TweakedPubkey {
			t.Errorf("%d: tweak %s to %v", i, h, wire.XOnly(key))
		}
		addr, err := address.NewAddressTaproot(schnorr.SerializePubKey(key), &chaincfg.MainNetParams)
		if err != nil || addr.String() != c.Expected.BIP350Address {
			t.Errorf("%d: address %v, %v", i, addr, err)
		}
		script, err := txscript.PayToTaprootScript(key)
		if err != nil || hex.EncodeToString(script) != c.Expected.ScriptPubKey {
			t.Errorf("%d: script %x, %v", i, script, err)
		}
		if strings.Join(control, " ") != strings.Join(c.Expected.ScriptPathControlBlocks, " ") {
			t.Errorf("%d: control blocks %v", i, control)
		}
	}

	for _, c := range v.KeyPathSpending {
		tx, err := contract.DecodeTx(mustHex(t, c.Given.RawUnsignedTx))
		if err != nil {
			t.Fatal(err)
		}
		prev := txscript.NewMultiPrevOutFetcher(nil)
		for i, u := range c.Given.UtxosSpent {
			prev.AddPrevOut(tx.TxIn[i].PreviousOutPoint, btcwire.NewTxOut(u.AmountSats, mustHex(t, u.ScriptPubKey)))
		}
		hashes := txscript.NewTxSigHashes(tx, prev)
		for _, in := range c.InputSpending {
			n, ht := in.Given.TxinIndex, txscript.SigHashType(in.Given.HashType)
			digest, err := txscript.CalcTaprootSignatureHash(hashes, ht, tx, n, prev)
			if err != nil || hex.EncodeToString(digest) != in.Intermediary.SigHash {
				t.Errorf("input %d: digest %x, %v", n, digest, err)
			}
			internal := wire.Secret(mustHex(t, in.Given.InternalPrivkey))
			if public(internal).String() != in.Intermediary.InternalPubkey {
				t.Errorf("input %d: key %v", n, public(internal))
			}
			k, err := internal.PrivKey()
			if err != nil {
				t.Fatal(err)
			}
			var root []byte
			if in.Given.MerkleRoot != nil {
				root = mustHex(t, *in.Given.MerkleRoot)
			}
			tweaked := wire.SecretOf(txscript.TweakTaprootPrivKey(*k, root))
			if h := tweak(k.PubKey(), root); h != in.Intermediary.Tweak || hex.EncodeToString(tweaked[:]) != in.Intermediary.TweakedPrivkey {
				t.Errorf("input %d: tweak %s", n, h)
			}
			out := prev.FetchPrevOutput(tx.TxIn[n].PreviousOutPoint)
			// Our nonces differ, so our signatures must verify, as the
			// published ones do.
			ours, err := txscript.RawTxInTaprootSignature(tx, hashes, n, out.Value, out.PkScript, root, ht, k)
			if err != nil {
				t.Fatal(err)
			}
			for name, sig := range map[string][]byte{"published": mustHex(t, in.Expected.Witness[0]), "ours": ours} {
				var key wire.Key
				copy(key[:], out.PkScript[2:])
				if err := key.Verify(wire.Hash(digest), wire.Signature(sig[:64])); err != nil {
					t.Errorf("input %d, %s: %v", n, name, err)
				}
				// With the hash type appended, except 0 for DEFAULT.
				if want := bytes.TrimRight([]byte{in.Given.HashType}, "\x00"); !bytes.Equal(sig[64:], want) {
					t.Errorf("input %d, %s: ends with %x", n, name, sig[64:])
				}
			}
		}
		// The script engine of these tests accepts the BIP's transactions.
		signed := btcwire.NewMsgTx(0)
		if err := signed.Deserialize(bytes.NewReader(mustHex(t, c.Auxiliary.FullySignedTx))); err != nil {
			t.Fatal(err)
		}
		hashes = txscript.NewTxSigHashes(signed, prev)
		run := func(n int) error {
			out := prev.FetchPrevOutput(signed.TxIn[n].PreviousOutPoint)
			vm, err := txscript.NewEngine(out.PkScript, signed, n, txscript.StandardVerifyFlags, nil, hashes, out.Value, prev)
			if err != nil {
				return err
			}
			return vm.Execute()
		}
		for n, in := range signed.TxIn {
			if err := run(n); err != nil {
				t.Errorf("signed input %d: %v", n, err)
			}
			if len(in.Witness) != 1 {
				continue // not a key path
			}
			in.Witness[0][3] ^= 1
			if run(n) == nil {
				t.Errorf("signed input %d passes with another signature", n)
			}
			in.Witness[0][3] ^= 1
		}
	}
}
