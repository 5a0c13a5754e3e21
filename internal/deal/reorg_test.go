package deal_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// maxReorg is the deepest reorg that the protocol tolerates.
const maxReorg = 6

// TestReorgUndo: blocks that are connected and disconnected again leave no
// trace except what cannot be unlearnt. From every state of the fixed stories,
// up to six further blocks are connected, with every transaction that could be
// in them, and disconnected; and up to six of the last blocks are disconnected
// and connected again (invariant ReorgUndo).
func TestReorgUndo(t *testing.T) {
	t.Parallel()
	u := undo{t: t, sample: tier.NewSample(t), seen: map[[32]byte]bool{}, kinds: map[string]int{}, covered: map[string]int{}, txs: map[wire.Hash]*watched{}}
	fixedStories(t, func(seed uint64, s story) {
		s.reached = u.visit
		s.play(t, seed)
	})
	// A funding that a reorg drops.
	w := newWorld(t, 1, 3)
	w.reached = u.visit
	w.send(3, wire.PerAgent, 24)
	w.mine(2)
	w.reorg(2, w.sender.Txid)
	w.finish()
	// A funding whose coins are spent otherwise: the only way to fail after
	// publishing.
	w = newWorld(t, 1, 3)
	w.reached, w.present = u.visit, false
	w.send(3, wire.PerAgent, 24)
	_, err := w.chain.MineWith(t.Context(), w.miner, w.signPurse(conflict(&w.sender)))
	must(t, err)
	w.tell(w.tip())
	w.mine(int(w.margins.Final) - 1)
	if w.sender.Phase != deal.SenderFailed {
		t.Fatalf("the sender is %v after its coins were spent", w.sender.Phase)
	}

	t.Logf("%d states, %d reorgs", len(u.seen), u.reorgs)
	if tier.Short() {
		return // it has not played all stories
	}
	for _, way := range []string{"apply, undo", "undo, apply"} {
		for d := 1; d <= maxReorg; d++ {
			for p := deal.SenderQuoting; p <= deal.SenderFailed; p++ {
				if p < deal.SenderPlacing && way == "undo, apply" {
					continue // it knows no block yet
				}
				u.wants("%s Sender %v %d", way, p, d)
			}
			for p := deal.AgentQuoted; p <= deal.AgentClosed; p++ {
				u.wants("%s Agent %v %d", way, p, d)
			}
			for p := deal.RecipientFound; p <= deal.RecipientLost; p++ {
				u.wants("%s Recipient %v %d", way, p, d)
			}
		}
	}
	for _, tx := range []string{"nothing", "funding", "claim", "refund", "conflict"} {
		for _, role := range []string{"Sender", "Agent", "Recipient"} {
			if tx != "conflict" || role == "Sender" { // the others see the funding's outpoints only
				u.wants("%s sees %s", role, tx)
			}
		}
	}
}

// undo collects what TestReorgUndo has covered.
type undo struct {
	t       *testing.T
	sample  *tier.Sample
	seen    map[[32]byte]bool
	kinds   map[string]int // states of each that were tried
	covered map[string]int
	txs     map[wire.Hash]*watched // by funding
	reorgs  int
}

func (u *undo) wants(format string, a ...any) {
	if key := fmt.Sprintf(format, a...); u.covered[key] == 0 {
		u.t.Errorf("not covered: %s", key)
	}
}

func (u *undo) visit(w *world, state any) {
	raw, err := wire.Marshal(state)
	must(u.t, err)
	id := sha256.Sum256(raw)
	if u.seen[id] {
		return
	}
	u.seen[id] = true
	switch s := state.(type) {
	case deal.Sender:
		reorgs(u, w, s, "Sender "+s.Phase.String())
	case deal.Agent:
		reorgs(u, w, s, "Agent "+s.Phase().String())
	case deal.Recipient:
		reorgs(u, w, s, "Recipient "+s.Phase.String())
	}
}

