package deal_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// TestModel explores the delivery of one message by two agents to the end, for
// every coalition of dishonest parties: every order of everything that a
// coalition can do, against the real machines of the others, over a chain that
// is nothing but heights and the rules of the leaves. What anybody can lose is
// then the maximum over all runs, and is held against the table of protocol §3
// both ways: no run exceeds a bound, and some run attains it.
//
// A dishonest party may at each moment do nothing, for one block or for ever
// (stop, withhold); answer anything to what it was asked, and anything again,
// late and repeatedly (lie, replay); and put into the next block whatever spend
// the leaves let the coalition make, before any honest one (front-run). Blocks
// reach the honest in either order. Honest transactions confirm in the next
// block, but for modelSlack blocks in all.
//
// Not in this world: reorgs (TestReorgUndo), crashes (TestCrashEquivalence), a
// recipient that comes late (TestReleaseBeforeDeadline), malformed packages and
// proofs (TestOnlyTemplateLeaves, TestNoDisclosureBeforeProof), fees.
//
// The nightly tier explores all coalitions, in both shapes; the full one those of
// nobody and of one party, and a sample of the larger ones; the short one nobody and
// each party alone in one shape.
func TestModel(t *testing.T) {
	t.Parallel()
	sample := tier.NewSample(t)
	for _, shape := range []wire.Shape{wire.PerAgent, wire.OneOfMany} {
		var chosen []coalition
		for c := coalition(0); c <= everybody; c++ {
			larger, in := c&(c-1) != 0, sample.Of(0, 5)
			if in || !larger && (!tier.Short() || shape == wire.OneOfMany) {
				chosen = append(chosen, c)
			}
		}
		t.Run(fmt.Sprint(shape), func(t *testing.T) {
			t.Parallel()
			states, worlds := 0, map[uint32]*model{}
			for _, c := range chosen {
				blocks := uint32(3)
				switch c {
				case badAgent0, badAgent0 << 1:
					blocks = 4 // time to turn from it twice
				case badAgents, badAgents | badSender:
					blocks = 2 // the widest, with no honest agent to wait for
				}
				if worlds[blocks] == nil {
					worlds[blocks] = newModel(t, shape, blocks)
				}
				m := worlds[blocks]
				m.explore(c)
				t.Logf("%v: %d states, %d endings", c, len(m.runs), len(m.endings))
				states += len(m.runs)
				m.check()
			}
			t.Logf("%d states", states)
		})
	}
}

// The bounded world: two agents, and margins that leave every deadline a block
// or two: the refund opens at T = modelStart + 4 + the blocks of storage.
const (
	modelAgents = 2
	modelStart  = wire.Height(100)
	// modelSlack is for how many blocks in all a miner may leave honest
	// transactions out; a claim that is due at T−Claim still beats the refund.
	modelSlack = 1
)

var (
	modelMargins = deal.Margins{CacheConf: 1, RevealConf: 1, RevealConfLarge: 1, LargeSat: 100_000,
		Turn: 1, Slack: 4, Release: 3, Claim: 2, Bump: 1, Final: 1, BlocksPerDay: 144}
	modelPolicy = deal.Policy{Rate: 20_000_000, MaxSize: 1 << 20, MaxBlocks: 100, ValidFor: 2, Patience: 1, OneOfMany: true}
)

// coalition is the set of dishonest parties. They share all they know.
type coalition uint8

const (
	badSender coalition = 1 << iota
	badRecipient
	badAgent0 // badAgent0<<i is agent i
	everybody = 1<<(2+modelAgents) - 1
	badAgents = everybody &^ (badSender | badRecipient)
)

func (c coalition) agent(i int) bool     { return c&(badAgent0<<i) != 0 }
func (c coalition) has(p coalition) bool { return c&p != 0 }

