package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node/banking"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// taking is what the town's payees take.
var taking = bank.Policy{MinValue: 1_000, MaxRungs: 1022, MaxBanks: 100}

// payee opens a home that takes banks, and passes payments on where fees are set.
func (w *town) payee(name string, fees *wire.Fees) *home {
	h := w.home(name, nil)
	h.cfg.Banking = &banking.Policy{Policy: taking, Fees: fees, Back: 1_000_000}
	h.cfg.Listen = []string{"/ip4/127.0.0.1/tcp/0"}
	h.start()
	h.cfg.Listen = h.node.Addrs()
	return h
}

// payeeOn is a payee of banks whose Bitcoin node is c, and which forwards nothing.
func (w *town) payeeOn(name string, c chain.Backend) *home {
	h := w.home(name, nil)
	h.cfg.Chain = c
	h.cfg.Banking = &banking.Policy{Policy: taking}
	h.cfg.Listen = []string{"/ip4/127.0.0.1/tcp/0"}
	return h
}

// peer is how others reach a payee.
func (h *home) peer() bank.Peer { return bank.Peer{Key: h.node.Key(), Addrs: h.node.Addrs()} }

// opened opens a bank and mines until both sides have it open.
func (w *town) opened(from, to *home, value wire.Sat, rungs, perRung uint32) bank.ID {
	w.t.Helper()
	id, err := from.node.Banks.OpenBank(w.t.Context(), banking.Terms{Peer: to.peer(), Value: value, Rungs: rungs, PerRung: perRung, Blocks: 300, MaxFee: 10_000})
	must(w.t, err)
	w.settle()
	w.mine(int(bank.MarginsFor(wire.Regtest).ConfFor(value)))
	if p := w.payer(from, id); p.State() != bank.StateOpen {
		w.t.Fatalf("the bank is %s: %s", p.State(), p.Failure)
	}
	if y := w.payeeOf(to, id); y.State() != bank.StateOpen {
		w.t.Fatalf("the payee's bank is %s", y.State())
	}
	return id
}

func (w *town) payer(h *home, id bank.ID) bank.Payer {
	w.t.Helper()
	s, err := h.node.Engine().State(w.t.Context(), payerRef(id))
	must(w.t, err)
	return s.(bank.Payer)
}

func (w *town) payeeOf(h *home, id bank.ID) bank.Payee {
	w.t.Helper()
	s, err := h.node.Engine().State(w.t.Context(), payeeRef(id))
	must(w.t, err)
	return s.(bank.Payee)
}

func (w *town) pay(h *home, id bank.ID, n uint32) bank.Payer {
	w.t.Helper()
	p, err := h.node.Banks.PayPennies(w.t.Context(), id, n, banking.Streaming{Each: true, Window: 64})
	must(w.t, err)
	return p
}

// TestBankAlone: a bank is opened and paid from, the payer vanishes, and the payee
// settles alone before the end.
func TestBankAlone(t *testing.T) {
	tier.NotShort(t)
	w := emptyTown(t)
	from, to := w.home("payer", nil), w.payee("payee", nil)
	from.start()
	w.mine(1)
	w.fund(from, 1_000_000)
	id := w.opened(from, to, 200_000, 14, 100)
	w.pay(from, id, 250)
	if y := w.payeeOf(to, id); y.Count() != 250 || y.Rung() != 2 {
		t.Fatalf("%d pennies, rung %d", y.Count(), y.Rung())
	}
	must(t, from.node.Close())
	delete(w.homes, "payer")
	w.mine(300)
	y := w.payeeOf(to, id)
	if y.State() != bank.StateClosed || y.Spend.Rung != 2 {
		t.Fatalf("%s at %+v", y.State(), y.Spend)
	}
	if deadline := y.Expiry - wire.Height(y.Margins.Close); y.Spend.Height > deadline {
		t.Errorf("closed at %d, after %d", y.Spend.Height, deadline)
	}
	b, err := to.node.Coins.Balance(t.Context())
	must(t, err)
	if want := y.Ladder.Share(2) - y.Alone.Fee; b.Confirmed != want {
		t.Errorf("the payee has %v, not %v", b.Confirmed, want)
	}
	// The payer comes back and finds its change.
	from.start()
	w.homes["payer"] = from
	w.settle()
	w.mine(10)
	if p := w.payer(from, id); p.State() != bank.StateClosed || p.Returned == nil {
		t.Errorf("%s, change %v", p.State(), p.Returned)
	}
	w.balanced(1_000_000)
}

