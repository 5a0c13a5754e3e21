package job

import (
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// Chain is what the node knows of the chain: whether the money is there.
type Chain struct {
	Funding *contract.Fact // nil while it is not confirmed
	Tip     wire.Height
	Ended   bool // this party's bank takes no more pennies
}

// Bank returns the outpoint of a party's bank.
func (t *Terms) Bank(party uint8) wire.Outpoint {
	return wire.Outpoint{Txid: t.Funding, Vout: uint32(party)}
}

// Funded reports whether there is money for another epoch: the funding has its
// depth, the height to close the banks is not reached, and this party's bank has not
// ended. A reorg that drops the funding stops the work; it goes on once the funding
// has its depth again. An end is final, because a close that was signed can confirm
// at any time.
func (n *Node) Funded() bool {
	c := &n.Chain
	return !c.Ended && c.Funding.Depth(c.Tip) >= n.Terms.Depth && c.Tip < n.Terms.Stop
}

func (s *step) connected(b contract.Block) {
	c := &s.Chain
	c.Tip = max(c.Tip, b.Height)
	for _, tx := range b.Txs {
		if id := contract.Txid(tx); id == s.Terms.Funding {
			c.Funding = &contract.Fact{Height: b.Height, Txid: id}
		}
		c.Ended = c.Ended || contract.Spends(tx, s.Terms.Bank(s.Me)) >= 0
	}
	s.On = s.On || s.Funded()
}

func (s *step) disconnected(u contract.Undo) {
	c := &s.Chain
	if c.Funding != nil && c.Funding.Height >= u.Height {
		c.Funding = nil
	}
	if c.Tip >= u.Height {
		c.Tip = u.Height - 1
	}
}

// Interest returns the blocks that the node must be told of.
func (n Node) Interest() contract.Interest {
	c := &n.Chain
	in := contract.Interest{Top: c.Tip, Txids: []wire.Hash{n.Terms.Funding}, Outpoints: []wire.Outpoint{n.Terms.Bank(n.Me)}, Wake: n.Terms.Stop}
	if at := c.Funding; at != nil && at.Depth(c.Tip) < n.Terms.Depth {
		in.Wake = min(at.Height+wire.Height(n.Terms.Depth)-1, n.Terms.Stop)
	}
	const reorg = 7 // no reorg that the protocol answers for is as deep
	in.Done = c.Tip >= n.Terms.Stop+reorg
	return in
}
