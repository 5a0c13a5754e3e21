// Package demo runs a whole Bitgram network in one process: an embedded chain,
// agents, a sender and a recipient, each with its own host, keys and files. In
// the end it accounts for every satoshi.
package demo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/mail"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/node/delivery"
	"github.com/bitgram/bitgram/internal/node/directory"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/wire"
)

// Scenario is a story that the demo plays.
type Scenario struct {
	Name, Help string
	shape      wire.Shape
	silent     bool // the agents accept σ and give no τ
	absent     bool // the recipient never comes
	dead       bool // the agent first asked for the copy dies
	decoy      bool // another agent claims that it holds the message
	reorg      bool // the claim leaves the chain and comes back
	crash      bool // an agent dies in the middle of its claim
}

// Scenarios lists the stories.
var Scenarios = []Scenario{
	{Name: "happy", Help: "the message is stored by three agents, picked up from one, the others are refunded"},
	{Name: "silent-agent", Help: "the agent takes the recipient's secret and does not answer: its own claim gives the message away", silent: true},
	{Name: "absent-recipient", Help: "nobody picks the message up: the sender is refunded", absent: true},
	{Name: "dead-agent", Help: "the agent from whom the message is fetched dies: the next one serves", dead: true},
	{Name: "decoy-agent", Help: "an agent claims to hold the message: the recipient tells it nothing", decoy: true},
	{Name: "reorg", Help: "the claim is reorged out of the chain, and comes back", reorg: true},
	{Name: "crash", Help: "an agent is stopped in the middle of its claim and goes on from its files", crash: true},
	{Name: "one-of-many", Help: "one output for all agents: the one that serves claims it", shape: wire.OneOfMany},
}

// ErrScenario means that there is no story with this name.
var ErrScenario = errors.New("no such scenario")

// Find returns the scenario of a name.
func Find(name string) (Scenario, error) {
	for _, s := range Scenarios {
		if s.Name == name {
			return s, nil
		}
	}
	return Scenario{}, fmt.Errorf("%w: %q", ErrScenario, name)
}

// ErrAgents means that the number of agents is out of range.
var ErrAgents = fmt.Errorf("the demo runs %d to %d agents", messageAgents, maxAgents)

// Options are the options of a run.
type Options struct {
	Scenario Scenario
	Body     io.Reader // what is sent
	Size     uint64    // of Body, for progress; 0 if unknown
	Filename string    // its base name, or empty
	Agents   int       // in the network; the message goes to three
	// OneOfMany pays all agents with one output, in any scenario.
	OneOfMany bool
	// Progress reports the progress of long work; see node.Config.
	Progress func(what string, done, total uint64)
	// Out is the path for the received message.
	Common
}

// Result is the result of a run.
type Result struct {
	Scenario       string   `json:"scenario"`
	State          string   `json:"state"`
	Delivered      bool     `json:"delivered"`
	Refunded       bool     `json:"refunded"`
	MessageID      string   `json:"message_id"`
	Bytes          int64    `json:"bytes"`
	SHA256Sent     string   `json:"sha256_sent"`
	SHA256Received string   `json:"sha256_received"`
	Agents         int      `json:"agents"`
	FundingTxid    string   `json:"funding_txid"`
	ClaimTxids     []string `json:"claim_txids"`
	RefundTxids    []string `json:"refund_txids"`
	SenderSpent    wire.Sat `json:"sender_spent_sat"`
	AgentsEarned   wire.Sat `json:"agents_earned_sat"`
	Books
	Height uint32 `json:"height"`
}

// Initial money and prices of the parties.
const (
	messageAgents = 3
	maxAgents     = 50
	purse         = wire.Sat(1_000_000) // the sender's, from the faucet
	maxCost       = wire.Sat(500_000)
	storeBlocks   = 24
	claimPatience = 6
	baseRate      = wire.Psat(20_000_000) // 20 sat per MB-day
)

// message is the story of a message, with all its parties.
type message struct {
	*world
	opt       Options
	agents    []*agent
	sender    *node.Node
	recipient *node.Node

	first   sync.Once  // the first copy asked for
	decoy   *decoy     // nil if the scenario has none
	crash   *crashPlan // likewise
	reorged bool
}

