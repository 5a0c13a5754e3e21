// Package agent implements the node's role as an agent: it quotes, stores
// copies for strangers within the limits of its operator, proves that it holds
// them, gives τ for σ, and claims.
package agent

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	btcwire "github.com/btcsuite/btcd/wire/v2"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/zeebo/blake3"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node/disk"
	"github.com/bitgram/bitgram/internal/node/share"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/wire"
)

// Engine is what the room needs of the engine.
type Engine interface {
	Position() chain.BlockRef
	FeeRate() wire.SatPerKVB
	Fees() chain.Fees
	State(context.Context, engine.Ref) (any, error)
	Create(context.Context, engine.Creation) error
	Tell(context.Context, engine.Ref, engine.Event) (any, error)
	TellWith(context.Context, engine.Ref, engine.Event, func(engine.Tx) error) (any, error)
}

// Coins is what the room needs of the node's money; *coins.Coins is that.
type Coins interface {
	share.Coins
	// Ready refuses while the chain is being caught up with.
	Ready(context.Context) error
	Broadcast(context.Context, *btcwire.MsgTx) (why string, tooLow bool, err error)
}

// dirCopies contains the sealed copies held, by point.
const dirCopies = "copies"

// Dirs are the directories in a home that the room needs.
var Dirs = []string{dirCopies}

// Config is what an Agent is made of.
type Config struct {
	Identity wire.Secret
	Self     wire.Key // of Identity
	Margins  deal.Margins
	Policy   *deal.Policy // nil for a node that accepts no messages, and may have some left
	Store    engine.Store
	Files    *disk.Files // with Dirs
	Engine   Engine
	Coins    Coins
	// Serves is called for each message that is served from now on.
	Serves func(point wire.Key)
	Log    *slog.Logger
}

// Agent holds messages for strangers and claims their payments. It is a
// p2p.Service.
type Agent struct {
	cfg    Config
	load   load
	claims *share.Sharing[deal.Agent, contract.Claim]
}

// New returns a room. It deletes copies that belong to no deal.
func New(ctx context.Context, cfg Config) (*Agent, error) {
	a := &Agent{cfg: cfg, claims: claiming(&cfg)}
	if err := a.load.read(ctx, cfg.Store); err != nil {
		return nil, err
	}
	return a, cfg.Store.View(ctx, func(tx engine.Tx) error {
		return cfg.Files.Sweep(dirCopies, cfg.Log, func(name string) (bool, error) {
			d, err := engine.Named[deal.Agent](tx, deal.KindAgent, name)
			return d != nil && d.Package != nil && !d.Dropped, err
		})
	})
}

// Machines is the agent's machine.
func (a *Agent) Machines() []engine.Machine {
	m := engine.MachineOf[deal.Agent](deal.KindAgent, deal.Machines)
	m.Executor = executor{a}
	m.Account = func(tx engine.Tx, c engine.Change) error {
		if err := a.claims.Account(tx, c); err != nil {
			return err
		}
		return account(tx, c)
	}
	m.Observe = func(c engine.Change) {
		a.load.change(c)
		if s := c.State.(deal.Agent); s.Serves() {
			a.cfg.Serves(s.Quote.Point)
		}
	}
	return []engine.Machine{m}
}

// Restored returns the event for a deal of a home restored from a backup:
// whether its copy is here.
func (a *Agent) Restored(ctx context.Context, ref engine.Ref) (engine.Event, error) {
	_, err := os.Stat(a.cfg.Files.Path(dirCopies, ref.ID, ""))
	here := err == nil
	err = a.cfg.Store.View(ctx, func(tx engine.Tx) error {
		small, err := tx.Get(bucketCopies, ref.ID[:])
		here = here || small != nil
		return err
	})
	return deal.Restored{CopyHere: here}, err
}

// bucketFind finds an agent's messages: wire.FindKey ‖ point → nothing.
// bucketCopies stores the small copies: point → copy.
const (
	bucketFind   = "agent/find"
	bucketCopies = "agent/copies"
)

// maxSmall is the size in bytes up to which a copy is stored in the database:
// one commit, shared with others, instead of a file with a sync of its own.
const maxSmall = 16 << 10

func refuse(code wire.Code, text string) error {
	return &wire.Refusal{Code: code, Err: errors.New(text)}
}

// state loads the agent's side of the message under a point.
func (a *Agent) state(ctx context.Context, point wire.Key) (deal.Agent, error) {
	s, err := a.cfg.Engine.State(ctx, refOf(point))
	if err != nil {
		return deal.Agent{}, known(err)
	}
	return s.(deal.Agent), nil
}

// known converts a missing contract to a refusal.
func known(err error) error {
	if errors.Is(err, engine.ErrNoContract) {
		return refuse(wire.Unknown, "no message or quote under this point")
	}
	return err
}

