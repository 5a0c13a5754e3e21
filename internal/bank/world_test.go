package bank_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/batch"
	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/testing/books"
	"github.com/bitgram/bitgram/internal/testing/ledger"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// world is houses with banks between them, over a chain. Everything else is in
// memory, and all randomness comes from one seed.
type world struct {
	t       testing.TB
	rng     *rand.Rand
	chain   blockchain
	margins bank.Margins
	rate    wire.SatPerKVB
	miner   []byte
	houses  []*house
	crash   *crash                       // where a test wants one
	twice   bool                         // every effect is carried out twice, and its first answer lost
	shuffle bool                         // pending effects run in any order
	seen    map[transition]bool          // what steps did, where a test wants to know
	reached func(*house, ref, any)       // is shown every state, where a test wants to see it
	blind   func(tx *btcwire.MsgTx) bool // transactions that never reach a miner
	refuse  func(tx *btcwire.MsgTx) bool // transactions that nodes refuse
	poured  wire.Sat                     // that the faucet gave
	log     []string
}

// blockchain is what a world needs of a chain.
type blockchain interface {
	Tip(context.Context) (chain.BlockRef, error)
	HashAt(context.Context, wire.Height) (chainhash.Hash, error)
	Block(context.Context, chainhash.Hash) (*btcwire.MsgBlock, wire.Height, error)
	Broadcast(context.Context, *btcwire.MsgTx) error
	Mine(ctx context.Context, n int, script []byte) ([]chain.BlockRef, error)
	Reorg(ctx context.Context, depth int, script []byte, without ...wire.Hash) error
	Faucet(context.Context, []byte, wire.Sat) (wire.Outpoint, error)
}

// Kinds of machines.
const (
	payer = iota
	payee
	sending
	relay
)

// ref names a machine in a house.
type ref struct {
	kind int
	id   wire.Hash
}

func (r ref) String() string {
	return [...]string{"Payer", "Payee", "Sending", "Relay"}[r.kind]
}

// delivery is an event for a machine.
type delivery struct {
	ref
	ev bank.Event
}

// task is an effect that is not known to be done.
type task struct {
	ref
	e bank.Effect
}

// coin of a house.
type coin struct {
	at     wire.Outpoint
	value  wire.Sat
	locked wire.Hash
	used   bool
}

// house is one party: an engine in memory, a wallet, and the ways in which it may
// misbehave.
type house struct {
	*world
	name     string
	secret   wire.Secret // of its identity, and of its wallet
	key      wire.Key
	script   []byte
	policy   bank.Policy
	coins    []*coin
	states   map[ref]any
	order    []ref // as they were created
	papers   map[ref]bank.Paper
	fundings map[ref][]byte
	dropped  map[ref]bank.Paper // for the books of a test
	pending  []task
	told     []chainhash.Hash // the blocks that it knows, by height
	earned   map[bank.ID]wire.Msat

	fees      *wire.Fees // of a banker
	away      bool       // answers nobody, sees nothing
	steals    bool       // takes steps and passes nothing on
	skims     bool       // passes on less than it was told
	forges    bool       // passes nothing on and makes up an acknowledgement
	silent    bool       // passes on, and acknowledges nothing
	mute      bool       // as payer: sends no pennies
	cheaper   wire.Sat   // as payee: what it wants above its pennies in a close by both
	noSign    bool       // as payer: does not sign closes
	falseLock uint32     // as payer: the rung whose lock is false
}

func newWorld(t testing.TB, seed uint64) *world { return newWorldOn(t, ledger.New(), seed) }

