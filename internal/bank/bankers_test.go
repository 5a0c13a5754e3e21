package bank_test

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/wire"
)

// TestBankerHoldsOneStep: a banker that stops, steals, passes on less than it was
// told, makes up an acknowledgement or keeps it, has one step at most, whose size
// the payer set; nothing else goes through its bank from then on, and the final
// payee has signed for no more than it got.
func TestBankerHoldsOneStep(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]func(w *town){
		"the first steals":   func(w *town) { w.b.steals = true },
		"the second steals":  func(w *town) { w.d.steals = true },
		"the first skims":    func(w *town) { w.b.skims = true },
		"the second skims":   func(w *town) { w.d.skims = true },
		"the first forges":   func(w *town) { w.b.forges = true },
		"the second forges":  func(w *town) { w.d.forges = true },
		"the second is mute": func(w *town) { w.d.mute = true },
		"the first is dumb":  func(w *town) { w.b.silent = true },
		"the second is dumb": func(w *town) { w.d.silent = true },
		"the payee is dumb":  func(w *town) { w.c.silent = true },
		"the payee is dead":  func(w *town) { w.c.away = true },
		"the second is dead": func(w *town) { w.d.away = true },
	} {
		w := newTown(t, nil)
		first, _, third := w.route()
		o := bank.Order{Payee: w.c.key, Bankers: w.bankers(w.b, w.d), Bank: first, Total: 2_000_000, Step: 500_000, MaxFee: 200_000}
		good := w.sends(w.a, bank.Order{Payee: w.c.key, Bankers: o.Bankers, Bank: first, Total: 600_000, Step: 200_000, MaxFee: 200_000})
		if s := w.a.sending(good); !s.Done() || s.Acked != 600_000 {
			t.Fatalf("honest bankers: %s", s.State())
		}
		before := w.a.payer(first).Assigned
		bad(w)
		id := w.sends(w.a, o)
		w.mine(2)
		s := w.a.sending(id)
		step := o.Legs()[0].Amounts(o.Step)[0]
		if s.Acked != 0 || s.Asked > o.Step {
			t.Errorf("%s: %v asked, %v acknowledged", name, s.Asked, s.Acked)
		}
		if used := w.a.payer(first).Assigned - before; used > step {
			t.Errorf("%s: %v has left, of steps of %v", name, used, step)
		}
		if y := w.c.payee(third); w.c.earned[third] > y.Ladder.Paid(y.Count()) || y.Assigned != w.c.earned[third] {
			t.Errorf("%s: the payee acknowledged %v, with pennies for %v", name, w.c.earned[third], y.Ladder.Paid(y.Count()))
		}
		// Nothing else goes through, be it to somebody else.
		w.a.must(ref{sending, id}, bank.Ended{Why: "enough"})
		if p := w.a.payer(first); p.Outstanding != nil {
			next := w.sends(w.a, bank.Order{Payee: w.b.key, Bank: first, Total: 1000, Step: 1000})
			if s := w.a.sending(next); s.Asked != 0 || !s.Ended {
				t.Errorf("%s: another payment is %s", name, s.State())
			}
			err := w.a.try(delivery{ref{payer, first}, bank.Assigned{ID: w.hash(), Index: 1, Amount: 1, Relayed: true}})
			if !errors.Is(err, bank.ErrUnacked) {
				t.Errorf("%s: others' steps: %v", name, err)
			}
		} else if s.Waiting() {
			t.Errorf("%s: a step is not acknowledged, and the bank is free", name)
		}
	}
}

