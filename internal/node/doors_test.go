package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node/banking"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// payerAs makes requests about a bank with the payer's key in it.
func payerAs(p *bank.Payer) *p2p.Payer {
	return &p2p.Payer{Bank: p.Bank, Sign: func(d wire.Hash) (wire.Signature, error) { return wire.Sign(bank.PayerKey(p.Root), d) }}
}

// noted gives a step to a payee a note, and the payment's id that commits to it.
func (w *town) noted(to *home, t *wire.Transfer) *wire.Note {
	w.t.Helper()
	var text wire.NoteText
	_, _ = rand.Read(text.Salt[:])
	t.ID = wire.PaymentID(wire.Regtest, &text)
	raw, err := wire.Marshal(text)
	must(w.t, err)
	n := new(wire.Note)
	n.E, n.Box, err = seal.SealNote(text.Salt, to.node.Key(), t.ID, raw)
	must(w.t, err)
	return n
}

// refusal returns the code of a peer's refusal, or OK.
func refusal(err error) wire.Code {
	var theirs *p2p.Refused
	var ours *wire.Refusal
	switch {
	case errors.As(err, &theirs):
		return theirs.Code
	case errors.As(err, &ours):
		return ours.Code
	}
	return wire.OK
}

// deepBank is a bank of many pennies of little worth, and a list of true pennies
// from its beginning, each as far below the one before as is allowed, with a false
// one at the end.
func (w *town) deepBank(from, to *home, jumps int) (id bank.ID, p bank.Payer, u *penny.Purse, list []byte, held uint32) {
	w.t.Helper()
	id, err := from.node.Banks.OpenBank(w.t.Context(), banking.Terms{Peer: to.peer(), Value: 10_000, Rungs: 64, PerRung: 10_000, Blocks: 300, MaxFee: 10_000})
	must(w.t, err)
	w.settle()
	w.mine(3)
	if p = w.payer(from, id); p.State() != bank.StateOpen {
		w.t.Fatal(p.State(), p.Failure)
	}
	u = penny.NewPurse(bank.Pence(p.Root, p.Ladder.N()))
	c := p.Chain()
	seq := p.Ladder.N()
	for range jumps {
		seq -= wire.MaxSkip
		list = c.Encode(list, u.At(seq))
	}
	bad := u.At(seq - wire.MaxSkip)
	bad.Secret[3]++
	return id, p, u, c.Encode(list, bad), p.Ladder.N() - seq
}

// TestFalsePennyIsBounded: what is true before a false penny is kept and charged;
// a penny far below the last one is refused before it is hashed; and after a
// false one the bank pauses on all of its streams, also on those that are open.
func TestFalsePennyIsBounded(t *testing.T) {
	w := emptyTown(t)
	from, to := w.home("payer", nil), w.payee("payee", nil)
	from.start()
	w.mine(1)
	w.fund(from, 1_000_000)
	id, p, u, list, held := w.deepBank(from, to, 500)
	y := service(to)
	open, err := y.Till(t.Context(), id)
	must(t, err)
	defer open.Close()
	err = from.node.calls.Pennies(t.Context(), p.Terms.Peer, payerAs(&p), func(s *p2p.PennyStream) error {
		must(t, s.Send(&wire.Pennies{List: list}))
		for {
			if seq, err := s.Receive(); err != nil {
				return err
			} else if got := p.Ladder.N() - seq; got != held {
				t.Errorf("%d pennies acknowledged, not %d", got, held)
			}
		}
	})
	if got := refusal(err); got != wire.WrongSecret {
		t.Errorf("a false penny: %v", err)
	}
	if y := w.payeeOf(to, id); y.Count() != held {
		t.Errorf("%d true pennies came before a false one, the payee kept %d", held, y.Count())
	}
	c := p.Chain()
	next := u.At(p.Ladder.N() - held - 1)
	if got := refusal(open.Check(c.Encode(nil, next))); got != wire.Busy {
		t.Errorf("an open stream, a moment after a false penny: %v", got)
	}
	time.Sleep(2 * time.Second)
	must(t, open.Check(c.Encode(nil, next)))
	if seq, err := open.Keep(t.Context()); err != nil || seq != next.Seq {
		t.Errorf("%d, %v", seq, err)
	}
	far := penny.Penny{Seq: next.Seq - wire.MaxSkip - 1}
	if got := refusal(open.Check(c.Encode(nil, far))); got != wire.TooBig {
		t.Errorf("a penny %d below the last: %v", wire.MaxSkip+1, got)
	}
	// The same pennies on another stream are not hashed again.
	again, err := y.Till(t.Context(), id)
	must(t, err)
	defer again.Close()
	if got := refusal(again.Check(list)); got != wire.BadRequest {
		t.Errorf("pennies that another stream has checked: %v", got)
	}
}

