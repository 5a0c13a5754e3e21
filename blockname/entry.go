package blockname

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"

	"github.com/bitgram/bitgram/wire"
)

// MaxBids is the number of addresses that are kept under one DHT prefix.
const MaxBids = 4

// ErrCorrupt means an entry or undo bytes that this package did not write.
var ErrCorrupt = errors.New("blockname index corrupt")

// Bid is an address under a name and what was burned for it.
type Bid struct {
	Hint   Hint
	Burned wire.Sat
	// Height and Out are where it came into the entry.
	Height wire.Height
	Out    wire.Outpoint
}

// Entry is what the index keeps under one key, the best bid first: one bid
// under a name, 1 to MaxBids different ones under a DHT prefix. Of equal bids
// the first to burn so much comes first.
type Entry []Bid

// Key is where the index keeps the entry of a name (dht is empty), or of a TLD
// and a DHT prefix: the kind's byte ‖ name, then 0x00 ‖ dht if it has one.
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

// Key is where the index keeps the hint's entry.
func (h Hint) Key() []byte { return Key(h.Kind, h.Name, h.DHT) }

// The second family of keys orders the seeds of a TLD by burn:
//
//	'$' ‖ tld ‖ 0x00 ‖ u64 (2⁶⁴ − 1 − burned by the best bid) ‖ kind ‖ dht
//
// Its values are the one byte 1.
const rankByte = '$'

var rankValue = []byte{1}

func rankPrefix(tld string) []byte {
	return append(append([]byte{rankByte}, tld...), 0)
}

// IsEntry reports whether a key of the index is that of an entry; the others rank
// entries.
func IsEntry(key []byte) bool { return len(key) > 0 && key[0] != rankByte }

// rank is the second key of an entry; nil where it has none.
func (e Entry) rank() []byte {
	if len(e) == 0 || !e[0].Hint.Kind.AddsUp() {
		return nil
	}
	h := &e[0].Hint
	b := binary.BigEndian.AppendUint64(rankPrefix(h.Name), math.MaxUint64-uint64(e[0].Burned))
	return append(append(b, byte(h.Kind)), h.DHT...)
}

// add lets a hint of the entry's key in.
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
		// No chain burns more than there is; if one does, the sum stays there.
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

// Needed is the least value that a new output with hint h has to burn to stand
// first in its entry e, by what e says now: 0 where it does already, or where
// the entry is empty.
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

// encode returns the entry's value in the database: for each bid
//
//	u8 length ‖ hint ‖ u64 burned ‖ u32 height ‖ txid(32) ‖ u32 little-endian index
//
// nil where it is empty.
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

// DecodeEntry reads the value under a key. ErrCorrupt is what no Apply wrote
// there.
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
