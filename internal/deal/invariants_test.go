package deal_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// finish mines until every party's deal is over.
func (w *world) finish() {
	for range 140 {
		if w.sender.Interest().Done {
			break
		}
		w.mine(1)
	}
	w.mine(int(w.margins.Final))
}

// story is a random run in which every party may fail in its own way.
type story struct {
	shape   wire.Shape
	absent  bool
	late    int // blocks after the funding at which the recipient appears
	twice   bool
	faults  []int // per agent
	reorgAt int   // blocks after the funding; 0 for none
	depth   int
	drop    bool // the reorg leaves the latest claim out
	real    bool // on devchain
	seen    map[transition]bool
	reached func(*world, any)
}

func drawStory(t *rapid.T) (s story) {
	s.shape = rapid.SampledFrom([]wire.Shape{wire.PerAgent, wire.PerAgent, wire.OneOfMany}).Draw(t, "shape")
	s.absent = rapid.IntRange(0, 7).Draw(t, "absent") == 0
	s.late = rapid.IntRange(0, 55).Draw(t, "late")
	s.twice = rapid.Bool().Draw(t, "twice")
	for range 4 {
		s.faults = append(s.faults, rapid.IntRange(0, 9).Draw(t, "fault"))
	}
	s.reorgAt = rapid.IntRange(0, 40).Draw(t, "reorgAt")
	s.depth = rapid.IntRange(1, 6).Draw(t, "depth")
	s.drop = rapid.Bool().Draw(t, "drop")
	return s
}

func (s story) play(t testing.TB, seed uint64) *world {
	w := newWorldOn(t, chainOf(t, s.real), seed, len(s.faults))
	w.twice, w.present, w.seen, w.reached = s.twice, false, s.seen, s.reached
	for i, f := range s.faults {
		a := w.agents[i]
		switch f {
		case 1:
			a.silent = true
		case 2:
			a.wrongTau = true
		case 3:
			a.garbles = true
		case 4:
			a.refuses = true
		case 5:
			a.deadAt = w.tip() // before anything
		case 6:
			a.deadAt = w.tip() + 3 // after it stored
		case 7:
			a.deadAt = w.tip() + 1 + wire.Height(s.late) + 5 // perhaps with σ in hand
		case 8: // absent when σ should arrive, or just after
			from := w.tip() + wire.Height(s.late) + 3
			a.offline = [2]wire.Height{from, from + 8}
		}
	}
	w.send(3, s.shape, 24)
	if w.sender.Phase == deal.SenderFailed {
		w.mine(1)
		return w
	}
	funded := w.tip() + 1
	for w.tip() < funded+60+2*wire.Height(w.margins.Final) {
		if !s.absent && !w.present && w.tip() >= funded+wire.Height(s.late) {
			// The recipient appears and reads what it missed.
			w.present = true
			for h := funded; h <= w.tip(); h++ {
				if w.recipient == nil {
					w.scan(w.block(h), h)
				} else {
					w.stepRecipient(deal.Connected{Block: contract.Block{Height: h, FeeRate: feeRate, Txs: w.block(h).Transactions}})
				}
			}
		}
		w.mine(1)
		for _, a := range w.agents {
			if a.offline[1] == w.tip() && a.offline[1] > 0 {
				a.catchUp(a.offline[0])
			}
		}
		if s.reorgAt > 0 && w.tip() == funded+wire.Height(s.reorgAt)+6 {
			var without []wire.Hash
			if s.drop {
				for _, a := range w.agents {
					if a.state != nil && a.state.Spend != nil && a.state.Spend.Claim >= 0 {
						without = append(without, a.state.Spend.Txid)
					}
				}
			}
			w.reorg(s.depth, without...)
		}
	}
	w.finish()
	return w
}

// honest reports whether the agent follows the protocol to the end.
func (a *agent) honest() bool {
	return !a.silent && !a.wrongTau && !a.garbles && !a.refuses && a.deadAt == 0
}