// TestAcknowledgedTwice: two answers to one step, which a payment that was ended
// and resumed may get, free the bank of that step alone.
func TestAcknowledgedTwice(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	first, _, _ := w.route()
	p, id := w.a.payer(first), w.hash()
	step := func(ev bank.Event) {
		t.Helper()
		var err error
		p, _, err = p.Step(ev)
		must(t, err)
	}
	step(bank.Assigned{ID: id, Index: 1, Amount: 1000})
	step(bank.Acknowledged{ID: id, Index: 1})
	step(bank.Assigned{ID: id, Index: 2, Amount: 1000})
	step(bank.Acknowledged{ID: id, Index: 1})
	step(bank.Acknowledged{ID: w.hash(), Index: 2})
	step(bank.Unassigned{ID: id, Index: 1, Amount: 1000})
	if p.Outstanding == nil || p.Assigned != 2000 {
		t.Errorf("freed, %v assigned", p.Assigned)
	}
	step(bank.Unassigned{ID: id, Index: 2, Amount: 1000})
	step(bank.Unassigned{ID: id, Index: 2, Amount: 1000})
	if p.Outstanding != nil || p.Assigned != 1000 {
		t.Errorf("%v assigned", p.Assigned)
	}

	s, _, err := bank.NewSending(id, bank.Order{Payee: w.c.key, Bank: first, Total: 3000, Step: 1000})
	must(t, err)
	s, _, err = s.Step(bank.StepPaid{Index: s.Index + 1})
	must(t, err)
	s.Acked, s.Index = s.Asked, 1
	s, _, err = s.Step(bank.StepPaid{Index: s.Index + 1})
	must(t, err)
	if s, _, _ = s.Step(bank.StepRefused{Why: "late", Back: true, Index: 1}); s.Index != 2 || s.Ended {
		t.Errorf("an old refusal: step %d, ended %v", s.Index, s.Ended)
	}
	if again, effects, _ := s.Step(bank.StepRefused{Why: "more", Back: true, Index: 2, Again: true}); again.Index != 1 || again.Asked != 1000 || again.Ended || len(effects) != 1 {
		t.Errorf("refused, and to be paid again: step %d, %v asked, ended %v, %v", again.Index, again.Asked, again.Ended, effects)
	}
	if kept, effects, _ := s.Step(bank.StepRefused{Why: "more", Index: 2, Again: true}); kept.Index != 2 || !kept.Ended || len(effects) != 0 {
		t.Errorf("refused, and perhaps counted: step %d, ended %v, %v", kept.Index, kept.Ended, effects)
	}
	if s, _, _ = s.Step(bank.StepRefused{Why: "no", Back: true, Index: 2}); s.Index != 1 || s.Asked != 1000 || !s.Ended {
		t.Errorf("a refusal: step %d, %v asked", s.Index, s.Asked)
	}
}

// TestSendingOrders: payments that cannot be, and fees that overflow.
func TestSendingOrders(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 5)
	hop := func(f wire.Fees) wire.RouteHop { return wire.RouteHop{Fees: f} }
	all := wire.Fees{Base: 1<<64 - 1, PPM: 1<<32 - 1}
	for what, o := range map[string]bank.Order{
		"nothing":          {Step: 1},
		"no steps":         {Total: 1},
		"more than exists": {Total: wire.MaxSat.Msat() + 1, Step: 1 << 50},
		"too many steps":   {Total: 1 << 40, Step: 1},
		"too many bankers": {Total: 9, Step: 9, Bankers: make([]wire.RouteHop, bank.MaxHops)},
		"fees":             {Total: 9000, Step: 1000, Bankers: []wire.RouteHop{hop(wire.Fees{Base: 10})}, MaxFee: 89},
		"endless fees":     {Total: 1 << 40, Step: 1 << 20, Bankers: []wire.RouteHop{hop(all), hop(all)}, MaxFee: wire.MaxSat.Msat() - 1},
		"a step that wraps": {Total: 1000, Step: 1<<64 - 1, Bankers: []wire.RouteHop{hop(wire.Fees{PPM: 1 << 31}), hop(wire.Fees{PPM: 1 << 31})},
			MaxFee: 2_000_000},
	} {
		if s, effects, err := bank.NewSending(w.hash(), o); err == nil || len(effects) > 0 {
			t.Errorf("%s: %v in steps of %v", what, s.Order.Total, s.Order.Step)
		}
	}
	s, _, err := bank.NewSending(w.hash(), bank.Order{Total: 1000, Step: 1<<64 - 1, Bankers: []wire.RouteHop{hop(wire.Fees{Base: 7})}, MaxFee: 7})
	if err != nil || s.Credit() != 1007 || s.AllFees() != 7 {
		t.Errorf("one step: %v, %v, %v", s.Credit(), s.AllFees(), err)
	}
}

