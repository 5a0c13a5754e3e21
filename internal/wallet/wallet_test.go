package wallet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"
	"pgregory.net/rapid"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/chain/devchain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/store"
	"github.com/bitgram/bitgram/internal/testing/conform"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

var (
	must    = conform.Must
	wantErr = conform.WantErr
	miner   = []byte{txscript.OP_TRUE}
	seed    = bytes.Repeat([]byte{7}, 64)
)

const rate wire.SatPerKVB = 2000

// few checks f on n draws: with a database and a chain each takes a while.
func few(t *testing.T, n int, f func(*rapid.T)) {
	n = tier.Pick(n/4, n, n)
	rapid.Check(t, func(r *rapid.T) {
		if n--; n >= 0 {
			f(r)
		}
	})
}

// home is a wallet in a store that follows a chain.
type home struct {
	testing.TB
	*Wallet
	store *store.Store
	chain *devchain.Chain
}

// newHome is an empty wallet of seed on c; on a fresh chain where c is nil.
func newHome(tb testing.TB, c *devchain.Chain) *home {
	tb.Helper()
	dir := tb.TempDir()
	return newHomeIn(tb, tb.Cleanup, dir, c)
}

func newHomeIn(tb testing.TB, cleanup func(func()), dir string, c *devchain.Chain) *home {
	tb.Helper()
	if c == nil {
		var err error
		c, err = devchain.Open(filepath.Join(dir, "chain"))
		must(tb, err)
		cleanup(func() { c.Close() })
	}
	s, err := store.Open(filepath.Join(dir, "home.db"))
	must(tb, err)
	cleanup(func() { s.Close() })
	w, err := New(seed, c.Params(), 0)
	must(tb, err)
	h := &home{tb, w, s, c}
	h.do(w.Init)
	h.sync()
	return h
}

// do runs f in an update.
func (h *home) do(f func(Tx) error) {
	h.Helper()
	must(h, h.store.Update(context.Background(), func(tx engine.Tx) error { return f(tx) }))
}

// sync brings the wallet to the chain's tip.
func (h *home) sync() {
	h.Helper()
	ctx := context.Background()
	must(h, h.store.Update(ctx, func(tx engine.Tx) error {
		for {
			at, ok, err := tx.Position()
			must(h, err)
			if !ok {
				at = chain.BlockRef{Hash: *h.chain.Params().GenesisHash}
				must(h, tx.Advance(at))
			}
			if hash, err := h.chain.HashAt(ctx, at.Height); errors.Is(err, chain.ErrNotFound) || (err == nil && hash != at.Hash) {
				must(h, h.Disconnect(tx, at.Height))
				must(h, tx.Retreat())
				continue
			}
			hash, err := h.chain.HashAt(ctx, at.Height+1)
			if errors.Is(err, chain.ErrNotFound) {
				return nil
			}
			must(h, err)
			b, height, err := h.chain.Block(ctx, hash)
			must(h, err)
			must(h, h.Connect(tx, b.Transactions, height))
			must(h, tx.Advance(chain.BlockRef{Hash: hash, Height: height}))
		}
	}))
}

func (h *home) tip() wire.Height {
	h.Helper()
	ref, err := h.chain.Tip(context.Background())
	must(h, err)
	return ref.Height
}

func (h *home) mine(n int) {
	h.Helper()
	_, err := h.chain.Mine(context.Background(), n, miner)
	must(h, err)
	h.sync()
}

func (h *home) reorg(depth int, without ...wire.Hash) {
	h.Helper()
	must(h, h.chain.Reorg(context.Background(), depth, miner, without...))
	h.sync()
}

func (h *home) script(branch uint32) (script []byte) {
	h.Helper()
	h.do(func(tx Tx) (err error) { script, _, err = h.NewScript(tx, branch); return err })
	return script
}

