package deal_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"
	"github.com/zeebo/blake3"

	"github.com/bitgram/bitgram/internal/batch"
	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/chain/devchain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/testing/ledger"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// world drives the three machines over a chain, with everything else in memory.
// The test decides which parties misbehave and when. All randomness comes from
// one seed.
type world struct {
	t       testing.TB
	src     *rand.PCG // of rng
	rng     *rand.Rand
	chain   blockchain
	margins deal.Margins
	policy  deal.Policy
	miner   []byte
	body    []byte

	purse     wire.Secret // the sender's one coin
	purseAt   wire.Outpoint
	purseHas  wire.Sat
	change    []byte
	payload   []byte
	lie       wire.Hash // the payload that the sender's key names, if not the one sent
	sender    deal.Sender
	identity  wire.Secret // R
	recipient *deal.Recipient
	read      []byte
	copies    map[wire.Key][]byte // fetched by the recipient, by point
	agents    []*agent
	twice     bool // carry every effect out twice
	present   bool // the recipient looks at blocks
	log       []string
	seen      map[transition]bool // what steps did, where a test wants to know
	reached   func(*world, any)   // is shown every state, where a test wants to see it
	crash     *crash              // who is down, where a test wants that
}

// blockchain is what a world needs of a chain.
type blockchain interface {
	Tip(context.Context) (chain.BlockRef, error)
	HashAt(context.Context, wire.Height) (chainhash.Hash, error)
	Block(context.Context, chainhash.Hash) (*btcwire.MsgBlock, wire.Height, error)
	Broadcast(context.Context, *btcwire.MsgTx) error
	Mine(ctx context.Context, n int, script []byte) ([]chain.BlockRef, error)
	MineWith(ctx context.Context, script []byte, txs ...*btcwire.MsgTx) (chain.BlockRef, error)
	Reorg(ctx context.Context, depth int, script []byte, without ...wire.Hash) error
	Faucet(context.Context, []byte, wire.Sat) (wire.Outpoint, error)
}

// agent is one agent with the ways in which it may misbehave.
type agent struct {
	*world
	name     string
	identity wire.Secret
	key      wire.Key                 // the identity's
	quotes   map[wire.Key]*deal.Agent // given, not used
	state    *deal.Agent              // the deal whose package came last
	copy     []byte
	script   []byte

	deadAt   wire.Height // from this height on it answers nobody and sees no block; 0: never
	silent   bool        // accepts σ and gives no τ
	wrongTau bool        // gives a wrong τ
	garbles  bool        // hands out a wrong copy
	refuses  bool        // does not accept its copy
	offline  [2]wire.Height
	released wire.Height // when it took σ
}

// newWorld is a world on a ledger; in the nightly tier on devchain.
func newWorld(t testing.TB, seed uint64, agents int) *world {
	return newWorldOn(t, chainOf(t, tier.Nightly), seed, agents)
}

// chainOf is a new chain: devchain, with consensus and policy, if real, and else a
// ledger, which takes a small part of its time.
func chainOf(t testing.TB, real bool) blockchain {
	if !real {
		l := ledger.New()
		_, err := l.Mine(t.Context(), 2*maxReorg, nil) // for the deepest reorg from the start
		must(t, err)
		return l
	}
	c, err := devchain.Open(t.TempDir())
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	return c
}