// signedAck returns a party's acknowledgement of a step.
func signedAck(t *testing.T, h *house, id wire.Hash, index uint32, total wire.Msat) wire.TransferAck {
	t.Helper()
	a := wire.TransferAck{Index: index, Total: total}
	sig, err := wire.Sign(h.secret, wire.TransferDigest(id, index, total, h.key))
	must(t, err)
	a.Sig = sig
	return a
}

// TestRelayRefuses: steps that a relay does not take: out of order, twice and
// different, before the last is acknowledged, and such that the payee would
// acknowledge more than it gets; and acknowledgements that are not the payee's.
func TestRelayRefuses(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	in, id := w.hash(), w.hash()
	r := bank.NewRelay(in, id)
	transfer := func(index uint32, total, amount, last wire.Msat) *wire.Transfer {
		return &wire.Transfer{ID: id, Index: index, Bank: in, Amount: amount, Total: total, Hops: []wire.Hop{{Key: w.c.key, Amount: last}}}
	}
	code := func(tr *wire.Transfer) wire.Code {
		t.Helper()
		must(t, tr.Check())
		_, err := r.Fresh(tr)
		return codeOf(t, err)
	}
	take := func(tr *wire.Transfer) {
		t.Helper()
		var err error
		r, _, err = r.Step(bank.Relayed{Step: *tr, Out: w.hash()})
		must(t, err)
	}
	ack := func(h *house, index uint32, total wire.Msat) bank.Answered {
		a, err := h.passOn(&r, &wire.Transfer{ID: id, Index: index, Total: total})
		must(t, err)
		return bank.Answered{Ack: *a}
	}
	for what, tr := range map[string]*wire.Transfer{
		"the second first": transfer(2, 100, 110, 100), "a total above": transfer(1, 101, 110, 100), "a total of more steps": transfer(1, 1<<40, 110, 1),
		"another bank":    {ID: id, Index: 1, Bank: id, Amount: 5, Total: 5, Hops: []wire.Hop{{Key: w.c.key, Amount: 5}}},
		"another payment": {ID: in, Index: 1, Bank: in, Amount: 5, Total: 5},
		"to us, above":    {ID: id, Index: 1, Bank: in, Amount: 5, Total: 6},
	} {
		if code(tr) != wire.BadRequest {
			t.Errorf("%s: %v", what, code(tr))
		}
	}
	take(transfer(1, 100, 110, 100))
	if fresh, err := r.Fresh(transfer(1, 100, 110, 100)); fresh || err != nil {
		t.Errorf("the same again: %v, %v", fresh, err)
	}
	if _, _, err := r.Step(bank.Relayed{Step: *transfer(1, 100, 110, 100)}); err == nil {
		t.Error("it is counted twice")
	}
	if code(transfer(1, 100, 111, 100)) != wire.BadRequest || code(transfer(2, 200, 110, 100)) != wire.Busy {
		t.Error("another first step, or a second one before its time")
	}
	// What was verified counts only with the same values.
	good := ack(w.c, 1, 100)
	seen, err := bank.VerifyAck(r.ID, w.c.key, good.Ack)
	must(t, err)
	another := signedAck(t, w.c, wire.Hash{9}, 1, 100)
	other, err := bank.VerifyAck(wire.Hash{9}, w.c.key, another)
	must(t, err)
	forged := good.Ack
	forged.Sig[40] ^= 1
	for what, a := range map[string]bank.Answered{"forged": {Ack: forged, Verified: seen}, "of another payment": {Ack: another, Verified: other}} {
		if n, _, err := r.Step(a); !errors.Is(err, bank.ErrBadAck) || n.Ack != nil {
			t.Errorf("verified for another, %s: %v", what, err)
		}
	}
	if _, err := bank.VerifyAck(r.ID, w.c.key, forged); !errors.Is(err, wire.ErrBadSignature) {
		t.Errorf("forged: %v", err)
	}
	if n, _, err := r.Step(bank.Answered{Ack: good.Ack, Verified: seen}); err != nil || n.Ack == nil {
		t.Errorf("verified: %v", err)
	}
	for what, a := range map[string]bank.Answered{"a banker's": ack(w.b, 1, 100), "of another total": ack(w.c, 1, 101)} {
		if n, _, err := r.Step(a); !errors.Is(err, bank.ErrBadAck) || n.Ack != nil {
			t.Errorf("an acknowledgement %s: %v", what, err)
		}
	}
	if n, _, err := r.Step(ack(w.c, 2, 100)); err != nil || n.Ack != nil {
		t.Errorf("of another step: %v", err)
	}
	r, _, err = r.Step(ack(w.c, 1, 100))
	must(t, err)
	if r.Ack == nil || r.Passed != 110 || r.Fees != 10 {
		t.Errorf("%v passed, %v kept", r.Passed, r.Fees)
	}
	for _, tr := range []*wire.Transfer{transfer(2, 100, 110, 100), transfer(2, 199, 110, 100), transfer(2, 201, 110, 100), transfer(3, 200, 110, 100)} {
		if code(tr) != wire.BadRequest {
			t.Errorf("step %d, %v in all", tr.Index, tr.Total)
		}
	}
	if fresh, err := r.Fresh(transfer(2, 200, 110, 100)); !fresh || err != nil {
		t.Errorf("the next: %v, %v", fresh, err)
	}
}

