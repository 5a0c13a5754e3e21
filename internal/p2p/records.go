package p2p

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	recpb "github.com/libp2p/go-libp2p-record/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-base32"
	"google.golang.org/protobuf/proto"

	"github.com/bitgram/bitgram/wire"
)

// adValidator accepts an advertisement under its agent's key. Of two, the one
// with the larger sequence number is kept.
type adValidator struct{ d *directory }

func (v adValidator) Validate(key string, value []byte) error {
	agent, err := keyIn(key, nsAd)
	if err != nil {
		return err
	}
	var ad wire.Advertisement
	if err := decode(value, &ad); err != nil {
		return err
	}
	if ad.Agent != agent {
		return fmt.Errorf("%w: advertisement of another", wire.ErrMalformed)
	}
	return v.d.verifyAd(&ad)
}

func (adValidator) Select(_ string, values [][]byte) (int, error) {
	return newest(values, func(raw []byte) (uint64, error) {
		var ad wire.Advertisement
		err := decode(raw, &ad)
		return ad.Record.Seq, err
	})
}

// holdingValidator accepts a holding under the owner key of its grant.
type holdingValidator struct{ d *directory }

func (v holdingValidator) Validate(key string, value []byte) error {
	owner, err := keyIn(key, nsHolding)
	if err != nil {
		return err
	}
	var h wire.Holding
	if err := decode(value, &h); err != nil {
		return err
	}
	if h.Grant.Owner != owner {
		return fmt.Errorf("%w: holding under another key", wire.ErrMalformed)
	}
	if err := h.Verify(v.d.cfg.Network, v.d.cfg.Now().Unix()); err != nil {
		return err
	}
	return v.d.dialable(h.Record.Addrs)
}

func (holdingValidator) Select(_ string, values [][]byte) (int, error) {
	return newest(values, func(raw []byte) (uint64, error) {
		var h wire.Holding
		err := decode(raw, &h)
		return h.Record.Seq, err
	})
}

func decode(raw []byte, m wire.Limited) error {
	if len(raw) > m.MaxSize() {
		return fmt.Errorf("%w: value of %d bytes", wire.ErrTooBig, len(raw))
	}
	if err := wire.Unmarshal(raw, m); err != nil {
		return err
	}
	return m.Check()
}

// newest picks the value with the largest sequence number and, if equal, the
// smaller bytes, so that all peers pick the same.
func newest(values [][]byte, seq func([]byte) (uint64, error)) (int, error) {
	best, top := -1, uint64(0)
	for i, v := range values {
		n, err := seq(v)
		if err != nil {
			continue
		}
		if best < 0 || n > top || n == top && bytes.Compare(v, values[best]) < 0 {
			best, top = i, n
		}
	}
	if best < 0 {
		return 0, fmt.Errorf("%w: none of %d values", wire.ErrMalformed, len(values))
	}
	return best, nil
}

// values stores what the DHT stores at this host, in memory and at most limit
// values. Publishers repeat their values long before they expire. When it is
// full, expired values are removed; otherwise a new value replaces the one
// farthest from the host's own place, if it is nearer.
type values struct {
	datastore.Batching
	now   func() time.Time
	mu    sync.Mutex
	self  [32]byte
	limit int
	held  map[datastore.Key]held
}

type held struct {
	distance [32]byte
	expires  int64
}

func newValues(self peer.ID, limit int, now func() time.Time) *values {
	return &values{Batching: dssync.MutexWrap(datastore.NewMapDatastore()), now: now, self: place(self), limit: limit, held: map[datastore.Key]held{}}
}

var errFull = errors.New("no room for this value")

// Put implements datastore.Write. It stores only the parts of a record that the
// validators checked, because a stranger may have padded it.
func (v *values) Put(ctx context.Context, k datastore.Key, raw []byte) error {
	var in recpb.Record
	if err := proto.Unmarshal(raw, &in); err != nil {
		return err
	}
	expires, err := expiry(string(in.Key), in.Value)
	if err != nil {
		return err
	}
	raw, err = proto.Marshal(&recpb.Record{Key: in.Key, Value: in.Value, TimeReceived: in.TimeReceived})
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	h := held{v.distance(k), expires}
	if _, known := v.held[k]; !known && len(v.held) >= v.limit {
		if err := v.makeRoom(ctx, h); err != nil {
			return err
		}
	}
	v.held[k] = h
	return v.Batching.Put(ctx, k, raw)
}

// expiry returns when a validated value expires.
func expiry(name string, value []byte) (int64, error) {
	if strings.HasPrefix(name, "/"+nsAd+"/") {
		var ad wire.Advertisement
		err := decode(value, &ad)
		return ad.Record.Expires, err
	}
	var h wire.Holding
	err := decode(value, &h)
	return h.Record.Expires, err
}

// makeRoom removes expired values or, if there are none, the farthest value if
// the new one is nearer.
func (v *values) makeRoom(ctx context.Context, h held) error {
	var drop []datastore.Key
	var farthest datastore.Key
	far, now := h, v.now().Unix()
	for k, o := range v.held {
		if o.expires <= now {
			drop = append(drop, k)
		}
		if bytes.Compare(o.distance[:], far.distance[:]) > 0 {
			farthest, far = k, o
		}
	}
	if len(drop) == 0 {
		if far == h {
			return errFull
		}
		drop = append(drop, farthest)
	}
	for _, k := range drop {
		delete(v.held, k)
		if err := v.Batching.Delete(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

// Batch implements datastore.Batching. It is refused, because it would bypass
// the limit.
func (*values) Batch(context.Context) (datastore.Batch, error) {
	return nil, datastore.ErrBatchUnsupported
}

// distance returns the DHT's distance of a value's place from the host's own.
func (v *values) distance(k datastore.Key) (d [32]byte) {
	name, err := base32.RawStdEncoding.DecodeString(k.BaseNamespace())
	if err != nil {
		name = k.Bytes() // no key that the library makes
	}
	return distance(sha256.Sum256(name), v.self)
}

// Delete implements datastore.Write.
func (v *values) Delete(ctx context.Context, k datastore.Key) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.held, k)
	return v.Batching.Delete(ctx, k)
}

// noProviders replaces the library's provider records.
type noProviders struct{}

func (noProviders) AddProvider(context.Context, []byte, peer.AddrInfo) error { return nil }
func (noProviders) GetProviders(context.Context, []byte) ([]peer.AddrInfo, error) {
	return nil, nil
}
func (noProviders) Close() error { return nil }