func (c coalition) String() string {
	var names []string
	for i, n := range []string{"S", "R", "A0", "A1"} {
		if c&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return "{" + strings.Join(names, " ") + "}"
}

// set is a set of agents or outputs.
type set uint8

func (s set) has(i int) bool { return s>>i&1 != 0 }
func (s *set) add(i int)     { *s |= 1 << i }

// how an output was spent.
type how uint8

const (
	unspent how = iota
	refunded
	claimed0 // claimed0+i: by agent i, with τᵢ
	bypass0  = claimed0 + modelAgents
)

// block is what a block holds of this message.
type block struct {
	funding, conflict bool
	spends            [modelAgents]how
}

// node is a state of the world. Machines are numbers in their pools.
type node struct {
	height    wire.Height
	sender    int32 // a dishonest one's only reads the chain, for its receipts
	agents    [modelAgents]int32
	recipient int32       // -1 before the funding
	out       bool        // the funding is broadcast
	funded    wire.Height // 0 not yet
	dead      bool        // the funding's coin went elsewhere
	spends    [modelAgents]how
	claims    set   // honest claims in the mempool
	refund    set   // outputs of the honest refund in the mempool
	late      uint8 // blocks in which an honest transaction was left out

	placed, fetch, release set // what dishonest agents were asked
	located                bool
	sigma                  set // known to the coalition
	acks                   set // agents for which the coalition has R's acknowledgement
	junk                   set // copies in which the sender sealed something else
}

// event names a deal.Event, comparably.
type event struct {
	kind   kind
	agent  int8
	other  int8 // a second agent, a code or a variant
	set    set
	block  block
	height wire.Height
}

type kind uint8

const (
	evBlock kind = iota + 1
	evBroadcasted
	evNotBroadcasted
	evPlaced
	evNotPlaced
	evAckArrived
	evOffered
	evReleased
	evAcked
	evClaimBuilt
	evLocated
	evFetched
	evNotFetched
	evRevealed
	evNotRevealed
	evOpened
	evNotOpened
	evAckLeft
)

var kinds = []string{"start", "block", "broadcasted", "not broadcasted", "placed", "not placed", "ack arrived", "offered", "released", "acked", "claim built", "located", "fetched", "not fetched", "revealed", "not revealed", "opened", "not opened", "ack left"}

func (e event) String() string {
	return fmt.Sprintf("%d: %s agent %d, %d, %b %v", e.height, kinds[e.kind], e.agent, e.other, e.set, e.block)
}

// pool numbers the states of one machine and remembers its steps.
type pool[S machine[S]] struct {
	m      *model
	states []S
	ids    map[[32]byte]int32
	steps  map[stepKey]stepped
}

type stepKey struct {
	id int32
	ev event
}

type stepped struct {
	next    int32
	effects []deal.Effect
	refusal *wire.Refusal
}

func newPool[S machine[S]](m *model) *pool[S] {
	return &pool[S]{m: m, ids: map[[32]byte]int32{}, steps: map[stepKey]stepped{}}
}

func (p *pool[S]) id(s S) int32 {
	switch s := any(&s).(type) { // what no step reads
	case *deal.Recipient:
		s.Failure, s.Sources = "", slices.Clone(s.Sources)
		for i := range s.Sources {
			s.Sources[i].Silent = false
			if s.Phase == deal.RecipientRead {
				s.Sources[i].Failed, s.Sources[i].Bad, s.Sources[i].Held = false, false, false
			}
		}
		if s.Phase != deal.RecipientFetching {
			s.FetchedAt = 0
		}
	case *deal.Sender:
		if s.Refund != nil {
			r := *s.Refund
			r.Height = 0
			s.Refund = &r
		}
	}
	raw, err := wire.Marshal(s)
	must(p.m.t, err)
	key := sha256.Sum256(raw)
	id, ok := p.ids[key]
	if !ok {
		id = int32(len(p.states))
		p.states, p.ids[key] = append(p.states, s), id
	}
	return id
}

func (p *pool[S]) step(id *int32, ev event) stepped {
	key := stepKey{*id, ev}
	r, ok := p.steps[key]
	if !ok {
		made, ok := p.m.events[ev]
		if !ok {
			made = p.m.event(ev)
			p.m.events[ev] = made
		}
		r = p.run(*id, made)
		p.steps[key] = r
	}
	*id = r.next
	return r
}

func (p *pool[S]) run(id int32, ev deal.Event) stepped {
	s := p.states[id]
	if b, ok := ev.(deal.Connected); ok && !wants(s.Interest(), b) {
		return stepped{next: id}
	}
	next, effects, err := s.Step(ev)
	r := stepped{next: id, effects: effects}
	if errors.As(err, &r.refusal) {
		return r
	}
	must(p.m.t, err)
	r.next = p.id(next)
	return r
}

// model is what all explorations of one shape share.
type model struct {
	t          *testing.T
	shape      wire.Shape
	outputs    int
	senders    *pool[deal.Sender]
	agents     [modelAgents]*pool[deal.Agent]
	recipients *pool[deal.Recipient]

	placing, published int32 // the sender with its packages made; with all placed
	quoted             [modelAgents]int32
	identity           wire.Secret
	sec                *seal.Secrets
	packages           [modelAgents]wire.Package
	keys               [modelAgents]wire.Key
	acks               [modelAgents][]byte
	bypass             [modelAgents]contract.Tx
	wrong              wire.Secret
	expiry, last       wire.Height
	events             map[event]deal.Event
	receipts           map[int32]bool

	c       coalition
	seen    map[node]bool
	runs    []reached // every node visited, in order
	stack   []int     // of runs, to look at
	at      int       // of runs, looked at now
	cur     node
	deaf    map[stepKey]bool // agents' states that were offered all that they must refuse
	endings map[ending]int   // each with a run to it
}

// reached is a node, and how it was reached.
type reached struct {
	node
	from int
	ev   event
}

func newModel(t *testing.T, shape wire.Shape, blocks uint32) *model {
	m := &model{t: t, shape: shape, outputs: modelAgents, events: map[event]deal.Event{}, receipts: map[int32]bool{}}
	if shape == wire.OneOfMany {
		m.outputs = 1
	}
	m.senders, m.recipients = newPool[deal.Sender](m), newPool[deal.Recipient](m)
	w := &world{t: t, rng: rand.New(rand.NewPCG(1, 0))} // for its secrets only
	e := w.secret()
	m.identity, m.wrong = w.secret(), w.secret()
	var err error
	m.sec, err = seal.FromSender(e, keyOf(t, m.identity))
	must(t, err)
	hash := wire.Hash(w.secret())
	terms := deal.Terms{Recipient: keyOf(t, m.identity), Ephemeral: e, PayloadHash: hash, PayloadSize: 1000, Key: seal.MessageKey(hash, 0),
		Agents: modelAgents, Shape: shape, MaxCost: 100_000, Blocks: blocks, Seed: w.secret(), RefundKey: w.secret(),
		RefundTo: append([]byte{0x51, 0x20}, bytes.Repeat([]byte{3}, 32)...), Margins: modelMargins}
	identities := map[wire.Key]wire.Secret{}
	for range modelAgents {
		id := w.secret()
		identities[keyOf(t, id)] = id
		terms.Candidates = append(terms.Candidates, deal.Candidate{Agent: keyOf(t, id)})
	}
	s, effects, err := deal.NewSender(terms)
	must(t, err)
	ask := effects[0].(deal.AskQuotes)
	quotes := map[wire.Key]deal.Agent{}
	ev := deal.Quoted{Height: modelStart}
	until := modelStart + wire.Height(ask.Blocks)
	for _, c := range ask.Candidates {
		a, err := deal.NewAgent(&wire.QuoteRequest{Session: deal.SessionFor(ask.Seed, c.Agent), E: ask.E, Size: ask.Size, StoreUntil: until,
			Expiry: until + wire.Height(ask.Slack), Shape: shape}, identities[c.Agent], deal.Fresh{Tau: w.secret(), ClaimKey: w.secret()},
			modelPolicy, modelMargins, modelStart, feeRate)
		must(t, err)
		quotes[c.Agent] = a
		ev.Quotes = append(ev.Quotes, a.Quote)
	}
	step := func(ev deal.Event) {
		s, effects, err = s.Step(ev)
		must(t, err)
	}
	step(ev)
	step(deal.CopiesSealed{Hashes: []wire.Hash{wire.Hash(w.secret()), wire.Hash(w.secret())}})
	step(deal.CoinsLocked{Inputs: []wire.Outpoint{{Txid: wire.Hash(w.secret())}}, Change: 10_000, ChangeScript: terms.RefundTo, Fee: 500})
	m.placing = m.senders.id(s)
	for i, eff := range effects {
		p := eff.(deal.Place)
		m.packages[i], m.keys[i] = p.Package, p.Candidate.Agent
		m.agents[i] = newPool[deal.Agent](m)
		m.quoted[i] = m.agents[i].id(quotes[m.keys[i]])
	}
	m.expiry = s.Legs[0].Quote.Expiry
	root := m.marker(&s).Root
	for i := range modelAgents {
		m.acks[i], err = seal.SealAck(m.sec.AckKey(m.keys[i]), m.identity, ask.E, root, m.packages[i].Section.Leaf.Hash())
		must(t, err)
		s, _, err = s.Step(deal.Placed{Height: modelStart, Receipt: wire.Receipt{Agent: m.keys[i], Package: m.packages[i].Digest()}})
		must(t, err)
	}
	s, _, err = s.Step(deal.Broadcasted{})
	must(t, err)
	m.published = m.senders.id(s)
	for i := range modelAgents {
		// The sender completes what it never locked to Tᵢ.
		m.bypass[i] = m.claim(i, func(c *contract.Claim, digest wire.Hash) {
			c.PreSig, err = contract.PreSign(m.sec.SenderKey(m.keys[i]), m.wrong, keyOf(t, m.wrong), digest)
			must(t, err)
			c.Tau = m.wrong
		})
	}
	return m
}

func (m *model) marker(s *deal.Sender) seal.Marker {
	data, _ := contract.Marker(m.tx(s.Funding))
	marker, err := seal.DecodeMarker(data)
	must(m.t, err)
	return marker
}

func (m *model) tx(raw []byte) contract.Tx {
	tx, err := contract.DecodeTx(raw)
	must(m.t, err)
	return tx
}

// claim builds agent i's claim, changed by alter.
func (m *model) claim(i int, alter func(*contract.Claim, wire.Hash)) contract.Tx {
	s, a := m.senders.states[m.published], m.agents[i].states[m.quoted[i]]
	out, err := contract.NewOutput(s.Frozen[s.Legs[i].Vout])
	must(m.t, err)
	c := contract.Claim{Output: out, At: wire.Outpoint{Txid: s.Txid, Vout: s.Legs[i].Vout}, Value: s.Values[s.Legs[i].Vout],
		PreSig: s.Legs[i].PreSig, Sigma: m.sec.ReleaseSecret(m.keys[i]), Tau: a.Tau, ClaimKey: a.ClaimKey}
	if m.shape == wire.OneOfMany {
		c.Index = i
	}
	digest, err := out.ClaimDigest(c.Index, c.At, c.Value)
	must(m.t, err)
	alter(&c, digest)
	tx, _, err := contract.BuildClaim([]contract.Claim{c}, s.Terms.RefundTo, feeRate, 0)
	must(m.t, err)
	return tx
}

// output of agent i.
func (m *model) output(i int) int { return min(i, m.outputs-1) }

// txs are the transactions of a block.
func (m *model) txs(b block) (txs []contract.Tx) {
	s := m.senders.states[m.published]
	if b.funding {
		txs = append(txs, m.tx(s.Funding))
	}
	if b.conflict {
		txs = append(txs, conflict(&s))
	}
	var refunds []contract.Refund
	for o, h := range b.spends[:m.outputs] {
		switch {
		case h == refunded:
			out, err := contract.NewOutput(s.Frozen[o])
			must(m.t, err)
			refunds = append(refunds, contract.Refund{Output: out, At: wire.Outpoint{Txid: s.Txid, Vout: uint32(o)}, Value: s.Values[o], Key: s.Terms.RefundKey})
		case h >= bypass0:
			txs = append(txs, m.bypass[h-bypass0])
		case h >= claimed0:
			txs = append(txs, m.claim(int(h-claimed0), func(*contract.Claim, wire.Hash) {}))
		}
	}
	if len(refunds) > 0 {
		tx, _, err := contract.BuildRefund(refunds, s.Terms.RefundTo, feeRate, 0)
		must(m.t, err)
		txs = append(txs, tx)
	}
	return txs
}

// event makes what ev names.
func (m *model) event(ev event) deal.Event {
	i := int(ev.agent)
	proof := func(i int) deal.Located1 {
		p := m.packages[i]
		return deal.Located1{Candidate: deal.Candidate{Agent: m.keys[i]}, Proof: wire.Proof{
			Outpoint: wire.Outpoint{Txid: m.senders.states[m.published].Txid, Vout: p.Vout}, Frozen: p.Frozen, Section: p.Section}}
	}
	switch ev.kind {
	case evBlock:
		return deal.Connected{Block: contract.Block{Height: ev.height, FeeRate: feeRate, Txs: m.txs(ev.block)}}
	case evBroadcasted:
		return deal.Broadcasted{}
	case evNotBroadcasted:
		return deal.Broadcasted{Err: "too late"}
	case evPlaced:
		return deal.Placed{Height: ev.height, Receipt: wire.Receipt{Agent: m.keys[i], Package: m.packages[i].Digest()}}
	case evNotPlaced:
		return deal.NotPlaced{Agent: m.keys[i], Why: "refused"}
	case evAckArrived: // of agent other, by way of agent i
		if ev.other < 0 {
			return deal.AckArrived{Agent: m.keys[i], Blob: bytes.Repeat([]byte{7}, seal.AckSize)}
		}
		return deal.AckArrived{Agent: m.keys[i], Blob: m.acks[ev.other]}
	case evOffered:
		p := m.packages[i]
		if ev.other != 0 {
			p.PreSig[40] ^= 1
		}
		return deal.Offered{Height: ev.height, Package: p, CopyHash: p.Section.Leaf.CopyHash, Size: p.Section.Leaf.Size}
	case evReleased: // σ of agent other
		if ev.other < 0 {
			return deal.Released{Height: ev.height, Sigma: m.wrong}
		}
		return deal.Released{Height: ev.height, Sigma: m.sec.ReleaseSecret(m.keys[ev.other])}
	case evAcked:
		a := m.agents[i].states[m.quoted[i]]
		blob := m.acks[i]
		key := m.packages[i].FetchKey
		if ev.other < 0 {
			key = m.wrong
		}
		return deal.Acked{MAC: wire.AckMAC(key, a.Quote.Point, blob), Blob: blob}
	case evClaimBuilt:
		tx := m.claim(i, func(*contract.Claim, wire.Hash) {})
		return deal.ClaimBuilt{Sent: *contract.NewSent(tx, 500, 0), Broadcast: true}
	case evLocated:
		l := deal.Located{Height: ev.height, Wide: true}
		for i := range modelAgents {
			if ev.set.has(i) {
				l.Found = append(l.Found, proof(i))
			}
		}
		return l
	case evFetched:
		return deal.Fetched{Height: ev.height, Agent: m.keys[i]}
	case evNotFetched:
		return deal.NotFetched{Height: ev.height, Agent: m.keys[i], Why: "refused", Wrong: ev.other != 0}
	case evRevealed:
		if ev.other != 0 {
			return deal.Revealed{Agent: m.keys[i], Tau: m.wrong}
		}
		return deal.Revealed{Agent: m.keys[i], Tau: m.agents[i].states[m.quoted[i]].Tau}
	case evNotRevealed:
		return deal.NotRevealed{Agent: m.keys[i], Code: wire.Code(ev.other), Why: "refused"}
	case evOpened:
		return deal.Opened{Sender: m.keys[0], Size: 1}
	case evNotOpened:
		return deal.NotOpened{Why: "junk"}
	case evAckLeft:
		return deal.AckLeft{OK: true}
	}
	m.t.Fatalf("no event %d", ev.kind)
	return nil
}

func (m *model) index(k wire.Key) int { return slices.Index(m.keys[:], k) }

// toSender steps the sender and does what it wants done.
func (m *model) toSender(n *node, ev event) {
	r := m.senders.step(&n.sender, ev)
	if !m.c.has(badSender) {
		m.senderDoes(n, r.effects)
	}
}

func (m *model) senderDoes(n *node, effects []deal.Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case deal.Place:
			i := m.index(e.Candidate.Agent)
			if m.c.agent(i) {
				n.placed.add(i)
			} else if m.toAgent(n, i, event{kind: evOffered, agent: int8(i), height: n.height}) {
				m.toSender(n, event{kind: evPlaced, agent: int8(i), height: n.height})
			}
		case deal.Publish:
			if !n.out && n.height >= e.Until {
				m.toSender(n, event{kind: evNotBroadcasted})
				continue
			}
			n.out = true
			m.toSender(n, event{kind: evBroadcasted})
		case deal.Broadcast:
			n.refund = 0
			s := m.senders.states[n.sender]
			tx, err := contract.ReadTx(e.Tx)
			must(m.t, err)
			for o := range m.outputs {
				if contract.Spends(tx, wire.Outpoint{Txid: s.Txid, Vout: uint32(o)}) >= 0 {
					n.refund.add(o)
				}
			}
		case deal.Poll:
			if i := m.index(e.Candidate.Agent); !m.c.agent(i) && len(m.agents[i].states[n.agents[i]].Ack) > 0 {
				m.toSender(n, event{kind: evAckArrived, agent: int8(i), other: int8(i)})
			}
		}
	}
}