// Served calls f for each message that the agent serves now.
func (a *Agent) Served(ctx context.Context, f func(point wire.Key, g wire.Grant)) error {
	return a.cfg.Store.View(ctx, func(tx engine.Tx) error {
		return tx.Each(deal.KindAgent, false, func(_ engine.Ref, raw []byte) error {
			var s deal.Agent
			if err := wire.Unmarshal(raw, &s); err == nil && s.Serves() { // the engine logs contracts that cannot be read
				f(s.Quote.Point, s.Package.Grant)
			}
			return nil
		})
	})
}

// tell steps the deal under a point by a peer's event.
func (a *Agent) tell(ctx context.Context, point wire.Key, ev engine.Event) (deal.Agent, error) {
	s, err := a.cfg.Engine.Tell(ctx, refOf(point), ev)
	if err != nil {
		return deal.Agent{}, known(err)
	}
	return s.(deal.Agent), nil
}

// Quote implements p2p.Service.
func (a *Agent) Quote(ctx context.Context, from p2p.Caller, req *wire.QuoteRequest) (*wire.Quote, error) {
	if err := a.cfg.Coins.Ready(ctx); err != nil {
		return nil, err
	}
	if err := a.load.quote(from); err != nil {
		return nil, err
	}
	var fresh deal.Fresh
	for _, s := range []*wire.Secret{&fresh.Tau, &fresh.ClaimKey} {
		if _, err := rand.Read(s[:]); err != nil {
			return nil, err
		}
	}
	state, err := deal.NewAgent(req, a.cfg.Identity, fresh, *a.cfg.Policy, a.cfg.Margins, a.cfg.Engine.Position().Height, a.cfg.Engine.FeeRate())
	if err != nil {
		return nil, err
	}
	// Store τ before sending T.
	a.load.charge(state.Quote.Point, from)
	if err := a.cfg.Engine.Create(ctx, engine.Creation{Ref: refOf(state.Quote.Point), State: state}); err != nil {
		a.load.forget(state.Quote.Point)
		return nil, err
	}
	return &state.Quote, nil
}

// Store implements p2p.Service.
func (a *Agent) Store(ctx context.Context, p *wire.Package, proceed func() (io.Reader, error)) (*wire.Receipt, error) {
	point := p.Section.Leaf.Point
	free, err := a.load.upload(point)
	if err != nil {
		return nil, err
	}
	defer free()
	s, err := a.state(ctx, point)
	if err != nil {
		return nil, err
	}
	// Verify before asking for the copy.
	checked, err := deal.CheckPackage(&s.Quote, p)
	if err != nil {
		return nil, &wire.Refusal{Code: wire.BadRequest, Err: err}
	}
	if s.Dropped || (s.Package != nil && s.Package.Digest() != p.Digest()) {
		return nil, refuse(wire.BadRequest, "this quote was used for another package")
	}
	if err := a.cfg.Coins.Ready(ctx); err != nil {
		return nil, err
	}
	room, err := a.load.reserve(point, weight(p), a.cfg.Policy)
	if err != nil {
		return nil, err
	}
	defer room()
	give, err := a.cfg.Files.Reserve(weight(p))
	if errors.Is(err, disk.ErrFull) {
		a.cfg.Log.Warn("refusing a copy", "err", err)
		return nil, refuse(wire.Full, "no room for this copy")
	}
	if err != nil {
		return nil, err
	}
	defer give()
	body, err := proceed()
	if err != nil {
		return nil, err
	}
	if err := a.keep(ctx, p, checked, body); err != nil {
		return nil, err
	}
	r := &wire.Receipt{Agent: a.cfg.Self, Package: p.Digest()}
	r.Sig, err = wire.Sign(a.cfg.Identity, r.Digest())
	return r, err
}

// keep stores a copy and tells the deal: a small copy in the same transaction,
// a large one as a file before it.
func (a *Agent) keep(ctx context.Context, p *wire.Package, checked *deal.Checked, body io.Reader) error {
	leaf, find := &p.Section.Leaf, wire.FindKey(p.FetchKey)
	h := blake3.New()
	var small bytes.Buffer
	var into io.Writer = &small
	var file *disk.Partial
	if leaf.Size > maxSmall {
		var err error
		if file, err = a.cfg.Files.Create(); err != nil {
			return err
		}
		defer file.Discard()
		into = file
	}
	size, err := io.Copy(io.MultiWriter(into, h), body)
	if err != nil {
		return err
	}
	var sum wire.Hash
	h.Sum(sum[:0])
	if sum != leaf.CopyHash || uint64(size) != leaf.Size {
		return &wire.Refusal{Code: wire.BadRequest, Err: fmt.Errorf("%w: the copy is not the one in the leaf", deal.ErrBadPackage)}
	}
	path := a.cfg.Files.Path(dirCopies, leaf.Point, "")
	if file != nil {
		if err := file.Keep(path); err != nil {
			return err
		}
	}
	ev := deal.Offered{Height: a.cfg.Engine.Position().Height, Package: *p, CopyHash: sum, Size: uint64(size), Checked: checked}
	_, err = a.cfg.Engine.TellWith(ctx, refOf(leaf.Point), ev, func(tx engine.Tx) error {
		if file == nil {
			if err := tx.Put(bucketCopies, leaf.Point[:], small.Bytes()); err != nil {
				return err
			}
		}
		return tx.Put(bucketFind, append(find[:], leaf.Point[:]...), []byte{})
	})
	if err == nil {
		return nil
	}
	// Keep the copy only if the deal still has one from an earlier upload.
	if now, lerr := a.state(ctx, leaf.Point); file != nil && (lerr != nil || now.Package == nil || now.Dropped) {
		return errors.Join(known(err), disk.Remove(path))
	}
	return known(err)
}