// TestLongPaymentIsStored: a payment of more pennies than one commit takes is
// stored in several, and a payer pays it without sending each penny.
func TestLongPaymentIsStored(t *testing.T) {
	w := emptyTown(t)
	from, to := w.home("payer", nil), w.payee("payee", nil)
	from.start()
	w.mine(1)
	w.fund(from, 1_000_000)
	id := w.opened(from, to, 50_000, 14, 20_000)
	for _, n := range []uint32{1, 3 * wire.MaxJump, 200} {
		_, err := from.node.Banks.PayPennies(t.Context(), id, n, banking.Streaming{Window: 64})
		must(t, err)
	}
	if y := w.payeeOf(to, id); y.Count() != 3*wire.MaxJump+201 {
		t.Errorf("%d pennies", y.Count())
	}
}

// TestStrangerWithBankID: whoever knows a bank's id, which is shown on screens and
// in logs, reads nothing of the bank, credits nothing with it, and closes it not.
func TestStrangerWithBankID(t *testing.T) {
	w := emptyTown(t)
	from, to, stranger := w.home("payer", nil), w.payee("payee", nil), w.home("stranger", nil)
	from.start()
	stranger.start()
	w.mine(1)
	w.fund(from, 1_000_000)
	id := w.opened(from, to, 50_000, 14, 100)
	w.pay(from, id, 300)
	var root wire.Secret
	_, _ = rand.Read(root[:])
	as := payerAs(&bank.Payer{Bank: id, Root: root})
	other := payerAs(&bank.Payer{Bank: bank.ID{1}, Root: root})
	calls, peer := stranger.node.calls, to.peer()
	tr := &wire.Transfer{ID: wire.Hash{7}, Index: 1, Bank: id, Amount: 5_000_000, Total: 5_000_000}
	for what, err := range map[string]error{
		"read": func() error { _, err := calls.BankState(t.Context(), peer, as); return err }(),
		"stop": func() error { _, err := calls.AskClose(t.Context(), peer, as, 0); return err }(),
		"sign": func() error { _, err := calls.SignClose(t.Context(), peer, as, &wire.CloseSign{Bank: id}); return err }(),
		"pass": func() error { _, err := calls.Transfer(t.Context(), peer, as, tr, &wire.Note{}); return err }(),
		"pair": func() error {
			_, err := calls.Pair(t.Context(), peer, as, &wire.PairRequest{Bank: id, Key: stranger.node.Key(), Addrs: []string{"/ip4/127.0.0.1/tcp/1"}, Value: 1000, Rungs: 1, PerRung: 1, Expiry: w.payeeOf(to, id).Expiry})
			return err
		}(),
		"route": func() error {
			_, err := calls.Route(t.Context(), peer, as, &wire.RouteRequest{Payee: from.node.Key(), Amount: 1000})
			return err
		}(),
		"a bank that is not there": func() error { _, err := calls.BankState(t.Context(), peer, other); return err }(),
	} {
		var refused *p2p.Refused
		if !errors.As(err, &refused) || refused.Code != wire.Unknown || refused.Text != "no such bank" {
			t.Errorf("a stranger's %q: %v", what, err)
		}
	}
	y := w.payeeOf(to, id)
	if y.State() != bank.StateOpen || y.Assigned != 0 || y.Count() != 300 {
		t.Errorf("the bank is %s, %v assigned, %d pennies", y.State(), y.Assigned, y.Count())
	}
	w.pay(from, id, 1)
}