func newWorldOn(t testing.TB, c blockchain, seed uint64) *world {
	return &world{t: t, rng: rand.New(rand.NewPCG(seed, 0)), chain: c, margins: bank.MarginsFor(wire.Regtest), rate: 1000,
		miner: append([]byte{0x51, 0x20}, bytes.Repeat([]byte{2}, 32)...)}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func pubkey(t testing.TB, s wire.Secret) *btcec.PublicKey {
	k, err := s.PrivKey()
	must(t, err)
	return k.PubKey()
}

func keyOf(t testing.TB, s wire.Secret) wire.Key { return wire.XOnly(pubkey(t, s)) }

func (w *world) hash() (h wire.Hash) {
	for i := 0; i < len(h); i += 8 {
		binary.BigEndian.PutUint64(h[i:], w.rng.Uint64())
	}
	return h
}

// house adds a party, with coins.
func (w *world) house(name string, coins ...wire.Sat) *house {
	h := &house{world: w, name: name, states: map[ref]any{}, papers: map[ref]bank.Paper{}, fundings: map[ref][]byte{}, dropped: map[ref]bank.Paper{}, earned: map[bank.ID]wire.Msat{},
		policy: bank.Policy{MinValue: 2000, MaxRungs: wire.MaxRungs, MaxBanks: 100}}
	h.secret = wire.Secret(w.hash())
	k, err := h.secret.PrivKey()
	must(w.t, err)
	h.secret = wire.SecretOf(k)
	h.key = keyOf(w.t, h.secret)
	h.script, err = txscript.PayToTaprootScript(txscript.ComputeTaprootKeyNoScript(pubkey(w.t, h.secret)))
	must(w.t, err)
	w.houses = append(w.houses, h)
	for _, c := range coins {
		h.pour(c)
	}
	return h
}

// pour gives a house a coin.
func (h *house) pour(value wire.Sat) {
	at, err := h.chain.Faucet(h.t.Context(), h.script, value)
	must(h.t, err)
	h.coins = append(h.coins, &coin{at: at, value: value})
	h.poured += value
	h.settle()
}

func (w *world) note(format string, a ...any) {
	w.log = append(w.log, fmt.Sprintf("%d: ", w.tip())+fmt.Sprintf(format, a...))
}

func (w *world) tip() wire.Height {
	ref, err := w.chain.Tip(w.t.Context())
	must(w.t, err)
	return ref.Height
}

func (w *world) hashAt(h wire.Height) chainhash.Hash {
	hash, err := w.chain.HashAt(w.t.Context(), h)
	must(w.t, err)
	return hash
}

func (w *world) block(h wire.Height) *btcwire.MsgBlock {
	b, _, err := w.chain.Block(w.t.Context(), w.hashAt(h))
	must(w.t, err)
	return b
}

// mine adds blocks; everybody does after each what there is to do.
func (w *world) mine(n int) {
	for range n {
		_, err := w.chain.Mine(w.t.Context(), 1, w.miner)
		must(w.t, err)
		w.settle()
	}
}

func (w *world) mineTo(h wire.Height) { w.mine(max(int(h)-int(w.tip()), 0)) }

// reorg replaces blocks, leaving out some transactions.
func (w *world) reorg(depth int, without ...wire.Hash) {
	must(w.t, w.chain.Reorg(w.t.Context(), depth, w.miner, without...))
	w.settle()
}

// settle tells everybody of the chain, and carries out what is pending until
// nothing more happens but what has to wait.
func (w *world) settle() {
	for _, h := range w.houses {
		h.follow()
	}
	for range 200 {
		w.crash.revive(w)
		busy := false
		for _, h := range w.houses {
			busy = h.work() || busy
		}
		if !busy {
			return
		}
	}
	w.t.Fatal("effects without end")
}

// follow tells a house of the blocks that left and came, as the engine does.
func (h *house) follow() {
	for !h.away {
		n := wire.Height(len(h.told))
		switch tip := h.tip(); {
		case n > 0 && (n-1 > tip || h.hashAt(n-1) != h.told[n-1]):
			h.told = h.told[:n-1]
			for _, r := range slices.Clone(h.order) {
				if in := interest(h.states[r]); in.Top >= n-1 {
					h.must(r, bank.Disconnected{Undo: contract.Undo{Height: n - 1}})
				}
			}
		case n <= tip:
			h.told = append(h.told, h.hashAt(n))
			if n == 0 {
				continue
			}
			ev := bank.Connected{Block: contract.Block{Height: n, FeeRate: h.rate, Txs: h.block(n).Transactions}}
			for _, r := range slices.Clone(h.order) {
				if wants(interest(h.states[r]), ev) {
					h.must(r, ev)
				}
			}
		default:
			return
		}
	}
}

// wants reports whether a contract asked to hear of a block, as the engine
// decides it: a wrong Interest shows as a bank that goes wrong.
func wants(in contract.Interest, ev bank.Connected) bool {
	if in.Done {
		return false
	}
	if in.Wake > 0 && in.Wake <= ev.Height {
		return true
	}
	for _, tx := range ev.Txs {
		if slices.Contains(in.Txids, contract.Txid(tx)) {
			return true
		}
		for _, o := range in.Outpoints {
			if contract.Spends(tx, o) >= 0 {
				return true
			}
		}
	}
	return false
}

func interest(s any) contract.Interest {
	if i, ok := s.(interface{ Interest() contract.Interest }); ok {
		return i.Interest()
	}
	return contract.Interest{}
}

// position is the last block that the house was told.
func (h *house) position() wire.Height { return wire.Height(len(h.told)) - 1 }

// create starts a machine.
func (h *house) create(r ref, s any, effects []bank.Effect) {
	h.order = append(h.order, r)
	h.keep(r, s)
	h.carry(r, effects)
}

func (h *house) keep(r ref, s any) {
	roundTrip(h.t, s)
	if interest(s).Forget {
		delete(h.states, r)
		h.order = slices.DeleteFunc(h.order, func(o ref) bool { return o == r })
		return
	}
	h.states[r] = s
	if h.reached != nil {
		h.reached(h, r, s)
	}
}

// step is a machine's transition. An error leaves the state as it was.
func step(s any, ev bank.Event) (any, []bank.Effect, error) {
	switch s := s.(type) {
	case bank.Payer:
		return s.Step(ev)
	case bank.Payee:
		next, effects, err := s.Step(ev)
		checkLight(&s, &next, ev, err)
		return next, effects, err
	case bank.Sending:
		return s.Step(ev)
	case bank.Relay:
		return s.Step(ev)
	}
	return nil, nil, errors.New("no such machine")
}

func encoded(t testing.TB, s any) []byte {
	t.Helper()
	raw, err := wire.Marshal(s)
	must(t, err)
	return raw
}

// try steps machines one after another, or, where one refuses, none.
func (h *house) try(list ...delivery) error {
	type stepped struct {
		ref
		s       any
		effects []bank.Effect
	}
	var done []stepped
	now := map[ref]any{}
	for _, d := range list {
		s, ok := now[d.ref]
		if !ok {
			if s, ok = h.states[d.ref]; !ok {
				return wire.Refuse(wire.Unknown, "no such %v", d.ref)
			}
		}
		before := encoded(h.t, s)
		next, effects, err := step(s, d.ev)
		if err != nil {
			if !bytes.Equal(before, encoded(h.t, next)) || len(effects) > 0 {
				h.t.Fatalf("%v refuses %T (%v), and is changed all the same", d.ref, d.ev, err)
			}
			return err
		}
		if !bytes.Equal(before, encoded(h.t, s)) {
			h.t.Fatalf("%v: %T reaches into the state before it", d.ref, d.ev)
		}
		h.record(d.ref, s, d.ev, next, effects)
		now[d.ref] = next
		done = append(done, stepped{d.ref, next, effects})
	}
	for _, d := range done {
		h.keep(d.ref, d.s)
		h.carry(d.ref, d.effects)
	}
	return nil
}

func (h *house) must(r ref, ev bank.Event) {
	h.t.Helper()
	if err := h.try(delivery{r, ev}); err != nil {
		h.t.Fatalf("%s: %v: %T: %v", h.name, r, ev, err)
	}
}

// carry does at once what needs the store alone, and keeps the rest.
func (h *house) carry(r ref, effects []bank.Effect) {
	for _, e := range effects {
		e = reencode(h.t, e)
		switch e := e.(type) {
		case bank.LockCoins:
			h.must(r, h.lockCoins(r, e.Amount))
		case bank.UnlockCoins:
			for _, c := range h.coins {
				if c.locked == r.id {
					c.locked = wire.Hash{}
				}
			}
		case bank.KeepPaper:
			h.papers[r] = e.Paper
		case bank.KeepFunding:
			h.fundings[r] = e.Tx
		default:
			h.pending = append(h.pending, task{r, e})
		}
	}
}

func (h *house) lockCoins(r ref, amount wire.Sat) bank.Event {
	fee := h.rate.Fee(contract.VSize(contract.BankFundingWeight + contract.KeySpendInputWeight + contract.P2TROutputWeight))
	ev := bank.NoCoins{Need: amount + fee}
	for _, c := range h.coins {
		switch {
		case c.used || c.value < amount+fee:
		case c.locked != wire.Hash{} && c.locked != r.id:
			ev.Soon += c.value
		default:
			c.locked = r.id
			return bank.CoinsLocked{Height: h.position(), Inputs: []wire.Outpoint{c.at}, Change: c.value - amount - fee, ChangeScript: h.script, Fee: fee, Root: h.root(c.at)}
		}
	}
	return ev
}

// root of a bank: bound to the first outpoint that funds it.
func (h *house) root(first wire.Outpoint) wire.Secret {
	return wire.Secret(wire.Tagged("bank-root", h.secret[:], first.Bytes()))
}

// work carries out what is pending; true where something was.
func (h *house) work() bool {
	if h.away {
		return false
	}
	todo := h.pending
	h.pending = nil
	if h.shuffle {
		h.rng.Shuffle(len(todo), func(i, j int) { todo[i], todo[j] = todo[j], todo[i] })
	}
	busy := false
	for i, t := range todo {
		answers, again := h.perform(t)
		if h.away { // it went down: all of it is still to be done
			h.pending = append(slices.Clone(todo[i:]), h.pending...)
			return true
		}
		if again {
			h.pending = append(h.pending, t)
			continue
		}
		busy = true
		for _, d := range answers {
			if err := h.try(d); err != nil {
				h.note("%s: answer %T refused: %v", h.name, d.ev, err)
			}
		}
	}
	return busy
}

func (h *house) perform(t task) (answers []delivery, again bool) {
	if h.crash != nil && h.crash.strikes(h, t) {
		return nil, true
	}
	if h.twice {
		if _, again := h.do(t); again {
			return nil, true
		}
	}
	return h.do(t)
}

// signed are the signatures of rungs, which runs of one story make again and again.
var signed sync.Map // of wire.Outpoint to []wire.Signature

var errAway = errors.New("nobody answers")

func (w *world) find(k wire.Key) *house {
	for _, h := range w.houses {
		if h.key == k && !h.away {
			return h
		}
	}
	return nil
}

func (h *house) payer(id bank.ID) bank.Payer { s, _ := h.states[ref{payer, id}].(bank.Payer); return s }
func (h *house) payee(id bank.ID) bank.Payee { s, _ := h.states[ref{payee, id}].(bank.Payee); return s }
func (h *house) sending(id wire.Hash) bank.Sending {
	s, _ := h.states[ref{sending, id}].(bank.Sending)
	return s
}

func (h *house) payeeKey(id bank.ID) wire.Secret {
	return wire.Secret(wire.Tagged("bank-payee", h.secret[:], id[:]))
}

// do carries an effect out; again where the other side is away.
func (h *house) do(t task) (answers []delivery, again bool) {
	say := func(ev bank.Event) ([]delivery, bool) { return []delivery{{t.ref, ev}}, false }
	p := h.payer(t.id)
	var peer *house
	if t.kind == payer {
		peer = h.find(p.Terms.Peer.Key)
	}
	switch e := t.e.(type) {
	case bank.AskTerms:
		if peer == nil {
			return nil, true
		}
		if err := bank.Takes(&e.Request, peer.policy, h.margins, peer.position(), h.rate); err != nil {
			return say(bank.NotQuoted{Why: err.Error()})
		}
		return say(bank.Quoted{Height: h.position(), Payee: keyOf(h.t, peer.payeeKey(t.id)), Conf: h.margins.ConfFor(e.Request.Value)})
	case bank.Prepare:
		terms, _, tx, _, err := bank.Build(&e)
		must(h.t, err)
		if h.falseLock > 0 {
			terms.Locks[h.falseLock-1][0] ^= 1
			b, err := contract.NewBank(terms)
			must(h.t, err)
			tx = b.Funding(e.Inputs, e.Change, e.ChangeScript)
		}
		h.papers[t.ref] = bank.Paper{Terms: terms}
		return say(bank.Prepared{Funding: contract.EncodeTx(tx), At: wire.Outpoint{Txid: contract.Txid(tx)}})
	case bank.Offer:
		if peer == nil {
			return nil, true
		}
		b := h.bank(t.ref)
		sigs, ok := signed.Load(e.At)
		if !ok {
			made, err := b.SignRungs(e.At, bank.PayerKey(e.Root))
			must(h.t, err)
			sigs, _ = signed.LoadOrStore(e.At, made)
		}
		if err := peer.open(&wire.BankOpen{Bank: t.id, Terms: b.Terms(), Funding: e.Funding, Vout: e.At.Vout, Sigs: sigs.([]wire.Signature)}); err != nil {
			return say(bank.NotAccepted{Why: err.Error()})
		}
		return say(bank.Accepted{Height: h.position()})
	case bank.DropPaper:
		if p, ok := h.papers[t.ref]; ok {
			h.dropped[t.ref] = p
		}
		delete(h.papers, t.ref)
		delete(h.fundings, t.ref)
		return nil, false
	case bank.Prune:
		return h.prune(), false
	case bank.Rebroadcast:
		tx, err := contract.ReadTx(h.fundings[t.ref])
		must(h.t, err)
		return say(h.broadcast(tx))
	case bank.Publish:
		tx, err := contract.DecodeTx(e.Tx)
		must(h.t, err)
		h.signCoins(tx)
		return say(h.broadcast(tx))
	case bank.Broadcast:
		tx, err := contract.ReadTx(e.Tx)
		must(h.t, err)
		ev := h.broadcast(tx).(bank.Broadcasted)
		ev.Txid, ev.Own = contract.Txid(tx), true
		list := []delivery{{t.ref, ev}}
		ev.Own = false
		for _, r := range h.order { // the others that share it
			switch s := h.states[r].(type) {
			case bank.Payee:
				if r != t.ref && s.Alone != nil && s.Alone.Txid == ev.Txid {
					list = append(list, delivery{r, ev})
				}
			case bank.Payer:
				if r != t.ref && s.Refund != nil && s.Refund.Txid == ev.Txid {
					list = append(list, delivery{r, ev})
				}
			}
		}
		return list, false
	case bank.Stream:
		return nil, h.stream(t.id) == errAway
	case bank.Sync:
		if p.Spend != nil {
			return nil, false
		}
		if peer == nil || peer.states[ref{payee, t.id}] == nil {
			return nil, true
		}
		y := peer.payee(t.id)
		return say(bank.Synced{Count: y.Count()})
	case bank.AskClose:
		if p.Spend != nil {
			return nil, false
		}
		if peer == nil {
			return nil, true
		}
		o, err := peer.offerClose(t.id)
		if err != nil {
			return say(bank.CloseRefused{Why: err.Error()})
		}
		return say(*o)
	case bank.SignClose:
		return h.signClose(t, peer, &e)
	case bank.RefundDue:
		return h.buildRefunds(t.ref, e), false
	case bank.CloseDue:
		return h.buildCloses(t.ref, e), false
	case bank.SendStep:
		return h.sendStep(t.id)
	}
	h.t.Fatalf("no way to carry out %T", t.e)
	return nil, false
}

// prune finds the payments that came over banks that are done.
func (h *house) prune() (list []delivery) {
	for _, r := range h.order {
		s, ok := h.states[r].(bank.Relay)
		if y, known := h.states[ref{payee, s.In}].(bank.Payee); ok && !s.Over && known && y.Interest().Done {
			list = append(list, delivery{r, bank.Pruned{}})
		}
	}
	return list
}

func (h *house) bank(r ref) *contract.Bank {
	paper, ok := h.papers[r]
	if !ok {
		h.t.Fatalf("%s: no paper of %v %v", h.name, r, r.id)
	}
	b, err := contract.NewBank(paper.Terms)
	must(h.t, err)
	return b
}

// built is bank for the books of a test, which also look at banks that are done.
func (h *house) built(r ref) *contract.Bank {
	paper, ok := h.dropped[r]
	if !ok {
		return h.bank(r)
	}
	b, err := contract.NewBank(paper.Terms)
	must(h.t, err)
	return b
}

// open is the payee's answer to an offered bank.
func (h *house) open(o *wire.BankOpen) error {
	if h.states[ref{payee, o.Bank}] != nil {
		return nil // again
	}
	y, effects, err := bank.NewPayee(o, h.payeeKey(o.Bank), h.policy, h.margins, h.position(), h.rate)
	if err == nil {
		h.create(ref{payee, o.Bank}, y, effects)
	}
	return err
}

// signCoins signs a funding, whose inputs are coins of the house.
func (h *house) signCoins(tx *btcwire.MsgTx) {
	prev := txscript.NewMultiPrevOutFetcher(nil)
	for _, in := range tx.TxIn {
		for _, c := range h.coins {
			if contract.OutPoint(c.at) == in.PreviousOutPoint {
				c.used = true
				prev.AddPrevOut(in.PreviousOutPoint, btcwire.NewTxOut(int64(c.value), h.script))
			}
		}
	}
	k, err := h.secret.PrivKey()
	must(h.t, err)
	hashes := txscript.NewTxSigHashes(tx, prev)
	for n, in := range tx.TxIn {
		out := prev.FetchPrevOutput(in.PreviousOutPoint)
		sig, err := txscript.RawTxInTaprootSignature(tx, hashes, n, out.Value, h.script, nil, txscript.SigHashDefault, k)
		must(h.t, err)
		in.Witness = btcwire.TxWitness{sig}
	}
}

func (w *world) broadcast(tx *btcwire.MsgTx) bank.Event {
	if w.blind != nil && w.blind(tx) {
		return bank.Broadcasted{}
	}
	if w.refuse != nil && w.refuse(tx) {
		return bank.Broadcasted{Err: "refused"}
	}
	if err := w.chain.Broadcast(w.t.Context(), tx); err != nil {
		w.note("rejected: %v", err)
		return bank.Broadcasted{Err: err.Error(), TooLow: errors.Is(err, chain.ErrFeeTooLow) && !errors.Is(err, chain.ErrReplacement)}
	}
	return bank.Broadcasted{}
}

// stream sends what was ordered.
func (h *house) stream(id bank.ID) error {
	p := h.payer(id)
	if p.Acked >= p.Target || p.Spend != nil || h.mute {
		return nil
	}
	peer := h.find(p.Terms.Peer.Key)
	if peer == nil || peer.states[ref{payee, id}] == nil {
		return errAway
	}
	y := peer.payee(id)
	held, why := y.Count(), ""
	if held > p.Target {
		h.must(ref{payer, id}, bank.Synced{Count: held})
		p = h.payer(id)
	}
	var refused *wire.Refusal
	if err := y.Taking(); err != nil {
		errors.As(err, &refused)
	} else {
		pence := bank.Pence(p.Root, p.Ladder.N())
		for held < p.Target && refused == nil {
			held += min(p.Target-held, wire.MaxJump)
			err := peer.paid(id, pence.Forward(penny.Penny{Secret: pence.P0}, pence.N-held))
			errors.As(err, &refused)
			y = peer.payee(id)
			held = y.Count()
		}
	}
	if refused != nil && (refused.Code == wire.Closed || refused.Code == wire.Spent) {
		why = refused.Error()
	}
	h.must(ref{payer, id}, bank.Streamed{Count: held, Why: why})
	if refused != nil {
		return refused
	}
	return nil
}

// paid brings the house, as payee, a penny.
func (h *house) paid(id bank.ID, p penny.Penny) error {
	y := h.payee(id)
	r := ref{payee, id}
	locks := h.papers[r].Terms.Locks
	from, to := y.Rung(), y.Ladder.Rung(y.Ladder.N()-min(p.Seq, y.Ladder.N()))
	if to < from {
		to = from
	}
	return h.try(delivery{r, bank.Paid{Height: h.position(), Penny: p, Locks: locks[from:to]}})
}

// offerClose is the payee's answer to a payer that wants to close.
func (h *house) offerClose(id bank.ID) (*bank.CloseOffered, error) {
	y := h.payee(id)
	fee := h.rate.Fee(contract.VSize(contract.TxOverheadWeight + 2*contract.P2TROutputWeight + contract.TogetherInputWeight(int(y.Ladder.Rungs))))
	if err := h.try(delivery{ref{payee, id}, bank.CloseAsked{Fee: fee, Script: h.script}}); err != nil {
		return nil, err
	}
	y = h.payee(id)
	o := y.Offered()
	o.Payer -= h.cheaper
	return &o, nil
}

func (h *house) signClose(t task, peer *house, e *bank.SignClose) ([]delivery, bool) {
	say := func(ev bank.Event) ([]delivery, bool) { return []delivery{{t.ref, ev}}, false }
	p := h.payer(t.id)
	if p.Spend != nil || h.noSign {
		return nil, false
	}
	if peer == nil {
		return nil, true
	}
	b := h.bank(t.ref)
	tx, err := e.Offer.Together(b, p.At)
	if err != nil {
		h.t.Fatalf("an offer that the payer took cannot be built: %v", err)
	}
	sig, err := b.SignTogether(tx, bank.PayerKey(p.Root))
	must(h.t, err)
	y := peer.payee(t.id)
	if y.Joined == nil {
		paper := peer.papers[ref{payee, t.id}]
		sent, err := y.Join(&paper, sig)
		if err != nil {
			return say(bank.CloseRefused{Why: err.Error()})
		}
		peer.must(ref{payee, t.id}, bank.CloseSigned{Sent: *sent})
	}
	return say(bank.CloseSent{Txid: contract.Txid(tx)})
}

// buildCloses joins what is due into one close, as the plan of batch has it.
func (h *house) buildCloses(first ref, _ bank.CloseDue) []delivery {
	y := h.payee(first.id)
	if !y.Closable() || y.Stop == bank.NotStopped {
		return nil
	}
	prev := y.Alone
	at := map[wire.Outpoint]ref{}
	closes := map[wire.Outpoint]contract.BankClose{}
	var members []batch.Member
	for _, r := range h.order {
		y, ok := h.states[r].(bank.Payee)
		if !ok || r != first && !y.Ready() || (y.Alone == nil) != (prev == nil) || prev != nil && y.Alone.Txid != prev.Txid {
			continue
		}
		paper := h.papers[r]
		c, err := y.Closing(&paper)
		must(h.t, err)
		at[y.At], closes[y.At] = r, c
		members = append(members, batch.Member{At: y.At, Value: y.Ladder.Share(c.Rung), Outputs: 1, In: y.Alone, Rival: y.Joined, Alone: y.Solo,
			Weight: contract.RungInputWeight(int(c.Rung)-1, int(y.Ladder.Rungs)) + contract.P2TROutputWeight,
			From:   y.Expiry - wire.Height(y.Margins.Bump), To: y.Expiry - wire.Height(y.Margins.Close)})
	}
	return h.join(first, members, at, bank.CloseFailed{Pause: true}, func(t batch.Tx) (contract.Tx, wire.Sat, error) {
		var list []contract.BankClose
		for _, o := range t.Members {
			list = append(list, closes[o])
		}
		return contract.BuildClose(list, nil, h.script, 0, t.Fee)
	}, func(s contract.Sent, b bool) bank.Event { return bank.CloseBuilt{Sent: s, Broadcast: b} })
}

// join builds what is planned for members, one of which is first's.
func (h *house) join(first ref, members []batch.Member, at map[wire.Outpoint]ref, failed bank.Event,
	build func(batch.Tx) (contract.Tx, wire.Sat, error), built func(contract.Sent, bool) bank.Event) (out []delivery) {
	plan := batch.Make(batch.Market{Tip: h.position(), Estimate: h.rate}, 50, members)
	for _, l := range plan.Left {
		if at[l.At] == first {
			out = append(out, delivery{first, failed})
		}
	}
	for _, t := range plan.Txs {
		sender := at[t.Members[0]]
		if slices.ContainsFunc(t.Members, func(o wire.Outpoint) bool { return at[o] == first }) {
			sender = first
		}
		if t.Again != nil {
			out = append(out, delivery{sender, built(*t.Again, true)})
			continue
		}
		tx, fee, err := build(t)
		must(h.t, err)
		sent := *contract.NewSent(tx, fee, h.position())
		sent.Before = t.Replaces
		for _, o := range t.Members {
			out = append(out, delivery{at[o], built(sent, at[o] == sender)})
		}
	}
	return out
}

// buildRefunds joins what can be taken back into one transaction.
func (h *house) buildRefunds(first ref, _ bank.RefundDue) []delivery {
	p := h.payer(first.id)
	if !p.Refundable() {
		return nil
	}
	prev := p.Refund
	at := map[wire.Outpoint]ref{}
	backs := map[wire.Outpoint]contract.BankRefund{}
	var members []batch.Member
	for _, r := range h.order {
		p, ok := h.states[r].(bank.Payer)
		if !ok || !p.Refundable() || (p.Refund == nil) != (prev == nil) || prev != nil && p.Refund.Txid != prev.Txid {
			continue
		}
		back := p.Back(h.bank(r))
		m := batch.Member{At: back.At, Value: p.Ladder.Value, Weight: contract.BankRefundInputWeight(p.Expiry, int(p.Ladder.Rungs)), In: p.Refund, Alone: p.Solo}
		if back.Change {
			m.Value, m.Weight = back.Value, contract.ChangeInputWeight()
		}
		at[m.At], backs[m.At], members = r, back, append(members, m)
	}
	return h.join(first, members, at, bank.RefundFailed{Pause: true}, func(t batch.Tx) (contract.Tx, wire.Sat, error) {
		var list []contract.BankRefund
		for _, o := range t.Members {
			list = append(list, backs[o])
		}
		return contract.BuildBankRefund(list, h.script, 0, t.Fee)
	}, func(s contract.Sent, b bool) bank.Event { return bank.RefundBuilt{Sent: s, Broadcast: b} })
}

// terms of a bank for tests.
func (h *house) terms(to *house, l penny.Ladder, blocks wire.Height) bank.Terms {
	return bank.Terms{Peer: bank.Peer{Key: to.key}, Value: l.Value, Rungs: l.Rungs, PerRung: l.PerRung, Expiry: h.position() + blocks, MaxFee: 10_000, Margins: h.margins}
}

// opens starts a bank to another house.
func (h *house) opens(to *house, l penny.Ladder, blocks wire.Height) bank.ID {
	h.follow()
	id := h.world.hash()
	p, effects, err := bank.NewPayer(id, h.terms(to, l, blocks))
	must(h.t, err)
	h.create(ref{payer, id}, p, effects)
	h.settle()
	return id
}

// opened opens a bank and waits until it is.
func (h *house) opened(to *house, l penny.Ladder, blocks wire.Height) bank.ID {
	h.t.Helper()
	id := h.opens(to, l, blocks)
	h.until("open", func() bool {
		p := h.payer(id)
		return !h.away && p.State() == bank.StateOpen
	})
	return id
}

// pays orders pennies and streams them.
func (h *house) pays(id bank.ID, pennies uint32) error {
	err := h.try(delivery{ref{payer, id}, bank.Ordered{Pennies: pennies}})
	h.settle()
	return err
}

func (h *house) closes(kind int, id bank.ID) error {
	err := h.try(delivery{ref{kind, id}, bank.CloseWanted{}})
	h.settle()
	return err
}

// penny is one of a bank's, by count.
func (h *house) penny(id bank.ID, count uint32) penny.Penny {
	p := h.payer(id)
	c := bank.Pence(p.Root, p.Ladder.N())
	return c.Forward(penny.Penny{Secret: c.P0}, c.N-count)
}

// roundTrip checks that a state survives its encoding: what the store gives back
// is what was stepped.
func roundTrip(t testing.TB, s any) {
	t.Helper()
	var back any
	raw := encoded(t, s)
	switch s.(type) {
	case bank.Payer:
		back = new(bank.Payer)
	case bank.Payee:
		back = new(bank.Payee)
	case bank.Sending:
		back = new(bank.Sending)
	case bank.Relay:
		back = new(bank.Relay)
	}
	must(t, wire.Unmarshal(raw, back))
	if !bytes.Equal(raw, encoded(t, back)) {
		t.Fatalf("%T does not survive its encoding", s)
	}
}

// reencode passes an effect through the form in which it is kept.
func reencode(t testing.TB, e bank.Effect) bank.Effect {
	t.Helper()
	name, body, err := bank.Effects.Encode(e)
	must(t, err)
	back, err := bank.Effects.Decode(name, body)
	must(t, err)
	return back
}

// holdings reads from the chain what each script holds unspent, and the fees of
// all transactions.
func (w *world) holdings() (byScript map[string]wire.Sat, fees wire.Sat) {
	return books.Holdings(w.t, w.chain)
}