// TestBankerForwardsClosable: a banker passes on only what it could close on the
// chain now, less its reserve. A payer that stays one penny short of every rung gets
// nothing through, however much it paid (protocol §9, 6); with that penny it gets
// what the rung adds.
func TestBankerForwardsClosable(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	first, _, _ := w.route()
	l := w.a.payer(first).Ladder
	step := func(amount wire.Msat) error {
		id := w.hash()
		o := bank.Order{Payee: w.c.key, Bankers: w.bankers(w.b, w.d), Bank: first, Total: amount, Step: amount}
		amounts := o.Legs()[0].Amounts(amount)
		_, err := w.b.transfer(&wire.Transfer{ID: id, Index: 1, Bank: first, Amount: amounts[0], Total: amount,
			Hops: []wire.Hop{{Key: w.d.key, Amount: amounts[1]}, {Key: w.c.key, Amount: amount}}})
		return err
	}
	passed := wire.Msat(0)
	for g := uint32(1); g <= l.Rungs; g++ {
		must(t, w.a.pays(first, l.PerRung-1))
		closable := max(l.Share(g-1)-w.b.reserve(first), 0).Msat()
		y := w.b.payee(first)
		if credit := y.Credit(true, w.b.reserve(first)); credit != closable-min(closable, passed) {
			t.Errorf("rung %d less a penny: a credit of %v", g, credit)
		}
		if code := codeOf(t, step(1000)); code != wire.NoCredit {
			t.Errorf("rung %d less a penny: %v", g, code)
		}
		must(t, w.a.pays(first, 1))
		y = w.b.payee(first)
		credit := y.Credit(true, w.b.reserve(first))
		if code := codeOf(t, step(credit)); code != wire.NoCredit { // with the fees on top
			t.Errorf("rung %d: more than there is: %v", g, code)
		}
		amount := (credit - 200) * 98 / 100
		if err := step(amount); err != nil {
			t.Errorf("rung %d: %v of %v: %v", g, amount, credit, err)
		}
		y = w.b.payee(first)
		if passed = y.Assigned; passed > (l.Share(y.Rung()) - w.b.reserve(first)).Msat() {
			t.Errorf("%v passed on, at rung %d", passed, y.Rung())
		}
		for y.Credit(true, w.b.reserve(first)) > 0 { // the rest
			w.b.must(ref{payee, first}, bank.Passed{Amount: y.Credit(true, w.b.reserve(first)), Banker: true, Reserve: w.b.reserve(first)})
			y = w.b.payee(first)
		}
		passed = y.Assigned
	}
	// A reserve of more than all is no credit, and no negative one.
	y := w.b.payee(first)
	if c := y.Credit(true, wire.MaxSat); c != 0 {
		t.Errorf("a credit of %v", c)
	}
	p := w.a.payer(first)
	for _, a := range []bank.Assigned{{Amount: 0}, {Amount: 1<<64 - 1}, {Amount: 1, Banker: true, Reserve: -1}, {Amount: 1, Banker: true, Reserve: 1<<63 - 1},
		{Amount: l.Value.Msat(), Banker: true}, {Amount: l.Value.Msat()}} {
		if _, effects, err := p.Step(a); !errors.Is(err, bank.ErrEmpty) || len(effects) > 0 {
			t.Errorf("%+v: %v", a, err)
		}
	}
	if _, _, err := p.Step(bank.Ordered{Pennies: 1<<32 - 1}); !errors.Is(err, bank.ErrEmpty) {
		t.Errorf("more pennies than numbers: %v", err)
	}
}

