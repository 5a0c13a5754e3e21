package node

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node/banking"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// greedy is a banker that says it keeps back nearly all of a bank.
type greedy struct{ p2p.Banks }

type greedyTill struct{ p2p.Till }

func (g greedy) Till(ctx context.Context, id wire.Hash) (p2p.Till, error) {
	t, err := g.Banks.Till(ctx, id)
	return greedyTill{t}, err
}

func (g greedyTill) State() *wire.BankState {
	s := *g.Till.State()
	s.Reserve = 89_000
	return &s
}

// TestReserveIsBelievedToALimit: a banker does not reveal all its pennies to the next
// one, whatever that says closing costs.
func TestReserveIsBelievedToALimit(t *testing.T) {
	tier.NotShort(t)
	w := emptyTown(t)
	fees := &wire.Fees{Base: 100, PPM: 1000}
	from, one := w.home("payer", nil), w.payee("one", fees)
	two := w.home("two", nil)
	two.cfg.Banking = &banking.Policy{Policy: taking, Fees: fees}
	two.cfg.Listen = []string{"/ip4/127.0.0.1/tcp/0"}
	two.cfg.ServeBanks = func(b p2p.Banks) p2p.Banks { return greedy{b} }
	two.start()
	two.cfg.Listen = two.node.Addrs()
	to := w.payee("payee", nil)
	from.start()
	w.mine(1)
	for _, h := range []*home{from, one, two} {
		w.fund(h, 1_000_000)
	}
	w.opened(from, one, 90_000, 126, 10)
	second := w.opened(one, two, 90_000, 126, 10)
	w.opened(two, to, 90_000, 126, 10)
	id, err := from.node.Banks.PayTo(t.Context(), banking.Payment{To: to.node.Key(), Amount: 10_000, Step: 10_000, MaxFee: 1_000_000})
	must(t, err)
	for end := time.Now().Add(5 * time.Minute); !w.sending(from, id).Ended; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the payment does not end")
		}
	}
	if y := w.payeeOf(two, second); y.Count() != 0 {
		t.Errorf("the second banker holds %d pennies", y.Count())
	}
}

// offered is a bank that a stranger makes, funded by the faucet or not at all.
func (w *town) offered(to *home, id bank.ID, root wire.Secret, l penny.Ladder, expiry wire.Height, fund bool, change func(*wire.BankTerms)) *wire.BankOpen {
	w.t.Helper()
	priv, err := wire.Secret(wire.Tagged("bank-payee", to.node.identity[:], id[:])).PrivKey()
	must(w.t, err)
	terms, b, f, _, err := bank.Build(&bank.Prepare{Root: root, Payee: wire.XOnly(priv.PubKey()), Expiry: expiry, Ladder: l, Inputs: []wire.Outpoint{{Vout: 7}}})
	must(w.t, err)
	if change != nil {
		change(&terms)
		b, err = contract.NewBank(terms)
		must(w.t, err)
		f = b.Funding([]wire.Outpoint{{Vout: 7}}, 0, nil)
	}
	raw, at := contract.EncodeTx(f), wire.Outpoint{Txid: contract.Txid(f)}
	if fund {
		at, err = w.chain.Faucet(w.t.Context(), b.PkScript(), l.Value)
		must(w.t, err)
		for _, tx := range w.chain.Mempool() {
			if contract.Txid(tx) == at.Txid {
				raw = contract.EncodeTx(tx)
			}
		}
	}
	sigs, err := b.SignRungs(at, bank.PayerKey(root))
	must(w.t, err)
	return &wire.BankOpen{Bank: id, Terms: terms, Funding: raw, Vout: at.Vout, Sigs: sigs}
}