// fund pays amounts to fresh addresses, unconfirmed.
func (h *home) fund(amounts ...wire.Sat) {
	h.Helper()
	for _, a := range amounts {
		_, err := h.chain.Faucet(context.Background(), h.script(External), a)
		must(h, err)
	}
}

func (h *home) funds() (b Balance) {
	h.Helper()
	h.do(func(tx Tx) (err error) { b, err = h.Balance(tx, h.tip()); return err })
	return b
}

func (h *home) wantFunds(want Balance) {
	h.Helper()
	if got := h.funds(); got != want {
		h.Errorf("balance %+v, want %+v", got, want)
	}
}

func (h *home) broadcast(tx *btcwire.MsgTx) error { return h.chain.Broadcast(context.Background(), tx) }

// send builds a payment to a stranger and broadcasts it.
func (h *home) send(amount wire.Sat) (t *btcwire.MsgTx) {
	h.Helper()
	h.do(func(tx Tx) (err error) { t, err = h.Send(tx, conform.KeyScript(h), amount, rate, h.tip()); return err })
	must(h, h.broadcast(t))
	return t
}

func (h *home) unconfirmed() (ids []wire.Hash) {
	h.Helper()
	h.do(func(tx Tx) error {
		list, err := h.Unconfirmed(tx)
		for _, t := range list {
			ids = append(ids, contract.Txid(t))
		}
		return err
	})
	return ids
}

func (h *home) waits(t *btcwire.MsgTx) bool {
	return slices.ContainsFunc(h.chain.Mempool(), func(x *btcwire.MsgTx) bool { return x.TxHash() == t.TxHash() })
}

func outSum(t *btcwire.MsgTx) (sum wire.Sat) {
	for _, o := range t.TxOut {
		sum += wire.Sat(o.Value)
	}
	return sum
}

// TestAddresses: BIP86's own addresses, there and back.
func TestAddresses(t *testing.T) {
	s, err := Seed("abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about", "")
	must(t, err)
	w, err := New(s, &chaincfg.MainNetParams, 0)
	must(t, err)
	for p, want := range map[path]string{
		{External, 0}: "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr",
		{External, 1}: "bc1p4qhjn9zdvkux4e44uhx8tc55attvtyu358kutcqkudyccelu0was9fqzwh",
		{Internal, 0}: "bc1p3qkhfews2uk44qtvauqyr2ttdsw7svhkl9nkm9s9c3x4ax5h60wqwruhk7",
	} {
		script, err := w.acct.script(p)
		must(t, err)
		got, err := w.Address(script)
		must(t, err)
		if got != want {
			t.Errorf("%v: %s, want %s", p, got, want)
		}
		back, err := ParseAddress(want, w.params)
		if err != nil || !bytes.Equal(back, script) {
			t.Errorf("%s parses to %x, %v", want, back, err)
		}
	}
	for _, bad := range []string{"", "x", "bcrt1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqc8gma6", "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx"} {
		if _, err := ParseAddress(bad, w.params); err == nil {
			t.Errorf("%q is an address of mainnet", bad)
		}
	}
	_, err = Seed("abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon", "")
	wantErr(t, err, ErrBadMnemonic)
}