// TestStories plays random runs and compares the chain in the end with the
// bounds of spec/delivery.md §11.
func TestStories(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := drawStory(rt)
		s.real = tier.Nightly || rapid.IntRange(0, 9).Draw(rt, "devchain") == 9
		w := s.play(t, rapid.Uint64Range(0, 1000).Draw(rt, "seed"))
		holds, fees := w.holdings()
		bad := func(format string, args ...any) {
			rt.Errorf("%+v\n%s\n%s", s, fmt.Sprintf(format, args...), w.log)
		}

		// Conservation: every satoshi of the purse has an owner.
		total := holds[string(w.change)] + fees
		for _, a := range w.agents {
			total += holds[string(a.script)]
		}
		if total != w.purseHas {
			bad("of %v, %v are accounted for", w.purseHas, total)
		}
		if w.sender.Phase == deal.SenderFailed {
			if holds[string(w.change)] != w.purseHas {
				bad("a message that failed cost %v", w.purseHas-holds[string(w.change)])
			}
			return
		}

		// S loses at most what it froze and the fees.
		paid := wire.Sat(0)
		for _, v := range w.sender.Values {
			paid += v
		}
		if lost := w.purseHas - holds[string(w.change)]; lost > paid+fees {
			bad("the sender lost %v of %v frozen and %v of fees", lost, paid, fees)
		}

		got := w.recipient != nil && w.recipient.Phase == deal.RecipientRead
		if got && !bytes.Equal(w.read, w.body) {
			bad("the recipient read something else")
		}
		// ReceiptMeansDelivered, and its converse for what the chain shows.
		if w.sender.Delivered() && !got {
			bad("the sender has a receipt, the recipient no message")
		}
		for i, a := range w.agents {
			if a.state == nil || a.state.Package == nil {
				continue
			}
			earned := holds[string(a.script)]
			// ClaimImpliesTau: an agent that was paid has revealed its key to a
			// recipient that looks.
			if earned > 0 && !got {
				bad("agent %d is paid and the recipient has no message", i)
			}
			// An honest agent that gave τ is paid; in one-of-many, one of them
			// is.
			if a.honest() && a.state.Sigma != nil && earned == 0 && s.shape == wire.PerAgent {
				bad("agent %d gave τ at %d and is not paid (T is %d)", i, a.released, a.state.Quote.Expiry)
			}
			// ReleaseBeforeDeadline.
			if a.released != 0 && a.released >= a.state.Quote.Expiry-wire.Height(w.margins.Release) {
				bad("agent %d took σ at %d, T is %d", i, a.released, a.state.Quote.Expiry)
			}
			if f := a.state.Spend; f != nil && f.Claim == a.state.Index && f.Height >= a.state.Quote.Expiry {
				bad("agent %d's claim confirmed at %d, T is %d", i, f.Height, a.state.Quote.Expiry)
			}
		}
		// Delivery: a recipient that appears in time gets the message as long
		// as one honest agent has it.
		inTime := !s.absent && s.late <= 15
		one := false
		for _, l := range w.sender.Legs {
			one = one || w.agent(l.Candidate.Agent).honest()
		}
		if inTime && one && !got {
			bad("came after %d blocks, an honest agent held it, and it was not read: %v %q", s.late, w.recipient.Phase, w.recipient.Failure)
		}
	})
}

// TestConservation plays the four plain endings; each must account for every
// satoshi.
func TestConservation(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]story{
		"delivered":   {faults: make([]int, 4)},
		"absent":      {faults: make([]int, 4), absent: true},
		"silent":      {faults: []int{1, 1, 1, 1}},
		"one of many": {faults: make([]int, 4), shape: wire.OneOfMany},
	} {
		s.real = !tier.Short()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := s.play(t, 1)
			holds, fees := w.holdings()
			total := holds[string(w.change)] + fees
			earned := wire.Sat(0)
			for _, a := range w.agents {
				earned += holds[string(a.script)]
			}
			if total+earned != w.purseHas {
				t.Fatalf("of %v, %v are accounted for", w.purseHas, total+earned)
			}
			if (earned > 0) == s.absent || w.sender.Delivered() == s.absent {
				t.Errorf("agents earned %v, delivered %v", earned, w.sender.Delivered())
			}
			if want := map[bool]string{true: "refunded", false: "delivered"}[s.absent]; w.sender.State() != want {
				t.Errorf("state %q, wanted %q", w.sender.State(), want)
			}
		})
	}
}

