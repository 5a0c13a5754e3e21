package blockname

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"

	"github.com/bitgram/bitgram/wire"
)

// MaxBids is the maximum number of bids under one DHT prefix.
const MaxBids = 4

// ErrCorrupt means that an entry or undo record was not written by this
// package.
var ErrCorrupt = errors.New("blockname index corrupt")

// Bid is an address in an entry, and the sum burned for it.
type Bid struct {
	Hint   Hint
	Burned wire.Sat
	// Height and Out say where its hint first appeared.
	Height wire.Height
	Out    wire.Outpoint
}

// Entry is the value of the index under one key, the best bid first: one bid
// for a name, 1 to MaxBids different ones for a DHT prefix. Of bids with equal
// sums, the first to reach the sum comes first.
type Entry []Bid

// Key returns the index key of the entry of a name (dht is empty), or of a TLD
// and a DHT prefix: the kind's byte ‖ name, then 0x00 ‖ dht if there is one.
func Key(kind Kind, name, dht string) []byte {
	return appendKey(make([]byte, 0, 2+len(name)+len(dht)), kind, name, dht)
}

func appendKey(b []byte, kind Kind, name, dht string) []byte {
	b = append(append(b, byte(kind)), name...)
	if kind.AddsUp() {
		b = append(append(b, 0), dht...)
	}
	return b
}

// Key returns the index key of the hint's entry.
func (h Hint) Key() []byte { return Key(h.Kind, h.Name, h.DHT) }

// A second family of keys orders the seeds of a TLD by burn:
//
//	'$' ‖ tld ‖ 0x00 ‖ u64 (2⁶⁴ − 1 − burned by the best bid) ‖ kind ‖ dht
//
// Their value is the single byte 1.
const rankByte = '$'

var rankValue = []byte{1}

func rankPrefix(tld string) []byte {
	return append(append([]byte{rankByte}, tld...), 0)
}

// IsEntry reports whether a key of the index belongs to an entry. The other
// keys are ranks.
func IsEntry(key []byte) bool { return len(key) > 0 && key[0] != rankByte }

// rank returns the entry's rank key, or nil if it has none.
func (e Entry) rank() []byte {
	if len(e) == 0 || !e[0].Hint.Kind.AddsUp() {
		return nil
	}
	h := &e[0].Hint
	b := binary.BigEndian.AppendUint64(rankPrefix(h.Name), math.MaxUint64-uint64(e[0].Burned))
	return append(append(b, byte(h.Kind)), h.DHT...)
}

// add applies a hint with the entry's key.
func (e Entry) add(f *Found, at wire.Height) Entry {
	bid := Bid{Hint: f.Hint, Burned: f.Value, Height: at, Out: f.Out}
	if !f.Hint.Kind.AddsUp() {
		if len(e) == 0 {
			return Entry{bid}
		}
		if f.Value > e[0].Burned {
			e[0] = bid
		}
		return e
	}
	i := slices.IndexFunc(e, func(b Bid) bool { return b.Hint == f.Hint })
	switch {
	case i >= 0:
		// The sum is capped at all money that can exist.
		e[i].Burned += min(f.Value, wire.MaxSat-e[i].Burned)
	case len(e) < MaxBids:
		e, i = append(e, bid), len(e)
	case f.Value > e[MaxBids-1].Burned:
		i = MaxBids - 1
		e[i] = bid
	default:
		return e
	}
	for ; i > 0 && e[i].Burned > e[i-1].Burned; i-- {
		e[i], e[i-1] = e[i-1], e[i]
	}
	return e
}

// Needed returns the least value that a new output with hint h must burn to
// become first in its entry e. It is 0 if h is first already or the entry is
// empty.
func (e Entry) Needed(h Hint) wire.Sat {
	if len(e) == 0 || e[0].Hint == h {
		return 0
	}
	need := e[0].Burned + 1
	if h.Kind.AddsUp() {
		for _, b := range e {
			if b.Hint == h {
				need -= b.Burned
			}
		}
	}
	return need
}

// encode returns the entry's database value: for each bid
//
//	u8 length ‖ hint ‖ u64 burned ‖ u32 height ‖ txid(32) ‖ u32 little-endian index
//
// or nil if the entry is empty.
func (e Entry) encode() (b []byte, err error) {
	if len(e) == 0 {
		return nil, nil
	}
	b = make([]byte, 0, len(e)*(1+MaxSize+bidTail))
	for i := range e {
		at := len(b)
		if b, err = e[i].Hint.append(append(b, 0)); err != nil {
			return nil, err
		}
		b[at] = byte(len(b) - at - 1)
		b = binary.BigEndian.AppendUint64(b, uint64(e[i].Burned))
		b = binary.BigEndian.AppendUint32(b, uint32(e[i].Height))
		b = append(b, e[i].Out.Txid[:]...)
		b = binary.LittleEndian.AppendUint32(b, e[i].Out.Vout)
	}
	return b, nil
}

const bidTail = 8 + 4 + 32 + 4

// DecodeEntry decodes the value under a key. It returns ErrCorrupt if Apply
// cannot have written it.
func DecodeEntry(key, value []byte) (Entry, error) {
	var e Entry
	for len(value) > 0 {
		n := int(value[0])
		if len(value) < 1+n+bidTail || len(e) == MaxBids {
			return nil, ErrCorrupt
		}
		h, err := Parse(value[1 : 1+n])
		if err != nil {
			return nil, ErrCorrupt
		}
		tail := value[1+n:]
		b := Bid{
			Hint:   h,
			Burned: wire.Sat(binary.BigEndian.Uint64(tail)),
			Height: wire.Height(binary.BigEndian.Uint32(tail[8:])),
			Out:    wire.Outpoint{Txid: wire.Hash(tail[12:44]), Vout: binary.LittleEndian.Uint32(tail[44:])},
		}
		value = tail[bidTail:]
		var room [2 + MaxSize]byte
		if string(appendKey(room[:0], h.Kind, h.Name, h.DHT)) != string(key) || b.Burned < 0 || b.Burned > wire.MaxSat {
			return nil, ErrCorrupt
		}
		for _, other := range e {
			if !h.Kind.AddsUp() || other.Hint == h || other.Burned < b.Burned {
				return nil, ErrCorrupt
			}
		}
		e = append(e, b)
	}
	return e, nil
}
