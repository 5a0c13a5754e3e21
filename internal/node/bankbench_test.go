package node

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/node/banking"
	"github.com/bitgram/bitgram/wire"
)

// BenchmarkPennies pays pennies over libp2p on loopback, each durable at the payee
// before it is acknowledged.
func BenchmarkPennies(b *testing.B) {
	w := emptyTown(b)
	from, to := w.home("payer", nil), w.payee("payee", nil)
	from.start()
	w.mine(1)
	const banks = 50
	for range banks {
		w.fund(from, 100_000)
	}
	var ids []bank.ID
	for range banks {
		id, err := from.node.Banks.OpenBank(b.Context(), banking.Terms{Peer: to.peer(), Value: 50_000, Rungs: 126, PerRung: 10_000, Blocks: 1000, MaxFee: 10_000})
		must(b, err)
		ids = append(ids, id)
	}
	w.settle()
	w.mine(6)
	b.Run("fsync", func(b *testing.B) {
		f, err := os.Create(filepath.Join(w.dir, "f"))
		must(b, err)
		defer f.Close()
		page := make([]byte, 4096)
		for b.Loop() {
			_, _ = f.WriteAt(page, 0)
			must(b, f.Sync())
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "/s")
	})
	run := func(n int, window uint32, each uint32) func(*testing.B) {
		return func(b *testing.B) {
			for b.Loop() {
				var wg sync.WaitGroup
				began := time.Now()
				for _, id := range ids[:n] {
					wg.Go(func() {
						_, err := from.node.Banks.PayPennies(b.Context(), id, each, banking.Streaming{Each: true, Window: window})
						must(b, err)
					})
				}
				wg.Wait()
				b.ReportMetric(float64(n)*float64(each)/time.Since(began).Seconds(), "pennies/s")
			}
		}
	}
	b.Run("one-in-flight", run(1, 1, 3000))
	for _, window := range []uint32{1, 16, 256} {
		b.Run(fmt.Sprintf("50-banks-window-%d", window), run(banks, window, 200*window))
	}
	b.Run("one-bank-window-4096", run(1, 4096, 1_000_000))
	_ = wire.OK
}