// TestReleaseBeforeDeadline: whenever the recipient appears, σ is sent only
// before T−Release, and an agent that then loses a day and six blocks of reorg
// still confirms its claim before the refund is possible.
func TestReleaseBeforeDeadline(t *testing.T) {
	t.Parallel()
	m := deal.MarginsFor(wire.Regtest)
	const day = 12 // blocks, as margins are divided by twelve
	sample := tier.NewSample(t)
	for late := 20; late <= 60; late += tier.Pick(8, 2, 2) {
		real := sample.Of(0, 10)
		t.Run(fmt.Sprint(late), func(t *testing.T) {
			t.Parallel()
			w := newWorldOn(t, chainOf(t, real), uint64(late), 3)
			w.present = false
			w.send(3, wire.PerAgent, 24)
			funded := w.tip() + 1
			w.mine(late)
			w.present = true
			for h := funded; h <= w.tip(); h++ {
				if w.recipient == nil {
					w.scan(w.block(h), h)
				} else {
					w.stepRecipient(deal.Connected{Block: contract.Block{Height: h, FeeRate: feeRate, Txs: w.block(h).Transactions}})
				}
			}
			expiry := w.agents[0].state.Quote.Expiry
			deadline := expiry - wire.Height(m.Release)
			var served *agent
			for _, a := range w.agents {
				if a.released != 0 {
					served = a
				}
			}
			if came := w.tip(); (served != nil) != (came < deadline) {
				t.Fatalf("came at %d, deadline %d: released %v", came, deadline, served != nil)
			}
			if served == nil {
				w.finish()
				if w.sender.State() != "refunded" {
					t.Errorf("state %q", w.sender.State())
				}
				return
			}
			from := w.tip() + 1
			served.offline = [2]wire.Height{from, from + day}
			w.mine(day)
			served.catchUp(from)
			w.mine(2)
			w.reorg(6, served.state.Claim.Txid)
			w.finish()
			f := served.state.Spend
			if f == nil || f.Claim != served.state.Index || f.Height >= expiry {
				t.Fatalf("the claim is at %+v, T is %d", f, expiry)
			}
		})
	}
}

// mutations calls f once for every byte and number of v, changed a little.
func mutations(v reflect.Value, path string, f func(path string)) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				mutations(v.Field(i), path+"."+v.Type().Field(i).Name, f)
			}
		}
	case reflect.Slice, reflect.Array:
		// One byte at each end and one in the middle suffice.
		for i := range v.Len() {
			if v.Type().Elem().Kind() == reflect.Uint8 && i != 0 && i != v.Len()/2 && i != v.Len()-1 {
				continue
			}
			mutations(v.Index(i), fmt.Sprintf("%s[%d]", path, i), f)
		}
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uint:
		old := v.Uint()
		v.SetUint(old ^ 1)
		f(path)
		v.SetUint(old)
	case reflect.Int64, reflect.Int:
		old := v.Int()
		v.SetInt(old ^ 1)
		f(path)
		v.SetInt(old)
	}
}

// TestOnlyTemplateLeaves: an agent refuses a package if any field is changed,
// except the fetch key, to which nothing on the chain commits.
func TestOnlyTemplateLeaves(t *testing.T) {
	t.Parallel()
	for _, shape := range []wire.Shape{wire.PerAgent, wire.OneOfMany} {
		w := newWorld(t, 1, 3)
		w.send(3, shape, 24)
		a := w.agents[0]
		p := *a.state.Package
		if _, err := deal.CheckPackage(&a.state.Quote, &p); err != nil {
			t.Fatal(err)
		}
		n := 0
		mutations(reflect.ValueOf(&p).Elem(), "Package", func(path string) {
			n++
			_, err := deal.CheckPackage(&a.state.Quote, &p)
			free := path[:len("Package.F")] == "Package.F" && len(path) > 16 && path[:16] == "Package.FetchKey"
			if free != (err == nil) {
				t.Errorf("%v, %s changed: %v", shape, path, err)
			}
			if err != nil && !errors.Is(err, deal.ErrBadPackage) {
				t.Errorf("%s: %v does not wrap ErrBadPackage", path, err)
			}
		})
		if n < 30 {
			t.Errorf("only %d mutations", n)
		}
	}
}