// TestRoutesTellNoBalance: a banker's answers tell its payers no more of its
// balances than powers of two, and strangers nothing.
func TestRoutesTellNoBalance(t *testing.T) {
	t.Parallel()
	tier.NotShort(t)
	w, from, banker, to, first, second := road(t, nil)
	stranger := w.home("stranger", nil)
	stranger.start()
	p := w.payer(from, first)
	ask := func(h *home, as *p2p.Payer, amount wire.Msat) error {
		_, err := h.node.calls.Route(t.Context(), banker.peer(), as, &wire.RouteRequest{Payee: to.node.Key(), Amount: amount})
		return err
	}
	// probe finds the highest amount with a yes. It goes on until it is stopped.
	probe := func() (lo, hi wire.Msat, asked int) {
		hi = 100_000_000
		for hi-lo > 1 {
			mid := (lo + hi) / 2
			asked++
			switch err := ask(from, payerAs(&p), mid); refusal(err) {
			case wire.OK:
				must(t, err)
				lo = mid
			case wire.NoRoute:
				hi = mid
			default:
				return lo, hi, asked
			}
		}
		return lo, hi, asked
	}
	before, _, _ := probe()
	must(t, func() error {
		_, err := banker.node.Banks.PayPennies(t.Context(), second, 10, banking.Streaming{})
		return err
	}())
	must(t, func() error {
		_, err := banker.node.Engine().Tell(t.Context(), payerRef(second), bank.Assigned{ID: wire.Hash{1}, Index: 1, Amount: 1_234_567, Relayed: true})
		return err
	}())
	after, _, _ := probe()
	if before == 0 || before != after {
		t.Errorf("the banker told a change of its balance: %v became %v", before, after)
	}
	if got := refusal(ask(stranger, payerAs(&bank.Payer{Bank: first, Root: wire.Secret{31: 1}}), 1)); got != wire.Unknown {
		t.Errorf("a stranger is answered: %v", got)
	}
	// A payer that is refused again and again has to wait.
	var last wire.Code
	for range 25 {
		if last = refusal(ask(from, payerAs(&p), 99_000_000)); last == wire.Busy {
			break
		}
	}
	if last != wire.Busy {
		t.Errorf("a payer that asks on and on: %v", last)
	}
}

// silent is a payee's host that reads what comes, and says nothing.
func (w *town) silent(h *home) (resume func()) {
	w.t.Helper()
	priv, err := h.node.identity.PrivKey()
	must(w.t, err)
	listen := h.node.Addrs()
	must(w.t, h.node.Close())
	key, err := crypto.UnmarshalSecp256k1PrivateKey(priv.Serialize())
	must(w.t, err)
	host, err := libp2p.New(libp2p.Identity(key), libp2p.ListenAddrStrings(listen...))
	must(w.t, err)
	host.SetStreamHandler("/bitgram/pennies/3", func(st network.Stream) { _, _ = io.Copy(io.Discard, st) })
	return func() {
		must(w.t, host.Close())
		h.start()
	}
}