// TestBankTogether: both sides close at the very penny.
func TestBankTogether(t *testing.T) {
	w := emptyTown(t)
	from, to := w.home("payer", nil), w.payee("payee", nil)
	from.start()
	w.mine(1)
	w.fund(from, 1_000_000)
	id := w.opened(from, to, 50_000, 14, 100)
	w.pay(from, id, 333)
	must(t, from.node.Banks.CloseBank(t.Context(), payerRef(id)))
	w.settle()
	if _, err := from.node.Banks.PayPennies(t.Context(), id, 1, banking.Streaming{}); !errors.Is(err, bank.ErrNotOpen) {
		t.Errorf("a penny after the close was asked for: %v", err)
	}
	w.mine(10)
	p, y := w.payer(from, id), w.payeeOf(to, id)
	if !p.Spend.Together || !y.Spend.Together || p.Spend.Change != y.Ladder.Value-y.Paid(333) {
		t.Errorf("%+v, %+v", p.Spend, y.Spend)
	}
	w.balanced(1_000_000)
}

// TestBankRefund: a bank that nobody was paid from comes back whole.
func TestBankRefund(t *testing.T) {
	tier.NotShort(t)
	w := emptyTown(t)
	from, to := w.home("payer", nil), w.payee("payee", nil)
	from.start()
	w.mine(1)
	w.fund(from, 1_000_000)
	id := w.opened(from, to, 50_000, 14, 100)
	w.pay(from, id, 99) // of no rung
	w.mine(320)
	if p := w.payer(from, id); p.State() != bank.StateRefunded {
		t.Errorf("%s", p.State())
	}
	w.balanced(1_000_000)
}

// TestBankers: a payment goes over two bankers, step by step, each with the final
// payee's word; what a banker keeps is its fee.
func TestBankers(t *testing.T) {
	tier.NotShort(t)
	w := emptyTown(t)
	fees := &wire.Fees{Base: 100, PPM: 1000}
	from, one, two, to := w.home("payer", nil), w.payee("one", fees), w.payee("two", fees), w.payee("payee", nil)
	from.start()
	w.mine(1)
	for _, h := range []*home{from, one, two} {
		w.fund(h, 1_000_000)
	}
	a := w.opened(from, one, 90_000, 126, 10)
	b := w.opened(one, two, 90_000, 126, 10)
	c := w.opened(two, to, 90_000, 126, 10)
	pay := banking.Payment{To: to.node.Key(), Amount: 20_000_500, Step: 3_000_000, MaxFee: 1_000_000}
	id, err := from.node.Banks.PayTo(t.Context(), pay)
	must(t, err)
	w.settle()
	state, err := from.node.Engine().State(t.Context(), sendingRef(id))
	must(t, err)
	s := state.(bank.Sending)
	if !s.Done() || s.Index != 7 || len(s.Order.Bankers) != 2 {
		t.Fatalf("%s at step %d over %d: %s", s.State(), s.Index, len(s.Order.Bankers), s.Why)
	}
	if got := w.payeeOf(to, c).Assigned; got != pay.Amount {
		t.Errorf("the payee counts %v, not %v", got, pay.Amount)
	}
	var earned wire.Msat
	for _, h := range []*home{one, two} {
		must(t, h.node.Banks.Relays(t.Context(), func(r bank.Relay) error {
			earned += r.Fees
			return nil
		}))
	}
	if earned != s.Fees || earned == 0 {
		t.Errorf("bankers keep %v, %v were paid", earned, s.Fees)
	}
	if x := w.payeeOf(one, a).Assigned; x != pay.Amount+s.Fees {
		t.Errorf("the first banker counts %v", x)
	}
	_ = b
	// A payee that nobody reaches.
	if _, err := from.node.Banks.PayTo(t.Context(), banking.Payment{To: w.payee("stranger", nil).node.Key(), Amount: 1000, MaxFee: 1000}); !errors.Is(err, banking.ErrNoRoute) {
		t.Error(err)
	}
}