// TestNoDisclosureBeforeProof: if any field of a proof is changed, the
// recipient neither fetches nor releases anything.
func TestNoDisclosureBeforeProof(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 3)
	w.present = false
	w.send(3, wire.PerAgent, 24)
	w.mine(4)
	a := w.agents[0]
	found := deal.Located1{Candidate: deal.Candidate{Agent: keyOf(t, a.identity)},
		Proof: wire.Proof{Outpoint: a.state.At, Frozen: a.state.Package.Frozen, Section: a.state.Package.Section}}
	fresh := func() deal.Recipient {
		b := w.block(w.tip() - 3)
		for _, tx := range b.Transactions {
			data, ok := contract.Marker(tx)
			if !ok {
				continue
			}
			m, err := seal.DecodeMarker(data)
			must(t, err)
			sec, err := seal.FromRecipient(w.identity, m.E)
			must(t, err)
			r, effects := deal.NewRecipient(keyOf(t, w.identity), sec, m, tx, w.tip()-3, w.margins)
			if len(effects) != 1 {
				t.Fatalf("effects %v", effects)
			}
			return r
		}
		t.Fatal("no funding")
		return deal.Recipient{}
	}
	_, effects, err := fresh().Step(deal.Located{Height: w.tip(), Found: []deal.Located1{found}})
	must(t, err)
	if len(effects) != 1 {
		t.Fatalf("a right proof gives %v", effects)
	}
	n := 0
	mutations(reflect.ValueOf(&found).Elem(), "", func(path string) {
		if len(path) > 10 && path[:10] == ".Proof.Sig" {
			return // checked where the channel is authenticated
		}
		n++
		_, effects, err := fresh().Step(deal.Located{Height: w.tip(), Wide: true, Found: []deal.Located1{found}})
		must(t, err)
		if len(effects) != 0 {
			t.Errorf("%s changed: %#v", path, effects)
		}
	})
	if n < 20 {
		t.Errorf("only %d mutations", n)
	}
}

// TestReceiptMeansDelivered: a claim with a full signature of the sender, made
// without the pre-signature, pays the agent but is not a receipt; nor is an
// agent's word.
func TestReceiptMeansDelivered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 3)
	w.present = false
	w.send(3, wire.PerAgent, 24)
	w.mine(4)
	a := w.agent(w.sender.Legs[0].Candidate.Agent)
	sec, err := seal.FromSender(w.sender.Terms.Ephemeral, w.sender.Terms.Recipient)
	must(t, err)
	agent := keyOf(t, a.identity)
	// S reveals σ to the agent, and gives it a pre-signature under a T of their
	// own.
	tau, sigma := w.secret(), sec.ReleaseSecret(agent)
	out, err := contract.NewOutput(a.state.Package.Frozen)
	must(t, err)
	digest, err := out.ClaimDigest(0, a.state.At, a.state.Value)
	must(t, err)
	pre, err := contract.PreSign(sec.SenderKey(agent), w.secret(), keyOf(t, tau), digest)
	must(t, err)
	tx, _, err := contract.BuildClaim([]contract.Claim{{Output: out, At: a.state.At, Value: a.state.Value, PreSig: pre, Sigma: sigma, Tau: tau, ClaimKey: a.state.ClaimKey}}, a.script, feeRate, 0)
	must(t, err)
	must(t, w.chain.Broadcast(t.Context(), tx))
	w.mine(1)
	if f := w.sender.Spends[a.state.At.Vout]; f == nil || f.Claim != 0 {
		t.Fatalf("the claim is not seen: %+v", f)
	}
	if w.sender.Delivered() {
		t.Error("a claim past the pre-signature counts as delivery")
	}
	w.stepSender(deal.AckArrived{Agent: agent, Blob: bytes.Repeat([]byte{7}, seal.AckSize)})
	if w.sender.Delivered() {
		t.Error("an agent's word counts as delivery")
	}
}