func TestSend(t *testing.T) {
	h := newHome(t, nil)
	h.fund(100_000, 30_000)
	h.wantFunds(Balance{})
	h.mine(1)
	h.wantFunds(Balance{Confirmed: 130_000})
	tx := h.send(50_000)
	// The one coin that suffices, exact fee, change to ourselves.
	fee := 100_000 - outSum(tx)
	if want := rate.Fee(contract.VSize(int64(tx.SerializeSizeStripped()*3 + tx.SerializeSize()))); len(tx.TxIn) != 1 || len(tx.TxOut) != 2 || fee != want {
		t.Errorf("%d inputs, %d outputs, fee %v, want %v", len(tx.TxIn), len(tx.TxOut), fee, want)
	}
	h.wantFunds(Balance{Confirmed: 30_000, Pending: 100_000})
	if ids := h.unconfirmed(); len(ids) != 1 || ids[0] != contract.Txid(tx) {
		t.Errorf("unconfirmed %v", ids)
	}
	h.mine(1)
	h.wantFunds(Balance{Confirmed: 130_000 - 50_000 - fee})
	if ids := h.unconfirmed(); len(ids) != 0 {
		t.Errorf("unconfirmed %v", ids)
	}
	// All the rest, without change: what is left below dust is fee.
	all := h.send(h.funds().Confirmed - 400)
	if len(all.TxOut) != 1 || len(all.TxIn) != 2 {
		t.Errorf("%d inputs, %d outputs", len(all.TxIn), len(all.TxOut))
	}
	h.mine(1)
	h.wantFunds(Balance{})
	var list []Record
	h.do(func(tx Tx) (err error) { list, err = h.History(tx); return err })
	sum := wire.Sat(0)
	for _, r := range list {
		sum += r.In - r.Out
	}
	if len(list) != 4 || sum != 0 {
		t.Errorf("history of %d transactions sums to %v", len(list), sum)
	}
}

func TestSendRefused(t *testing.T) {
	h := newHome(t, nil)
	h.fund(10_000)
	h.mine(1)
	p2tr, p2pkh := conform.KeyScript(t), append(append([]byte{0x76, 0xa9, 20}, make([]byte, 20)...), 0x88, 0xac)
	send := func(script []byte, amount wire.Sat) (tx *btcwire.MsgTx, err error) {
		h.do(func(x Tx) error { tx, err = h.Send(x, script, amount, rate, h.tip()); return nil })
		return
	}
	for _, c := range []struct {
		script []byte
		amount wire.Sat
		want   error
	}{
		{p2tr, -1, ErrAmount}, {p2tr, 0, ErrAmount}, {p2tr, 329, ErrAmount}, {p2pkh, 545, ErrAmount},
		{p2tr, wire.MaxSat + 1, ErrAmount}, {p2tr, 1<<63 - 1, ErrAmount}, {p2tr, 10_000, ErrNoFunds}, {p2tr, wire.MaxSat, ErrNoFunds},
	} {
		_, err := send(c.script, c.amount)
		wantErr(t, err, c.want)
	}
	h.wantFunds(Balance{Confirmed: 10_000})
	// The least of each that is not dust relays.
	for script, least := range map[string]wire.Sat{string(p2tr): 330, string(p2pkh): 546} {
		tx, err := send([]byte(script), least)
		must(t, err)
		must(t, h.broadcast(tx))
		h.mine(1)
	}
	var short *Short
	if _, err := send(p2tr, 50_000); !errors.As(err, &short) || short.Have != h.funds().Confirmed || short.Need <= 50_000 {
		t.Errorf("short of funds: %+v, %v", short, err)
	}
}

