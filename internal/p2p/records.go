package p2p

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-base32"

	"github.com/bitgram/bitgram/wire"
)

// adValidator admits an advertisement under its agent's key; of two the one
// with the larger sequence number stays.
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

// holdingValidator admits a holding under the owner key of its grant.
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

// newest picks the value with the largest sequence number, and of equals the
// smaller bytes, so that everybody picks the same.
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

// values keeps what the DHT stores here, in memory and at most limit of them:
// publishers publish again long before a record expires. When it is full, the
// value farthest from the own place makes room for a nearer one, so that a
// flood from elsewhere never drives out what this server is there for.
type values struct {
	datastore.Batching
	mu    sync.Mutex
	self  [32]byte
	limit int
	held  map[datastore.Key][32]byte // distance
}

func newValues(self peer.ID, limit int) *values {
	return &values{Batching: dssync.MutexWrap(datastore.NewMapDatastore()), self: sha256.Sum256([]byte(self)), limit: limit,
		held: map[datastore.Key][32]byte{}}
}

var errFull = errors.New("no room for this value")

// Put implements datastore.Write.
func (v *values) Put(ctx context.Context, k datastore.Key, value []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	d := v.distance(k)
	if _, known := v.held[k]; !known && len(v.held) >= v.limit {
		var farthest datastore.Key
		var far [32]byte
		for k, d := range v.held {
			if bytes.Compare(d[:], far[:]) >= 0 {
				farthest, far = k, d
			}
		}
		if bytes.Compare(d[:], far[:]) >= 0 {
			return errFull
		}
		delete(v.held, farthest)
		if err := v.Batching.Delete(ctx, farthest); err != nil {
			return err
		}
	}
	v.held[k] = d
	return v.Batching.Put(ctx, k, value)
}

// distance is how far a value's place is from the own, as the DHT measures.
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

// noProviders stands in for the library's provider records.
type noProviders struct{}

func (noProviders) AddProvider(context.Context, []byte, peer.AddrInfo) error { return nil }
func (noProviders) GetProviders(context.Context, []byte) ([]peer.AddrInfo, error) {
	return nil, nil
}
func (noProviders) Close() error { return nil }
