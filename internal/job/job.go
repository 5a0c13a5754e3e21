// Package job implements how strangers run one program, agree on its result,
// and are paid for the agreed result and nothing else (spec/job.md). It has two
// parts. In the dealing of shares (Deal, Dealt, Give, Combine) the buyer deals
// each node's pennies in shares to the others. The agreement (Node) is one
// node's part in one job, a plain value with a pure Step as in package bank.
package job

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// Limits of a job.
const (
	// MaxParties is the maximum number of nodes and standbys of a job.
	MaxParties = 8
	// MaxThreshold is the maximum number of shares that make a penny. With
	// MaxParties it bounds the choices of shares that a false deal makes a node
	// try: 35.
	MaxThreshold = 4
	// MaxWindow is the maximum number of pennies in one window: two windows last a
	// buyer that is away for three hours if an epoch takes 100 ms.
	MaxWindow = 1 << 16
	// SheetSize is the number of shares that are dealt, stored and verified at once.
	SheetSize = 256
	// MaxEpochs is the maximum number of epochs: a bank has a penny for each.
	MaxEpochs = penny.MaxSeq
	// MaxAhead limits D, and so what a node stores of epochs to come.
	MaxAhead = 16
	// MaxAttempts is how often an epoch is tried before the job ends.
	MaxAttempts = 16
)

// Errors of this package.
var (
	ErrTerms    = errors.New("bad terms of a job")
	ErrDeal     = errors.New("bad deal of shares")
	ErrShare    = errors.New("bad share")
	ErrMessage  = errors.New("bad message of a job")
	ErrEarly    = errors.New("too early for that")
	ErrCert     = errors.New("bad certificate")
	ErrNoProof  = errors.New("proves nothing")
	ErrCombine  = errors.New("the shares do not make the penny")
	ErrRestored = errors.New("restored from a backup: it may have signed something else")
)

// Party is a node or a standby, with the public part of the bank that pays it.
type Party struct {
	_       struct{}             `cbor:",toarray"`
	Key     wire.Key             // signs all its messages in this job
	Bank    wire.Hash            // digest of its bank's terms
	Nonce   penny.Nonce          // of its pennies
	Pennies uint32               // N, how many there are
	Last    [wire.PennySize]byte // p_N
}

// Outcome says how an epoch ended.
type Outcome uint8

// The outcomes of an epoch. All but Running are final: no epoch follows. A program
// that fails fails alike on every node, so a failure is agreed on, certified and
// paid like any other result.
const (
	Running Outcome = iota // the program is suspended at a sync event
	Done                   // it ended
	Failed                 // it failed, or exceeded a limit
	outcomes
)

// Terms are the public terms of a job (spec/job.md §1). Parties are identified
// by index. The first N form the roster of epoch 1; the others are standbys, in
// order.
type Terms struct {
	_        struct{}    `cbor:",toarray"`
	File     wire.Hash   // digest of the job file (File.Digest)
	Funding  wire.Hash   // the transaction whose output i is party i's bank
	Depth    uint32      // confirmations of it that start the job
	Stop     wire.Height // from here on nothing is worked for: the banks are closed
	Buyer    wire.Key    // signs windows and requests new attempts
	Parties  []Party
	N        uint8  // nodes to a roster
	Q        uint8  // a quorum of them; any two quorums share two nodes
	T        uint8  // shares that make a penny
	Ahead    uint32 // D, epochs that a node works without being paid
	Patience uint8  // consecutive unpaid epochs until a standby replaces a node
	Epochs   uint32 // at most
	Window   uint32 // W, pennies of a bank in a window

	id wire.Hash // ID, once it is computed
}

// PartyKey returns the secret of a node's key in the job whose bank for it has this
// id. It derives from the node's identity, so a backup of the identity is one of it.
func PartyKey(identity wire.Secret, bank wire.Hash) wire.Secret {
	return wire.Secret(wire.Tagged("job-party", identity[:], bank[:]))
}