// TestBankOpenedAgain: an id that serves again, after a bank that was never funded, is
// judged by its own locks: none of its pennies counts, and it takes no other bank
// with it.
func TestBankOpenedAgain(t *testing.T) {
	tier.NotShort(t)
	w := emptyTown(t)
	from := w.home("payer", nil)
	from.start()
	to := w.payee("payee", nil)
	w.mine(1)
	w.fund(from, 1_000_000)
	y := service(to)
	var id bank.ID
	var root wire.Secret
	_, _ = rand.Read(id[:])
	_, _ = rand.Read(root[:])
	small, large := penny.Ladder{Value: 90_000, Rungs: 1, PerRung: 140}, penny.Ladder{Value: 90_000, Rungs: 14, PerRung: 10}
	first := w.offered(to, id, root, small, to.node.engine.Position().Height+300, false, nil)
	for range 2 { // the second has the paper looked up
		must(t, y.Open(t.Context(), p2p.Caller{}, first))
	}
	_, err := to.node.Engine().Tell(t.Context(), payeeRef(id), bank.Evicted{})
	must(t, err)
	if _, err := to.node.Engine().State(t.Context(), payeeRef(id)); err == nil {
		t.Fatal("a bank that is displaced is not forgotten")
	}
	honest := w.opened(from, to, 200_000, 14, 10)
	w.pay(from, honest, 140)
	must(t, y.Open(t.Context(), p2p.Caller{}, w.offered(to, id, root, large, w.payeeOf(to, honest).Expiry, true, func(terms *wire.BankTerms) {
		for i := range terms.Locks {
			_, _ = rand.Read(terms.Locks[i][:])
		}
	})))
	w.mine(3)
	till, err := y.Till(t.Context(), id)
	must(t, err)
	s := w.payeeOf(to, id)
	c := s.Chain()
	purse, list := penny.NewPurse(bank.Pence(root, 140)), []byte(nil)
	for _, seq := range []uint32{100, 50, 0} {
		list = c.Encode(list, purse.At(seq))
	}
	must(t, till.Check(list))
	if _, err := till.Keep(t.Context()); err == nil {
		t.Error("pennies under false locks are taken")
	}
	if s = w.payeeOf(to, id); s.Rung() != 0 || s.Stop != bank.StopLock {
		t.Errorf("rung %d, %v", s.Rung(), s.Stop)
	}
	w.mine(300)
	if h := w.payeeOf(to, honest); h.State() != bank.StateClosed || h.Spend.Rung != 14 {
		t.Errorf("the honest payer's bank is %s", h.State())
	}
}

// TestPaperStays: a bank that is opened again as the one before it is forgotten has
// its paper.
func TestPaperStays(t *testing.T) {
	tier.NotShort(t)
	w := emptyTown(t)
	to := w.home("payee", nil)
	to.cfg.Banking = &banking.Policy{Policy: taking, OfferPause: time.Microsecond}
	to.cfg.Listen = []string{"/ip4/127.0.0.1/tcp/0"}
	to.start()
	w.mine(1)
	y := service(to)
	for range 4 {
		var id bank.ID
		var root wire.Secret
		_, _ = rand.Read(id[:])
		_, _ = rand.Read(root[:])
		o := w.offered(to, id, root, penny.Ladder{Value: 90_000, Rungs: 14, PerRung: 10}, to.node.engine.Position().Height+600, false, nil)
		must(t, y.Open(t.Context(), p2p.Caller{}, o))
		w.mine(12)
		var stop atomic.Bool
		var again sync.WaitGroup
		again.Go(func() {
			for !stop.Load() {
				_ = y.Open(t.Context(), p2p.Caller{}, o)
			}
		})
		w.mine(1)
		time.Sleep(20 * time.Millisecond)
		stop.Store(true)
		again.Wait()
		w.settle()
		if _, err := to.node.Engine().State(t.Context(), payeeRef(id)); err == nil {
			must(t, to.node.store.View(t.Context(), func(tx engine.Tx) error {
				raw, err := tx.Get(bucketPaper, append([]byte{'e'}, id[:]...))
				if raw == nil {
					t.Error("a bank without its paper")
				}
				return err
			}))
		}
	}
}

