package node

import (
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/node/banking"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// payerAs makes requests about a bank with the payer's key in it.
func payerAs(p *bank.Payer) *p2p.Payer {
	return &p2p.Payer{Bank: p.Bank, Sign: func(d wire.Hash) (wire.Signature, error) { return wire.Sign(bank.PayerKey(p.Root), d) }}
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
		"stop": func() error { _, err := calls.AskClose(t.Context(), peer, as); return err }(),
		"sign": func() error { _, err := calls.SignClose(t.Context(), peer, as, &wire.CloseSign{Bank: id}); return err }(),
		"pass": func() error { _, err := calls.Transfer(t.Context(), peer, as, tr); return err }(),
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
		_, err := banker.node.Banks.PayPennies(t.Context(), second, 100, banking.Streaming{})
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