// TestLocks: whatever holders do, no coin has two, none is spent by Send, and
// asking again frees what one held.
func TestLocks(t *testing.T) {
	h := newHome(t, nil)
	h.fund(10_000, 10_000, 20_000, 25_000, 40_000, 100_000, 100_000)
	h.mine(1)
	total := h.funds().Confirmed
	tip := h.tip()
	few(t, 25, func(r *rapid.T) {
		held := map[byte][]wire.Outpoint{}
		for range rapid.IntRange(1, 12).Draw(r, "steps") {
			who := rapid.ByteRange(0, 3).Draw(r, "holder")
			amount := wire.Sat(rapid.IntRange(330, 120_000).Draw(r, "amount"))
			var p *Picked
			var err error
			if rapid.IntRange(0, 3).Draw(r, "op") == 0 {
				h.do(func(tx Tx) error { return h.Unlock(tx, []byte{who}) })
				delete(held, who)
				continue
			}
			h.do(func(tx Tx) error {
				p, err = h.Lock(tx, []byte{who}, amount, contract.FundingWeight(0, 1, false), rate, tip)
				var again *Picked
				if err == nil {
					if again, err = h.Lock(tx, []byte{who}, amount, contract.FundingWeight(0, 1, false), rate, tip); err == nil && !slices.Equal(again.Inputs, p.Inputs) {
						r.Fatalf("asked again, %v became %v", p.Inputs, again.Inputs)
					}
				}
				return nil
			})
			delete(held, who)
			if err != nil {
				if !errors.Is(err, ErrNoFunds) {
					r.Fatal(err)
				}
				continue
			}
			held[who] = p.Inputs
			if p.Change != 0 && p.Change < contract.Dust {
				r.Fatalf("change of %v", p.Change)
			}
			owner := map[wire.Outpoint]byte{}
			for w, list := range held {
				for _, o := range list {
					if other, taken := owner[o]; taken {
						r.Fatalf("%v is held by %d and %d", o, w, other)
					}
					owner[o] = w
				}
			}
			var sum wire.Sat
			h.do(func(tx Tx) error {
				for _, o := range p.Inputs {
					var c coin
					if ok, err := get(tx, bucketCoin, o.Bytes(), &c); err != nil || !ok {
						r.Fatalf("%v is no coin: %v", o, err)
					}
					sum += c.Value
				}
				return nil
			})
			least := rate.Fee(contract.VSize(contract.FundingWeight(len(p.Inputs), 1, p.Change > 0)))
			if sum != amount+p.Fee+p.Change || p.Fee < least || (p.Change > 0 && p.Fee != least) || p.Fee > least+contract.Dust+rate.Fee(44) {
				r.Fatalf("inputs %v for %v: fee %v (least %v), change %v", sum, amount, p.Fee, least, p.Change)
			}
			if b := h.funds(); b.Confirmed+b.Locked != total {
				r.Fatalf("balance %+v of %v", b, total)
			}
		}
		for w := range byte(4) {
			h.do(func(tx Tx) error { return h.Unlock(tx, []byte{w}) })
		}
		h.wantFunds(Balance{Confirmed: total})
	})
}

// TestRecovery: a wallet that has the seed alone finds what lies within the gap
// limit, in whatever order a block has it. No later address is given away.
func TestRecovery(t *testing.T) {
	old := newHome(t, nil)
	pay := func(amount wire.Sat, skip int) {
		for range skip {
			old.script(External)
		}
		old.fund(amount)
	}
	pay(50_000, 0)
	old.mine(1)
	old.send(20_000) // change
	old.mine(1)
	pay(1_000, GapLimit-1)
	pay(2_000, GapLimit-1)
	old.mine(1)
	// In one block the later address comes first.
	var first, late []byte
	old.do(func(tx Tx) error {
		next, err := old.next(tx, External)
		must(t, err)
		first, err = old.acct.script(path{External, next + 9})
		must(t, err)
		late, err = old.acct.script(path{External, next + 9 + GapLimit})
		return err
	})
	for _, s := range [][]byte{late, first} {
		_, err := old.chain.Faucet(t.Context(), s, 3_000)
		must(t, err)
	}
	txs := old.chain.Mempool()
	slices.SortFunc(txs, func(a, b *btcwire.MsgTx) int {
		return bytes.Compare(rank(b, late), rank(a, late))
	})
	_, err := old.chain.MineWith(t.Context(), miner, txs...)
	must(t, err)
	old.sync()
	fresh := newHome(t, old.chain)
	if a, b := old.funds(), fresh.funds(); a != b || a.Confirmed == 0 {
		t.Errorf("the old wallet has %+v, the new one finds %+v", a, b)
	}
	// It goes on where the old one is.
	if a, b := old.script(Internal), fresh.script(Internal); !bytes.Equal(a, b) {
		t.Error("they hand out different change addresses")
	}
	if a, b := old.script(External), fresh.script(External); !bytes.Equal(a, b) {
		t.Error("they hand out different addresses")
	}
	pay(70_000, 3*GapLimit) // an address that was given before
	old.mine(1)
	fresh = newHome(t, old.chain)
	if a, b := old.funds().Confirmed, fresh.funds().Confirmed; a != b {
		t.Errorf("beyond the gap limit: %v and %v", a, b)
	}
}