// TestLegs: a leg's most is the largest amount whose credit is there, legs follow
// one another without a step over their border, and rerouting replaces what is not
// paid, within the cap of fees.
func TestLegs(t *testing.T) {
	t.Parallel()
	hop := func(f wire.Fees) wire.RouteHop { return wire.RouteHop{Fees: f} }
	rapid.Check(t, func(rt *rapid.T) {
		var l bank.Leg
		for range rapid.IntRange(0, 2).Draw(rt, "bankers") {
			l.Bankers = append(l.Bankers, hop(wire.Fees{Base: wire.Msat(rapid.Uint64Range(0, 50).Draw(rt, "base")), PPM: rapid.Uint32Range(0, 300_000).Draw(rt, "ppm")}))
		}
		credit, step := wire.Msat(rapid.Uint64Range(0, 5000).Draw(rt, "credit")), wire.Msat(rapid.Uint64Range(1, 900).Draw(rt, "step"))
		most := l.Most(credit, step)
		if most > 0 && most+l.Fees(most, step) > credit {
			rt.Fatalf("%v and fees of %v, of %v", most, l.Fees(most, step), credit)
		}
		if most+1+l.Fees(most+1, step) <= credit {
			rt.Fatalf("%v, and %v could be paid", most, most+1)
		}
		for n := wire.Msat(1); n < most; n += most/7 + 1 {
			if n+l.Fees(n, step) > credit {
				rt.Fatalf("%v could be paid, and %v could not", most, n)
			}
		}
	})

	w := newTown(t, nil)
	one, two, three := w.hash(), w.hash(), w.hash()
	dear := []wire.RouteHop{hop(wire.Fees{Base: 7})}
	o := bank.Order{Payee: w.c.key, Bank: one, Total: 2500, Step: 1000, MaxFee: 14, More: []bank.Leg{{From: 1200, Bank: two, Bankers: dear}}}
	s, _, err := bank.NewSending(w.hash(), o)
	must(t, err)
	if s.AllFees() != 14 {
		t.Errorf("fees of %v", s.AllFees())
	}
	pay := func(amount wire.Msat, at bank.ID) {
		t.Helper()
		s, _, err = s.Step(bank.StepPaid{Index: s.Index + 1})
		must(t, err)
		if tr := s.Transfer(); tr.Bank != at || tr.Total != s.Asked || s.Asked-s.Acked != amount {
			t.Errorf("step %d: %v over %v", s.Index, s.Asked-s.Acked, tr.Bank)
		}
		s, _, err = s.Step(bank.StepAcked{Ack: signedAck(t, w.c, s.ID, s.Index, s.Asked)})
		must(t, err)
	}
	pay(1000, one)
	for what, legs := range map[string][]bank.Leg{
		"none": nil, "what is paid": {{From: 0, Bank: two}}, "later": {{From: 1200, Bank: two}}, "beyond": {{From: 1000, Bank: two}, {From: 2500, Bank: one}},
		"backwards": {{From: 1000, Bank: two}, {From: 1000, Bank: one}}, "too dear": {{From: 1000, Bank: two, Bankers: []wire.RouteHop{hop(wire.Fees{Base: 8})}}},
		"too many bankers": {{From: 1000, Bank: two, Bankers: make([]wire.RouteHop, bank.MaxHops)}},
	} {
		if _, _, err := s.Step(bank.Rerouted{Legs: legs}); err == nil {
			t.Errorf("rerouted: %s", what)
		}
	}
	s, _, err = s.Step(bank.Rerouted{Legs: []bank.Leg{{From: 1000, Bank: three}, {From: 1100, Bank: two, Bankers: dear}}})
	must(t, err)
	pay(100, three)
	pay(1000, two)
	pay(400, two)
	if !s.Done() || s.Fees != 14 || s.Index != 4 {
		t.Errorf("%s, fees %v, %d steps", s.State(), s.Fees, s.Index)
	}
	for what, more := range map[string][]bank.Leg{"from nothing": {{From: 0, Bank: two}}, "from the end": {{From: 2500, Bank: two}}, "twice": {{From: 5, Bank: two}, {From: 5, Bank: one}}} {
		o.More = more
		if _, _, err := bank.NewSending(w.hash(), o); !errors.Is(err, bank.ErrOrder) {
			t.Errorf("legs %s: %v", what, err)
		}
	}
}

