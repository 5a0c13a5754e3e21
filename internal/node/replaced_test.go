package node

import (
	"crypto/rand"
	"fmt"
	"testing"

	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/testing/conform"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// splits spends a coin of the tests' key into n outputs of the same key. It does
// not signal that it can be replaced.
func splits(t *testing.T, at wire.Outpoint, value wire.Sat, n int, fee wire.Sat) *btcwire.MsgTx {
	t.Helper()
	tx := conform.Spend(t, at, value, 0)
	tx.TxOut = nil
	for range n {
		tx.AddTxOut(btcwire.NewTxOut(int64((value-fee)/wire.Sat(n)), conform.KeyScript(t)))
	}
	conform.SignInput(t, tx, value)
	return tx
}

// proved is an offer of a bank whose funding would spend a coin of the tests' key.
func (w *town) proved(to *home, coin wire.Outpoint) *wire.BankOpen {
	w.t.Helper()
	var id bank.ID
	var root wire.Secret
	_, _ = rand.Read(id[:])
	_, _ = rand.Read(root[:])
	priv, err := wire.Secret(wire.Tagged("bank-payee", to.node.identity[:], id[:])).PrivKey()
	must(w.t, err)
	terms, b, f, _, err := bank.Build(&bank.Prepare{Root: root, Payee: wire.XOnly(priv.PubKey()), Expiry: to.node.engine.Position().Height + 300,
		Ladder: penny.Ladder{Value: 10_000, Rungs: 1, PerRung: 14}, Inputs: []wire.Outpoint{coin}})
	must(w.t, err)
	at := wire.Outpoint{Txid: contract.Txid(f)}
	sigs, err := b.SignRungs(at, bank.PayerKey(root))
	must(w.t, err)
	o := &wire.BankOpen{Bank: id, Terms: terms, Funding: contract.EncodeTx(f), Sigs: sigs}
	o.Coin, err = wire.Sign(wire.Secret(txscript.TweakTaprootPrivKey(*conform.Key, nil).Serialize()), wire.BankCoinDigest(id, terms.Payee, coin, at))
	must(w.t, err)
	return o
}

// TestReplacedCoins: a stranger proves the outputs of an unconfirmed transaction,
// takes all places with them, and replaces the transaction, though it did not
// signal that. Its banks lose their places before an honest payer's older bank.
func TestReplacedCoins(t *testing.T) {
	t.Parallel()
	tier.NotShort(t)
	w := emptyTown(t)
	to := w.payee("payee", nil)
	const value, places = 6_000_000, 512
	at, err := w.chain.Faucet(t.Context(), conform.KeyScript(t), value)
	must(t, err)
	honest, err := w.chain.Faucet(t.Context(), conform.KeyScript(t), 20_000)
	must(t, err)
	w.mine(1)
	y := service(to)
	n := 0
	open := func(o *wire.BankOpen) {
		t.Helper()
		n++
		must(t, y.Open(t.Context(), p2p.Caller{Peer: peer.ID(fmt.Sprint(n)), Network: fmt.Sprintf("10.%d.%d.0/24", n/250, n%250)}, o))
	}
	first := w.proved(to, honest)
	open(first)
	tx := splits(t, at, value, places-1, 50_000)
	must(t, w.chain.Broadcast(t.Context(), tx))
	for i := range places - 1 {
		open(w.proved(to, wire.Outpoint{Txid: contract.Txid(tx), Vout: uint32(i)}))
	}
	next := splits(t, at, value, places-1, 100_000)
	must(t, w.chain.Broadcast(t.Context(), next))
	for i := range 5 {
		open(w.proved(to, wire.Outpoint{Txid: contract.Txid(next), Vout: uint32(i)}))
	}
	if s, err := to.node.engine.State(t.Context(), payeeRef(first.Bank)); err != nil || s.(bank.Payee).Gone {
		t.Errorf("the honest payer's bank has lost its place: %v", err)
	}
}

// TestReplacedPayment: a stranger's unconfirmed payment to the wallet counts nowhere,
// neither before nor after it is replaced by one that pays somebody else, and what
// confirms in its place counts once.
func TestReplacedPayment(t *testing.T) {
	w := emptyTown(t)
	h := w.home("payee", nil)
	h.start()
	w.mine(1)
	w.fund(h, 50_000)
	const value = 100_000
	at, err := w.chain.Faucet(t.Context(), conform.KeyScript(t), value)
	must(t, err)
	w.mine(1)
	_, script, err := h.node.Coins.NewAddress(t.Context())
	must(t, err)
	pays := func(script []byte, fee wire.Sat) *btcwire.MsgTx {
		tx := conform.Spend(t, at, value, fee)
		tx.TxOut[0].PkScript = script
		conform.SignInput(t, tx, value)
		return tx
	}
	counted := func(when string, want wire.Sat) {
		t.Helper()
		b, err := h.node.Coins.Balance(t.Context())
		must(t, err)
		if b != (wallet.Balance{Confirmed: want}) {
			t.Errorf("%s: %+v, not %v", when, b, want)
		}
	}
	must(t, w.chain.Broadcast(t.Context(), pays(script, 1000)))
	counted("unconfirmed", 50_000)
	must(t, w.chain.Broadcast(t.Context(), pays(conform.KeyScript(t), 3000)))
	counted("replaced", 50_000)
	w.mine(1)
	counted("the replacement confirmed", 50_000)
	must(t, w.chain.Reorg(t.Context(), 1, w.miner, wire.Hash(pays(conform.KeyScript(t), 3000).TxHash())))
	w.settle()
	must(t, w.chain.Broadcast(t.Context(), pays(script, 5000)))
	w.mine(1)
	counted("paid at last", 50_000+value-5000)
}