// Proofs implements p2p.Service.
func (a *Agent) Proofs(ctx context.Context, ask *wire.Ask, self, from peer.ID) (proofs []wire.Proof, err error) {
	var points []wire.Key
	err = a.cfg.Store.View(ctx, func(tx engine.Tx) error {
		return tx.Scan(bucketFind, ask.Find[:], 0, func(key, _ []byte) error {
			points = append(points, wire.Key(key[len(ask.Find):]))
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	for _, point := range points {
		s, err := a.state(ctx, point)
		if err != nil || !s.Serves() {
			continue
		}
		p := wire.Proof{Outpoint: s.At, Frozen: s.Package.Frozen, Section: s.Package.Section}
		if p.Sig, err = wire.Sign(a.cfg.Identity, wire.ProofDigest(ask.Nonce, []byte(self), []byte(from), s.At, point)); err != nil {
			return nil, err
		}
		if proofs = append(proofs, p); len(proofs) == wire.MaxProofs {
			break
		}
	}
	if len(proofs) == 0 {
		return nil, refuse(wire.Unknown, "no message under this key")
	}
	return proofs, nil
}

// Copy implements p2p.Service.
func (a *Agent) Copy(ctx context.Context, t *wire.Token, nonce wire.Hash, self, from peer.ID) (io.ReadCloser, uint64, error) {
	s, err := a.state(ctx, t.Point)
	if err != nil {
		return nil, 0, err
	}
	if !s.Serves() {
		return nil, 0, refuse(wire.Unknown, "no message under this point")
	}
	mac := wire.TokenMAC(s.Package.FetchKey, nonce, []byte(self), []byte(from), s.At, t.Point)
	if !hmac.Equal(mac[:], t.MAC[:]) {
		return nil, 0, refuse(wire.WrongSecret, "not the recipient's token")
	}
	size := s.Package.Section.Leaf.Size
	if size > maxSmall {
		f, err := os.Open(a.cfg.Files.Path(dirCopies, t.Point, ""))
		return f, size, err
	}
	var raw []byte
	if err := a.cfg.Store.View(ctx, func(tx engine.Tx) (err error) {
		raw, err = tx.Get(bucketCopies, t.Point[:])
		return err
	}); err != nil {
		return nil, 0, err
	}
	if uint64(len(raw)) != size {
		return nil, 0, fmt.Errorf("the copy of %s has %d bytes in the database, not %d", t.Point, len(raw), size)
	}
	return io.NopCloser(bytes.NewReader(raw)), size, nil
}

// Release implements p2p.Service. It commits σ before it answers τ.
func (a *Agent) Release(ctx context.Context, r *wire.Release) (*wire.Reveal, error) {
	if err := a.cfg.Coins.Ready(ctx); err != nil {
		return nil, err
	}
	s, err := a.tell(ctx, r.Point, deal.Released{Height: a.cfg.Engine.Position().Height, Sigma: r.Sigma})
	if err != nil {
		return nil, err
	}
	tau, ok := s.Answer()
	if !ok {
		return nil, refuse(wire.Claiming, "the claim will carry it")
	}
	return &wire.Reveal{Tau: tau}, nil
}

// Acknowledge implements p2p.Service.
func (a *Agent) Acknowledge(ctx context.Context, k *wire.Acknowledge) error {
	_, err := a.tell(ctx, k.Point, deal.Acked{MAC: k.MAC, Blob: k.Blob})
	return err
}

// Status implements p2p.Service.
func (a *Agent) Status(ctx context.Context, r *wire.StatusRequest) (*wire.Status, error) {
	s, err := a.state(ctx, r.Point)
	if err != nil {
		return nil, err
	}
	if s.Quote.Session != r.Session {
		return nil, refuse(wire.Unknown, "no message under this point")
	}
	return &wire.Status{State: uint8(s.Phase()), Ack: s.Ack}, nil
}

func refOf(point wire.Key) engine.Ref {
	return engine.Ref{Kind: deal.KindAgent, ID: wire.Hash(point)}
}