// TestRelayOverBanks: the final payee counts one payment over all banks, without a
// gap; a banker counts what takes the bank that it sees.
func TestRelayOverBanks(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	one, two, id := w.hash(), w.hash(), w.hash()
	r := bank.NewRelay(one, id)
	transfer := func(in bank.ID, index uint32, total, last wire.Msat, hops ...wire.Hop) *wire.Transfer {
		return &wire.Transfer{ID: id, Index: index, Bank: in, Amount: last, Total: total, Hops: hops}
	}
	take := func(tr *wire.Transfer) {
		t.Helper()
		var err error
		r, _, err = r.Step(bank.Relayed{Step: *tr, Out: w.hash()})
		must(t, err)
		ack, err := w.c.passOn(&r, &wire.Transfer{ID: id, Index: tr.Index, Total: tr.Total})
		must(t, err)
		r, _, err = r.Step(bank.Answered{Ack: *ack})
		must(t, err)
	}
	refused := func(tr *wire.Transfer) {
		t.Helper()
		if fresh, err := r.Fresh(tr); codeOf(t, err) != wire.BadRequest {
			t.Errorf("step %d of %v, %v in all: %v, %v", tr.Index, last(tr), tr.Total, fresh, err)
		}
	}
	take(transfer(one, 1, 100, 100))
	refused(transfer(two, 1, 100, 100)) // differs: it is not counted twice
	refused(transfer(two, 1, 50, 50))
	refused(transfer(two, 3, 201, 100))
	refused(transfer(two, 2, 201, 100))
	take(transfer(two, 2, 150, 50))
	if fresh, err := r.Fresh(transfer(two, 2, 150, 50)); fresh || err != nil {
		t.Errorf("the same again: %v, %v", fresh, err)
	}
	refused(transfer(one, 1, 100, 100))
	take(transfer(one, 3, 160, 10))
	if r.Total != 160 || r.Passed != 160 || r.In != one {
		t.Errorf("%v passed, %v in all", r.Passed, r.Total)
	}

	to := wire.Hop{Key: w.c.key, Amount: 10}
	r = bank.NewRelay(two, id)
	refused(transfer(two, 1, 100, 10, to))
	refused(transfer(two, 3, 10, 10, to))
	refused(transfer(two, 3, 9, 10, to))
	refused(transfer(one, 1, 10, 10, to))
	take(transfer(two, 3, 110, 10, to))
	refused(transfer(two, 2, 110, 10, to))
	refused(transfer(two, 4, 121, 10, to))
	refused(transfer(two, 5, 120, 10, to))
	refused(transfer(two, 5, 100, 10, to))
	take(transfer(two, 5, 140, 10, to))
	take(transfer(two, 6, 150, 10, to))
	if r.Passed != 30 {
		t.Errorf("%v passed", r.Passed)
	}
}

func last(t *wire.Transfer) wire.Msat { return t.Amount }
