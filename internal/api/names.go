package api

import (
	"encoding/hex"

	"github.com/bitgram/bitgram/blockname"
	"github.com/bitgram/bitgram/wire"
)

// Hint is a hint, decoded.
type Hint struct {
	Text   string `json:"hint" doc:"text of the hint on the chain"`
	Kind   string `json:"kind" enum:"host,domain,tld,authority,seed"`
	Name   string `json:"name"`
	DHT    string `json:"dht,omitempty" doc:"first hex digits of the SHA-256 of the seed's peer ID"`
	IP     string `json:"ip,omitempty"`
	Port   uint16 `json:"port,omitempty"`
	Addr   string `json:"multiaddr,omitempty"`
	Notary string `json:"notary,omitempty" doc:"hex"`
}

// HintOf decodes a hint that was parsed or checked before.
func HintOf(h blockname.Hint) Hint {
	text, _ := h.Encode() // cannot fail: it was parsed or checked
	v := Hint{Text: string(text), Kind: h.Kind.String(), Name: h.Name, DHT: h.DHT, Addr: h.Multiaddr}
	if h.Addr.IsValid() {
		v.IP, v.Port = h.Addr.Addr().String(), h.Addr.Port()
	}
	if h.Kind == blockname.Authority {
		v.Notary = hex.EncodeToString(h.ID[:])
	}
	return v
}

// Bid is a hint on the chain and the amount burned for it.
type Bid struct {
	Hint
	Burned wire.Sat `json:"burned_sat"`
	Height uint32   `json:"height"`
	Out    string   `json:"outpoint"`
}

// Scan reports how far the chain has been read for hints.
type Scan struct {
	Height    uint32 `json:"height"`
	Synced    bool   `json:"synced"`
	Hints     uint64 `json:"hints" doc:"number of names, and of DHT prefixes of a TLD, that have a hint"`
	Malformed int64  `json:"malformed" doc:"number of outputs since the daemon's start that look like hints but are malformed"`
}

// Names is a list of hints.
type Names struct {
	Names []Bid `json:"hints"`
}

// Answer is the result of resolving a name.
type Answer struct {
	Name  string `json:"name"`
	Names []Bid  `json:"hints" doc:"host, domain and authority hints of the name; for a TLD, the seeds that burned most"`
	// Agents are the closest active agents, for a name or key under .bitgram.
	Agents []Agent `json:"agents"`
}

// Offer reports how much a hint must burn, and the hints it competes with.
type Offer struct {
	Hint
	Needed wire.Sat `json:"needed_sat" doc:"least amount to burn for the hint to win"`
	Now    []Bid    `json:"now" doc:"present hints at its place"`
	Txid   string   `json:"txid,omitempty"`
	Burned wire.Sat `json:"burned_sat"`
}