// TestPaymentIsPaidOnce: a payment whose payee does not answer fails, and says that
// it was ordered; whoever repeats it under its key, before or after the payee is
// back or the payer's daemon has restarted, has paid once.
func TestPaymentIsPaidOnce(t *testing.T) {
	tier.NotShort(t)
	w := emptyTown(t)
	from, to := w.home("payer", nil), w.payee("payee", nil)
	from.start()
	w.mine(1)
	w.fund(from, 1_000_000)
	id := w.opened(from, to, 50_000, 14, 100)
	resume := w.silent(to)
	pay := func(key string, n uint32, patience time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := from.node.Banks.PayPennies(ctx, id, n, banking.Streaming{Key: key})
		return err
	}
	for range 3 {
		if err := pay("rent", 100, 500*time.Millisecond); !errors.Is(err, banking.ErrOrdered) {
			t.Fatalf("the payee does not answer: %v", err)
		}
	}
	if p := w.payer(from, id); p.Target != 100 {
		t.Errorf("three requests under one key ordered %d pennies", p.Target)
	}
	if err := pay("rent", 101, time.Second); !errors.Is(err, banking.ErrKey) {
		t.Errorf("another request under the same key: %v", err)
	}
	o, err := from.node.Banks.OrderedPennies(t.Context(), "rent")
	must(t, err)
	if total, paid := o.Amounts(); o.State() != "paying" || total != o.Payer.Ladder.Paid(100) || paid != 0 {
		t.Errorf("the order is %s: %v of %v", o.State(), paid, total)
	}
	must(t, from.node.Close())
	resume()
	from.start()
	must(t, pay("rent", 100, time.Minute))
	must(t, pay("rent", 100, time.Minute))
	if y := w.payeeOf(to, id); y.Count() != 100 {
		t.Errorf("the payee holds %d pennies", y.Count())
	}
	must(t, pay("again", 100, time.Minute)) // another key is another payment
	must(t, pay("", 100, time.Minute))      // and without a key each is one
	if y := w.payeeOf(to, id); y.Count() != 300 {
		t.Errorf("the payee holds %d pennies", y.Count())
	}
	if o, err = from.node.Banks.OrderedPennies(t.Context(), "rent"); err != nil || o.State() != "paid" {
		t.Errorf("%v, %v", o, err)
	}
	// Payments to an address, and openings.
	order := banking.Payment{To: to.node.Key(), Amount: 3_000_000, Key: "tea"}
	one, err := from.node.Banks.PayTo(t.Context(), order)
	must(t, err)
	two, err := from.node.Banks.PayTo(t.Context(), order)
	if err != nil || one != two {
		t.Errorf("one key has payments %v and %v: %v", one, two, err)
	}
	order.Amount++
	if _, err := from.node.Banks.PayTo(t.Context(), order); !errors.Is(err, banking.ErrKey) {
		t.Errorf("another payment under the same key: %v", err)
	}
	terms := banking.Terms{Peer: to.peer(), Value: 50_000, Rungs: 14, PerRung: 100, Blocks: 300, MaxFee: 10_000, Key: "bank"}
	var ids []bank.ID
	for range 2 {
		id, err := from.node.Banks.OpenBank(t.Context(), terms)
		must(t, err)
		ids = append(ids, id)
	}
	if ids[0] != ids[1] {
		t.Error("one key has opened two banks")
	}
	terms.Key = "tea"
	if _, err := from.node.Banks.OpenBank(t.Context(), terms); !errors.Is(err, banking.ErrKey) {
		t.Errorf("a bank under a payment's key: %v", err)
	}
	w.settle()
}

// TestNotManyTimesMore: an amount that a bank can pay only by much more is refused,
// with the amounts that it can pay.
func TestNotManyTimesMore(t *testing.T) {
	p := bank.Payer{}
	p.Ladder = penny.Ladder{Value: 100_000, Rungs: 126, PerRung: 80} // 9.887 sat a penny
	fine := bank.Payer{}
	fine.Ladder = penny.Ladder{Value: 100_000, Rungs: 126, PerRung: 794} // 0.996 sat
	for _, c := range []struct {
		p      *bank.Payer
		amount wire.Msat
		up     bool
		n      uint32
		is     error
	}{
		{&p, 300, false, 0, banking.ErrPenny},
		{&p, 9_800, false, 0, banking.ErrPenny}, // less than a penny
		{&p, 9_887, false, 1, nil},
		{&p, 10_000, false, 0, banking.ErrPenny},
		{&p, 300, true, 1, nil},
		{&p, 10_000, true, 2, nil},
		{&p, 5_000_000, false, 506, nil}, // to the percent
		{&fine, 300, false, 0, banking.ErrPenny},
		{&fine, 20_000, false, 21, nil},
		{&p, 200_000_000, false, 0, bank.ErrEmpty},
	} {
		n, worth, err := banking.PlanPennies(c.p, c.amount, c.up)
		if !errors.Is(err, c.is) || n != c.n || err == nil && worth < c.amount {
			t.Errorf("%v: %d pennies of %v, %v; wanted %d, %v", c.amount, n, worth, err, c.n, c.is)
		}
		if c.is == banking.ErrPenny && !strings.Contains(err.Error(), c.p.Ladder.Paid(1).String()) {
			t.Errorf("%v does not name a penny's worth, %v", err, c.p.Ladder.Paid(1))
		}
	}
}