// toAgent steps an honest agent and does what it wants done; false where it
// refused.
func (m *model) toAgent(n *node, i int, ev event) bool {
	r := m.agents[i].step(&n.agents[i], ev)
	for _, e := range r.effects {
		switch e.(type) {
		case deal.ClaimDue:
			if m.agents[i].states[n.agents[i]].Claimable() {
				m.toAgent(n, i, event{kind: evClaimBuilt, agent: int8(i)})
			}
		case deal.Broadcast: // of the claim: now everybody knows σ and τ
			n.claims.add(i)
			n.sigma.add(i)
		}
	}
	return r.refusal == nil
}

// toRecipient steps an honest recipient and does what it wants done.
func (m *model) toRecipient(n *node, ev event) {
	m.recipientDoes(n, m.recipients.step(&n.recipient, ev).effects)
}

func (m *model) recipientDoes(n *node, effects []deal.Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case deal.Locate:
			n.located = true
			ev := event{kind: evLocated, height: n.height}
			for i := range modelAgents {
				if a := n.agents[i]; a >= 0 && m.agents[i].states[a].Serves() {
					ev.set.add(i)
				}
			}
			m.toRecipient(n, ev)
		case deal.Fetch:
			i := m.index(e.Candidate.Agent)
			switch {
			case m.c.agent(i):
				n.fetch.add(i)
			case m.agents[i].states[n.agents[i]].Serves():
				m.toRecipient(n, event{kind: evFetched, agent: int8(i), height: n.height})
			default:
				m.toRecipient(n, event{kind: evNotFetched, agent: int8(i), height: n.height})
			}
		case deal.Release:
			i := m.index(e.Candidate.Agent)
			if m.c.agent(i) {
				n.release.add(i)
				n.sigma.add(i)
				continue
			}
			ok := m.toAgent(n, i, event{kind: evReleased, agent: int8(i), other: int8(i), height: n.height})
			a := m.agents[i].states[n.agents[i]]
			if _, gives := a.Answer(); ok && gives {
				m.toRecipient(n, event{kind: evRevealed, agent: int8(i)})
			} else {
				code := wire.NotConfirmed
				if ok {
					code = wire.Claiming
				}
				m.toRecipient(n, event{kind: evNotRevealed, agent: int8(i), other: int8(code)})
			}
		case deal.Open:
			if n.junk.has(m.index(e.Leaf.Agent)) || contract.CheckTau(e.Tau, e.Leaf.Point) != nil {
				m.toRecipient(n, event{kind: evNotOpened})
			} else {
				m.toRecipient(n, event{kind: evOpened})
			}
		case deal.LeaveAck:
			i := m.index(e.Candidate.Agent)
			if m.c.agent(i) {
				n.acks.add(i)
			} else {
				m.toAgent(n, i, event{kind: evAcked, agent: int8(i)})
			}
			m.toRecipient(n, event{kind: evAckLeft})
		}
	}
}