// TestNoEarlyRefund: the machine requests no refund before T, whatever is mined
// before.
func TestNoEarlyRefund(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 3)
	w.present = false
	w.send(3, wire.PerAgent, 24)
	expiry := w.sender.Legs[0].Quote.Expiry
	for w.tip() < expiry-1 {
		w.mine(1)
		if w.sender.Refund != nil {
			t.Fatalf("refund at %d, T is %d", w.tip(), expiry)
		}
	}
	w.mine(1)
	if w.sender.Refund == nil {
		t.Fatal("no refund at T")
	}
	w.mine(1)
	if got := w.sender.State(); got != "refunded" {
		t.Errorf("state %q", got)
	}
}

// TestPointOnce: an agent's quote is used for one package, and no sender can
// use the same point twice.
func TestPointOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 3)
	w.send(3, wire.PerAgent, 24)
	a := w.agents[0]
	p := *a.state.Package
	p.PreSig[40] ^= 1
	_, effects, err := a.state.Step(deal.Offered{Height: w.tip(), Package: p, CopyHash: p.Section.Leaf.CopyHash, Size: p.Section.Leaf.Size})
	var refusal *wire.Refusal
	if !errors.As(err, &refusal) || len(effects) != 0 {
		t.Errorf("another package under the same point: %v", err)
	}
	// Each attempt for the same message asks in new sessions and gets new
	// points.
	seen := map[wire.Key]bool{}
	w = newWorld(t, 2, 5)
	w.agents[0].refuses, w.agents[1].refuses = true, true
	w.send(3, wire.PerAgent, 24)
	for _, l := range w.sender.Legs {
		seen[l.Quote.Point] = true
	}
	if len(seen) != 3 || w.sender.Phase == deal.SenderFailed {
		t.Errorf("%d points, phase %v", len(seen), w.sender.Phase)
	}
}

// TestQuoteChecks: a quote with any field changed is not accepted.
func TestQuoteChecks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1)
	e := w.secret()
	sec, err := seal.FromSender(e, keyOf(t, w.identity))
	must(t, err)
	var b bytes.Buffer
	info, err := sec.Encrypt(&b, bytes.NewReader(w.body), w.purse)
	must(t, err)
	c := deal.Candidate{Agent: keyOf(t, w.agents[0].identity)}
	s, effects, err := deal.NewSender(deal.Terms{Recipient: keyOf(t, w.identity), Ephemeral: e, PayloadHash: info.Hash, PayloadSize: info.Size,
		Agents: 1, MaxCost: 100_000, Blocks: 24, Seed: w.secret(), RefundKey: w.secret(), Margins: w.margins, Candidates: []deal.Candidate{c}})
	must(t, err)
	ask := effects[0].(deal.AskQuotes)
	until := w.tip() + 24
	a, err := deal.NewAgent(&wire.QuoteRequest{Session: deal.SessionFor(ask.Seed, c.Agent), E: ask.E, Size: ask.Size, StoreUntil: until,
		Expiry: until + wire.Height(ask.Slack)}, w.agents[0].identity, deal.Fresh{Tau: w.secret(), ClaimKey: w.secret()}, policy, w.margins, w.tip(), feeRate)
	must(t, err)
	q := a.Quote
	next, _, err := s.Step(deal.Quoted{Height: w.tip(), Quotes: []wire.Quote{q}})
	must(t, err)
	if next.Phase != deal.SenderSealing {
		t.Fatalf("a right quote: %v %s", next.Phase, next.Failure)
	}
	mutations(reflect.ValueOf(&q).Elem(), "Quote", func(path string) {
		next, _, err := s.Step(deal.Quoted{Height: w.tip(), Quotes: []wire.Quote{q}})
		must(t, err)
		if next.Phase != deal.SenderFailed {
			t.Errorf("%s changed: %v", path, next.Phase)
		}
	})
	// And one above the cap.
	dear := policy
	dear.Rate = wire.MaxRate
	a, err = deal.NewAgent(&wire.QuoteRequest{Session: deal.SessionFor(ask.Seed, c.Agent), E: ask.E, Size: ask.Size, StoreUntil: until,
		Expiry: until + wire.Height(ask.Slack)}, w.agents[0].identity, deal.Fresh{Tau: w.secret(), ClaimKey: w.secret()}, dear, w.margins, w.tip(), feeRate)
	must(t, err)
	next, _, err = s.Step(deal.Quoted{Height: w.tip(), Quotes: []wire.Quote{a.Quote}})
	must(t, err)
	if next.FailedBy != "price" {
		t.Errorf("a price above the cap: %v %s", next.Phase, next.Failure)
	}
}