// TestBankPair: the payee opens a bank the other way, once.
func TestBankPair(t *testing.T) {
	tier.NotShort(t)
	w := emptyTown(t)
	a, b := w.payee("a", nil), w.payee("b", nil)
	w.mine(1)
	w.fund(a, 1_000_000)
	w.fund(b, 1_000_000)
	id := w.opened(a, b, 50_000, 14, 100)
	back, err := a.node.Banks.AskPair(t.Context(), id, 40_000)
	must(t, err)
	if again, err := a.node.Banks.AskPair(t.Context(), id, 40_000); err != nil || again != back {
		t.Errorf("%v, %v", again, err)
	}
	w.settle()
	w.mine(3)
	w.pay(a, id, 200)
	w.pay(b, back, 100)
	if y := w.payeeOf(a, back); y.Count() != 100 {
		t.Errorf("%d pennies", y.Count())
	}
}

// TestBankPairOrdered: a reverse bank that is ordered with a bank comes once that is
// open, although the home ends meanwhile; a request before is answered with that
// reason.
func TestBankPairOrdered(t *testing.T) {
	tier.NotShort(t)
	w := emptyTown(t)
	a, b := w.payee("a", nil), w.payee("b", nil)
	w.mine(1)
	w.fund(a, 1_000_000)
	w.fund(b, 1_000_000)
	terms := banking.Terms{Peer: b.peer(), Value: 50_000, Rungs: 14, PerRung: 100, Blocks: 300, MaxFee: 10_000, Back: 40_000, Key: "order"}
	id, err := a.node.Banks.OpenBank(t.Context(), terms)
	must(t, err)
	if _, err := a.node.Banks.AskPair(t.Context(), id, 40_000); !errors.Is(err, bank.ErrNotOpen) {
		t.Errorf("before it is open: %v", err)
	}
	w.settle()
	must(t, a.node.Close())
	a.start()
	if again, err := a.node.Banks.OpenBank(t.Context(), terms); err != nil || again != id {
		t.Errorf("repeated: %v, %v", again, err)
	}
	terms.Back = 0
	if _, err := a.node.Banks.OpenBank(t.Context(), terms); !errors.Is(err, banking.ErrKey) {
		t.Errorf("repeated without the reverse bank: %v", err)
	}
	w.mine(int(bank.MarginsFor(wire.Regtest).ConfFor(50_000)))
	p := w.payer(a, id)
	if p.Reverse == nil {
		t.Fatalf("no reverse bank: %q; it is %s, asked %v", p.NoReverse, p.State(), p.Asked)
	}
	w.settle()
	w.mine(3)
	w.pay(b, *p.Reverse, 100)
	if y := w.payeeOf(a, *p.Reverse); y.Count() != 100 {
		t.Errorf("%d pennies", y.Count())
	}
	// One that the payee refuses: more than the bank itself.
	terms = banking.Terms{Peer: b.peer(), Value: 50_000, Rungs: 14, PerRung: 100, Blocks: 300, MaxFee: 10_000, Back: 60_000}
	id, err = a.node.Banks.OpenBank(t.Context(), terms)
	must(t, err)
	w.settle()
	w.mine(int(bank.MarginsFor(wire.Regtest).ConfFor(50_000)))
	if p := w.payer(a, id); p.Reverse != nil || p.NoReverse == "" || p.State() != bank.StateOpen {
		t.Errorf("%v, %q, %s", p.Reverse, p.NoReverse, p.State())
	}
}