// explore visits every state of the world that coalition c can bring about.
func (m *model) explore(c coalition) {
	// From T on an honest refund is tried in every block. It may be left out,
	// and each claim that comes first makes it be built anew.
	m.last = m.expiry + wire.Height(m.outputs) + modelSlack
	if c.has(badSender) {
		m.last = m.expiry + 1 // its refund is as good as in any later block
	}
	m.c, m.seen, m.runs, m.endings, m.deaf = c, map[node]bool{}, nil, map[ending]int{}, map[stepKey]bool{}
	for junk := set(0); junk < 1<<modelAgents; junk++ {
		n := node{height: modelStart, sender: m.published, recipient: -1, junk: junk}
		for i := range modelAgents {
			n.agents[i] = -1
			if !c.agent(i) {
				n.agents[i] = m.quoted[i]
			}
		}
		if c.has(badRecipient | badSender) {
			n.sigma = 1<<modelAgents - 1
		}
		if c.has(badRecipient) {
			n.acks = 1<<modelAgents - 1
		}
		if !c.has(badSender) {
			n.sender = m.placing
			for i := range modelAgents {
				m.senderDoes(&n, []deal.Effect{deal.Place{Candidate: deal.Candidate{Agent: m.keys[i]}}})
			}
		}
		m.visit(n, event{})
		if c != badSender {
			break // what is inside is between S and R alone
		}
	}
	for len(m.stack) > 0 {
		m.at = m.stack[len(m.stack)-1]
		m.cur = m.runs[m.at].node
		m.stack = m.stack[:len(m.stack)-1]
		if m.cur.height < m.last && !m.over(&m.cur) {
			m.act()
			m.mine()
		} else {
			m.endings[m.end(m.cur)] = m.at
		}
	}
}

