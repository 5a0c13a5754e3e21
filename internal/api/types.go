package api

import "github.com/bitgram/bitgram/wire"

// Identity is the public identity of a home.
type Identity struct {
	Address string       `json:"address" doc:"address that others send messages to"`
	Pubkey  string       `json:"pubkey" doc:"x-only public key, hex"`
	PeerID  string       `json:"peer_id" doc:"libp2p peer ID"`
	Network wire.Network `json:"network"`
}

// Chain reports how far the daemon has followed the chain.
type Chain struct {
	Height uint32 `json:"height"`
	Hash   string `json:"hash" doc:"hash of the last block read, in display order"`
	Synced bool   `json:"synced" doc:"true if that block is the Bitcoin node's tip"`
	Error  string `json:"error,omitempty" doc:"why the chain cannot be followed at present"`
}

// Difficulty holds the difficulty and subsidy of the last block.
type Difficulty struct {
	Height     uint32   `json:"height" doc:"height of the Bitcoin node's tip"`
	Bits       string   `json:"nbits" doc:"target as in the block header, 8 hex digits"`
	Difficulty float64  `json:"difficulty"`
	Subsidy    wire.Sat `json:"subsidy_sat"`
}

// Status is the state of a daemon.
type Status struct {
	Identity
	Version string   `json:"version"`
	Uptime  int64    `json:"uptime_s"`
	Chain   Chain    `json:"chain"`
	Joined  bool     `json:"joined" doc:"true if the daemon has joined the DHT"`
	Peers   int      `json:"dht_peers" doc:"number of peers in the routing table"`
	Listen  []string `json:"listen,omitempty" doc:"multiaddrs on which an agent listens"`
	Seeds   []string `json:"seeds,omitempty" doc:"multiaddrs with peer IDs, by which others join the DHT through this agent"`
	Balance Balance  `json:"balance"`
	Agent   *Stored  `json:"agent,omitempty"`

	Warnings []Warning `json:"warnings,omitempty" doc:"problems that the operator should look at"`
}

// Warning is a problem that does not stop the daemon.
type Warning struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

// Balance is the balance of the wallet.
type Balance struct {
	Spendable wire.Sat `json:"balance_sat" doc:"spendable now"`
	Change    wire.Sat `json:"change_sat" doc:"part of balance_sat: own change that is not confirmed yet"`
	Locked    wire.Sat `json:"locked_sat" doc:"reserved for messages that are not published yet"`
	Pending   wire.Sat `json:"pending_sat" doc:"in own unconfirmed transactions, without change_sat"`
	Immature  wire.Sat `json:"immature_sat" doc:"mined, and not spendable yet"`
	Rest      wire.Sat `json:"rest_sat,omitempty" doc:"in outputs of expired messages that are not worth the fee of a refund at the present rate; not part of the other amounts"`

	Warning *Warning `json:"warning,omitempty" doc:"why money may be missing from these amounts: the chain is not read to its tip"`
}

// Message is a sent or received message.
type Message struct {
	ID        string   `json:"message_id" doc:"first 16 bytes of the message key, hex; empty for a received message until an agent has proved to hold it"`
	Direction string   `json:"direction" enum:"sent,received"`
	State     string   `json:"state" enum:"queued,stored,delivered,refunded,failed"`
	Phase     string   `json:"phase" doc:"state of the state machine, in more detail"`
	To        string   `json:"to,omitempty"`
	From      string   `json:"from,omitempty" doc:"sender of a message that was read; its signature is verified"`
	Subject   string   `json:"subject,omitempty"`
	Filename  string   `json:"filename,omitempty"`
	Bytes     uint64   `json:"bytes" doc:"size of the MIME message, or of the payload until it is read"`
	Created   int64    `json:"created,omitempty" doc:"Unix time at which the message was sent"`
	Height    uint32   `json:"height,omitempty" doc:"height of the block with the funding"`
	Expiry    uint32   `json:"expiry,omitempty" doc:"height from which the sender can take the refund"`
	Agents    []string `json:"agents" doc:"public keys of the agents that hold the message"`
	Cost      wire.Sat `json:"cost_sat,omitempty" doc:"amount frozen for agents plus the funding's fee; the unclaimed part comes back"`
	Funding   string   `json:"funding_txid,omitempty"`
	Claims    []string `json:"claim_txids,omitempty"`
	Refund    string   `json:"refund_txid,omitempty"`
	Rest      wire.Sat `json:"rest_sat,omitempty" doc:"part of cost_sat that nobody claimed and that is not worth the fee of a refund"`
	Acked     bool     `json:"acknowledged,omitempty" doc:"true if the recipient's signature has arrived"`
	Failure   string   `json:"failure,omitempty"`
	FailedBy  Code     `json:"failed_by,omitempty" doc:"error code of the failure"`
}