// TestPairLimit: what goes into banks the other way is limited, however many ask at
// once, and for how long.
func TestPairLimit(t *testing.T) {
	tier.NotShort(t)
	w := emptyTown(t)
	a, b := w.payee("a", nil), w.payee("b", nil)
	w.mine(1)
	w.fund(a, 1_000_000)
	for range 4 {
		w.fund(b, 60_000)
	}
	b.node.cfg.Banking.Back = 60_000
	var ids []bank.ID
	for range 4 {
		ids = append(ids, w.opened(a, b, 50_000, 14, 100))
	}
	ask := func(id bank.ID, expiry wire.Height) error {
		_, err := service(b).Pair(t.Context(), &wire.PairRequest{Bank: id, Key: a.node.Key(), Addrs: a.node.Addrs(), Value: 50_000, Rungs: 14, PerRung: 1, Expiry: expiry})
		return err
	}
	until := w.payeeOf(b, ids[0]).Expiry
	if err := ask(ids[0], until+1); err == nil {
		t.Error("a bank that outlives the one that it is asked for with")
	}
	var wg sync.WaitGroup
	for _, id := range ids {
		wg.Go(func() { _ = ask(id, until) })
	}
	wg.Wait()
	w.settle()
	w.mine(3)
	var held wire.Sat
	must(t, b.node.Banks.Payers(t.Context(), func(p bank.Payer) error {
		if p.State() != bank.StateFailed {
			held += p.Ladder.Value
		}
		return nil
	}))
	if held != 50_000 {
		t.Errorf("%v are in banks the other way, of 60000 sat", held)
	}
}

// TestResumeAfterRestore: a payment that was paid after the backup was made is not
// paid again.
func TestResumeAfterRestore(t *testing.T) {
	tier.NotShort(t)
	w := emptyTown(t)
	from, to := w.home("payer", nil), w.payee("payee", nil)
	from.start()
	w.mine(1)
	w.fund(from, 1_000_000)
	id := w.opened(from, to, 200_000, 14, 100)
	key := to.node.Key()
	must(t, to.node.Close())
	delete(w.homes, "payee")
	pay, err := from.node.Banks.PayTo(t.Context(), banking.Payment{To: key, Amount: 50_000_000})
	must(t, err)
	saved := from.save("old")
	to.start()
	w.homes["payee"] = to
	until := func(what string, f func() bool) {
		t.Helper()
		for end := time.Now().Add(5 * time.Minute); !f(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	until("it is not paid", func() bool { return w.sending(from, pay).Done() })
	before := w.payeeOf(to, id)
	from.lose(saved)
	must(t, from.node.Banks.ResumePayment(t.Context(), pay))
	until("it does not end again", func() bool { return w.sending(from, pay).Ended })
	if s := w.sending(from, pay); !s.Done() {
		t.Errorf("%s: %s", s.State(), s.Why)
	}
	if y := w.payeeOf(to, id); y.Count() != before.Count() || y.Assigned != before.Assigned {
		t.Errorf("the payee has %d pennies, and had %d", y.Count(), before.Count())
	}
}

// TestPayeeThatAcknowledgesNothing keeps nobody waiting.
func TestPayeeThatAcknowledgesNothing(t *testing.T) {
	tier.NotShort(t)
	w := emptyTown(t)
	from, to := w.home("payer", nil), w.payee("payee", nil)
	from.start()
	w.mine(1)
	w.fund(from, 1_000_000)
	id := w.opened(from, to, 200_000, 14, 100)
	y := w.payeeOf(to, id)
	priv, err := to.node.identity.PrivKey()
	must(t, err)
	listen := to.node.Addrs()
	must(t, to.node.Close())
	delete(w.homes, "payee")
	key, err := crypto.UnmarshalSecp256k1PrivateKey(priv.Serialize())
	must(t, err)
	h, err := libp2p.New(libp2p.Identity(key), libp2p.ListenAddrStrings(listen...))
	must(t, err)
	defer h.Close()
	h.SetStreamHandler("/bitgram/pennies/3", func(st network.Stream) {
		var f wire.PayerFrame
		if wire.WriteFrame(st, &wire.Reply{}) != nil || wire.ReadFrame(st, &f) != nil {
			return
		}
		var s wire.BankState
		c := y.Chain()
		copy(s.Known[:], c.Encode(nil, y.Known))
		_ = wire.WriteFrame(st, &wire.PayeeFrame{Lane: f.Lane, State: []wire.BankState{s}})
		for wire.WriteFrame(st, &wire.PayeeFrame{Lane: f.Lane, Taken: []wire.Taken{{Seq: y.Known.Seq}}}) == nil {
			time.Sleep(10 * time.Millisecond)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if _, err := from.node.Banks.PayPennies(ctx, id, 10, banking.Streaming{Each: true, Window: 4}); !errors.Is(err, bank.ErrBadBank) {
		t.Errorf("%v", err)
	}
	delete(w.homes, "payer") // its order is never carried out: it does not come to rest
	must(t, from.node.Close())
}
