// Package deal is the delivery of one message as three state machines, one
// for each party: Sender, Agent (one per agent and message) and Recipient
// (protocol §3, spec/delivery.md).
//
// Each is a plain value with a pure Step: (state, event) → (state, effects,
// error). Nothing here reads a clock, a socket or a random source; heights,
// fresh secrets and what peers said arrive in events, and what is to be done
// leaves as effects, which the engine carries out after it has committed the
// state that asked for them. Every effect may be carried out more than once.
// An error leaves the state as it was.
package deal

import (
	"errors"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// Margins are the waiting times of a network, in blocks before the refund
// height T or as confirmations (protocol §3). All parties of a network use the
// same.
type Margins struct {
	CacheConf       uint32   // confirmations at which an agent takes a message for paid
	RevealConf      uint32   // confirmations at which σ is released and τ answered
	RevealConfLarge uint32   // the same, above LargeSat
	LargeSat        wire.Sat // value above which RevealConfLarge holds
	Turn            uint32   // blocks that a recipient waits for τ or a claim before it turns to the next agent
	Slack           uint32   // T is at least this far behind the end of storage
	Release         uint32   // σ is released and accepted only before T−Release
	Claim           uint32   // a claim is broadcast at the latest at T−Claim
	Bump            uint32   // and bumped in every block from T−Bump
	Final           uint32   // confirmations after which nothing is undone
	BlocksPerDay    uint32   // for prices, and for storage that is asked for in days
}

// MarginsFor returns the margins of network n. Regtest's are those of mainnet
// with the waiting times divided by twelve, and days by fourteen: what is stored for a
// week is refunded after some 106 blocks.
func MarginsFor(n wire.Network) Margins {
	m := Margins{CacheConf: 1, RevealConf: 3, RevealConfLarge: 6, LargeSat: 100_000,
		Turn: 36, Slack: 432, Release: 288, Claim: 216, Bump: 144, Final: 6, BlocksPerDay: 144}
	if n == wire.Regtest {
		m.Turn, m.Slack, m.Release, m.Claim, m.Bump, m.BlocksPerDay = 3, 36, 24, 18, 12, 10
	}
	return m
}

// reveal is the depth at which secrets move for a value.
func (m Margins) reveal(value wire.Sat) uint32 {
	if value > m.LargeSat {
		return m.RevealConfLarge
	}
	return m.RevealConf
}

// before is t−n, or 0 where that is negative.
func before(t wire.Height, n uint32) wire.Height {
	if uint64(t) < uint64(n) {
		return 0
	}
	return t - wire.Height(n)
}

// Errors of the machines. ErrWrongPhase is what an event meets that does not
// fit the state; events that merely come twice are no error.
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

// Candidate is an agent that may be asked, with where to reach it.
type Candidate struct {
	Agent  wire.Key
	Addrs  []string // multiaddrs without the peer ID
	Prefix string   // of the network in which it was reached (choose.Prefix)
}

// Peer is where the candidate is called.
func (c *Candidate) Peer() wire.Peer { return wire.Peer{Key: c.Agent, Addrs: c.Addrs} }

// SpendFact is the confirmed spend of a frozen output.
type SpendFact struct {
	contract.Fact
	Claim int            // index of the claim leaf; -1 the refund; -2 no leaf of ours
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