// rank tells whether a transaction pays to script.
func rank(t *btcwire.MsgTx, script []byte) []byte {
	for _, o := range t.TxOut {
		if bytes.Equal(o.PkScript, script) {
			return []byte{1}
		}
	}
	return []byte{0}
}

// snapshot is everything that Connect and Disconnect may touch, but for which
// addresses are watched.
func (h *home) snapshot() string {
	var b bytes.Buffer
	h.do(func(tx Tx) error {
		for _, bucket := range []string{bucketCoin, bucketHistory, bucketUndo, bucketLock, bucketPending, bucketSent} {
			must(h, tx.Scan(bucket, nil, 0, func(k, v []byte) error { _, err := fmt.Fprintf(&b, "%s %x %x\n", bucket, k, v); return err }))
		}
		return nil
	})
	return b.String()
}

// TestReorgUndo: disconnecting blocks restores what was before them, to the
// byte.
func TestReorgUndo(t *testing.T) {
	h := newHome(t, nil)
	few(t, 40, func(r *rapid.T) {
		var coins []btcwire.OutPoint
		height := wire.Height(1000)
		var before []string
		salt := rapid.Uint32().Draw(r, "salt")
		for range rapid.IntRange(1, 6).Draw(r, "blocks") {
			before = append(before, h.snapshot())
			cb := btcwire.NewMsgTx(2)
			cb.AddTxIn(&btcwire.TxIn{Sequence: salt, PreviousOutPoint: btcwire.OutPoint{Index: uint32(height)}})
			cb.AddTxOut(btcwire.NewTxOut(50, miner))
			txs := []*btcwire.MsgTx{cb}
			for n := range rapid.IntRange(0, 3).Draw(r, "txs") {
				tx := btcwire.NewMsgTx(2)
				tx.AddTxIn(&btcwire.TxIn{Sequence: salt, PreviousOutPoint: btcwire.OutPoint{Index: uint32(1000*int(height) + n)}})
				for range rapid.IntRange(0, 2).Draw(r, "spends") {
					if len(coins) > 0 {
						tx.AddTxIn(btcwire.NewTxIn(&coins[0], nil, nil))
						coins = coins[1:]
					}
				}
				for range rapid.IntRange(1, 3).Draw(r, "outputs") {
					script := miner
					if rapid.Bool().Draw(r, "ours") {
						var err error
						script, err = h.acct.script(path{rapid.Uint32Range(0, 1).Draw(r, "branch"), rapid.Uint32Range(0, 30).Draw(r, "index")})
						must(h, err)
					}
					tx.AddTxOut(btcwire.NewTxOut(int64(rapid.IntRange(1, 1000).Draw(r, "value")), script))
				}
				for i := range tx.TxOut {
					coins = append(coins, btcwire.OutPoint{Hash: tx.TxHash(), Index: uint32(i)})
				}
				txs = append(txs, tx)
			}
			h.do(func(tx Tx) error { return h.Connect(tx, txs, height) })
			height++
		}
		for i := len(before) - 1; i >= 0; i-- {
			height--
			h.do(func(tx Tx) error { return h.Disconnect(tx, height) })
			if got := h.snapshot(); got != before[i] {
				r.Fatalf("block %d does not come undone:\n%s\nwant\n%s", height, got, before[i])
			}
		}
	})
}