// TestQuoteCoversLoneSpends: whatever the fee rate, the value that an agent
// quotes for the smallest message pays for its claim and for the refund, each
// alone, also when the rate doubles before either; a sender takes no quote that
// does not.
func TestQuoteCoversLoneSpends(t *testing.T) {
	w := newWorld(t, 1, 1)
	e := w.secret()
	sec, err := seal.FromSender(e, keyOf(t, w.identity))
	must(t, err)
	var b bytes.Buffer
	info, err := sec.Encrypt(&b, bytes.NewReader([]byte("9 bytes..")), w.purse)
	must(t, err)
	agent := w.agents[0].identity
	cheap := policy
	cheap.Rate, cheap.OneOfMany = 0, true // nothing but the reserve
	for _, shape := range []wire.Shape{wire.PerAgent, wire.OneOfMany} {
		leaves := 1
		if shape == wire.OneOfMany {
			leaves = wire.MaxAgents
		}
		c := deal.Candidate{Agent: keyOf(t, agent)}
		s, effects, err := deal.NewSender(deal.Terms{Recipient: keyOf(t, w.identity), Ephemeral: e, PayloadHash: info.Hash, PayloadSize: info.Size,
			Agents: 1, MaxCost: 1_000_000, Blocks: 24, Shape: shape, Seed: w.secret(), RefundKey: w.secret(), Margins: w.margins, Candidates: []deal.Candidate{c}})
		must(t, err)
		ask := effects[0].(deal.AskQuotes)
		until := w.tip() + 24
		for _, rate := range []wire.SatPerKVB{100, 1000, 2000, 50_000} {
			a, err := deal.NewAgent(&wire.QuoteRequest{Session: deal.SessionFor(ask.Seed, c.Agent), E: ask.E, Size: ask.Size, StoreUntil: until,
				Expiry: until + wire.Height(ask.Slack), Shape: shape}, agent, deal.Fresh{Tau: w.secret(), ClaimKey: w.secret()}, cheap, w.margins, w.tip(), rate)
			must(t, err)
			q := a.Quote
			for _, input := range []int64{contract.ClaimInputWeight(0, leaves), contract.RefundInputWeight(q.Expiry, leaves)} {
				fee := (2 * rate).Fee(contract.VSize(contract.TxOverheadWeight + input + contract.P2TROutputWeight))
				if left := q.Value - fee; left < contract.Dust {
					t.Errorf("shape %d at %d sat/kvB: of %v a spend at twice the rate leaves %v", shape, rate, q.Value, left)
				}
			}
			take := func(q wire.Quote) deal.SenderPhase {
				q.Sig = wire.Signature{}
				q.Sig, err = wire.Sign(agent, q.Digest())
				must(t, err)
				next, _, err := s.Step(deal.Quoted{Height: w.tip(), Quotes: []wire.Quote{q}})
				must(t, err)
				return next.Phase
			}
			if got := take(q); got != deal.SenderSealing {
				t.Errorf("shape %d at %d sat/kvB: the quote is not taken: %v", shape, rate, got)
			}
			least := deal.Reserve(contract.MinFeeRate, q.Expiry, shape)
			short := least - 1 - q.Reserve
			q.Reserve, q.Value = q.Reserve+short, q.Value+short
			if got := take(q); got != deal.SenderFailed {
				t.Errorf("shape %d: a quote whose claim cannot pay the relay minimum is taken", shape)
			}
		}
	}
}