// visit remembers n, which ev makes of cur, and looks at it later.
func (m *model) visit(n node, ev event) {
	if m.seen[n] {
		return
	}
	m.seen[n] = true
	m.runs = append(m.runs, reached{n, m.at, ev})
	m.stack = append(m.stack, len(m.runs)-1)
	m.safe(&n, ev)
}

// act visits what every single action of the coalition makes of cur, blocks
// aside.
func (m *model) act() {
	h := m.cur.height
	sender := func(ev event) {
		n := m.cur
		m.toSender(&n, ev)
		m.visit(n, ev)
	}
	recipient := func(ev event) {
		n := m.cur
		m.toRecipient(&n, ev)
		m.visit(n, ev)
	}
	for i := range modelAgents {
		if m.c.agent(i) {
			if !m.c.has(badSender) {
				if m.cur.placed.has(i) {
					sender(event{kind: evPlaced, agent: int8(i), height: h})
					sender(event{kind: evNotPlaced, agent: int8(i)})
				}
				for j := -1; j < modelAgents; j++ {
					if m.cur.funded != 0 && (j < 0 || m.cur.acks.has(j)) {
						sender(event{kind: evAckArrived, agent: int8(i), other: int8(j)})
					}
				}
			}
			if !m.c.has(badRecipient) {
				if m.cur.located && !m.source(i) { // who is known is passed over
					recipient(event{kind: evLocated, height: h, set: 1 << i})
				}
				if m.cur.fetch.has(i) {
					recipient(event{kind: evFetched, agent: int8(i), height: h})
					recipient(event{kind: evNotFetched, agent: int8(i), height: h})
					recipient(event{kind: evNotFetched, agent: int8(i), height: h, other: 1})
				}
				if m.cur.release.has(i) {
					recipient(event{kind: evRevealed, agent: int8(i)})
					recipient(event{kind: evRevealed, agent: int8(i), other: 1})
					recipient(event{kind: evNotRevealed, agent: int8(i), other: int8(wire.OK)})
					recipient(event{kind: evNotRevealed, agent: int8(i), other: int8(wire.Claiming)})
				}
			}
			continue
		}
		// What anybody may say to an honest agent. Another's σ, a made-up one and
		// a package changed in one bit never get anywhere.
		agent := func(ev event) (node, bool) {
			n := m.cur
			ok := m.toAgent(&n, i, ev)
			return n, ok
		}
		if key := (stepKey{m.cur.agents[i], event{agent: int8(i), height: h}}); !m.deaf[key] {
			m.deaf[key] = true
			for _, ev := range []event{
				{kind: evReleased, agent: int8(i), other: -1, height: h},
				{kind: evReleased, agent: int8(i), other: int8((i + 1) % modelAgents), height: h},
				{kind: evOffered, agent: int8(i), other: 1, height: h},
				{kind: evAcked, agent: int8(i), other: -1},
			} {
				if n, ok := agent(ev); ok || n != m.cur {
					m.fail(m.at, "agent %d takes %v", i, ev)
				}
			}
		}
		if m.c.has(badSender) {
			ev := event{kind: evOffered, agent: int8(i), height: h}
			n, _ := agent(ev)
			m.visit(n, ev)
		}
		if m.cur.sigma.has(i) && m.c != 0 {
			ev := event{kind: evReleased, agent: int8(i), other: int8(i), height: h}
			n, _ := agent(ev)
			m.visit(n, ev)
		}
		if m.c.has(badRecipient) {
			ev := event{kind: evAcked, agent: int8(i)}
			n, _ := agent(ev)
			m.visit(n, ev)
		}
	}
}