// Run plays a scenario.
func Run(ctx context.Context, opt Options) (res *Result, err error) {
	if opt.Agents < messageAgents || opt.Agents > maxAgents {
		return nil, fmt.Errorf("%w: %d", ErrAgents, opt.Agents)
	}
	if opt.OneOfMany {
		opt.Scenario.shape = wire.OneOfMany
	}
	base, err := newWorld(opt.Common)
	if err != nil {
		return nil, err
	}
	w := &message{world: base, opt: opt}
	w.running, w.after = w.present, w.recover
	defer func() { err = errors.Join(err, w.close()) }()
	if err := w.open(ctx); err != nil {
		return nil, err
	}
	return w.play(ctx)
}

// open starts every party.
func (w *message) open(ctx context.Context) (err error) {
	if w.opt.Scenario.crash {
		if w.crash, err = newCrashPlan(); err != nil {
			return err
		}
	}
	for i := range w.opt.Agents {
		if err := w.agent(fmt.Sprintf("agent-%d", i+1), baseRate+wire.Psat(i)*1_000_000); err != nil {
			return err
		}
	}
	if w.opt.Scenario.decoy {
		// Its rate is too high for anyone to pay.
		if err := w.agent("decoy", wire.MaxRate); err != nil {
			return err
		}
	}
	if err := w.hint(ctx); err != nil {
		return err
	}
	if w.sender, err = node.Open(w.config("sender")); err != nil {
		return err
	}
	if w.recipient, err = node.Open(w.config("recipient")); err != nil {
		return err
	}
	if err := w.start(ctx); err != nil {
		return err
	}
	if err := w.fund(ctx, w.sender, purse); err != nil {
		return err
	}
	if err := w.mine(ctx); err != nil {
		return err
	}
	w.tell("chain", "a regtest chain of its own, %d blocks high; %d agents listen on loopback, a sender holds %v", w.height(ctx), len(w.agents), purse)
	return nil
}

// present returns the parties that are online now, without an absent recipient.
func (w *message) present() (list []*node.Node) {
	for _, a := range w.agents {
		if !a.isDead() {
			list = append(list, a.node)
		}
	}
	list = append(list, w.sender)
	if !w.opt.Scenario.absent {
		list = append(list, w.recipient)
	}
	return list
}

// config returns the configuration of a new home.
func (w *message) config(name string) node.Config {
	c := w.world.config(name, func(c engine.Change) { w.observe(name, c) })
	c.Hints, c.Progress = new(wire.Height), w.opt.Progress
	return c
}

// agent adds an agent to the network, with the behaviour of the scenario.
func (w *message) agent(name string, rate wire.Psat) (err error) {
	a := &agent{name: name, w: w, cfg: w.config(name)}
	p := &deal.Policy{Rate: rate, MaxSize: wire.MaxPayload, MaxBlocks: 1008, ValidFor: 12, Patience: claimPatience, OneOfMany: true}
	a.cfg.Policy, a.cfg.Listen = p, []string{"/ip4/127.0.0.1/tcp/0"}
	switch {
	case w.opt.Scenario.silent:
		p.Patience = 1 // it claims at once
		a.cfg.Serve = func(s p2p.Service) p2p.Service { return silentAgent{s} }
	case w.opt.Scenario.dead:
		a.cfg.Serve = func(s p2p.Service) p2p.Service { return dyingAgent{s, a, &w.first} }
	case name == "decoy":
		if w.decoy, err = newDecoy(w, a.cfg.Seed); err != nil {
			return err
		}
		a.cfg.Serve = func(s p2p.Service) p2p.Service {
			w.decoy.Service = s
			return w.decoy
		}
	case w.opt.Scenario.crash:
		a.cfg.Intercept = func(e engine.Executor) engine.Executor { return crasher{e, a, w.crash} }
	}
	if a.node, err = node.Open(a.cfg); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	a.cfg.Listen = a.node.Addrs() // the same after a crash
	w.agents = append(w.agents, a)
	return nil
}

// hint puts hints to the first agents on the chain. All other parties find the
// network only by these.
func (w *message) hint(ctx context.Context) error {
	for _, a := range w.agents[:min(len(w.agents), 3)] {
		h, err := a.node.Directory.Hint()
		if err != nil {
			return err
		}
		script, err := directory.HintScript(h)
		if err != nil {
			return err
		}
		if _, err := w.chain.Faucet(ctx, script, hintBurn); err != nil {
			return err
		}
	}
	_, err := w.chain.Mine(ctx, 1, w.miner)
	return err
}