func TestBump(t *testing.T) {
	h := newHome(t, nil)
	h.fund(100_000)
	h.mine(1)
	bump := func(old *btcwire.MsgTx, r wire.SatPerKVB) (tx *btcwire.MsgTx, err error) {
		h.do(func(x Tx) error { tx, err = h.Bump(x, contract.Txid(old), r, 1000); return nil })
		return
	}
	tx := h.send(40_000)
	first, err := bump(tx, 10)
	must(t, err)
	must(t, h.broadcast(first))
	second, err := bump(first, 20_000)
	must(t, err)
	must(t, h.broadcast(second))
	if h.waits(tx) || h.waits(first) || !h.waits(second) {
		t.Error("the mempool does not hold the last bump alone")
	}
	if fee := 100_000 - outSum(second); fee < wire.SatPerKVB(20_000).Fee(100) || second.TxOut[0].Value != 40_000 {
		t.Errorf("fee %v, payment %d", fee, second.TxOut[0].Value)
	}
	if ids := h.unconfirmed(); len(ids) != 1 || ids[0] != contract.Txid(second) {
		t.Errorf("unconfirmed %v, want the last bump", ids)
	}
	for _, old := range []*btcwire.MsgTx{tx, first} {
		_, err = bump(old, 30_000)
		wantErr(t, err, ErrNotBumpable)
	}
	h.wantFunds(Balance{Pending: 100_000})
	_, err = bump(second, 3_000_000) // more than its change
	wantErr(t, err, ErrNotBumpable)
	_, err = bump(conform.Spend(t, wire.Outpoint{}, 2000, 1000), rate)
	wantErr(t, err, ErrUnknownTx)

	// A bump that the network refuses leaves the one before pending.
	third, err := bump(second, 25_000)
	must(t, err)
	h.do(func(x Tx) error { return h.Forget(x, contract.Txid(third)) })
	h.wantFunds(Balance{Pending: 100_000})
	if ids := h.unconfirmed(); len(ids) != 1 || ids[0] != contract.Txid(second) {
		t.Errorf("unconfirmed %v, want the last bump but one", ids)
	}
	// It is not the last that confirms.
	if third, err = bump(second, 25_000); err != nil {
		t.Fatal(err)
	}
	h.mine(1)
	rest := outSum(second) - 40_000
	h.wantFunds(Balance{Confirmed: rest})
	if ids := h.unconfirmed(); len(ids) != 0 {
		t.Errorf("unconfirmed %v", ids)
	}
	for _, x := range []*btcwire.MsgTx{second, third} {
		_, err = bump(x, 90_000)
		wantErr(t, err, ErrNotBumpable)
	}
	// A reorg takes it out again: the coin is pending, its change gone.
	h.reorg(1, contract.Txid(second))
	h.wantFunds(Balance{Pending: 100_000})

	h = newHome(t, nil)
	h.fund(50_000)
	h.mine(1)
	var fixed *btcwire.MsgTx
	h.do(func(x Tx) error {
		p, err := h.pick(x, 20_000, contract.FundingWeight(0, 1, false), rate, h.tip())
		must(t, err)
		fixed = btcwire.NewMsgTx(2)
		fixed.AddTxIn(&btcwire.TxIn{PreviousOutPoint: contract.OutPoint(p.Inputs[0]), Sequence: contract.Sequence})
		fixed.AddTxOut(btcwire.NewTxOut(int64(p.Change), p.ChangeScript))
		return h.Sign(x, fixed, true)
	})
	_, err = bump(fixed, 10_000)
	wantErr(t, err, ErrNotBumpable) // no node has it
	// Signing again gives the same bytes.
	again := fixed.Copy()
	h.do(func(x Tx) error { return h.Sign(x, again, true) })
	if !bytes.Equal(contract.EncodeTx(fixed), contract.EncodeTx(again)) || !bytes.Equal(fixed.TxIn[0].Witness[0], again.TxIn[0].Witness[0]) {
		t.Error("a second signature differs")
	}
	h.do(func(x Tx) error {
		wantErr(t, h.Sign(x, conform.Spend(t, wire.Outpoint{Txid: wire.Hash{1}}, 2000, 1000), false), ErrUnknownTx)
		return nil
	})
}