// mine visits every next block.
func (m *model) mine() {
	var fundings []block
	switch n := &m.cur; {
	case n.funded != 0 || n.dead:
		fundings = []block{{}}
	case m.c.has(badSender):
		fundings = []block{{}, {funding: true}, {conflict: true}}
	case n.out:
		fundings = []block{{}, {funding: true}}
	default:
		fundings = []block{{}}
	}
	for _, b := range fundings {
		m.choose(b, 0)
	}
}

// choose puts every spend of the outputs from o on into b that the leaves
// allow.
func (m *model) choose(b block, o int) {
	n := &m.cur
	if o == m.outputs {
		m.connect(b)
		return
	}
	m.choose(b, o+1)
	if n.funded == 0 && !b.funding || n.spends[o] != unspent {
		return
	}
	with := func(h how) {
		b.spends[o] = h
		m.choose(b, o+1)
	}
	// CHECKLOCKTIMEVERIFY holds in the blocks after T.
	if n.height+1 > m.expiry && (m.c.has(badSender) || n.refund.has(o)) {
		with(refunded)
	}
	for i := range modelAgents {
		if m.output(i) != o {
			continue
		}
		// σᵢ, τᵢ and the claim key; or S″'s own signature for τᵢ.
		if n.claims.has(i) || m.c.agent(i) && n.sigma.has(i) {
			with(claimed0 + how(i))
		}
		if m.c.has(badSender) && m.c.agent(i) {
			with(bypass0 + how(i))
		}
	}
}

