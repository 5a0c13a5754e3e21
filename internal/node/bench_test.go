package node

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node/agent"
	"github.com/bitgram/bitgram/internal/node/disk"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/store"
	"github.com/bitgram/bitgram/wire"
)

func secret(t testing.TB) (s wire.Secret, k wire.Key) {
	_, _ = rand.Read(s[:])
	priv, err := s.PrivKey()
	must(t, err)
	return s, wire.XOnly(priv.PubKey())
}

// callers are hosts that only call.
func callers(b *testing.B, n int) (list []*p2p.Host) {
	for range n {
		h, err := p2p.New(p2p.Config{})
		must(b, err)
		b.Cleanup(func() { _ = h.Close() })
		list = append(list, h)
	}
	return list
}

// share runs f b.N times, on all hosts at once.
func share(b *testing.B, hosts []*p2p.Host, unit string, f func(*p2p.Host) error) {
	for _, h := range hosts {
		must(b, f(h)) // connects
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	var wg sync.WaitGroup
	for _, h := range hosts {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := f(h); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), unit)
}

// BenchmarkStore stores messages of 1 KiB with an agent, with all that belongs
// to it on both sides: quote, point with its proof, seal, frozen output,
// pre-signature, grant, receipt.
func BenchmarkStore(b *testing.B) {
	w := newTown(b, 1)
	a := w.homes["agent-0"]
	to := wire.Peer{Key: a.node.Key(), Addrs: a.node.Addrs()}
	_, recipient := secret(b)
	share(b, callers(b, 64), "stores/s", func(h *p2p.Host) error {
		_, err := storeOne(b, h, to, recipient, a.node.Engine().Position().Height, 1<<10)
		return err
	})
}

// planted is an agent's deal that is cached and paid, as if a peer had brought it, and
// keep writes its small copy.
func planted(point, agent wire.Key, fetchKey wire.Secret, copy []byte) (c engine.Creation, keep func(engine.Tx) error) {
	a := deal.Agent{Margins: deal.MarginsFor(wire.Regtest), Funded: true, Value: 1000,
		Quote: wire.Quote{Point: point, StoreUntil: 1_000_000, Expiry: 1_000_036, ValidUntil: 12},
		Package: &wire.Package{Funding: make([]byte, 300), FetchKey: fetchKey,
			Section: wire.Section{Leaf: wire.Leaf{Agent: agent, Point: point, Size: uint64(len(copy)), Key: wire.MessageKey{}}, Count: 3, Path: make([]wire.Hash, 2)},
			Frozen:  wire.Frozen{Expiry: 1_000_036, RefundKey: agent, Claims: []wire.ClaimLeaf{{SenderKey: agent, ClaimKey: agent}}}},
		At: wire.Outpoint{Txid: wire.Hash(point)}, Confirmed: &contract.Fact{Height: 1}, Tip: 50}
	find := wire.FindKey(fetchKey)
	return engine.Creation{Ref: agentRef(point), State: a}, func(tx engine.Tx) error {
		if err := tx.Put(bucketCopies, point[:], copy); err != nil {
			return err
		}
		return tx.Put(bucketFind, append(find[:], point[:]...), []byte{})
	}
}

// BenchmarkPlant fills the database that BITGRAM_BENCH_DB names with 100,000
// messages of 1 KiB.
func BenchmarkPlant(b *testing.B) {
	path := os.Getenv("BITGRAM_BENCH_DB")
	if path == "" {
		b.Skip("BITGRAM_BENCH_DB names no database")
	}
	s, err := store.Open(path)
	must(b, err)
	files, err := disk.Open(b.TempDir(), agent.Dirs...)
	must(b, err)
	log := slog.New(slog.DiscardHandler)
	room, err := agent.New(b.Context(), agent.Config{Store: s, Files: files, Serves: func(wire.Key) {}, Log: log})
	must(b, err)
	e := engine.New(engine.Config{Store: s})
	e.Register(room.Machines()...)
	copy := make([]byte, 1<<10)
	const messages, group = 100_000, 1000
	for from := 0; from < messages; from += group {
		var list []engine.Creation
		must(b, s.Update(context.Background(), func(tx engine.Tx) error {
			for i := from; i < from+group; i++ {
				var point wire.Key
				binary.BigEndian.PutUint32(point[:], uint32(i))
				c, keep := planted(point, wire.Key{}, wire.Secret{}, copy)
				list = append(list, c)
				if err := keep(tx); err != nil {
					return err
				}
			}
			return nil
		}))
		_, err := e.CreateAndTell(context.Background(), list, nil)
		must(b, err)
	}
	must(b, s.Close())
}

// BenchmarkFetch fetches a message of 1 KiB over and over in one session, in
// which the agent has proved itself once.
func BenchmarkFetch(b *testing.B) {
	w := newTown(b, 1)
	a := w.homes["agent-0"]
	to := wire.Peer{Key: a.node.Key(), Addrs: a.node.Addrs()}
	_, point := secret(b)
	fetchKey, _ := secret(b)
	c, keep := planted(point, a.node.Key(), fetchKey, make([]byte, 1<<10))
	must(b, a.node.store.Update(b.Context(), keep))
	must(b, a.node.engine.Create(b.Context(), c))
	h := callers(b, 1)[0]
	must(b, h.Session(b.Context(), to, fetchKey, func(c *p2p.Session) error {
		p := c.Proofs[0]
		b.ResetTimer()
		for range b.N {
			if err := c.Copy(p.Outpoint, &p.Section.Leaf, io.Discard); err != nil {
				return err
			}
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "fetches/s")
		return nil
	}))
}
