// Package deal implements the delivery of one message as three state machines,
// one for each party: Sender, Agent (one per agent and message) and Recipient
// (spec/delivery.md, spec/machines.md).
//
// Each machine is a plain value with a pure transition function Step: (state,
// event) → (state, effects, error). It reads no clock, socket or random source.
// Heights, fresh secrets and peers' messages arrive in events. Actions leave as
// effects, which the engine carries out after it has committed the state that
// requested them. Every effect may be carried out more than once. An error
// leaves the state unchanged.
package deal

import (
	"errors"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// Margins are the waiting times of a network, in blocks before the refund
// height T or as confirmations (spec/delivery.md §2). All parties of a network
// use the same margins.
type Margins struct {
	CacheConf       uint32   // confirmations before an agent serves a message
	RevealConf      uint32   // confirmations before σ and τ are sent
	RevealConfLarge uint32   // the same, above LargeSat
	LargeSat        wire.Sat // value above which RevealConfLarge applies
	Turn            uint32   // blocks that a recipient waits for τ or a claim before it turns to the next agent
	Slack           uint32   // minimum blocks between the end of storage and T
	Release         uint32   // σ is released and accepted only before T−Release
	Claim           uint32   // a claim is broadcast at T−Claim at the latest
	Bump            uint32   // and fee-bumped in every block from T−Bump
	Final           uint32   // confirmations after which nothing is undone
	BlocksPerDay    uint32   // for prices, and for storage requested in days
}

// MarginsFor returns the margins of network n. Regtest uses mainnet's waiting
// times divided by twelve and a day divided by fourteen: a message stored for a
// week is refunded after about 106 blocks.
func MarginsFor(n wire.Network) Margins {
	m := Margins{CacheConf: 1, RevealConf: 3, RevealConfLarge: 6, LargeSat: 100_000,
		Turn: 36, Slack: 432, Release: 288, Claim: 216, Bump: 144, Final: 6, BlocksPerDay: 144}
	if n == wire.Regtest {
		m.Turn, m.Slack, m.Release, m.Claim, m.Bump, m.BlocksPerDay = 3, 36, 24, 18, 12, 10
	}
	return m
}

// reveal returns the confirmations required before secrets for this value are
// sent.
func (m Margins) reveal(value wire.Sat) uint32 {
	if value > m.LargeSat {
		return m.RevealConfLarge
	}
	return m.RevealConf
}

// before returns t−n, or 0 if that is negative.
func before(t wire.Height, n uint32) wire.Height {
	if uint64(t) < uint64(n) {
		return 0
	}
	return t - wire.Height(n)
}

// Errors of the machines. ErrWrongPhase means that an event does not fit the
// state. Repeated events are not errors.
var (
	ErrWrongPhase   = errors.New("not in this state")
	ErrTooFewAgents = errors.New("too few agents")
	ErrPrice        = errors.New("price above the cap")
	ErrNoFunds      = errors.New("not enough money")
	ErrBadQuote     = errors.New("bad quote")
	ErrBadPackage   = errors.New("bad package")
	ErrBadProof     = errors.New("bad proof")
	ErrBadMessage   = errors.New("message does not open")
	ErrExpired      = errors.New("expired")
	ErrRejected     = errors.New("the network refuses the funding")
	ErrCancelled    = errors.New("cancelled")
	ErrRestored     = errors.New("it may have been sent after the backup was made")
	ErrTooLate      = errors.New("too late for that")
	ErrTooEarly     = errors.New("too early for that")
)

// Candidate is an agent that may be asked for a quote, with its addresses.
type Candidate struct {
	Agent  wire.Key
	Addrs  []string // multiaddrs without the peer ID
	Prefix string   // of the network from which it was reached (choose.Prefix)
}

// Peer is where the candidate is called.
func (c *Candidate) Peer() wire.Peer { return wire.Peer{Key: c.Agent, Addrs: c.Addrs} }

// SpendFact is the confirmed spend of a frozen output.
type SpendFact struct {
	contract.Fact
	Claim int            // index of the claim leaf; -1: the refund; -2: no leaf of this output
	Sig   wire.Signature // S″'s, of a claim
}

// readSpend finds the spend of at in tx.
func readSpend(o *contract.Output, at wire.Outpoint, tx contract.Tx, h wire.Height) *SpendFact {
	n := contract.Spends(tx, at)
	if n < 0 {
		return nil
	}
	f := &SpendFact{Fact: contract.Fact{Height: h, Txid: contract.Txid(tx)}, Claim: -2}
	if s, err := o.ReadSpend(tx.TxIn[n].Witness); err == nil {
		f.Claim, f.Sig = s.Claim, s.SenderSig
	}
	return f
}

// underRoot reports whether a section leads to root.
func underRoot(s *wire.Section, root wire.Hash) bool {
	return seal.VerifySection(s.Leaf.Hash(), int(s.Index), int(s.Count), s.Path, root)
}
