package demo

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/btcsuite/btcd/blockchain"
	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/chain/devchain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// P2CMOptions of a run.
type P2CMOptions struct {
	Blocks string // where to export the chain; empty for nowhere
	Tell   func(Event)
	Show   func(Transaction)
}

// Transaction is a mined transaction.
type Transaction struct {
	Name      string   `json:"name"`
	Txid      string   `json:"txid"`
	VSize     int64    `json:"vsize"`
	Fee       wire.Sat `json:"fee_sat"`
	ScriptSig string   `json:"script_sig,omitempty"` // as text, if it spends a conditional multisig
	Hex       string   `json:"hex"`
}

// P2CMResult is how it ended.
type P2CMResult struct {
	Script      string   `json:"script"` // of the first
	Address     string   `json:"address"`
	FundingTxid string   `json:"funding_txid"`
	AgreedTxid  string   `json:"agreed_txid"`
	TheftTxid   string   `json:"theft_txid"`
	ThawTxid    string   `json:"thaw_txid"`
	Hashes      uint64   `json:"thaw_hashes"`
	Funded      wire.Sat `json:"funded_sat"`
	Holds       [2]Party `json:"ledger"`
	Fees        wire.Sat `json:"fees_sat"`
	Balanced    bool     `json:"balanced"`
	Height      uint32   `json:"height"`
}

// The amount in each conditional multisig, and the size of the pence found by
// brute force: secrets of 2 bytes, so that the search ends during the demo.
const (
	inEach     = wire.Sat(20_000)
	p2cmRate   = wire.SatPerKVB(2000)
	classicN   = 1000
	thawedSize = 2
	thawedN    = 20
)

// couple is two parties and their pence in one conditional multisig.
type couple struct {
	*contract.P2CM
	pence [2]penny.Pence
	sums  [2]penny.Sum
	keys  [2]wire.Secret
}

func newCouple(size int, n uint32) (c *couple, err error) {
	c = &couple{}
	var sides [2]contract.Side
	for i := range sides {
		p := &c.pence[i]
		*p = penny.Pence{Chain: penny.Chain{Size: size}, N: n}
		_, _ = rand.Read(p.Nonce[:]) // never fails (crypto/rand)
		_, _ = rand.Read(p.P0[:size])
		priv, err := btcec.NewPrivateKey()
		if err != nil {
			return nil, err
		}
		c.sums[i], c.keys[i] = p.Sum(), wire.SecretOf(priv)
		sides[i] = contract.Side{ID: c.sums[i].ID, Key: contract.PubKey(priv.PubKey().SerializeCompressed())}
	}
	c.P2CM, err = contract.NewP2CM(sides[0], sides[1])
	return c, err
}