// tries reports whether a state is tried: the first of each phase and of what it can
// see next, and a sample of the rest, which in the nightly tier is all.
func (u *undo) tries(name string, branches map[string][][]contract.Tx) bool {
	chosen := u.sample.Of(50, 20)
	kind := fmt.Sprint(name, slices.Sorted(maps.Keys(branches)))
	if u.kinds[kind] >= tier.Pick(1, 3, 0) && !chosen {
		return false
	}
	u.kinds[kind]++
	return true
}

// machine is a state that can be stepped.
type machine[S any] interface {
	Step(deal.Event) (S, []deal.Effect, error)
	Interest() contract.Interest
}

func reorgs[S machine[S]](u *undo, w *world, s S, name string) {
	branches := u.branches(w, s)
	if !u.tries(name, branches) {
		return
	}
	step := func(s S, ev deal.Event) S {
		next, _, err := s.Step(ev)
		must(u.t, err)
		return next
	}
	top := s.Interest().Top
	back := func(s S, from, to wire.Height) S {
		for h := from; h > to; h-- {
			s = step(s, deal.Disconnected{Undo: contract.Undo{Height: h}})
		}
		return s
	}
	role := reflect.TypeOf(s).Name()
	for what, blocks := range branches {
		next := s
		for d := 1; d <= maxReorg; d++ {
			ev := deal.Connected{Block: contract.Block{Height: top + wire.Height(d), FeeRate: feeRate}}
			if d <= len(blocks) {
				ev.Txs = blocks[d-1]
			}
			next = step(next, ev)
			u.same(s, back(next, ev.Height, top), d, fmt.Sprintf("%s, %d blocks with %s came and went", name, d, what))
			u.covered[fmt.Sprintf("apply, undo %s %d", name, d)]++
			u.reorgs++
		}
		u.covered[role+" sees "+what]++
	}
	in := s.Interest()
	for d := 1; d <= maxReorg && wire.Height(d) < top; d++ {
		again := back(s, top, top-wire.Height(d))
		for h := top - wire.Height(d) + 1; h <= top; h++ {
			ev := deal.Connected{Block: contract.Block{Height: h, FeeRate: feeRate}}
			if h <= w.tip() {
				for _, tx := range w.block(h).Transactions {
					if wants(contract.Interest{Txids: in.Txids, Outpoints: in.Outpoints}, deal.Connected{Block: contract.Block{Txs: []contract.Tx{tx}}}) {
						ev.Txs = append(ev.Txs, tx)
					}
				}
			}
			again = step(again, ev)
		}
		u.same(s, again, d, fmt.Sprintf("%s, its last %d blocks went and came back", name, d))
		u.covered[fmt.Sprintf("undo, apply %s %d", name, d)]++
		u.reorgs++
	}
}