// TestFalsePennies: the payee refuses what is no payment, and goes on with what is.
func TestFalsePennies(t *testing.T) {
	tier.NotShort(t)
	w := emptyTown(t)
	from, to := w.home("payer", nil), w.payee("payee", nil)
	from.start()
	w.mine(1)
	w.fund(from, 1_000_000)
	id := w.opened(from, to, 50_000, 14, 100)
	w.pay(from, id, 10)
	p := w.payer(from, id)
	u := penny.NewPurse(bank.Pence(p.Root, p.Ladder.N()))
	c := p.Chain()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	code := func(pennies ...penny.Penny) (codes wire.Code) {
		t.Helper()
		till, err := service(to).Till(ctx, id)
		if err == nil {
			defer till.Close()
			var list []byte
			for _, y := range pennies {
				list = c.Encode(list, y)
			}
			if err = till.Check(list); err == nil {
				_, err = till.Keep(ctx)
			}
		}
		var refusal *wire.Refusal
		if errors.As(err, &refusal) {
			return refusal.Code
		}
		must(t, err)
		return wire.OK
	}
	all := p.Ladder.N()
	if got := code(u.At(all - 10)); got != wire.BadRequest {
		t.Errorf("the same again: %v", got)
	}
	if got := code(u.At(all - 5)); got != wire.BadRequest {
		t.Errorf("one of before: %v", got)
	}
	bad := u.At(all - 11)
	bad.Secret[3]++
	if got := code(bad); got != wire.WrongSecret {
		t.Errorf("a false one: %v", got)
	}
	if got := code(u.At(all - 11)); got != wire.Busy {
		t.Errorf("right after a false one: %v", got)
	}
	time.Sleep(2 * time.Second) // as long as a bank waits after a false penny
	if got := code(u.At(all - 10 - wire.MaxSkip - 1)); got != wire.TooBig {
		t.Errorf("a jump too far: %v", got)
	}
	var jumps []penny.Penny
	for n := uint32(10); n < 600; {
		n = min(n+wire.MaxSkip, 600)
		jumps = append(jumps, u.At(all-n))
	}
	if got := code(jumps...); got != wire.OK {
		t.Errorf("jumps over rungs: %v", got)
	}
	if y := w.payeeOf(to, id); y.Count() != 600 || contract.Lock(y.Secret(6)) == ([20]byte{}) {
		t.Errorf("%d pennies", y.Count())
	}
	// Last, because the true one is remembered as long as the payer's stream is open.
	if got := code(u.At(all-602), u.At(all-601)); got != wire.BadRequest {
		t.Errorf("out of order: %v", got)
	}
}

// lose makes a home anew of a copy of its database.
func (h *home) lose(saved string) {
	w := h.town
	w.t.Helper()
	must(w.t, h.node.Close())
	must(w.t, os.RemoveAll(h.cfg.Dir))
	must(w.t, os.MkdirAll(h.cfg.Dir, 0o700))
	must(w.t, os.Rename(saved, filepath.Join(h.cfg.Dir, fileDB)))
	must(w.t, MarkRestored(context.Background(), filepath.Join(h.cfg.Dir, fileDB)))
	h.start()
	w.settle()
}

// kill ends a node whose files are then as they are now.
func (h *home) kill() {
	t := h.town.t
	t.Helper()
	saved := h.save("killed")
	generation, err := os.ReadFile(filepath.Join(h.cfg.Dir, fileGeneration))
	must(t, err)
	must(t, h.node.Close())
	for _, end := range []string{"-wal", "-shm"} {
		must(t, os.RemoveAll(filepath.Join(h.cfg.Dir, fileDB+end)))
	}
	must(t, os.Rename(saved, filepath.Join(h.cfg.Dir, fileDB)))
	must(t, os.WriteFile(filepath.Join(h.cfg.Dir, fileGeneration), generation, 0o600))
}

func (h *home) save(name string) string {
	path := filepath.Join(h.town.dir, name)
	must(h.town.t, h.node.Snapshot(context.Background(), path))
	return path
}

// TestBankRestoredPayer: a payer that is made anew of an old backup asks the payee
// what has left since, and pays no penny twice.
func TestBankRestoredPayer(t *testing.T) {
	tier.NotShort(t)
	w := emptyTown(t)
	from, to := w.home("payer", nil), w.payee("payee", nil)
	from.start()
	w.mine(1)
	w.fund(from, 1_000_000)
	id := w.opened(from, to, 50_000, 14, 100)
	w.pay(from, id, 100)
	saved := from.save("old")
	w.pay(from, id, 250)
	from.lose(saved)
	p := w.payer(from, id)
	if p.Behind || p.Target != 350 || p.Acked != 350 {
		t.Fatalf("behind %v, %d pennies ordered, %d acknowledged", p.Behind, p.Target, p.Acked)
	}
	w.pay(from, id, 50)
	if y := w.payeeOf(to, id); y.Count() != 400 {
		t.Errorf("the payee holds %d", y.Count())
	}
	// Another bank is another chain, whatever the backup said.
	other := w.payer(from, w.opened(from, to, 50_000, 14, 100))
	if other.Nonce == p.Nonce || other.Root == p.Root {
		t.Error("two banks have one chain")
	}
}