// Final reports whether the state will not change any more: delivered, refunded
// or failed.
func (m *Message) Final() bool {
	return m.State == "delivered" || m.State == "refunded" || m.State == "failed"
}

// Tip is the event of a new tip that was read.
type Tip struct {
	Height uint32 `json:"height"`
	Hash   string `json:"hash"`
}

// Progress is the event of work that takes long.
type Progress struct {
	What  string `json:"what"`
	Done  uint64 `json:"done" doc:"bytes"`
	Total uint64 `json:"total" doc:"bytes; 0 if unknown"`
}

// Terms are the terms of a message to be sent. They are sent in the query; the
// message's bytes are the body.
type Terms struct {
	To        string   `json:"to"`
	Subject   string   `json:"subject,omitempty"`
	Filename  string   `json:"filename,omitempty"`
	Days      float64  `json:"days"`
	Agents    int      `json:"agents"`
	MaxSat    wire.Sat `json:"max_sat"`
	OneOfMany bool     `json:"one_of_many,omitempty"`
}

// Estimate is the cost of a message, as far as it can be known before sending.
type Estimate struct {
	Agents  []string `json:"agents"`
	Frozen  wire.Sat `json:"frozen_sat" doc:"amount frozen for agents; all but one agent's share comes back"`
	Fee     wire.Sat `json:"fee_sat" doc:"fee of the funding"`
	Total   wire.Sat `json:"cost_sat"`
	Blocks  uint32   `json:"storage_blocks"`
	Balance wire.Sat `json:"balance_sat"`
}

// Transaction is a transaction of the wallet.
type Transaction struct {
	Txid   string   `json:"txid"`
	Height uint32   `json:"height" doc:"0 while unconfirmed"`
	Kept   bool     `json:"kept" doc:"unconfirmed, and no node has accepted it yet"`
	In     wire.Sat `json:"received_sat"`
	Out    wire.Sat `json:"spent_sat"`
}

// Receiving is a bitcoin address to receive money.
type Receiving struct {
	Address string `json:"address"`
	Again   bool   `json:"given_before,omitempty" doc:"true if the address was given before, because the words alone would not find a later one until one of the unpaid addresses is paid"`
}

// Payment is a transaction that was sent.
type Payment struct {
	Txid string `json:"txid"`
}

// Agent is an agent's advertisement in the DHT.
type Agent struct {
	Key     string    `json:"agent"`
	PeerID  string    `json:"peer_id"`
	Rate    wire.Psat `json:"rate_psat_per_byte_day"`
	MaxSize uint64    `json:"max_bytes"`
	Days    float64   `json:"max_days"`
	Addrs   []string  `json:"addrs"`
	Expires int64     `json:"expires" doc:"Unix time"`
}

// Stored reports the messages that an agent holds, and its earnings.
type Stored struct {
	Quotes   int64    `json:"quotes" doc:"given and not used"`
	Messages int64    `json:"messages" doc:"held now"`
	Bytes    uint64   `json:"bytes" doc:"size of the held messages on disk"`
	Unpaid   uint64   `json:"unfunded_bytes" doc:"part of bytes: messages whose funding is not confirmed"`
	Claims   int64    `json:"claims" doc:"number of final claims"`
	Earned   wire.Sat `json:"earned_sat" doc:"earned by final claims, before fees"`
	Pending  wire.Sat `json:"pending_sat" doc:"claimed or claimable, not final"`
}

// Messages is a page of the inbox or of sent messages.
type Messages struct {
	Messages []Message `json:"messages" doc:"newest first"`
	Total    int       `json:"total"`
}

// Ready is the first event of a stream: no later event is missed.
type Ready struct{}