// TestOpensWhileOthersFlood: while four others offer banks that they never fund,
// and garbage, an honest payer's banks are all accepted; and once the places are
// full, who has most of them loses the oldest.
func TestOpensWhileOthersFlood(t *testing.T) {
	tier.NotShort(t)
	w := emptyTown(t)
	from, to := w.home("payer", nil), w.payee("payee", nil)
	from.start()
	w.mine(1)
	const honest = 6
	for range honest {
		w.fund(from, 60_000)
	}
	y := service(to)
	l := penny.Ladder{Value: 90_000, Rungs: 14, PerRung: 1}
	offer := func() *wire.BankOpen {
		var id bank.ID
		var root wire.Secret
		_, _ = rand.Read(id[:])
		_, _ = rand.Read(root[:])
		return w.offered(to, id, root, l, to.node.engine.Position().Height+300, false, nil)
	}
	// 160 peers of four networks take every place that is given without proof.
	taken := 0
	for i := range 160 {
		from := p2p.Caller{Peer: peer.ID(fmt.Sprint("flood", i)), Network: fmt.Sprintf("10.0.%d.0/24", i%4)}
		if err := y.Open(t.Context(), from, offer()); err == nil {
			taken++
		} else if refusal(err) != wire.Full {
			t.Fatal(err)
		}
	}
	waiting := func() (n int) {
		must(t, to.node.Banks.Payees(t.Context(), func(p bank.Payee) error {
			if !p.Funded && !p.Lapsed() {
				n++
			}
			return nil
		}))
		return n
	}
	if n := waiting(); n != 128 || taken != 160 {
		t.Errorf("%d offers were accepted, %d have a place", taken, n)
	}
	// A peer of another network that proves nothing gets a place too, and keeps it.
	lone := offer()
	must(t, y.Open(t.Context(), p2p.Caller{Peer: "lone", Network: "10.9.9.0/24"}, lone))
	ctx, cancel := context.WithCancel(t.Context())
	var flood sync.WaitGroup
	for i := range 4 {
		from := p2p.Caller{Peer: peer.ID(fmt.Sprint("four", i)), Network: fmt.Sprintf("10.1.%d.0/24", i)}
		flood.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				o := offer()
				if n%2 == 0 {
					o.Sigs[0][5]++ // garbage
				}
				_ = y.Open(ctx, from, o)
			}
		})
	}
	var ids []bank.ID
	for range honest {
		id, err := from.node.Banks.OpenBank(t.Context(), banking.Terms{Peer: to.peer(), Value: 50_000, Rungs: 14, PerRung: 100, Blocks: 300, MaxFee: 10_000})
		must(t, err)
		ids = append(ids, id)
		for end := time.Now().Add(time.Minute); w.payer(from, id).Phase < bank.PayerPublished; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("a bank is not opened")
			}
		}
	}
	cancel()
	flood.Wait()
	w.settle()
	w.mine(3)
	for _, id := range ids {
		if p := w.payer(from, id); p.State() != bank.StateOpen {
			t.Errorf("an honest payer's bank is %s: %s", p.State(), p.Failure)
		}
	}
	if s := w.payeeOf(to, lone.Bank); s.Lapsed() {
		t.Error("a lone peer's bank lost its place to those who flood")
	}
}