// same compares a state with the result of a reorg of depth d. Everything that
// follows from the chain must be as before. Only this may be new:
//
//	Sender     Refund: its signature may be in a mempool, and the next refund must
//	           replace it. Failed, if the coins were seen spent Final deep: the
//	           message was given up, and is still watched
//	Agent      Funded and FundingTx: a funding seen once is broadcast again.
//	           Dropped: the copy is deleted
//	Recipient  Tau and its consequences: τ is learnt. Released: σ was sent.
//	           Current, FetchedAt and Failed: the agent asked last; Looking: a
//	           lookup is running. Phase, which follows from these; Lost: it gave up
//	           at T, which is further behind the last use of σ than any reorg
//	           reaches
func (u *undo) same(before, after any, d int, what string) {
	u.t.Helper()
	bad := func(format string, a ...any) { u.t.Errorf("%s: %s", what, fmt.Sprintf(format, a...)) }
	switch b := before.(type) {
	case deal.Sender:
		a := after.(deal.Sender)
		if b.Refund != nil && a.Refund == nil {
			bad("a refund that was signed is forgotten")
		}
		b.Refund = a.Refund
		if a.Phase != b.Phase && a.Phase == deal.SenderFailed && d+int(b.Conflict.Depth(b.Tip)) >= int(b.Terms.Margins.Final) {
			b.Phase, b.Failure, b.FailedBy = a.Phase, a.Failure, a.FailedBy
		}
		before = b
	case deal.Agent:
		a := after.(deal.Agent)
		if b.Funded && !a.Funded || len(b.FundingTx) > 0 && len(a.FundingTx) == 0 || b.Dropped && !a.Dropped {
			bad("a funding that was seen, or a copy that was deleted, is forgotten")
		}
		if pays := b.Sigma != nil && b.Phase() == deal.AgentReleased; pays && a.Interest().Done {
			bad("the claim is not watched any more")
		}
		b.Funded, b.FundingTx, b.Dropped = a.Funded, a.FundingTx, a.Dropped
		before = b
	case deal.Recipient:
		a := after.(deal.Recipient)
		b.Sources = slices.Clone(b.Sources)
		for i := range b.Sources {
			if b.Sources[i].Released != 0 && a.Sources[i].Released != b.Sources[i].Released {
				bad("a released σ is forgotten")
			}
			b.Sources[i].Released, b.Sources[i].Failed = a.Sources[i].Released, a.Sources[i].Failed
		}
		switch {
		case b.Phase >= deal.RecipientOpening && a.Phase != b.Phase:
			bad("%v became %v", b.Phase, a.Phase)
		case a.Phase == deal.RecipientOpening && contract.CheckTau(a.Tau, a.Sources[a.Current].Leaf.Point) != nil:
			bad("opening without τ")
		case a.Phase == deal.RecipientLost && b.Phase != deal.RecipientLost && a.Tip+maxReorg < a.Sources[0].Frozen.Expiry:
			bad("given up before T")
		}
		if b.Looking && !a.Looking {
			bad("a lookup that is on its way is forgotten")
		}
		b.Looking = a.Looking
		b.Phase, b.Current, b.FetchedAt, b.Tau, b.Failure = a.Phase, a.Current, a.FetchedAt, a.Tau, a.Failure
		before = b
	}
	x, err := wire.Marshal(before)
	must(u.t, err)
	y, err := wire.Marshal(after)
	must(u.t, err)
	if bytes.Equal(x, y) {
		return
	}
	for i, v, n := 0, reflect.ValueOf(before), reflect.ValueOf(after); i < v.NumField(); i++ {
		if f := v.Type().Field(i).Name; !reflect.DeepEqual(v.Field(i).Interface(), n.Field(i).Interface()) {
			bad("%s was %+v, became %+v", f, v.Field(i), n.Field(i))
		}
	}
}

// watched contains the transactions that matter to a message.
type watched struct {
	txid    wire.Hash
	funding contract.Tx
	claims  []contract.Tx // per leg
	refund  contract.Tx
}