// connect adds block b, if miners that take honest transactions make it, and
// tells everybody.
func (m *model) connect(b block) {
	n := m.cur
	n.height++
	left := false // an honest transaction that could have been in b is not
	left = left || n.out && n.funded == 0 && !b.funding
	for i := range modelAgents {
		left = left || n.claims.has(i) && b.spends[m.output(i)] == unspent
	}
	if !m.c.has(badSender) {
		// The honest refund is one transaction: all of it or nothing.
		all, beaten, some := true, false, false
		for o := range m.outputs {
			if n.refund.has(o) {
				all = all && b.spends[o] == refunded
				some = some || b.spends[o] == refunded
				beaten = beaten || b.spends[o] >= claimed0
			}
		}
		switch {
		case some && !all:
			return
		case n.refund != 0 && !all && !beaten:
			left = true
		}
		if all || beaten {
			n.refund = 0
		}
	}
	if left {
		if n.late++; n.late > modelSlack {
			return
		}
	}
	if b.funding {
		n.funded = n.height
	}
	n.dead = n.dead || b.conflict
	for o, h := range b.spends[:m.outputs] {
		if h == unspent {
			continue
		}
		n.spends[o] = h
		for i := range modelAgents {
			if m.output(i) == o {
				n.claims &^= 1 << i
			}
			if h == claimed0+how(i) || h == bypass0+how(i) {
				n.sigma.add(i)
			}
		}
	}
	ev := event{kind: evBlock, height: n.height, block: b}
	for _, first := range []bool{false, true} {
		n := n
		if first {
			m.blockToRecipient(&n, ev)
		}
		m.toSender(&n, ev)
		for i := range modelAgents {
			if !m.c.agent(i) {
				m.toAgent(&n, i, ev)
			}
		}
		if !first {
			m.blockToRecipient(&n, ev)
		}
		m.visit(n, ev)
	}
}

func (m *model) blockToRecipient(n *node, ev event) {
	switch {
	case m.c.has(badRecipient):
	case n.recipient >= 0:
		m.toRecipient(n, ev)
	case ev.block.funding:
		// The engine tells a new contract of the block in which it was found.
		s := m.senders.states[m.published]
		r, effects := deal.NewRecipient(keyOf(m.t, m.identity), m.sec, m.marker(&s), m.tx(s.Funding), n.height, modelMargins)
		n.recipient = m.recipients.id(r)
		step := m.recipients.step(&n.recipient, ev)
		m.recipientDoes(n, append(effects, step.effects...))
	}
}

// paid reports whether agent i has the value of an output.
func (m *model) paid(n *node, i int) bool {
	h := n.spends[m.output(i)]
	return h == claimed0+how(i) || h == bypass0+how(i)
}

func (m *model) read(n *node) bool {
	return n.recipient >= 0 && m.recipients.states[n.recipient].Phase == deal.RecipientRead
}

// delivered asks the sender's machine, once a state.
func (m *model) delivered(n *node) bool {
	d, ok := m.receipts[n.sender]
	if !ok {
		s := m.senders.states[n.sender]
		d = s.Delivered()
		m.receipts[n.sender] = d
	}
	return d
}

// safe checks what holds at every moment.
func (m *model) safe(n *node, ev event) {
	last := len(m.runs) - 1
	// ReceiptMeansDelivered. A sender that hands out σ itself deceives only
	// itself.
	if m.c&(badSender|badRecipient) == 0 && m.delivered(n) && !m.read(n) {
		m.fail(last, "a receipt and no message")
	}
	// ClaimImpliesTau: a claim with the σ that R gave opens the copy, and so
	// does, until R gives up at T, one with the σ that another gave.
	if n.recipient >= 0 && ev.kind == evBlock {
		for _, src := range m.recipients.states[n.recipient].Sources {
			i := m.index(src.Candidate.Agent)
			if (src.Released != 0 || src.Held && n.height <= m.expiry) && n.spends[m.output(i)] == claimed0+how(i) && !n.junk.has(i) && !m.read(n) {
				m.fail(last, "agent %d is paid with its τ, and R has no message", i)
			}
		}
	}
	for i := range modelAgents {
		if m.c.agent(i) || m.shape == wire.PerAgent {
			continue
		}
		a := m.agents[i].states[n.agents[i]]
		if _, gives := a.Answer(); gives && !m.paid(n, i) {
			m.fail(last, "agent %d answers τ without its claim", i)
		}
	}
}

// source reports whether R knows agent i.
func (m *model) source(i int) bool {
	return slices.ContainsFunc(m.recipients.states[m.cur.recipient].Sources, func(s deal.Source) bool { return s.Candidate.Agent == m.keys[i] })
}

// over reports whether nothing changes hands any more.
func (m *model) over(n *node) bool {
	if m.c.has(badRecipient) || n.recipient < 0 {
		return n.dead || n.funded != 0 && !slices.Contains(n.spends[:m.outputs], unspent)
	}
	p := m.recipients.states[n.recipient].Phase
	return p >= deal.RecipientRead && !slices.Contains(n.spends[:m.outputs], unspent)
}

// ending is what a run came to.
type ending struct {
	read      bool // R has the message
	delivered bool // S has a receipt
	funded    bool
	late      bool // an honest transaction was left out of a block
	open      int  // outputs that nobody took
	claims    int  // outputs paid with τ
	bypasses  int  // and without
	refunds   int
	paid      set
	released  set // agents that an honest R gave σ
	unpaid    set // honest agents that took σ and were not paid
}

