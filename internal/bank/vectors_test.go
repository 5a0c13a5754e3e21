package bank_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2/schnorr"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

type hexBytes []byte

func (b hexBytes) MarshalJSON() ([]byte, error) { return json.Marshal(hex.EncodeToString(b)) }

type vectorFile struct {
	Comment  string         `json:"comment"`
	Banks    []vectorBank   `json:"banks"`
	Batch    hexBytes       `json:"batch_close_tx"`
	Transfer vectorTransfer `json:"transfer"`
}

type vectorBank struct {
	Root        hexBytes     `json:"root"`
	PayerSecret hexBytes     `json:"payer_secret"`
	PayeeSecret hexBytes     `json:"payee_secret"`
	Payer       hexBytes     `json:"payer"`
	Payee       hexBytes     `json:"payee"`
	Blinding    hexBytes     `json:"blinding"`
	Nonce       hexBytes     `json:"nonce"`
	P0          hexBytes     `json:"p0"`
	Expiry      wire.Height  `json:"expiry"`
	Value       wire.Sat     `json:"value"`
	PerRung     uint32       `json:"pennies_to_a_rung"`
	Last        hexBytes     `json:"last"`
	Terms       hexBytes     `json:"terms_encoded"`
	PkScript    hexBytes     `json:"pk_script"`
	Funding     hexBytes     `json:"funding_tx_without_witness"`
	Outpoint    hexBytes     `json:"outpoint"`
	Rungs       []vectorRung `json:"rungs"`
	Offer       vectorOffer  `json:"together"`
	RefundTx    hexBytes     `json:"refund_tx"`
}

type vectorRung struct {
	Penny     hexBytes `json:"penny"` // on the wire
	Lock      hexBytes `json:"lock"`
	Script    hexBytes `json:"script"`
	Control   hexBytes `json:"control_block"`
	Change    wire.Sat `json:"change"`
	Digest    hexBytes `json:"digest"`
	Signature hexBytes `json:"signature"`
	CloseTx   hexBytes `json:"close_tx"`
	ChangeTx  hexBytes `json:"change_refund_tx"`
}

type vectorOffer struct {
	Count     uint32   `json:"pennies"`
	Payer     wire.Sat `json:"payer"`
	Fee       wire.Sat `json:"fee"`
	Digest    hexBytes `json:"digest"`
	Signature hexBytes `json:"payer_signature"`
	Tx        hexBytes `json:"tx"`
}

type vectorTransfer struct {
	Bank    hexBytes  `json:"bank"`
	Payment hexBytes  `json:"payment"`
	Relay   hexBytes  `json:"relay_id"`
	Got     hexBytes  `json:"received_id"`
	Salt    hexBytes  `json:"salt"`
	Proof   hexBytes  `json:"proof"`
	Index   uint32    `json:"index"`
	Total   wire.Msat `json:"total_msat"`
	Payee   hexBytes  `json:"payee"`
	Digest  hexBytes  `json:"digest"`
	Sig     hexBytes  `json:"signature"`
}

func fullTx(t testing.TB, tx contract.Tx) hexBytes {
	var b bytes.Buffer
	must(t, tx.Serialize(&b))
	return b.Bytes()
}

// fixed is the test's secret of that name.
func fixed(name string) wire.Secret {
	k, err := wire.Secret(wire.Tagged("test", []byte(name))).PrivKey()
	if err != nil {
		panic(err)
	}
	return wire.SecretOf(k)
}

