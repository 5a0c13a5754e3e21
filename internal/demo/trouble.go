package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/big"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/wire"
)

// agent is one agent of the network.
type agent struct {
	name string
	w    *message
	cfg  node.Config
	node *node.Node

	mu   sync.Mutex
	dead bool          // stopped for good, or until revive
	gone chan struct{} // closed once it is stopped
}

// kill stops the agent, once. It does not wait, because its callers are part of
// what is stopped.
func (a *agent) kill() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.dead {
		return
	}
	a.dead, a.gone = true, make(chan struct{})
	n, gone := a.node, a.gone
	go func() {
		if err := n.Close(); err != nil {
			a.w.tell(a.name, "stops: %v", err)
		}
		close(gone)
	}()
}

func (a *agent) isDead() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.dead
}

// revive opens a dead agent from its files.
func (a *agent) revive() (err error) {
	a.wait() // without the lock, which the stopping parts may need
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cfg.Intercept = nil
	if a.node, err = node.Open(a.cfg); err != nil {
		return fmt.Errorf("%s: %w", a.name, err)
	}
	a.dead = false
	return nil
}

// wait returns when the killed agent has stopped.
func (a *agent) wait() {
	a.mu.Lock()
	gone := a.gone
	a.mu.Unlock()
	<-gone
}

// silentAgent accepts σ and does not give τ.
type silentAgent struct{ p2p.Service }

func (s silentAgent) Release(ctx context.Context, r *wire.Release) (*wire.Reveal, error) {
	if _, err := s.Service.Release(ctx, r); err != nil {
		return nil, err
	}
	return nil, errors.New("silence")
}

// dyingAgent dies when the recipient asks for the copy, if it is the first
// agent asked.
type dyingAgent struct {
	p2p.Service
	a     *agent
	first *sync.Once
}

func (d dyingAgent) Copy(ctx context.Context, t *wire.Token, nonce wire.Hash, self, from peer.ID) (io.ReadCloser, uint64, error) {
	mine := false
	d.first.Do(func() { mine = true })
	if !mine {
		return d.Service.Copy(ctx, t, nonce, self, from)
	}
	d.a.w.tell(d.a.name, "is asked for the copy, and dies")
	d.a.kill()
	d.a.wait()
	return nil, 0, errors.New("dead")
}

// decoy is an agent that stores nothing and tells every recipient that it holds
// the message, with a leaf of its own making. It counts what it learns.
type decoy struct {
	p2p.Service
	w        *message
	identity wire.Secret
	key      wire.Key

	mu               sync.Mutex
	asked, disclosed int
}

func newDecoy(w *message, seed []byte) (*decoy, error) {
	identity, err := wallet.IdentityKey(seed)
	if err != nil {
		return nil, err
	}
	priv, err := identity.PrivKey()
	if err != nil {
		return nil, err
	}
	return &decoy{w: w, identity: identity, key: wire.XOnly(priv.PubKey())}, nil
}

func (d *decoy) Proofs(_ context.Context, ask *wire.Ask, self, from peer.ID) ([]wire.Proof, error) {
	d.mu.Lock()
	d.asked++
	d.mu.Unlock()
	p := wire.Proof{Frozen: wire.Frozen{Expiry: 1000, RefundKey: d.key, Claims: []wire.ClaimLeaf{{SenderKey: d.key, ClaimKey: d.key}}},
		Section: wire.Section{Leaf: wire.Leaf{Agent: d.key, Size: 1000, Point: d.key}, Count: 1}}
	var err error
	p.Sig, err = wire.Sign(d.identity, wire.ProofDigest(ask.Nonce, []byte(self), []byte(from), p.Outpoint, d.key))
	return []wire.Proof{p}, err
}

func (d *decoy) Copy(context.Context, *wire.Token, wire.Hash, peer.ID, peer.ID) (io.ReadCloser, uint64, error) {
	return nil, 0, d.learned()
}

func (d *decoy) Release(context.Context, *wire.Release) (*wire.Reveal, error) {
	return nil, d.learned()
}

func (d *decoy) learned() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.disclosed++
	return errors.New("thank you")
}

// check verifies the expected end of the decoy's story.
func (d *decoy) check() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.asked == 0 {
		return errors.New("the decoy was never asked: the story shows nothing")
	}
	if d.disclosed > 0 {
		return errors.New("the recipient showed the decoy a token or a secret: this is a bug")
	}
	d.w.tell("decoy", "says whenever it is asked that it holds the message (times asked: %d); it was told nothing", d.asked)
	return nil
}

// crasher stops an agent at a random effect of its claim, before the effect is
// carried out, or after it but before its result is recorded.
type crasher struct {
	engine.Executor
	a    *agent
	plan *crashPlan
}

// crashPlan picks the moment; all agents share it, because one of them claims.
type crashPlan struct {
	mu    sync.Mutex
	at    string // the effect
	after bool
	who   *agent
}

func newCrashPlan() (*crashPlan, error) {
	n, err := rand.Int(rand.Reader, big.NewInt(4))
	if err != nil {
		return nil, err
	}
	return &crashPlan{at: []string{"building", "broadcasting"}[n.Int64()/2], after: n.Int64()%2 == 1}, nil
}

// now reports whether a dies at e.
func (p *crashPlan) now(a *agent, e engine.Effect) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := ""
	switch e.(type) {
	case deal.ClaimDue:
		at = "building"
	case deal.Broadcast:
		at = "broadcasting"
	}
	if p.who != nil || at != p.at {
		return false
	}
	p.who = a
	return true
}

var errCrashed = errors.New("crashed")

func (c crasher) Do(ctx context.Context, ref engine.Ref, e engine.Effect) (func(engine.Tx) ([]engine.Delivery, error), error) {
	if c.a.isDead() {
		return nil, errCrashed
	}
	if !c.plan.now(c.a, e) {
		return c.Executor.Do(ctx, ref, e)
	}
	when := "before"
	if c.plan.after {
		when = "right after"
		// Done, but not recorded.
		if _, err := c.Executor.Do(ctx, ref, e); err != nil {
			return nil, err
		}
	}
	c.a.w.tell(c.a.name, "crashes %s %s its claim", when, c.plan.at)
	c.a.kill()
	return nil, errCrashed
}

// recover restarts crashed agents.
func (w *message) recover(ctx context.Context) error {
	if w.crash == nil {
		return nil
	}
	for _, a := range w.agents {
		if !a.isDead() {
			continue
		}
		if err := a.revive(); err != nil {
			return err
		}
		w.tell(a.name, "starts again from its files")
		a.node.Start()
		if err := a.node.Directory.WaitNetwork(ctx); err != nil {
			return err
		}
	}
	return nil
}

// reorg removes a claim with three confirmations from the chain, once.
func (w *message) reorg(ctx context.Context, s *deal.Sender) error {
	const depth = 3
	tip := w.height(ctx)
	for _, f := range s.Spends {
		if f == nil || f.Claim < 0 || w.reorged || f.Depth(tip) != depth {
			continue
		}
		w.reorged = true
		w.tell("chain", "a reorg of %d blocks takes the claim %s off the chain", depth, txid(f.Txid))
		if err := w.chain.Reorg(ctx, depth, w.miner, f.Txid); err != nil {
			return err
		}
		return w.settle(ctx)
	}
	return nil
}
