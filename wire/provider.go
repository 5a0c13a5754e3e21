package wire

import "unicode/utf8"

// Limits of records that providers publish. They are part of the protocol.
const (
	MaxAddrs      = 8         // multiaddrs of one provider
	MaxAddr       = 128       // bytes of one multiaddr
	MaxRecord     = 2048      // bytes of a value in the DHT
	MaxRecordLife = 48 * 3600 // maximum lifetime of a record, in seconds from now
)

// Services are the services of a provider, as bits.
type Services uint32

// The services: deliver messages (spec/delivery.md), accept penny banks
// (spec/bank.md), compute (spec/job.md; its terms are in ComputeOffer). Unknown
// bits are accepted: later services have others.
const (
	Delivery Services = 1 << iota
	Banking
	Compute
)

// Peer is who provides something, and its addresses. It is part of stored states,
// and no message.
type Peer struct {
	Key   Key
	Addrs []string // multiaddrs without the peer ID
}

// Limits are the largest size and storage time that an agent accepts.
type Limits struct {
	_      struct{} `cbor:",toarray"`
	Size   uint64   // of a sealed copy, bytes
	Blocks uint32   // of storage
}

// Record says when a provider signed a value for the DHT, and until when it is
// valid. Of two values by one provider, the one with the larger Seq counts.
type Record struct {
	_       struct{} `cbor:",toarray"`
	Seq     uint64
	Expires int64    // Unix time, seconds
	Addrs   []string // multiaddrs of the provider, without its peer ID
}

func (r *Record) check() error {
	if len(r.Addrs) == 0 || len(r.Addrs) > MaxAddrs {
		return malformed("%d addresses", len(r.Addrs))
	}
	for _, a := range r.Addrs {
		if len(a) == 0 || len(a) > MaxAddr || !utf8.ValidString(a) {
			return malformed("address of %d bytes", len(a))
		}
	}
	if r.Expires <= 0 {
		return malformed("expires at %d", r.Expires)
	}
	return nil
}

// Current returns an error if the record is not valid at Unix time now: if it
// has expired, or is valid for longer than MaxRecordLife.
func (r *Record) Current(now int64) error {
	if r.Expires <= now {
		return malformed("expired")
	}
	if r.Expires-now > MaxRecordLife {
		return malformed("valid for more than %d s", MaxRecordLife)
	}
	return nil
}

// Advertisement is a provider's signed statement of its services, rate, limits
// and addresses.
type Advertisement struct {
	_        struct{} `cbor:",toarray"`
	Agent    Key
	Services Services
	Rate     Psat // per byte-day
	Limits   Limits
	Record   Record
	Sig      Signature // by Agent over Digest
}

// MaxSize implements Limited.
func (*Advertisement) MaxSize() int { return MaxRecord }

// Check implements Limited.
func (a *Advertisement) Check() error {
	switch {
	case a.Services == 0:
		return malformed("no services")
	case a.Rate > MaxRate:
		return malformed("rate %d", a.Rate)
	case a.Limits.Size == 0 || a.Limits.Size > MaxPayload:
		return malformed("size %d", a.Limits.Size)
	case a.Limits.Blocks == 0 || a.Limits.Blocks > MaxStoreBlocks:
		return malformed("storage for %d blocks", a.Limits.Blocks)
	}
	if err := a.Record.check(); err != nil {
		return err
	}
	return checkKeys(a.Agent)
}

// Digest returns the digest that Agent signs: of the network's name and the
// encoding with a zero Sig. So an advertisement for one network is not valid on
// another.
func (a *Advertisement) Digest(n Network) Hash {
	c := *a
	c.Sig = Signature{}
	return digestOn(n, "advertisement", &c)
}

// Verify checks the signature and validity of a at Unix time now.
func (a *Advertisement) Verify(n Network, now int64) error {
	if err := a.Record.Current(now); err != nil {
		return err
	}
	return a.Agent.Verify(a.Digest(n), a.Sig)
}

// Grant lets one agent publish in the DHT that it holds a message, under a key
// that only the message's sender and recipient can derive. Nobody else can
// publish there, or learn which message it concerns.
type Grant struct {
	_     struct{} `cbor:",toarray"`
	Owner Key      // derived (spec/seal.md)
	Agent Key
	Sig   Signature // by Owner over Digest
}

// Digest returns the digest that Owner signs.
func (g *Grant) Digest() Hash { return Tagged("grant", g.Owner[:], g.Agent[:]) }

// Verify checks the owner's signature.
func (g *Grant) Verify() error { return g.Owner.Verify(g.Digest(), g.Sig) }

// Holding is an agent's signed statement that it holds the message of a grant.
type Holding struct {
	_      struct{} `cbor:",toarray"`
	Grant  Grant
	Record Record
	Sig    Signature // by Grant.Agent over Digest
}

// MaxSize implements Limited.
func (*Holding) MaxSize() int { return MaxRecord }

// Check implements Limited.
func (h *Holding) Check() error {
	if err := h.Record.check(); err != nil {
		return err
	}
	return checkKeys(h.Grant.Owner, h.Grant.Agent)
}

// Digest returns the digest that Grant.Agent signs; see Advertisement.Digest.
func (h *Holding) Digest(n Network) Hash {
	c := *h
	c.Sig = Signature{}
	return digestOn(n, "holding", &c)
}

// Verify checks the signatures and validity of h at Unix time now.
func (h *Holding) Verify(n Network, now int64) error {
	if err := h.Record.Current(now); err != nil {
		return err
	}
	if err := h.Grant.Verify(); err != nil {
		return err
	}
	return h.Grant.Agent.Verify(h.Digest(n), h.Sig)
}

func digestOn(n Network, tag string, v any) Hash {
	d := DigestOf(tag, v)
	return Tagged(tag, prefixed([]byte(n)), d[:])
}