// TestForget: a refused payment frees its coins, once and for all.
func TestForget(t *testing.T) {
	h := newHome(t, nil)
	h.fund(60_000, 60_000)
	h.mine(1)
	tx := h.send(100_000)
	h.wantFunds(Balance{Pending: 120_000})
	for range 2 {
		h.do(func(x Tx) error { return h.Forget(x, contract.Txid(tx)) })
		h.wantFunds(Balance{Confirmed: 120_000})
	}
	if len(h.unconfirmed()) != 0 {
		t.Error("a forgotten payment is sent again")
	}
}

// TestOvertaken: another holder of the seed spends one of the two coins of our
// payment. The payment is dead, and the other coin is ours to spend again, until
// a reorg brings the payment back to life.
func TestOvertaken(t *testing.T) {
	h := newHome(t, nil)
	h.fund(60_000, 60_001)
	h.mine(1)
	twin := newHome(t, h.chain)
	ours := h.send(100_000)
	h.wantFunds(Balance{Pending: 120_001})
	// The twin does not know of it.
	var theirs *btcwire.MsgTx
	twin.do(func(x Tx) (err error) {
		theirs, err = twin.Send(x, conform.KeyScript(t), 50_000, rate, twin.tip())
		return err
	})
	if len(theirs.TxIn) != 1 {
		t.Fatal("the twin spends more than one coin")
	}
	_, err := h.chain.MineWith(t.Context(), miner, theirs)
	must(t, err)
	h.sync()
	if h.waits(ours) {
		t.Fatal("the mempool holds a double spend")
	}
	change := outSum(theirs) - 50_000
	left := 120_001 - wire.Sat(60_000)
	if contract.Spends(theirs, contract.OutpointOf(ours.TxIn[0].PreviousOutPoint)) >= 0 {
		left = 120_001 - h.value(ours.TxIn[0].PreviousOutPoint)
	} else {
		left = 120_001 - h.value(ours.TxIn[1].PreviousOutPoint)
	}
	h.wantFunds(Balance{Confirmed: left + change})
	if len(h.unconfirmed()) != 0 {
		t.Error("a dead payment is sent again")
	}
	h.do(func(x Tx) error {
		_, err := h.Bump(x, contract.Txid(ours), 9000, 1000)
		wantErr(t, err, ErrNotBumpable)
		return nil
	})

	h.reorg(1, contract.Txid(theirs))
	h.wantFunds(Balance{Pending: 120_001})
	if ids := h.unconfirmed(); len(ids) != 1 || ids[0] != contract.Txid(ours) {
		t.Errorf("unconfirmed %v, want our payment", ids)
	}
	must(t, h.broadcast(ours))
	h.mine(1)
	h.wantFunds(Balance{Confirmed: outSum(ours) - 100_000})
	// Our own payment in a block, taken out again, is pending again.
	h.reorg(1, contract.Txid(ours))
	h.wantFunds(Balance{Pending: 120_001})
}

func (h *home) value(o btcwire.OutPoint) (v wire.Sat) {
	h.Helper()
	h.do(func(tx Tx) error {
		var c coin
		_, err := get(tx, bucketCoin, contract.OutpointOf(o).Bytes(), &c)
		v = c.Value
		return err
	})
	return v
}

func TestImmature(t *testing.T) {
	h := newHome(t, nil)
	script := h.script(External)
	_, err := h.chain.Mine(t.Context(), 1, script)
	must(t, err)
	h.sync()
	const subsidy = 50 * 100_000_000
	h.wantFunds(Balance{Immature: subsidy})
	h.mine(coinbaseMaturity - 2)
	h.wantFunds(Balance{Immature: subsidy})
	h.do(func(x Tx) error {
		_, err := h.Send(x, miner, 1000, rate, h.tip())
		wantErr(t, err, ErrNoFunds)
		return nil
	})
	h.mine(1)
	h.wantFunds(Balance{Confirmed: subsidy})
	h.send(1000) // and the node agrees
	h.mine(1)
	h.wantFunds(Balance{Confirmed: h.funds().Confirmed})
}