// hintBurn is the amount burned for each hint.
const hintBurn wire.Sat = 1000

func (w *message) close() error {
	var errs []error
	for _, a := range w.agents {
		a.kill()
		a.wait()
	}
	for _, n := range []*node.Node{w.sender, w.recipient} {
		if n != nil {
			errs = append(errs, n.Close())
		}
	}
	return errors.Join(append(errs, w.world.close())...)
}

// play sends the message and follows it to its end.
func (w *message) play(ctx context.Context) (*Result, error) {
	sum := sha256.New()
	body := &counter{r: io.TeeReader(w.opt.Body, sum)}
	w.tell("sender", "writes to %s", w.recipient.Address())
	ref, err := w.sender.Delivery.Send(ctx, delivery.Letter{To: w.recipient.Key(), Body: body, Size: w.opt.Size, Subject: "hello", Filename: w.opt.Filename,
		Agents: messageAgents, Shape: w.opt.Scenario.shape, MaxCost: maxCost, Blocks: storeBlocks})
	if err != nil {
		return nil, err
	}
	if err := w.settle(ctx); err != nil {
		return nil, err
	}
	var s deal.Sender
	final := func() (bool, error) {
		state, err := w.sender.Engine().State(ctx, ref)
		if err != nil {
			return false, err
		}
		s = state.(deal.Sender)
		if s.Phase == deal.SenderFailed {
			return false, &Failed{By: s.FailedBy, Why: s.Failure}
		}
		if w.opt.Scenario.reorg {
			if err := w.reorg(ctx, &s); err != nil {
				return false, err
			}
		}
		return s.Interest().Done, nil
	}
	limit := storeBlocks + 2*int(deal.MarginsFor(wire.Regtest).Slack) + 50
	if err := w.mineUntil(ctx, limit, final); err != nil {
		return nil, err
	}
	// The outputs of claims must be final too.
	for range deal.MarginsFor(wire.Regtest).Final {
		if err := w.mine(ctx); err != nil {
			return nil, err
		}
	}
	res := &Result{Scenario: w.opt.Scenario.Name, State: s.State(), Delivered: false, Refunded: s.State() == "refunded",
		MessageID: s.Terms.Key.ID().String(), Bytes: body.n, SHA256Sent: hex.EncodeToString(sum.Sum(nil)), Agents: len(s.Legs),
		FundingTxid: txid(s.Txid), ClaimTxids: []string{}, RefundTxids: []string{}, Height: uint32(w.height(ctx))}
	if err := w.receive(ctx, res); err != nil {
		return nil, err
	}
	if err := w.account(ctx, &s, res); err != nil {
		return nil, err
	}
	if w.decoy != nil {
		if err := w.decoy.check(); err != nil {
			return nil, err
		}
	}
	return res, w.export()
}

// Failed says that the sender gave up the message before paying.
type Failed struct{ By, Why string }

func (f *Failed) Error() string { return f.Why }

// receive writes the message that the recipient read to the output.
func (w *message) receive(ctx context.Context, res *Result) error {
	if w.opt.Scenario.absent {
		return nil
	}
	var got *engine.Ref
	err := w.recipient.Delivery.Received(ctx, func(ref engine.Ref, r deal.Recipient) error {
		if r.Phase == deal.RecipientRead {
			got = &ref
		}
		return nil
	})
	if got == nil || err != nil {
		return err
	}
	f, err := w.recipient.Delivery.Message(*got)
	if err != nil {
		return err
	}
	defer f.Close()
	_, body, err := mail.Extract(f)
	if err != nil {
		return err
	}
	sum := sha256.New()
	if w.opt.Out == "" {
		_, err = io.Copy(sum, body)
	} else {
		err = writeFile(w.opt.Out, func(out io.Writer) error {
			_, err := io.Copy(io.MultiWriter(out, sum), body)
			return err
		})
	}
	res.SHA256Received = hex.EncodeToString(sum.Sum(nil))
	res.Delivered = err == nil && res.SHA256Received == res.SHA256Sent
	return err
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
