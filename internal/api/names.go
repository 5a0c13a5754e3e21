package api

import (
	"encoding/hex"

	"github.com/bitgram/bitgram/blockname"
	"github.com/bitgram/bitgram/wire"
)

// Hint is a hint in the open.
type Hint struct {
	Text   string `json:"hint" doc:"as it stands on the chain"`
	Kind   string `json:"kind" enum:"host,domain,tld,authority,seed"`
	Name   string `json:"name"`
	DHT    string `json:"dht,omitempty" doc:"hex, the beginning of the SHA-256 of the seed's peer ID"`
	IP     string `json:"ip,omitempty"`
	Port   uint16 `json:"port,omitempty"`
	Addr   string `json:"multiaddr,omitempty"`
	Notary string `json:"notary,omitempty" doc:"hex"`
}

// HintOf is a hint as the API shows it.
func HintOf(h blockname.Hint) Hint {
	text, _ := h.Encode() // whatever is shown was read or checked
	v := Hint{Text: string(text), Kind: h.Kind.String(), Name: h.Name, DHT: h.DHT, Addr: h.Multiaddr}
	if h.Addr.IsValid() {
		v.IP, v.Port = h.Addr.Addr().String(), h.Addr.Port()
	}
	if h.Kind == blockname.Authority {
		v.Notary = hex.EncodeToString(h.ID[:])
	}
	return v
}

// Bid is a hint on the chain, and what was burned for it.
type Bid struct {
	Hint
	Burned wire.Sat `json:"burned_sat"`
	Height uint32   `json:"height"`
	Out    string   `json:"outpoint"`
}

// Scan is how far the chain was read for hints.
type Scan struct {
	Height    uint32 `json:"height"`
	Synced    bool   `json:"synced"`
	Hints     uint64 `json:"hints" doc:"names, and DHT prefixes of a TLD, that have one"`
	Malformed int64  `json:"malformed" doc:"outputs that look like hints and are none, since the daemon's start"`
}

// Names are hints.
type Names struct {
	Names []Bid `json:"hints"`
}

// Answer is what a name leads to.
type Answer struct {
	Name  string `json:"name"`
	Names []Bid  `json:"hints" doc:"host, domain and authority hints of the name, and a TLD's seeds that burned most"`
	// Agents are the active agents closest to it, for a name or key under the
	// TLD bitgram.
	Agents []Agent `json:"agents"`
}

// Offer is what a hint has to burn.
type Offer struct {
	Hint
	Needed wire.Sat `json:"needed_sat" doc:"the least that it has to burn to stand first"`
	Now    []Bid    `json:"now" doc:"what stands there"`
	Txid   string   `json:"txid,omitempty"`
	Burned wire.Sat `json:"burned_sat"`
}