func (m *model) end(n node) ending {
	e := ending{read: m.read(&n), delivered: m.delivered(&n), funded: n.funded != 0, late: n.late > 0}
	for _, h := range n.spends[:m.outputs] {
		switch {
		case !e.funded:
		case h == unspent:
			e.open++
		case h == refunded:
			e.refunds++
		case h >= bypass0:
			e.bypasses++
		default:
			e.claims++
		}
	}
	for i := range modelAgents {
		switch {
		case m.paid(&n, i):
			e.paid.add(i)
		case !m.c.agent(i) && m.agents[i].states[n.agents[i]].Sigma != nil:
			e.unpaid.add(i)
		}
	}
	if n.recipient >= 0 {
		for _, src := range m.recipients.states[n.recipient].Sources {
			if src.Released != 0 {
				e.released.add(m.index(src.Candidate.Agent))
			}
		}
	}
	return e
}

// check holds the endings against the table of protocol §3, in units of V.
func (m *model) check() {
	c, per := m.c, m.shape == wire.PerAgent
	honest := func(p coalition) bool { return !c.has(p) }
	agents := modelAgents // honest ones
	for i := range modelAgents {
		if c.agent(i) {
			agents--
		}
	}
	never := func(what string, f func(e ending) bool) {
		m.t.Helper()
		for e, at := range m.endings {
			if f(e) {
				m.fail(at, "%s: %+v", what, e)
			}
		}
	}
	// some asks that a run shows what the table says can be, or that none does.
	some := func(can bool, what string, f func(e ending) bool) {
		m.t.Helper()
		for e, at := range m.endings {
			if f(e) && !can {
				m.fail(at, "%s: %+v", what, e)
			} else if f(e) {
				return
			}
		}
		if can {
			m.t.Errorf("%v %v: no run shows it: %s", m.shape, c, what)
		}
	}

	// Whoever else is dishonest, S pays what was claimed with τ and has
	// everything else back: n·V where R gives σ to all or agents are silent, V
	// where all are honest.
	if honest(badSender) {
		never("S has not all back that was not claimed", func(e ending) bool {
			return e.bypasses > 0 || e.open > 0 || e.funded && e.claims+e.refunds != m.outputs
		})
		some(true, "S pays V", func(e ending) bool { return e.claims == 1 })
		some(per && c != 0, "S pays n·V", func(e ending) bool { return e.claims > 1 })
		some(c != 0, "S pays nothing for a message that it sent", func(e ending) bool { return e.funded && e.claims == 0 })
	}
	// An honest agent that took σ is paid, whoever gave it. In 1-of-many a
	// sibling with its own σ may be faster: the agent then loses V. S or R may
	// give both σ, a silent sibling makes R do it, and so does a claim that is
	// late.
	some(!per && agents > 0, "an agent takes σ and is not paid", func(e ending) bool { return e.unpaid != 0 })
	if !per && c == 0 {
		never("an agent among the honest is not paid, with no claim late", func(e ending) bool { return e.unpaid != 0 && !e.late })
	}
	if honest(badRecipient) {
		// SiblingIsolation: with the senders' secrets out of reach, σ comes from
		// R alone, each for one agent.
		if honest(badSender) {
			never("paid without σ from R", func(e ending) bool { return e.paid&^e.released != 0 })
			never("S pays for what R can't read", func(e ending) bool { return !e.read && e.claims > 0 })
		}
		never("a receipt without τ", func(e ending) bool { return e.delivered && e.claims == 0 && !e.read })
		some(c.has(badSender) && agents < modelAgents, "a claim past the pre-signature, R as if not sent, no receipt",
			func(e ending) bool { return e.bypasses > 0 && !e.read && !e.delivered })
	}
	switch c {
	case 0:
		never("not delivered", func(e ending) bool { return !e.read || !e.delivered })
	case badRecipient:
		some(true, "free storage", func(e ending) bool { return e.funded && e.paid == 0 })
	case badAgent0, badAgent0 << 1:
		bad, good := set(c/badAgent0), set(c/badAgent0)^(1<<modelAgents-1)
		some(true, "it stops before caching: nothing is spent", func(e ending) bool { return !e.funded })
		some(true, "it stops later: another delivers", func(e ending) bool { return e.read && e.paid == good && e.released == good })
		some(true, "it takes σ and claims: R reads τ", func(e ending) bool { return e.read && e.paid == bad && e.released == bad })
		some(per, "it takes σ and claims after R turned to another", func(e ending) bool { return e.read && e.paid == bad|good })
		some(true, "it takes σ and does not claim", func(e ending) bool { return e.read && e.paid == good && e.released == bad|good || !per })
		never("an honest agent has it, funded in time, and R does not read it", func(e ending) bool { return e.funded && !e.late && !e.read })
	case badAgents:
		some(true, "nobody serves: S is refunded", func(e ending) bool { return e.funded && !e.read && e.refunds == m.outputs })
	case badSender:
		some(true, "S leaves its own money", func(e ending) bool { return e.open > 0 })
	}
}

// fail reports a broken bound with the run that leads to it.
func (m *model) fail(at int, format string, a ...any) {
	m.t.Helper()
	m.t.Fatalf("%v %v: %s\n%s", m.shape, m.c, fmt.Sprintf(format, a...), m.run(at))
}

// run tells how a node was reached.
func (m *model) run(at int) string {
	var run []string
	for r := m.runs[at]; ; r = m.runs[r.from] {
		run = append(run, r.ev.String())
		if r.ev == (event{}) {
			break
		}
	}
	slices.Reverse(run)
	return strings.Join(run, "\n")
}