// TestPlacesOutliveARestart: a payee knows after a restart which of the banks without
// funding have a proof of a coin, and those without proof do not displace them. Late
// fundings have the classes too: a flood of offers without proof leaves few of them,
// and none at the cost of a bank with proof.
func TestPlacesOutliveARestart(t *testing.T) {
	t.Parallel()
	tier.NotShort(t)
	w := emptyTown(t)
	from := w.home("payer", nil)
	m := &moving{Backend: from.cfg.Chain}
	m.rate.Store(2000)
	m.hold.Store(true)
	from.cfg.Chain = m
	from.start()
	to := w.payee("payee", nil)
	w.mine(1)
	const honest = 6
	var ids []bank.ID
	for range honest {
		w.fund(from, 50_500) // leaves no change
	}
	for range honest {
		id, err := from.node.Banks.OpenBank(t.Context(), banking.Terms{Peer: to.peer(), Value: 50_000, Rungs: 14, PerRung: 100, Blocks: 300, MaxFee: 10_000})
		must(t, err)
		ids = append(ids, id)
		w.settle()
	}
	must(t, to.node.Close())
	to.start()
	w.settle()
	n, l := 0, penny.Ladder{Value: 90_000, Rungs: 14, PerRung: 1}
	flood := func(offers int) (taken int) {
		for range offers {
			n++
			var id bank.ID
			var root wire.Secret
			_, _ = rand.Read(id[:])
			_, _ = rand.Read(root[:])
			o := w.offered(to, id, root, l, to.node.engine.Position().Height+250, false, nil)
			if err := service(to).Open(t.Context(), p2p.Caller{Peer: peer.ID(fmt.Sprint("flood", n)), Network: fmt.Sprintf("10.%d.0.0/24", n/40)}, o); err == nil {
				taken++
			} else if refusal(err) != wire.Full {
				t.Fatal(err)
			}
		}
		return taken
	}
	kept := func() (proven, others int) {
		must(t, to.node.Banks.Payees(t.Context(), func(y bank.Payee) error {
			switch {
			case y.Lapsed():
			case slices.Contains(ids, y.Bank):
				proven++
			default:
				others++
			}
			return nil
		}))
		return proven, others
	}
	if taken := flood(140); taken == 0 {
		t.Fatal("nothing is taken")
	}
	if proven, others := kept(); proven != honest || others != 128 {
		t.Errorf("%d of %d banks with proof have a place after a restart, and %d without", proven, honest, others)
	}
	for range 2 { // days
		w.mine(int(bank.MarginsFor(wire.Regtest).ValidFor) + 1)
		flood(140)
	}
	if proven, others := kept(); proven != honest || others > 128+128 {
		t.Errorf("%d of %d banks with proof whose funding is late are kept, and %d without", proven, honest, others)
	}
	m.hold.Store(false)
	w.mine(8)
	for _, id := range ids {
		if p := w.payer(from, id); p.State() != bank.StateOpen {
			t.Errorf("an honest payer's bank is %s: %s", p.State(), p.Failure)
		}
	}
	if err := to.node.store.View(t.Context(), func(tx engine.Tx) error {
		return tx.Scan("bank/place", nil, 0, func(key, _ []byte) error {
			if slices.Contains(ids, bank.ID(key)) {
				t.Errorf("a bank that is funded keeps its place: %x", key)
			}
			return nil
		})
	}); err != nil {
		t.Error(err)
	}
}