// RunP2CM funds three conditional multisigs on a chain of its own, and spends
// one as agreed, one as its script allows the second revealer, and one by brute
// force.
func RunP2CM(ctx context.Context, opt P2CMOptions) (res *P2CMResult, err error) {
	if err := checkWritable(opt.Blocks); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bitgram-p2cm-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	c, err := devchain.Open(filepath.Join(dir, "chain"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	w := &p2cmWorld{opt: opt, chain: c, miner: append([]byte{0x51, 0x20}, bytes.Repeat([]byte{2}, 32)...)}
	if err := w.play(ctx); err != nil {
		return nil, err
	}
	return &w.res, nil
}

type p2cmWorld struct {
	opt   P2CMOptions
	chain *devchain.Chain
	miner []byte
	homes [2][]byte // where A and B are paid
	res   P2CMResult
}

func (w *p2cmWorld) tell(party, format string, a ...any) {
	if w.opt.Tell != nil {
		w.opt.Tell(Event{Party: party, Text: fmt.Sprintf(format, a...)})
	}
}

func (w *p2cmWorld) play(ctx context.Context) error {
	purseKey, err := btcec.NewPrivateKey()
	if err != nil {
		return err
	}
	for i := range w.homes {
		key, err := btcec.NewPrivateKey()
		if err != nil {
			return err
		}
		if w.homes[i], err = txscript.PayToTaprootScript(txscript.ComputeTaprootKeyNoScript(key.PubKey())); err != nil {
			return err
		}
		w.res.Holds[i].Name = string(rune('A' + i))
	}
	var all [3]*couple
	for i, size := range []int{penny.ClassicSize, penny.ClassicSize, thawedSize} {
		n := uint32(classicN)
		if size == thawedSize {
			n = thawedN
		}
		if all[i], err = newCouple(size, n); err != nil {
			return err
		}
	}
	w.res.Script, w.res.Address = hex.EncodeToString(all[0].Script()), all[0].Address(w.chain.Params())
	w.tell("A, B", "have pence each, of %d pennies, and know one another's IDs: A %v, B %v", classicN, all[0].sums[0].ID, all[0].sums[1].ID)

	// One funding for all three.
	purseScript, err := txscript.PayToTaprootScript(txscript.ComputeTaprootKeyNoScript(purseKey.PubKey()))
	if err != nil {
		return err
	}
	w.res.Funded = 3*inEach + 1000
	from, err := w.chain.Faucet(ctx, purseScript, w.res.Funded)
	if err != nil {
		return err
	}
	funding := btcwire.NewMsgTx(contract.TxVersion)
	funding.AddTxIn(&btcwire.TxIn{PreviousOutPoint: contract.OutPoint(from), Sequence: contract.Sequence})
	for _, c := range all {
		funding.AddTxOut(btcwire.NewTxOut(int64(inEach), c.PkScript()))
	}
	prev := txscript.NewCannedPrevOutputFetcher(purseScript, int64(w.res.Funded))
	sig, err := txscript.RawTxInTaprootSignature(funding, txscript.NewTxSigHashes(funding, prev), 0, int64(w.res.Funded), purseScript, nil, txscript.SigHashDefault, purseKey)
	if err != nil {
		return err
	}
	funding.TxIn[0].Witness = btcwire.TxWitness{sig}
	if w.res.FundingTxid, err = w.mine(ctx, "funding", funding, w.res.Funded, nil); err != nil {
		return err
	}
	w.tell("chain", "block has the funding: %v to each of three conditional multisigs; the first is %s", inEach, w.res.Address)
	spend := func(i, signer int, preimages [2][]byte, outs ...*btcwire.TxOut) (*btcwire.MsgTx, error) {
		tx, _, err := contract.BuildP2CM(contract.P2CMSpend{P2CM: all[i].P2CM, At: wire.Outpoint{Txid: contract.Txid(funding), Vout: uint32(i)}, Value: inEach,
			Preimages: preimages, Signer: signer, Key: all[i].keys[signer]}, outs, w.homes[signer], p2cmRate, 0)
		return tx, err
	}

	// As agreed.
	w.tell("B", "tells A the preimage of its ID, for A to pay out what each has left, and trusts it to")
	both := [2][]byte{all[0].sums[0].Preimage, all[0].sums[1].Preimage}
	tx, err := spend(0, 0, both, btcwire.NewTxOut(int64(inEach)*2/5, w.homes[1]))
	if err != nil {
		return err
	}
	if w.res.AgreedTxid, err = w.mine(ctx, "agreed", tx, inEach, all[0]); err != nil {
		return err
	}
	w.tell("A", "signs with both preimages and pays B its part, as agreed")

	// The first revealer loses.
	w.tell("A", "tells B its preimage of the second, for the same")
	if tx, err = spend(1, 1, [2][]byte{all[1].sums[0].Preimage, all[1].sums[1].Preimage}); err != nil {
		return err
	}
	if w.res.TheftTxid, err = w.mine(ctx, "theft", tx, inEach, all[1]); err != nil {
		return err
	}
	w.tell("B", "has both now, signs alone and takes all: the script does not say who gets what, and who reveals first has lost")

	// Thawed by work.
	frozen := all[2]
	w.tell("A", "is gone, and the third is frozen: B lacks the preimage of A's ID")
	w.tell("B", "tries all secrets of %d bits: %d pennies, %v hashes at most", 8*thawedSize, thawedN, penny.ThawWork(8*thawedSize, thawedN))
	preimage, hashes, err := thaw(ctx, frozen.pence[0].Chain, frozen.sums[0].Last, frozen.sums[0].ID)
	w.res.Hashes = hashes
	if err != nil {
		return err
	}
	w.tell("B", "has found A's p₀ after %d hashes: by the ID it is the right one", hashes)
	if tx, err = spend(2, 1, [2][]byte{preimage, frozen.sums[1].Preimage}); err != nil {
		return err
	}
	if w.res.ThawTxid, err = w.mine(ctx, "thaw", tx, inEach, frozen); err != nil {
		return err
	}
	w.tell("B", "takes the third. With the classic 5 bytes it would have been %v hashes at most", penny.ThawWork(8*penny.ClassicSize, thawedN))

	tip, err := w.chain.Tip(ctx)
	if err != nil {
		return err
	}
	w.res.Height = uint32(tip.Height)
	w.res.Balanced = w.res.Holds[0].Holds+w.res.Holds[1].Holds+w.res.Fees == w.res.Funded
	if w.opt.Blocks != "" {
		if err := writeFile(w.opt.Blocks, func(f io.Writer) error { return w.chain.Export(f) }); err != nil {
			return fmt.Errorf("%w: %w", ErrOutput, err)
		}
	}
	return nil
}

// mine waits for a transaction in a block, records it and shows it.
func (w *p2cmWorld) mine(ctx context.Context, name string, tx *btcwire.MsgTx, in wire.Sat, c *couple) (string, error) {
	if err := w.chain.Broadcast(ctx, tx); err != nil {
		return "", err
	}
	refs, err := w.chain.Mine(ctx, 1, w.miner)
	if err != nil {
		return "", err
	}
	block, _, err := w.chain.Block(ctx, refs[0].Hash)
	if err != nil {
		return "", err
	}
	id := tx.TxHash()
	for _, mined := range block.Transactions {
		if mined.TxHash() != id {
			continue
		}
		fee := in
		for _, o := range mined.TxOut {
			fee -= wire.Sat(o.Value)
			for i, home := range w.homes {
				if bytes.Equal(o.PkScript, home) {
					w.res.Holds[i].Holds += wire.Sat(o.Value)
					w.res.Holds[i].Change = w.res.Holds[i].Holds
				}
			}
		}
		w.res.Fees += fee
		var raw bytes.Buffer
		_ = mined.Serialize(&raw) // a bytes.Buffer does not fail
		t := Transaction{Name: name, Txid: id.String(), VSize: contract.VSize(blockchain.GetTransactionWeight(btcutil.NewTx(mined))), Fee: fee, Hex: hex.EncodeToString(raw.Bytes())}
		if c != nil {
			r, err := c.ReadSpend(mined, 0)
			if err != nil {
				return "", err
			}
			t.ScriptSig = fmt.Sprintf("0 <signature of %c> <B's preimage %x> <A's preimage %x> <script>", 'A'+r.Signer, r.Preimages[1], r.Preimages[0])
		}
		if w.opt.Show != nil {
			w.opt.Show(t)
		}
		return id.String(), nil
	}
	return "", fmt.Errorf("%s is not in its block", id)
}

// thaw finds the preimage of an ID by brute force.
func thaw(ctx context.Context, c penny.Chain, last penny.Penny, id penny.ID) (preimage []byte, hashes uint64, err error) {
	w := penny.NewWork(c, last, 0)
	for {
		if ctx.Err() != nil {
			return nil, w.Hashes(), ctx.Err()
		}
		p, ok, done := w.Search(1 << 16)
		if ok {
			if sum := (&penny.Pence{Chain: c, N: last.Seq, P0: p.Secret}).Sum(); sum.ID == id {
				return sum.Preimage, w.Hashes(), nil
			}
		}
		if done {
			return nil, w.Hashes(), fmt.Errorf("no p₀ has the ID %v: this is a bug", id)
		}
	}
}