func newWorldOn(t testing.TB, c blockchain, seed uint64, agents int) *world {
	src := rand.NewPCG(seed, 0)
	w := &world{t: t, src: src, rng: rand.New(src), chain: c, margins: deal.MarginsFor(wire.Regtest), policy: policy,
		miner: append([]byte{0x51, 0x20}, bytes.Repeat([]byte{2}, 32)...), copies: map[wire.Key][]byte{}, present: true}
	w.body = make([]byte, 1+w.rng.IntN(3000))
	for i := range w.body {
		w.body[i] = byte(w.rng.Uint32())
	}
	w.purse, w.identity = w.secret(), w.secret()
	key := privkey(t, w.purse)
	var err error
	w.change, err = txscript.PayToTaprootScript(txscript.ComputeTaprootKeyNoScript(key))
	must(t, err)
	w.purseHas = 1_000_000
	w.purseAt, err = c.Faucet(t.Context(), w.change, w.purseHas)
	must(t, err)
	for i := range agents {
		a := &agent{world: w, name: fmt.Sprint("A", i), identity: w.secret(), quotes: map[wire.Key]*deal.Agent{}}
		a.key = keyOf(t, a.identity)
		a.script, err = txscript.PayToTaprootScript(privkey(t, w.secret()))
		must(t, err)
		w.agents = append(w.agents, a)
	}
	w.mine(1)
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func privkey(t testing.TB, s wire.Secret) *btcec.PublicKey {
	k, err := s.PrivKey()
	must(t, err)
	return k.PubKey()
}

func (w *world) secret() (s wire.Secret) {
	for i := 0; i < len(s); i += 8 {
		binary.BigEndian.PutUint64(s[i:], w.rng.Uint64())
	}
	k, err := s.PrivKey()
	must(w.t, err)
	return wire.SecretOf(k)
}

func keyOf(t testing.TB, s wire.Secret) wire.Key { return wire.XOnly(privkey(t, s)) }

func (w *world) note(format string, a ...any) {
	w.log = append(w.log, fmt.Sprintf("%d: ", w.tip())+fmt.Sprintf(format, a...))
}

func (w *world) tip() wire.Height {
	ref, err := w.chain.Tip(w.t.Context())
	must(w.t, err)
	return ref.Height
}

func (w *world) block(h wire.Height) *btcwire.MsgBlock {
	hash, err := w.chain.HashAt(w.t.Context(), h)
	must(w.t, err)
	b, _, err := w.chain.Block(w.t.Context(), hash)
	must(w.t, err)
	return b
}

const feeRate = 2000

// mine adds n blocks and reports them to every party that looks.
func (w *world) mine(n int) {
	for range n {
		_, err := w.chain.Mine(w.t.Context(), 1, w.miner)
		must(w.t, err)
		w.tell(w.tip())
	}
}

func (w *world) tell(h wire.Height) {
	b := w.block(h)
	ev := deal.Connected{Block: contract.Block{Height: h, FeeRate: feeRate, Txs: b.Transactions}}
	if wants(w.sender.Interest(), ev) {
		w.stepSender(ev)
	}
	for _, a := range w.agents {
		if a.up() && a.state != nil && wants(a.state.Interest(), ev) {
			a.step(ev)
		}
	}
	if !w.present {
		return
	}
	if w.recipient == nil {
		w.scan(b, h)
	} else if wants(w.recipient.Interest(), ev) {
		w.stepRecipient(ev)
	}
}

// wants reports whether a contract must be told of a block, by the engine's
// rule. A wrong Interest then shows as a deal that goes wrong.
func wants(in contract.Interest, ev deal.Connected) bool {
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

// reorg replaces depth blocks, leaving out some transactions, and reports each
// block that left and each that came.
func (w *world) reorg(depth int, without ...wire.Hash) {
	old := w.tip()
	must(w.t, w.chain.Reorg(w.t.Context(), depth, w.miner, without...))
	for h := old; h > old-wire.Height(depth); h-- {
		ev := deal.Disconnected{Undo: contract.Undo{Height: h}}
		if w.sender.Interest().Top >= h {
			w.stepSender(ev)
		}
		for _, a := range w.agents {
			if a.up() && a.state != nil && a.state.Interest().Top >= h {
				a.step(ev)
			}
		}
		if w.recipient != nil && w.present && w.recipient.Interest().Top >= h {
			w.stepRecipient(ev)
		}
	}
	for h := old - wire.Height(depth) + 1; h <= w.tip(); h++ {
		w.tell(h)
	}
}

// send starts the message to n agents.
func (w *world) send(n int, shape wire.Shape, blocks uint32) {
	e := w.secret()
	sec, err := seal.FromSender(e, keyOf(w.t, w.identity))
	must(w.t, err)
	var p bytes.Buffer
	info, err := sec.Encrypt(&p, bytes.NewReader(w.body), w.purse)
	must(w.t, err)
	w.payload = p.Bytes()
	terms := deal.Terms{Recipient: keyOf(w.t, w.identity), Ephemeral: e, PayloadHash: info.Hash, PayloadSize: info.Size,
		Key: seal.MessageKey(cmp.Or(w.lie, info.Hash), 7), Agents: n, Shape: shape, MaxCost: 100_000, Blocks: blocks,
		Seed: w.secret(), RefundKey: w.secret(), RefundTo: w.change, Margins: w.margins}
	for _, a := range w.agents {
		terms.Candidates = append(terms.Candidates, deal.Candidate{Agent: a.key})
	}
	s, effects, err := deal.NewSender(terms)
	must(w.t, err)
	w.sender = s
	w.reach(s)
	w.doSender(effects)
}

func (w *world) agent(k wire.Key) *agent {
	for _, a := range w.agents {
		if a.key == k {
			return a
		}
	}
	w.t.Fatalf("no agent %v", k)
	return nil
}

func (w *world) reach(state any) {
	if w.reached != nil {
		w.reached(w, state)
	}
}

func (w *world) stepSender(ev deal.Event) {
	if w.crash.deaf("S") {
		return
	}
	next, effects, err := w.sender.Step(ev)
	must(w.t, err)
	roundTrip(w.t, next)
	w.record("Sender", w.sender.Phase, ev, next.Phase, effects)
	w.sender = next
	w.reach(next)
	w.doSender(effects)
}

func (w *world) doSender(effects []deal.Effect) {
	for _, e := range w.repeat(effects) {
		w.perform("S", e, w.senderEffect)
	}
}

// perform carries an effect out, unless its party is down.
func (w *world) perform(who string, e deal.Effect, do func(deal.Effect)) {
	if e = reencode(w.t, e); w.crash == nil {
		do(e)
	} else {
		w.crash.perform(who, e, do)
	}
}

// repeat carries effects out twice, as a crash between an effect and its record
// would.
func (w *world) repeat(effects []deal.Effect) (out []deal.Effect) {
	for _, e := range effects {
		if out = append(out, e); w.twice {
			out = append(out, e)
		}
	}
	return out
}

func (w *world) senderEffect(e deal.Effect) {
	switch e := e.(type) {
	case deal.AskQuotes:
		ev := deal.Quoted{Height: w.tip()}
		for _, c := range e.Candidates {
			a := w.agent(c.Agent)
			if !a.up() {
				ev.Why = append(ev.Why, "dead")
				continue
			}
			until := w.tip() + wire.Height(e.Blocks)
			s, err := deal.NewAgent(&wire.QuoteRequest{Session: deal.SessionFor(e.Seed, c.Agent), E: e.E, Size: e.Size, StoreUntil: until,
				Expiry: until + wire.Height(e.Slack), Shape: e.Shape}, a.identity, deal.Fresh{Tau: w.secret(), ClaimKey: w.secret()}, w.policy, w.margins, w.tip(), feeRate)
			must(w.t, err)
			a.quotes[s.Quote.Point] = &s
			w.reach(s)
			ev.Quotes = append(ev.Quotes, s.Quote)
		}
		w.stepSender(ev)
	case deal.SealCopies:
		ev := deal.CopiesSealed{}
		for _, l := range e.Legs {
			ev.Hashes = append(ev.Hashes, blake3.Sum256(w.sealFor(e.Ephemeral, l.Point, l.Agent, e.Key)))
		}
		w.stepSender(ev)
	case deal.LockCoins:
		fee := wire.SatPerKVB(feeRate).Fee(contract.VSize(contract.FundingWeight(1, e.Frozen, true)))
		w.stepSender(deal.CoinsLocked{Inputs: []wire.Outpoint{w.purseAt}, Change: w.purseHas - e.Amount - fee, ChangeScript: w.change, Fee: fee})
	case deal.Place:
		a := w.agent(e.Candidate.Agent)
		leaf := e.Package.Section.Leaf
		if !a.up() || a.refuses {
			w.stepSender(deal.NotPlaced{Agent: e.Candidate.Agent, Why: "refused"})
			return
		}
		sealed := w.sealFor(e.Ephemeral, leaf.Point, leaf.Agent, leaf.Key)
		if q := a.quotes[leaf.Point]; q != nil {
			a.state = q
			delete(a.quotes, leaf.Point)
		}
		offered := deal.Offered{Height: w.tip(), Package: e.Package, CopyHash: blake3.Sum256(sealed), Size: uint64(len(sealed))}
		if _, _, err := a.state.Step(offered); err != nil {
			w.stepSender(deal.NotPlaced{Agent: e.Candidate.Agent, Why: err.Error()})
			return
		}
		a.copy = sealed
		a.step(offered)
		r := wire.Receipt{Agent: leaf.Agent, Package: e.Package.Digest()}
		w.stepSender(deal.Placed{Height: w.tip(), Receipt: r})
	case deal.Publish:
		tx, err := contract.DecodeTx(e.Tx)
		must(w.t, err)
		w.stepSender(w.broadcast(w.signPurse(tx)))
	case deal.Broadcast:
		tx, err := contract.ReadTx(e.Tx)
		must(w.t, err)
		w.stepSender(w.broadcast(tx))
	case deal.Poll:
		a := w.agent(e.Candidate.Agent)
		if a.up() && a.state != nil && len(a.state.Ack) > 0 {
			w.stepSender(deal.AckArrived{Agent: e.Candidate.Agent, Blob: a.state.Ack})
		} else {
			w.stepSender(deal.NothingNew{})
		}
	}
}

// signPurse signs tx, which spends the sender's one coin.
func (w *world) signPurse(tx *btcwire.MsgTx) *btcwire.MsgTx {
	prev := txscript.NewCannedPrevOutputFetcher(w.change, int64(w.purseHas))
	priv, err := w.purse.PrivKey()
	must(w.t, err)
	sig, err := txscript.RawTxInTaprootSignature(tx, txscript.NewTxSigHashes(tx, prev), 0, int64(w.purseHas), w.change, nil, txscript.SigHashDefault, priv)
	must(w.t, err)
	tx.TxIn[0].Witness = btcwire.TxWitness{sig}
	return tx
}

func (w *world) broadcast(tx *btcwire.MsgTx) deal.Event {
	if err := w.chain.Broadcast(w.t.Context(), tx); err != nil {
		w.note("rejected: %v", err)
		return deal.Broadcasted{Err: err.Error()}
	}
	return deal.Broadcasted{}
}

func (w *world) sealFor(e wire.Secret, point, agent wire.Key, key wire.MessageKey) []byte {
	kappa, err := seal.SealKey(e, point, agent, key)
	must(w.t, err)
	var b bytes.Buffer
	_, err = seal.SealTo(&b, bytes.NewReader(w.payload), kappa)
	must(w.t, err)
	return b.Bytes()
}

var policy = deal.Policy{Rate: 20_000_000, MaxSize: 1 << 30, MaxBlocks: 1008, ValidFor: 12, Patience: 4, OneOfMany: true}

func (a *agent) up() bool {
	h := a.tip()
	return !a.crash.deaf(a.name) && (a.deadAt == 0 || h < a.deadAt) && (h < a.offline[0] || h >= a.offline[1])
}

// catchUp reports to the agent the blocks that it missed.
func (a *agent) catchUp(from wire.Height) {
	for h := from; h <= a.tip(); h++ {
		a.step(deal.Connected{Block: contract.Block{Height: h, FeeRate: feeRate, Txs: a.block(h).Transactions}})
	}
}

func (a *agent) step(ev deal.Event) {
	if a.state == nil || a.crash.deaf(a.name) {
		return
	}
	next, effects, err := a.state.Step(ev)
	must(a.t, err)
	roundTrip(a.t, next)
	a.record("Agent", a.state.Phase(), ev, next.Phase(), effects)
	a.state = &next
	a.reach(next)
	a.do(effects)
}

func (a *agent) do(effects []deal.Effect) {
	for _, e := range a.repeat(effects) {
		a.perform(a.name, e, a.effect)
	}
}

func (a *agent) effect(e deal.Effect) {
	switch e := e.(type) {
	case deal.ClaimDue:
		a.claim()
	case deal.Broadcast:
		tx, err := contract.ReadTx(e.Tx)
		must(a.t, err)
		ev := a.broadcast(tx).(deal.Broadcasted)
		ev.Txid, ev.Own = contract.Txid(tx), true
		a.step(ev)
	case deal.DropPayload:
		a.copy = nil
	}
}

func (a *agent) claim() {
	s := a.state
	if !s.Claimable() {
		return
	}
	expiry := s.Quote.Expiry
	plan := batch.Make(batch.Market{Tip: a.tip(), Estimate: feeRate}, 1, []batch.Member{{At: s.At, Value: s.Value,
		Weight: contract.ClaimInputWeight(s.Index, len(s.Package.Frozen.Claims)), From: expiry - min(expiry, wire.Height(s.Margins.Bump)), To: expiry, In: s.Claim}})
	if len(plan.Txs) == 0 {
		why := plan.Left[0].Why
		a.step(deal.ClaimFailed{Why: why.Error(), Pause: errors.Is(why, batch.ErrUneconomic)})
		return
	}
	if again := plan.Txs[0].Again; again != nil {
		a.step(deal.ClaimBuilt{Sent: *again, Broadcast: true})
		return
	}
	out, err := contract.NewOutput(s.Package.Frozen)
	must(a.t, err)
	tx, fee, err := contract.BuildClaim([]contract.Claim{{Output: out, Index: s.Index, At: s.At, Value: s.Value, PreSig: s.Package.PreSig,
		Sigma: *s.Sigma, Tau: s.Tau, ClaimKey: s.ClaimKey}}, a.script, 0, plan.Txs[0].Fee)
	must(a.t, err)
	sent := *contract.NewSent(tx, fee, a.tip())
	sent.Before = plan.Txs[0].Replaces
	a.step(deal.ClaimBuilt{Sent: sent, Broadcast: true})
}

// scan is the recipient's scan of a block.
func (w *world) scan(b *btcwire.MsgBlock, h wire.Height) {
	scanner, err := seal.NewScanner(w.identity)
	must(w.t, err)
	for _, tx := range b.Transactions {
		data, ok := contract.Marker(tx)
		if !ok {
			continue
		}
		m, err := seal.DecodeMarker(data)
		must(w.t, err)
		sec, ok := scanner.Match(m.E, seal.Outpoint(contract.OutpointOf(tx.TxIn[0].PreviousOutPoint).Bytes()), m.Tag)
		if !ok {
			continue
		}
		r, effects := deal.NewRecipient(keyOf(w.t, w.identity), sec, m, tx, h, w.margins)
		w.recipient = &r
		w.reach(r)
		w.doRecipient(effects)
	}
}

func (w *world) stepRecipient(ev deal.Event) {
	if w.crash.deaf("R") {
		return
	}
	next, effects, err := w.recipient.Step(ev)
	must(w.t, err)
	roundTrip(w.t, next)
	w.record("Recipient", w.recipient.Phase, ev, next.Phase, effects)
	w.recipient = &next
	w.reach(next)
	w.doRecipient(effects)
}

func (w *world) doRecipient(effects []deal.Effect) {
	for _, e := range w.repeat(effects) {
		w.perform("R", e, w.recipientEffect)
	}
}

func (w *world) recipientEffect(e deal.Effect) {
	switch e := e.(type) {
	case deal.Locate:
		ev := deal.Located{Height: w.tip(), Wide: e.Wide}
		for _, a := range w.agents {
			if a.up() && a.state != nil && a.state.Serves() && a.state.Package.Section.Leaf.Key.Locator() == e.Locator {
				ev.Found = append(ev.Found, deal.Located1{Candidate: deal.Candidate{Agent: a.key},
					Proof: wire.Proof{Outpoint: a.state.At, Frozen: a.state.Package.Frozen, Section: a.state.Package.Section}})
			}
		}
		w.stepRecipient(ev)
	case deal.Fetch:
		a := w.agent(e.Candidate.Agent)
		switch {
		case !a.up() || !a.state.Serves():
			w.stepRecipient(deal.NotFetched{Height: w.tip(), Agent: e.Candidate.Agent, Why: "dead"})
		case a.garbles:
			w.stepRecipient(deal.NotFetched{Height: w.tip(), Agent: e.Candidate.Agent, Why: "wrong copy", Wrong: true})
		case a.state.Package.FetchKey != e.FetchKey:
			w.t.Fatal("the agent was told another fetch key")
		default:
			w.copies[e.Leaf.Point] = slices.Clone(a.copy)
			w.stepRecipient(deal.Fetched{Height: w.tip(), Agent: e.Candidate.Agent})
		}
	case deal.Release:
		w.release(e)
	case deal.Open:
		w.open(e)
	case deal.LeaveAck:
		a := w.agent(e.Candidate.Agent)
		sec, err := seal.FromRecipient(w.identity, e.E)
		must(w.t, err)
		blob, err := seal.SealAck(sec.AckKey(e.Candidate.Agent), w.identity, e.E, e.Root, e.Leaf.Hash())
		must(w.t, err)
		if a.up() {
			a.step(deal.Acked{MAC: wire.AckMAC(e.FetchKey, e.Leaf.Point, blob), Blob: blob})
		}
		w.stepRecipient(deal.AckLeft{OK: a.up()})
	}
}

func (w *world) release(e deal.Release) {
	a := w.agent(e.Candidate.Agent)
	if !a.up() {
		w.stepRecipient(deal.NotRevealed{Agent: e.Candidate.Agent, Why: "dead"})
		return
	}
	next, effects, err := a.state.Step(deal.Released{Height: w.tip(), Sigma: e.Sigma})
	var refusal *wire.Refusal
	if errors.As(err, &refusal) {
		w.stepRecipient(deal.NotRevealed{Agent: e.Candidate.Agent, Code: refusal.Code, Why: err.Error()})
		return
	}
	must(w.t, err)
	if a.state.Sigma == nil {
		a.released = w.tip()
	}
	w.record("Agent", a.state.Phase(), deal.Released{}, next.Phase(), effects)
	a.state = &next
	w.reach(next)
	tau, ok := next.Answer()
	switch {
	case a.silent:
		w.stepRecipient(deal.NotRevealed{Agent: e.Candidate.Agent, Why: "silence"})
	case a.wrongTau:
		w.stepRecipient(deal.Revealed{Agent: e.Candidate.Agent, Tau: w.secret()})
	case !ok:
		w.stepRecipient(deal.NotRevealed{Agent: e.Candidate.Agent, Code: wire.Claiming})
	default:
		w.stepRecipient(deal.Revealed{Agent: e.Candidate.Agent, Tau: tau})
	}
	a.do(effects)
}

func (w *world) open(e deal.Open) {
	kappa, err := seal.UnsealKey(e.Tau, e.E, e.Leaf.Agent, e.Leaf.Key)
	must(w.t, err)
	sec, err := seal.FromRecipient(w.identity, e.E)
	must(w.t, err)
	var p, body bytes.Buffer
	if _, err := seal.Unseal(&p, bytes.NewReader(w.copies[e.Leaf.Point]), kappa); err != nil {
		w.stepRecipient(deal.NotOpened{Why: err.Error()})
		return
	}
	payload := wire.Hash(blake3.Sum256(p.Bytes()))
	m, err := sec.Decrypt(&body, &p)
	if err == nil {
		err = seal.CheckKey(e.Leaf.Key, payload)
	}
	if err != nil {
		w.stepRecipient(deal.NotOpened{Why: err.Error()})
		return
	}
	w.read = body.Bytes()
	w.stepRecipient(deal.Opened{Sender: m.Sender, Size: m.Size})
}

// roundTrip checks that a state survives its encoding: what the store returns
// is what was stepped.
func roundTrip[S any](t testing.TB, s S) {
	t.Helper()
	raw, err := wire.Marshal(s)
	must(t, err)
	var back S
	must(t, wire.Unmarshal(raw, &back))
	again, err := wire.Marshal(back)
	must(t, err)
	if !bytes.Equal(raw, again) {
		t.Fatalf("%T does not survive its encoding", s)
	}
}

// reencode passes an effect through its stored form.
func reencode(t testing.TB, e deal.Effect) deal.Effect {
	t.Helper()
	name, body, err := deal.Effects.Encode(e)
	must(t, err)
	back, err := deal.Effects.Decode(name, body)
	must(t, err)
	return back
}

// holdings reads from the chain the unspent value of each script, and the fees
// of all transactions since the purse was filled.
func (w *world) holdings() (byScript map[string]wire.Sat, fees wire.Sat) {
	type out struct {
		script string
		value  wire.Sat
	}
	utxo := map[wire.Outpoint]out{}
	values := map[wire.Outpoint]wire.Sat{}
	began := false
	for h := wire.Height(1); h <= w.tip(); h++ {
		for i, tx := range w.block(h).Transactions {
			id := contract.Txid(tx)
			in := wire.Sat(0)
			for _, t := range tx.TxIn {
				at := contract.OutpointOf(t.PreviousOutPoint)
				in += values[at]
				delete(utxo, at)
			}
			sum := wire.Sat(0)
			for n, o := range tx.TxOut {
				at := wire.Outpoint{Txid: id, Vout: uint32(n)}
				values[at] = wire.Sat(o.Value)
				utxo[at] = out{string(o.PkScript), wire.Sat(o.Value)}
				sum += wire.Sat(o.Value)
			}
			if began && i > 0 {
				fees += in - sum
			}
		}
		began = began || utxo[w.purseAt].value != 0
	}
	byScript = map[string]wire.Sat{}
	for _, o := range utxo {
		byScript[o.script] += o.value
	}
	return byScript, fees
}