// TestVectors pins every byte of spec/bank.md. All signatures are deterministic, so
// that other implementations can compare whole transactions.
func TestVectors(t *testing.T) {
	t.Parallel()
	script := append([]byte{0x51, 0x20}, bytes.Repeat([]byte{7}, 32)...)
	v := vectorFile{Comment: "Penny banks (spec/bank.md). All fields are hex; closes and refunds pay to 5120 ‖ 07×32 at 1,000 sat/kvB; change at a rung is in satoshi."}
	var batch []contract.BankClose
	for _, c := range []struct {
		name   string
		expiry wire.Height
		l      penny.Ladder
	}{{"one", 840_000, penny.Ladder{Value: 10_000, Rungs: 1, PerRung: 3}}, {"many", 127, penny.Ladder{Value: 100_000, Rungs: 7, PerRung: 2}}} {
		root, key := fixed(c.name+" root"), fixed(c.name+" payee")
		payerKey := bank.PayerKey(root)
		e := &bank.Prepare{Root: root, Payee: keyOf(t, key), Expiry: c.expiry, Ladder: c.l, Inputs: []wire.Outpoint{{Txid: wire.Hash(fixed(c.name + " coin")), Vout: 1}}, Change: 5000, ChangeScript: script}
		terms, b, tx, _, err := bank.Build(e)
		must(t, err)
		at := wire.Outpoint{Txid: contract.Txid(tx)}
		sigs, err := b.SignRungs(at, payerKey)
		must(t, err)
		must(t, b.VerifyRungs(at, sigs))
		blinding, pence := bank.Blinding(root), bank.Pence(root, c.l.N())
		out := vectorBank{Root: root[:], PayerSecret: payerKey[:], PayeeSecret: key[:], Payer: terms.Payer[:], Payee: terms.Payee[:], Blinding: blinding[:],
			Nonce: pence.Nonce[:], P0: pence.P0[:pence.Size], Expiry: c.expiry, Value: c.l.Value, PerRung: c.l.PerRung, Last: terms.Last[:],
			Terms: encoded(t, terms), PkScript: b.PkScript(), Funding: contract.EncodeTx(tx), Outpoint: at.Bytes()}
		for g := uint32(1); g <= c.l.Rungs; g++ {
			p := pence.Forward(penny.Penny{Secret: pence.P0}, c.l.Seq(g))
			d, err := b.RungDigest(g, at)
			must(t, err)
			cl := contract.BankClose{Bank: b, At: at, Rung: g, Sig: sigs[g-1], Secret: p.Secret[:pence.Size], Payee: key}
			r := vectorRung{Penny: pence.Encode(nil, p), Lock: append([]byte(nil), terms.Locks[g-1][:]...), Change: c.l.Change(g), Digest: append([]byte(nil), d[:]...), Signature: append([]byte(nil), sigs[g-1][:]...)}
			close, _, err := contract.BuildClose([]contract.BankClose{cl}, nil, script, 1000, 0)
			must(t, err)
			w := close.TxIn[0].Witness
			r.Script, r.Control, r.CloseTx = w[3], w[4], fullTx(t, close)
			if g < c.l.Rungs {
				back, _, err := contract.BuildBankRefund([]contract.BankRefund{{Bank: b, At: wire.Outpoint{Txid: contract.Txid(close)}, Value: c.l.Change(g), Change: true, Payer: payerKey}}, script, 1000, 0)
				must(t, err)
				r.ChangeTx = fullTx(t, back)
			}
			out.Rungs = append(out.Rungs, r)
			if g == (c.l.Rungs+1)/2 {
				batch = append(batch, cl)
			}
		}
		offer := bank.CloseOffered{Count: c.l.N() - 1, Payer: c.l.Value - c.l.Paid(c.l.N()-1).Whole(), Fee: 250, Script: script}
		both, err := offer.Together(b, at)
		must(t, err)
		d, err := b.TogetherDigest(both)
		must(t, err)
		first, err := b.SignTogether(both, payerKey)
		must(t, err)
		second, err := b.SignTogether(both, key)
		must(t, err)
		must(t, terms.Payer.Verify(d, first))
		b.Join(both, first, second)
		out.Offer = vectorOffer{Count: offer.Count, Payer: offer.Payer, Fee: offer.Fee, Digest: d[:], Signature: first[:], Tx: fullTx(t, both)}
		back, _, err := contract.BuildBankRefund([]contract.BankRefund{{Bank: b, At: at, Payer: payerKey}}, script, 1000, 0)
		must(t, err)
		out.RefundTx = fullTx(t, back)
		v.Banks = append(v.Banks, out)
	}
	tx, _, err := contract.BuildClose(batch, nil, script, 1000, 0)
	must(t, err)
	v.Batch = fullTx(t, tx)

	in, id, key := wire.Hash(fixed("bank")), wire.Hash(fixed("payment")), fixed("final payee")
	k, err := key.PrivKey()
	must(t, err)
	pub := keyOf(t, key)
	relayID, digest := bank.RelayID(in, id), wire.TransferDigest(id, 3, 1_500_000, pub)
	sig, err := schnorr.Sign(k, digest[:])
	must(t, err)
	got, salt := bank.ReceivedID(id), fixed("salt")
	proof := (&wire.NoteText{Salt: salt}).Proof(id, 3, 1_500_000)
	v.Transfer = vectorTransfer{Bank: in[:], Payment: id[:], Relay: relayID[:], Got: got[:], Salt: salt[:], Proof: proof[:], Index: 3, Total: 1_500_000, Payee: pub[:], Digest: digest[:], Sig: sig.Serialize()}

	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	must(t, enc.Encode(v))
	const path = "../../spec/vectors/bank.json"
	if *update {
		must(t, os.WriteFile(path, b.Bytes(), 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("%s differs; run with -update only if the change of the protocol is meant", path)
	}
}