// ID returns the job's id, H[job](encoding of the terms). It commits to the job
// file, the parties and their banks, so what is signed for one jury means nothing
// in another.
func (t *Terms) ID() wire.Hash {
	if t.id != (wire.Hash{}) {
		return t.id
	}
	b, err := wire.Marshal(t)
	if err != nil {
		panic(err) // fails only for types that cannot be encoded; ours can
	}
	return wire.Tagged("job", b)
}

// job returns the bytes of ID.
func (t *Terms) job() []byte { id := t.ID(); return id[:] }

// MaxSize implements wire.Limited.
func (*Terms) MaxSize() int { return 256 + MaxParties*160 }

// Check implements wire.Limited. Errors wrap ErrTerms.
func (t *Terms) Check() error {
	p := len(t.Parties)
	switch {
	case p > MaxParties || int(t.N) > p || t.N < 2:
		return fmt.Errorf("%w: %d nodes of %d parties", ErrTerms, t.N, p)
	case t.Q > t.N || 2*int(t.Q) < int(t.N)+2:
		// Two quorums share 2q−n nodes. At least two are required: one of them
		// may lie.
		return fmt.Errorf("%w: a quorum of %d of %d", ErrTerms, t.Q, t.N)
	case t.T < 2 || int(t.T) > min(p-1, MaxThreshold):
		return fmt.Errorf("%w: %d shares of %d", ErrTerms, t.T, p-1)
	case t.Ahead < 1 || t.Ahead > MaxAhead || t.Patience < 1:
		return fmt.Errorf("%w: %d epochs ahead, patience for %d", ErrTerms, t.Ahead, t.Patience)
	case t.Epochs < 1 || t.Epochs > MaxEpochs || t.Window < 1 || t.Window > MaxWindow:
		return fmt.Errorf("%w: %d epochs, windows of %d", ErrTerms, t.Epochs, t.Window)
	case t.Depth < 1 || t.Stop < 1:
		return fmt.Errorf("%w: it starts at depth %d and stops at height %d", ErrTerms, t.Depth, t.Stop)
	}
	if _, err := t.Buyer.Point(); err != nil {
		return fmt.Errorf("%w: the buyer: %w", ErrTerms, err)
	}
	seen := map[wire.Key]bool{t.Buyer: true}
	for i := range t.Parties {
		x := &t.Parties[i]
		if _, err := x.Key.Point(); err != nil || seen[x.Key] {
			return fmt.Errorf("%w: the key of party %d", ErrTerms, i)
		}
		seen[x.Key] = true
		if x.Pennies < t.Epochs || x.Pennies > penny.MaxSeq {
			return fmt.Errorf("%w: %d pennies for %d epochs", ErrTerms, x.Pennies, t.Epochs)
		}
	}
	return nil
}

// penny returns party i's penny of count k, given its secret.
func (t *Terms) penny(k uint32, i uint8, secret [wire.PennySize]byte) penny.Penny {
	p := penny.Penny{Seq: t.Parties[i].Pennies - k}
	copy(p.Secret[:], secret[:])
	return p
}

// pays reports whether secret is that of party i's k-th penny: hashed forward
// it must lead to known, a penny of a lower count.
func (t *Terms) pays(i uint8, k uint32, secret [wire.PennySize]byte, known penny.Penny) bool {
	c := penny.Chain{Nonce: t.Parties[i].Nonce, Size: wire.PennySize}
	return k >= 1 && k <= t.Parties[i].Pennies && c.Verify(known, t.penny(k, i, secret)) == nil
}

// first returns party i's public penny, of count 0.
func (t *Terms) first(i uint8) penny.Penny { return t.penny(0, i, t.Parties[i].Last) }

func u8(b uint8) []byte   { return []byte{b} }
func u32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// digestOf returns the tagged hash of the job and the canonical encoding of v.
func digestOf(tag string, t *Terms, v any) wire.Hash {
	b, err := wire.Marshal(v)
	if err != nil {
		panic(err) // fails only for types that cannot be encoded; ours can
	}
	return wire.Tagged(tag, t.job(), b)
}
