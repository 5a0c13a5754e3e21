package job

import (
	"slices"
	"testing"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

// buyerAt is a state of TestBuyerModel: the machine's, and what its past did.
type buyerAt struct {
	b      Buyer
	signed wire.Hash // the funding that Fund was given
	locked bool      // coins are locked
}

// TestBuyerModel explores orders of events of a buyer with three parties and four
// candidates, breadth first from its start: answers that are right, refused, late or
// repeated, blocks with the funding or with another spend of its coins, blocks undone,
// certificates, inspections, a cancel, a restore. Any event may come at any time, also
// one that nothing asked for. The search is bounded and not exhaustive; it logs its
// size. In every state: at most one funding is ever signed, and only after all parties
// accepted its banks; coins are unlocked after that only if it cannot confirm or was
// refused; no more than two windows beyond the inspected counter are dealt, and none
// after the end.
func TestBuyerModel(t *testing.T) {
	t.Parallel()
	o := Order{File: wire.Hash{1}, N: 2, Q: 2, T: 2, Standbys: 1, Ahead: 1, Patience: 1, Epochs: 4, Window: 1, Expiry: 200, Stop: 150, MaxFee: 1000, Sample: 1,
		Margins: BuyerMargins{Final: 2, Deep: 3, ValidFor: 10}}
	for i := range 4 {
		o.Candidates = append(o.Candidates, Candidate{Peer: wire.Peer{Key: keyOf(t, secretOf("model candidate %d", i))}, Value: wire.Sat(5000 + 1000*(i/3))})
	}
	first, _, err := NewBuyer(wire.Hash{2}, o, secretOf("model buyer"), secretOf("model seed"))
	must(t, err)
	seen := map[wire.Hash]bool{}
	key := func(x *buyerAt) wire.Hash {
		raw, err := wire.Marshal(&x.b)
		must(t, err)
		return wire.Tagged("model", raw, x.signed[:], u8(map[bool]uint8{true: 1}[x.locked]))
	}
	queue := []buyerAt{{b: first}}
	seen[key(&queue[0])] = true
	steps, phases := 0, map[BuyerPhase]int{}
	most := tier.Pick(1500, 6_000, 200_000)
	for len(queue) > 0 && len(seen) < most {
		x := queue[0]
		queue = queue[1:]
		phases[x.b.Phase]++
		for _, ev := range buyerEvents(t, &x.b) {
			steps++
			next, effects, err := x.b.Step(ev)
			if err != nil {
				continue
			}
			y := buyerAt{next, x.signed, x.locked}
			if _, ok := ev.(CoinsLocked); ok && x.b.Phase == BuyerFunding {
				y.locked = true
			}
			buyerHolds(t, &x, &y, ev, effects)
			if h := key(&y); !seen[h] {
				seen[h] = true
				queue = append(queue, y)
			}
		}
	}
	for p := range BuyerFailed + 1 {
		if phases[p] == 0 {
			t.Errorf("no state of phase %d", p)
		}
	}
	t.Logf("%d states, %d steps, %d states not expanded; by phase %v", len(seen), steps, len(queue), phases)
}

// buyerHolds checks a transition.
func buyerHolds(t *testing.T, x, y *buyerAt, ev BuyerEvent, effects []BuyerEffect) {
	t.Helper()
	b := &y.b
	for _, e := range effects {
		switch e := e.(type) {
		case Build:
			if !y.locked {
				t.Fatalf("%T: built without coins", ev)
			}
		case Fund:
			tx, err := contract.DecodeTx(e.Tx)
			must(t, err)
			id := contract.Txid(tx)
			if id != b.Terms.Funding || x.signed != (wire.Hash{}) && x.signed != id || slices.ContainsFunc(b.Seats, func(s Seat) bool { return !s.Accepted }) || !y.locked {
				t.Fatalf("%T: a funding is signed that not all accepted, or a second one", ev)
			}
			y.signed = id
		case UnlockCoins:
			y.locked = false
			told, ok := ev.(FundingSent)
			if x.signed != (wire.Hash{}) && !(ok && told.Err != "") && b.Conflict.Depth(b.Tip) < b.Order.Margins.Final {
				t.Fatalf("%T: coins are unlocked though the funding is signed", ev)
			}
		}
	}
	if y.signed != (wire.Hash{}) && b.Terms.Funding != y.signed {
		t.Fatalf("%T: the signed funding is forgotten", ev)
	}
	if slices.Contains([]string{"refused", "funds", "fee"}, b.FailedBy) && y.signed != (wire.Hash{}) {
		t.Fatalf("%T: failed by %s, and the funding is signed", ev, b.FailedBy)
	}
	body := b.Terms.before(b.Checked)
	for i, d := range b.Dealt {
		if d > body.Paid[i]+2*b.Terms.Window {
			t.Fatalf("%T: %d pennies dealt, %d inspected", ev, d, body.Paid[i])
		}
		if len(x.b.Dealt) > 0 && (d < x.b.Dealt[i] || d > x.b.Dealt[i] && (x.b.Ending || x.b.False != nil)) {
			t.Fatalf("%T: from %d to %d pennies dealt, ending %v", ev, x.b.Dealt[i], d, x.b.Ending)
		}
	}
}

// buyerEvents are the events that may come in a state.
func buyerEvents(t *testing.T, b *Buyer) (list []BuyerEvent) {
	secret := func(bank wire.Hash) wire.Secret { return wire.Secret(wire.Tagged("model-key", bank[:])) }
	payee := func(bank wire.Hash) wire.Key { return keyOf(t, wire.Secret(wire.Tagged("model-payee", bank[:]))) }
	for i := range b.Seats {
		id := b.Seats[i].Bank
		switch b.Phase {
		case BuyerAsking:
			list = append(list, Quoted{Bank: id, Height: 100, Payee: payee(id), Key: keyOf(t, secret(id)), Conf: 2}, NotQuoted{Bank: id})
		case BuyerOffering, BuyerOpening:
			list = append(list, Accepted{Bank: id, Height: 100}, NotAccepted{Bank: id})
		}
	}
	list = append(list, Accepted{Bank: wire.Hash{9}}, NotAccepted{Bank: wire.Hash{9}}, BanksOpened{}, FundingSent{}, FundingSent{Err: "no"}, Cancelled{}, Restored{})
	coin := wire.Outpoint{Txid: wire.Hash{7}}
	block := func(txs ...contract.Tx) Connected {
		return Connected{contract.Block{Height: b.Tip + 1, Txs: txs}}
	}
	theft := btcwire.NewMsgTx(2)
	theft.AddTxIn(&btcwire.TxIn{PreviousOutPoint: contract.OutPoint(coin)})
	theft.AddTxOut(btcwire.NewTxOut(1, nil))
	switch b.Phase {
	case BuyerFunding:
		list = append(list, CoinsLocked{Inputs: []wire.Outpoint{coin}, Fee: 10}, CoinsLocked{Inputs: []wire.Outpoint{coin}, Fee: 2000}, NoCoins{Need: 2, Soon: 1}, NoCoins{Need: 1, Soon: 1}, CoinsFreed{}, block())
	case BuyerBuilding:
		ev := Built{First: b.Seats[0].Bank}
		tx := btcwire.NewMsgTx(2)
		tx.AddTxIn(&btcwire.TxIn{PreviousOutPoint: contract.OutPoint(coin)})
		for i := range b.Seats {
			id := b.Seats[i].Bank
			ev.Banks = append(ev.Banks, wire.BankTerms{Payee: b.Seats[i].Payee, Value: b.Value(uint8(i)), Expiry: b.Order.Expiry, PerRung: 1})
			ev.Keys = append(ev.Keys, secret(id))
			tx.AddTxOut(btcwire.NewTxOut(int64(b.Value(uint8(i))), id[:]))
		}
		ev.Funding = contract.EncodeTx(tx)
		stale := ev
		stale.First = wire.Hash{9}
		list = append(list, ev, stale)
	}
	if len(b.Funding) == 0 || b.Phase < BuyerOpening {
		return list
	}
	tx, err := contract.DecodeTx(b.Funding)
	must(t, err)
	list = append(list, Withdrawn{})
	if b.Tip < 106 {
		switch {
		case b.Confirmed == nil && b.Conflict == nil:
			list = append(list, block(tx), block(theft), block())
		default:
			list = append(list, block())
		}
	}
	if b.Tip > 99 {
		list = append(list, Disconnected{contract.Undo{Height: b.Tip}})
	}
	if b.Phase != BuyerPublished {
		return list
	}
	before := b.Terms.before(b.Seen)
	if before.Epoch < 2 {
		body := Body{Epoch: before.Epoch + 1, Prev: b.Terms.prev(b.Seen), State: stateAt(before.Epoch + 1), Paid: slices.Clone(before.Paid), Missed: make([]uint8, 3), Roster: before.Next, Next: before.Next, Bench: before.Bench}
		for _, p := range before.Next {
			body.Paid[p]++
		}
		if body.Epoch == 2 {
			body.Outcome = Done
		}
		c := Certificate{Body: body, Signed: Quorum{Value: body.digest(&b.Terms)}}
		v := Vote{Epoch: body.Epoch, Round: LockCert, Value: c.Signed.Value}
		for _, p := range before.Next {
			sig, err := sign(secret(b.Seats[p].Bank), v.digest(&b.Terms))
			must(t, err)
			c.Signed.Sigs = append(c.Signed.Sigs, Signer{Party: p, Sig: sig})
		}
		list = append(list, Certified{c})
	}
	if l := b.Looking; l != nil {
		list = append(list, Inspected{To: l.Body.Epoch}, Inspected{To: l.Body.Epoch, False: &FalseEpoch{Epoch: 1}})
	}
	for h := range b.Busy {
		if b.Busy[h] && h == 0 {
			list = append(list, Supplied{Holder: uint8(h), Upto: slices.Clone(b.Dealt)})
		}
	}
	return list
}