// branches returns blocks that could follow a state, named by their content:
// each transaction in the first block in which it can be.
func (u *undo) branches(w *world, state any) map[string][][]contract.Tx {
	b := map[string][][]contract.Tx{"nothing": nil}
	x := u.watch(w)
	if x == nil {
		return b
	}
	var confirmed *contract.Fact
	spent := func(contract.Tx) bool { return false }
	switch s := state.(type) {
	case deal.Sender:
		if s.Txid != x.txid {
			return b
		}
		if s.Conflict != nil {
			return b // the funding cannot confirm beside it
		}
		if confirmed = s.Confirmed; confirmed == nil && s.Phase >= deal.SenderPublishing {
			b["conflict"] = [][]contract.Tx{{conflict(&s)}}
		}
		spent = func(tx contract.Tx) bool {
			for i, f := range s.Spends {
				if f != nil && contract.Spends(tx, wire.Outpoint{Txid: s.Txid, Vout: uint32(i)}) >= 0 {
					return true
				}
			}
			return false
		}
	case deal.Agent:
		if s.Package == nil || s.At.Txid != x.txid {
			return b
		}
		confirmed = s.Confirmed
		spent = func(tx contract.Tx) bool { return s.Spend != nil && contract.Spends(tx, s.At) >= 0 }
	case deal.Recipient:
		confirmed = s.Confirmed
		spent = func(tx contract.Tx) bool {
			return slices.ContainsFunc(s.Seen, func(seen deal.Seen) bool {
				return contract.Spends(tx, wire.Outpoint{Txid: s.Txid, Vout: seen.Vout}) >= 0
			})
		}
	}
	var first [][]contract.Tx
	if confirmed == nil {
		first = [][]contract.Tx{{x.funding}}
		b["funding"] = first
	}
	var claims []contract.Tx
	for _, tx := range x.claims {
		if n := len(claims); !spent(tx) && (n == 0 || contract.Spends(tx, contract.OutpointOf(claims[0].TxIn[0].PreviousOutPoint)) < 0) {
			claims = append(claims, tx) // of 1-of-many, one
		}
	}
	if len(claims) > 0 {
		b["claim"] = append(slices.Clone(first), claims)
	}
	if !spent(x.refund) {
		b["refund"] = append(slices.Clone(first), []contract.Tx{x.refund})
	}
	return b
}

// watch builds the transactions of the world's message, once.
func (u *undo) watch(w *world) *watched {
	s := &w.sender
	if len(s.Funding) == 0 || len(s.Frozen) == 0 || s.Legs[0].PreSig == (wire.PreSignature{}) {
		return u.txs[s.Txid]
	}
	if x := u.txs[s.Txid]; x != nil {
		return x
	}
	funding, err := contract.DecodeTx(s.Funding)
	must(u.t, err)
	sec, err := seal.FromSender(s.Terms.Ephemeral, s.Terms.Recipient)
	must(u.t, err)
	x := &watched{txid: s.Txid, funding: funding}
	var refunds []contract.Refund
	for i, f := range s.Frozen {
		out, err := contract.NewOutput(f)
		must(u.t, err)
		refunds = append(refunds, contract.Refund{Output: out, At: wire.Outpoint{Txid: s.Txid, Vout: uint32(i)}, Value: s.Values[i], Key: s.Terms.RefundKey})
	}
	for i, l := range s.Legs {
		r, a := refunds[l.Vout], w.agent(l.Candidate.Agent)
		deals := []*deal.Agent{a.quotes[l.Quote.Point], a.state}
		n := slices.IndexFunc(deals, func(d *deal.Agent) bool { return d != nil && d.Quote.Point == l.Quote.Point })
		index := 0
		if s.Terms.Shape == wire.OneOfMany {
			index = i
		}
		claim, _, err := contract.BuildClaim([]contract.Claim{{Output: r.Output, Index: index, At: r.At, Value: r.Value, PreSig: l.PreSig,
			Sigma: sec.ReleaseSecret(l.Candidate.Agent), Tau: deals[n].Tau, ClaimKey: deals[n].ClaimKey}}, a.script, feeRate, 0)
		must(u.t, err)
		x.claims = append(x.claims, claim)
	}
	x.refund, _, err = contract.BuildRefund(refunds, w.change, feeRate, 0)
	must(u.t, err)
	u.txs[s.Txid] = x
	return x
}

// conflict spends a coin that the funding needs.
func conflict(s *deal.Sender) contract.Tx {
	tx := btcwire.NewMsgTx(contract.TxVersion)
	tx.AddTxIn(&btcwire.TxIn{PreviousOutPoint: contract.OutPoint(s.Inputs[0]), Sequence: contract.Sequence})
	tx.AddTxOut(btcwire.NewTxOut(int64(s.Terms.MaxCost), s.Terms.RefundTo))
	return tx
}