// ledger sums the unspent outputs to our scripts on the active chain, the
// naive way.
func (h *home) ledger() (sum wire.Sat) {
	h.Helper()
	ours := map[string]bool{}
	for branch := range uint32(2) {
		for i := range uint32(80) {
			s, err := h.acct.script(path{branch, i})
			must(h, err)
			ours[string(s)] = true
		}
	}
	coins := map[btcwire.OutPoint]wire.Sat{}
	for height := wire.Height(1); height <= h.tip(); height++ {
		hash, err := h.chain.HashAt(context.Background(), height)
		must(h, err)
		b, _, err := h.chain.Block(context.Background(), hash)
		must(h, err)
		for _, tx := range b.Transactions {
			for _, in := range tx.TxIn {
				delete(coins, in.PreviousOutPoint)
			}
			for i, o := range tx.TxOut {
				if ours[string(o.PkScript)] {
					coins[btcwire.OutPoint{Hash: tx.TxHash(), Index: uint32(i)}] = wire.Sat(o.Value)
				}
			}
		}
	}
	for _, v := range coins {
		sum += v
	}
	return sum
}

// TestConservation: over random payments, bumps, blocks and reorgs the wallet
// has what the chain says, no more and no less, and knows which of it waits.
func TestConservation(t *testing.T) {
	h := newHome(t, nil)
	h.fund(200_000, 100_000, 50_000, 25_000, 10_000)
	h.mine(1)
	few(t, 25, func(r *rapid.T) {
		for range rapid.IntRange(1, 8).Draw(r, "steps") {
			switch rapid.IntRange(0, 5).Draw(r, "op") {
			case 0, 1:
				var tx *btcwire.MsgTx
				var err error
				h.do(func(x Tx) error {
					amount := wire.Sat(rapid.IntRange(330, 20_000).Draw(r, "amount"))
					tx, err = h.Send(x, conform.KeyScript(h), amount, rate, h.tip())
					return nil
				})
				if errors.Is(err, ErrNoFunds) {
					h.fund(50_000)
					continue
				}
				must(h, err)
				must(h, h.broadcast(tx))
			case 2:
				if ids := h.unconfirmed(); len(ids) > 0 {
					var tx *btcwire.MsgTx
					var err error
					h.do(func(x Tx) error { tx, err = h.Bump(x, ids[0], 4000, 1000); return nil })
					if errors.Is(err, ErrNotBumpable) {
						continue
					}
					must(h, err)
					if h.broadcast(tx) != nil {
						h.do(func(x Tx) error { return h.Forget(x, contract.Txid(tx)) })
					}
				}
			case 3, 4:
				h.mine(rapid.IntRange(1, 2).Draw(r, "blocks"))
			case 5:
				var without []wire.Hash
				if rapid.Bool().Draw(r, "without") {
					h.do(func(x Tx) error {
						list, err := h.History(x)
						if len(list) > 0 {
							without = append(without, list[len(list)-1].Txid)
						}
						return err
					})
				}
				h.reorg(rapid.IntRange(1, 3).Draw(r, "depth"), without...)
			}
			b := h.funds()
			if sum, want := b.Confirmed+b.Pending+b.Locked+b.Immature, h.ledger(); sum != want {
				r.Fatalf("balance %+v is %v, the chain says %v", b, sum, want)
			}
			var pending wire.Sat
			h.do(func(x Tx) error {
				list, err := h.Unconfirmed(x)
				for _, tx := range list {
					for _, in := range tx.TxIn {
						var c coin
						if ok, err := get(x, bucketCoin, contract.OutpointOf(in.PreviousOutPoint).Bytes(), &c); err == nil && ok {
							pending += c.Value
						}
					}
				}
				return err
			})
			if b.Pending != pending {
				r.Fatalf("pending %v, the unconfirmed transactions spend %v", b.Pending, pending)
			}
		}
	})
}