// TestReceivedPayments: the payee of a payment through a banker learns its
// reference and memo, which the banker cannot read; and the payer has a receipt
// that anyone can verify, and that covers all it says.
func TestReceivedPayments(t *testing.T) {
	tier.NotShort(t)
	w, from, banker, to, _, _ := road(t, nil)
	pay := banking.Payment{To: to.node.Key(), Amount: 5_000_000, Step: 2_000_000, MaxFee: 1_000_000, Reference: "2026-117", Memo: "tea, two pounds", Private: "mine"}
	id, err := from.node.Banks.PayTo(t.Context(), pay)
	must(t, err)
	for end := time.Now().Add(time.Minute); !w.sending(from, id).Ended; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the payment does not end")
		}
	}
	s := w.sending(from, id)
	if !s.Done() {
		t.Fatalf("%s: %s", s.State(), s.Why)
	}
	var got []bank.Relay
	must(t, to.node.Banks.Received(t.Context(), func(r bank.Relay) error {
		got = append(got, r)
		return nil
	}))
	if len(got) != 1 || got[0].ID != id || got[0].Total != pay.Amount || got[0].Index != 3 || got[0].Since == 0 || got[0].At < got[0].Since {
		t.Fatalf("received: %+v", got)
	}
	if x := got[0].Text; x == nil || x.Reference != pay.Reference || x.Memo != pay.Memo {
		t.Errorf("the payee is told %+v", x)
	}
	must(t, banker.node.Banks.Received(t.Context(), func(r bank.Relay) error {
		t.Errorf("the banker lists %+v as its own", r)
		return nil
	}))
	must(t, banker.node.Banks.Relays(t.Context(), func(r bank.Relay) error {
		if r.Text != nil {
			t.Errorf("the banker reads %+v", r.Text)
		}
		return nil
	}))
	r, err := from.node.Banks.Receipt(s)
	must(t, err)
	must(t, r.Verify())
	for what, f := range map[string]func(*bank.Receipt){
		"total":     func(r *bank.Receipt) { r.Total++ },
		"step":      func(r *bank.Receipt) { r.Step++ },
		"reference": func(r *bank.Receipt) { r.Reference = "2026-118" },
		"memo":      func(r *bank.Receipt) { r.Memo = "coffee" },
		"salt":      func(r *bank.Receipt) { r.Salt = strings.Repeat("00", 32) },
		"payment":   func(r *bank.Receipt) { r.Payment = strings.Repeat("01", 32) },
		"signature": func(r *bank.Receipt) { r.Signature = strings.Repeat("02", 64) },
		"length":    func(r *bank.Receipt) { r.Signature = r.Signature[:10] },
		"payee":     func(r *bank.Receipt) { r.Payee = from.node.Address() },
		"network": func(r *bank.Receipt) {
			r.Network, r.Payee = wire.Mainnet, wire.EncodeAddress(wire.Mainnet, to.node.Key())
		},
	} {
		other := *r
		if f(&other); !errors.Is(other.Verify(), bank.ErrReceipt) {
			t.Errorf("a receipt with another %s is valid", what)
		}
	}
	// The payee signs no id that commits to another text, or to another network.
	direct := w.opened(from, to, 50_000, 14, 100)
	w.pay(from, direct, 200)
	payer := w.payer(from, direct)
	for what, text := range map[string]wire.NoteText{"text": {Memo: "other"}, "network": {}} {
		tr := &wire.Transfer{ID: wire.PaymentID(wire.Mainnet, &wire.NoteText{}), Index: 1, Bank: direct, Amount: 2000, Total: 2000}
		raw, err := wire.Marshal(text)
		must(t, err)
		n := new(wire.Note)
		n.E, n.Box, err = seal.SealNote(wire.Secret{31: 5}, to.node.Key(), tr.ID, raw)
		must(t, err)
		if _, err := from.node.calls.Transfer(t.Context(), to.peer(), payerAs(&payer), tr, n); refusal(err) != wire.BadRequest {
			t.Errorf("a note of another %s: %v", what, err)
		}
		if _, err := from.node.calls.Transfer(t.Context(), to.peer(), payerAs(&payer), tr, &wire.Note{}); refusal(err) != wire.BadRequest {
			t.Errorf("no note: %v", err)
		}
	}
	if y := w.payeeOf(to, direct); y.Assigned != 0 {
		t.Errorf("refused steps used %v", y.Assigned)
	}
	long := pay
	long.Reference = strings.Repeat("x", wire.MaxReference+1)
	if _, err := from.node.Banks.PayTo(t.Context(), long); !errors.Is(err, bank.ErrOrder) {
		t.Errorf("a long reference: %v", err)
	}
}