// TestBankRestoredPayee: a payee that is made anew of an old backup gets what it
// had from the payer, credits nothing more, and closes at it.
func TestBankRestoredPayee(t *testing.T) {
	tier.NotShort(t)
	w := emptyTown(t)
	from, to := w.home("payer", nil), w.payee("payee", nil)
	from.start()
	w.mine(1)
	w.fund(from, 1_000_000)
	id := w.opened(from, to, 50_000, 14, 100)
	w.pay(from, id, 100)
	saved := to.save("old")
	w.pay(from, id, 250)
	to.lose(saved)
	if y := w.payeeOf(to, id); y.Count() != 100 || y.State() != bank.StateStopped {
		t.Fatalf("%d pennies, %s", y.Count(), y.State())
	}
	p, err := from.node.Banks.PayPennies(t.Context(), id, 10, banking.Streaming{Each: true})
	if err == nil || p.Acked != 350 || p.PayeeWhy == "" {
		t.Errorf("a restored payee takes pennies: %v, %d acknowledged", err, p.Acked)
	}
	if y := w.payeeOf(to, id); y.Count() != 350 {
		t.Errorf("the payee has %d pennies back, of 350", y.Count())
	}
	w.mine(40)
	if y := w.payeeOf(to, id); y.State() != bank.StateClosed || y.Spend.Rung != 3 {
		t.Errorf("%s: %+v", y.State(), y.Spend)
	}
	w.balanced(1_000_000)
}

// TestFundingWaitsForBackup: no funding is signed while the backup is not current.
func TestFundingWaitsForBackup(t *testing.T) {
	w := emptyTown(t)
	from, to := w.home("payer", nil), w.payee("payee", nil)
	full := errors.New("the other disk is full")
	var away atomic.Bool
	away.Store(true)
	from.cfg.Secure = func(context.Context) error {
		if away.Load() {
			return full
		}
		return nil
	}
	from.start()
	w.mine(1)
	_, script, err := from.node.Coins.NewAddress(t.Context())
	must(t, err)
	_, err = w.chain.Faucet(t.Context(), script, 1_000_000)
	must(t, err)
	w.mine(1)
	id, err := from.node.Banks.OpenBank(t.Context(), banking.Terms{Peer: to.peer(), Value: 50_000, Rungs: 14, PerRung: 100, Blocks: 300, MaxFee: 10_000})
	must(t, err)
	for end := time.Now().Add(5 * time.Minute); w.payer(from, id).Phase != bank.PayerPublishing; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(w.payer(from, id).Phase)
		}
	}
	_, err = w.chain.Mine(t.Context(), 2, w.miner)
	must(t, err)
	if b, err := from.node.Coins.Balance(t.Context()); err != nil || b.Pending != 0 || b.Locked == 0 {
		t.Errorf("%+v, %v", b, err)
	}
	away.Store(false)
	w.settle()
	w.mine(3)
	if p := w.payer(from, id); p.State() != bank.StateOpen {
		t.Errorf("%s: %s", p.State(), p.Failure)
	}
}

// closeTogether has a payee close several banks in one step of its engine, so
// that they share a transaction, whatever the scheduler does.
func closeTogether(t *testing.T, h *home, ids ...bank.ID) {
	t.Helper()
	var list []engine.Delivery
	for _, id := range ids {
		list = append(list, engine.Delivery{Ref: payeeRef(id), Event: bank.CloseWanted{}})
	}
	_, err := h.node.Engine().TellAll(t.Context(), list)
	must(t, err)
}

// TestFindBankUnreadable: a bank is found although the state of another contract
// cannot be read; that one is an error of its own.
func TestFindBankUnreadable(t *testing.T) {
	w := emptyTown(t)
	h := w.home("payer", nil)
	h.start()
	good, bad := payerRef(bank.ID{0xaa, 1}), payerRef(bank.ID{0xbb, 1})
	must(t, h.node.store.Update(t.Context(), func(tx engine.Tx) error {
		raw, err := wire.Marshal(bank.Payer{Ours: bank.Ours{}, Bank: good.ID})
		return errors.Join(err, tx.Save(good, raw, contract.Interest{Done: true}), tx.Save(bad, []byte("junk"), contract.Interest{Done: true}))
	}))
	state, err := h.node.Banks.FindBank(t.Context(), good.ID.String()[:8])
	must(t, err)
	if p, ok := state.(bank.Payer); !ok || p.Bank != good.ID {
		t.Errorf("found %T", state)
	}
	if _, err := h.node.Banks.FindBank(t.Context(), bad.ID.String()); err == nil || errors.Is(err, banking.ErrNoBank) {
		t.Errorf("the unreadable one: %v", err)
	}
	if _, err := h.node.Banks.FindBank(t.Context(), "cccc"); !errors.Is(err, banking.ErrNoBank) {
		t.Errorf("an unknown one: %v", err)
	}
}
