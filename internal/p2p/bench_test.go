package p2p

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/store"
	"github.com/bitgram/bitgram/wire"
)

// protoPut is protoStore without a contract: Ask → Reply; body → Reply, Done.
const protoPut protocol.ID = "/bitgram/bench/1"

func init() { keeps[protoPut] = true }

// BenchmarkPut stores copies of 1 KiB without any contract: the store and the
// wire alone. Every put is durable when it is answered. Each connection, of a
// host of its own, has one in flight.
func BenchmarkPut(b *testing.B) {
	for _, conns := range []int{64, 512} {
		b.Run(fmt.Sprintf("conns=%d", conns), func(b *testing.B) {
			db, err := store.Open(filepath.Join(b.TempDir(), "db"))
			must(b, err)
			defer db.Close()
			agent, err := New(Config{Identity: secret(1), Listen: []string{overTCP}})
			must(b, err)
			defer agent.Close()
			var n atomic.Uint64
			agent.handle(protoPut, func(ctx context.Context, st network.Stream) error {
				var ask wire.Ask
				if err := wire.ReadFrame(st, &ask); err != nil {
					return err
				}
				if err := wire.WriteFrame(st, &wire.Reply{}); err != nil {
					return err
				}
				raw := make([]byte, 1<<10)
				if _, err := io.ReadFull(agent.limit.pace(st, 1<<10), raw); err != nil {
					return err
				}
				return agent.reply(st, &wire.Done{}, db.Update(ctx, func(tx engine.Tx) error {
					return tx.Put("bench", fmt.Appendf(nil, "%016x", n.Add(1)), raw)
				}))
			})
			to := wire.Peer{Key: keyOf(secret(1)), Addrs: agent.Addrs()}
			var callers []*Host
			for range conns {
				h, err := New(Config{})
				must(b, err)
				defer h.Close()
				must(b, h.put(to))
				callers = append(callers, h)
			}
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			var wg sync.WaitGroup
			for _, h := range callers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if err := h.put(to); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
		})
	}
}

func (s *Host) put(to wire.Peer) error {
	return s.call(context.Background(), to, protoPut, func(st network.Stream) error {
		if err := wire.WriteFrame(st, &wire.Ask{}); err != nil {
			return err
		}
		if err := answer(st, nil); err != nil {
			return err
		}
		return s.upload(st, bytes.NewReader(make([]byte, 1<<10)), 1<<10, new(wire.Done))
	})
}
