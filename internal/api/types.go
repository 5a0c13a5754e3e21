package api

import "github.com/bitgram/bitgram/wire"

// Identity is who a home is.
type Identity struct {
	Address string       `json:"address" doc:"what others write to"`
	Pubkey  string       `json:"pubkey" doc:"the identity's public key, x-only, hex"`
	PeerID  string       `json:"peer_id" doc:"the libp2p peer ID of its agent"`
	Network wire.Network `json:"network"`
}

// Chain is where the daemon stands on the chain.
type Chain struct {
	Height uint32 `json:"height"`
	Hash   string `json:"hash" doc:"of the last block that was read, in display order"`
	Synced bool   `json:"synced" doc:"that block is the node's tip"`
	Error  string `json:"error,omitempty" doc:"why the chain cannot be followed now"`
}

// Difficulty is what the last block took and brought.
type Difficulty struct {
	Height     uint32   `json:"height" doc:"of the node's tip"`
	Bits       string   `json:"nbits" doc:"the target as the header has it, 8 hex digits"`
	Difficulty float64  `json:"difficulty"`
	Subsidy    wire.Sat `json:"subsidy_sat"`
}

// Status is how a daemon does.
type Status struct {
	Identity
	Version string   `json:"version"`
	Uptime  int64    `json:"uptime_s"`
	Chain   Chain    `json:"chain"`
	Joined  bool     `json:"joined" doc:"the daemon is in the DHT"`
	Peers   int      `json:"dht_peers" doc:"peers in the routing table"`
	Listen  []string `json:"listen,omitempty" doc:"an agent's multiaddrs"`
	Seeds   []string `json:"seeds,omitempty" doc:"by which others enter the DHT through this agent"`
	Balance Balance  `json:"balance"`
	Agent   *Stored  `json:"agent,omitempty"`

	Warnings []Warning `json:"warnings,omitempty" doc:"what does not work as it should and needs the operator"`
}

// Warning says what does not work as it should, though the daemon runs.
type Warning struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

// Balance is what the wallet holds.
type Balance struct {
	Spendable wire.Sat `json:"balance_sat" doc:"spendable now"`
	Change    wire.Sat `json:"change_sat" doc:"of that, own change that no block has yet"`
	Locked    wire.Sat `json:"locked_sat" doc:"kept for messages that are not published yet"`
	Pending   wire.Sat `json:"pending_sat" doc:"in own transactions that are not confirmed, without that change"`
	Immature  wire.Sat `json:"immature_sat" doc:"mined, and not spendable yet"`
}

// Message is a message that was sent or received.
type Message struct {
	ID        string   `json:"message_id" doc:"hex of the message key's first 16 bytes; empty until an agent proved to hold a received one"`
	Direction string   `json:"direction" enum:"sent,received"`
	State     string   `json:"state" enum:"queued,stored,delivered,refunded,failed"`
	Phase     string   `json:"phase" doc:"the state machine's own word for it"`
	To        string   `json:"to,omitempty"`
	From      string   `json:"from,omitempty" doc:"of a message that was read: its signature is right"`
	Subject   string   `json:"subject,omitempty"`
	Filename  string   `json:"filename,omitempty"`
	Bytes     uint64   `json:"bytes" doc:"of the MIME message, or of the payload as long as it is not read"`
	Created   int64    `json:"created,omitempty" doc:"Unix time at which it was sent"`
	Height    uint32   `json:"height,omitempty" doc:"of the block with the funding"`
	Expiry    uint32   `json:"expiry,omitempty" doc:"height from which the sender is refunded"`
	Agents    []string `json:"agents" doc:"that hold it: public keys"`
	Cost      wire.Sat `json:"cost_sat,omitempty" doc:"frozen for agents, and the funding's fee; what nobody claims comes back"`
	Funding   string   `json:"funding_txid,omitempty"`
	Claims    []string `json:"claim_txids,omitempty"`
	Refund    string   `json:"refund_txid,omitempty"`
	Acked     bool     `json:"acknowledged,omitempty" doc:"the recipient's own signature is here"`
	Failure   string   `json:"failure,omitempty"`
	FailedBy  Code     `json:"failed_by,omitempty" doc:"the failure's error code"`
}

// Final reports whether the state is one that lasts.
func (m *Message) Final() bool {
	return m.State == "delivered" || m.State == "refunded" || m.State == "failed"
}

// Tip is a new tip that was read.
type Tip struct {
	Height uint32 `json:"height"`
	Hash   string `json:"hash"`
}

// Progress is how far long work is.
type Progress struct {
	What  string `json:"what"`
	Done  uint64 `json:"done" doc:"bytes"`
	Total uint64 `json:"total" doc:"bytes, 0 where it is not known"`
}

// Terms are those of a message to be sent; they travel in the query, the
// message's bytes in the body.
type Terms struct {
	To        string   `json:"to"`
	Subject   string   `json:"subject,omitempty"`
	Filename  string   `json:"filename,omitempty"`
	Days      float64  `json:"days"`
	Agents    int      `json:"agents"`
	MaxSat    wire.Sat `json:"max_sat"`
	OneOfMany bool     `json:"one_of_many,omitempty"`
}

// Estimate is what a message would cost.
type Estimate struct {
	Agents  []string `json:"agents"`
	Frozen  wire.Sat `json:"frozen_sat" doc:"for the agents; all but one agent's share comes back"`
	Fee     wire.Sat `json:"fee_sat" doc:"of the funding"`
	Total   wire.Sat `json:"cost_sat"`
	Blocks  uint32   `json:"storage_blocks"`
	Balance wire.Sat `json:"balance_sat"`
}

// Transaction is one of the wallet's.
type Transaction struct {
	Txid   string   `json:"txid"`
	Height uint32   `json:"height" doc:"0 while unconfirmed"`
	Kept   bool     `json:"kept" doc:"unconfirmed, and no node has taken it yet"`
	In     wire.Sat `json:"received_sat"`
	Out    wire.Sat `json:"spent_sat"`
}

// Payment is a transaction that was sent.
type Payment struct {
	Txid string `json:"txid"`
}

// Agent is an agent that the node has met in the DHT.
type Agent struct {
	Key     string    `json:"agent"`
	PeerID  string    `json:"peer_id"`
	Rate    wire.Psat `json:"rate_psat_per_byte_day"`
	MaxSize uint64    `json:"max_bytes"`
	Days    float64   `json:"max_days"`
	Addrs   []string  `json:"addrs"`
	Expires int64     `json:"expires" doc:"Unix time"`
}

// Stored reports what an agent holds and has earned.
type Stored struct {
	Quotes   int64    `json:"quotes" doc:"given and not used"`
	Messages int64    `json:"messages" doc:"held now"`
	Bytes    uint64   `json:"bytes" doc:"of them, on disk"`
	Unpaid   uint64   `json:"unfunded_bytes" doc:"of messages whose funding is not confirmed"`
	Claims   int64    `json:"claims" doc:"final claims"`
	Earned   wire.Sat `json:"earned_sat" doc:"by final claims, before fees"`
	Pending  wire.Sat `json:"pending_sat" doc:"claimed or claimable, not final"`
}

// Messages is a page of the inbox or of sent messages.
type Messages struct {
	Messages []Message `json:"messages" doc:"newest first"`
	Total    int       `json:"total"`
}

// Ready is the first event: whatever happens from now on is told.
type Ready struct{}
