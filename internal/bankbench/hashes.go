package bankbench

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// jump is the number of pennies paid at once in the measurement of jumps.
const jump = 1000

// hashes measures the cost of a payment, which is a hash.
func (b *bench) hashes(ctx context.Context) error {
	b.working("verifying pennies")
	p := bank.Pence(wire.Secret{1}, jump)
	u := penny.NewPurse(p)
	var buf [penny.NonceSize + 3 + wire.PennySize]byte // what is hashed to a penny
	var bare, one, far []float64                       // ns of a hash, of a penny, of one of the jump's
	var oneRatio, farRatio []float64
	fresh := errors.New("nothing was measured")
	// Use rounds of less than a millisecond, so other processes seldom
	// interfere.
	const n = 2 * jump
	high, low := u.At(500), u.At(499)
	top, bottom := u.At(jump), u.At(0)
	for i := range b.pick(200, 2000) + 1 {
		if err := ctx.Err(); err != nil {
			return err
		}
		began := time.Now()
		for range n {
			sum := sha256.Sum256(buf[:])
			buf[0] = sum[0]
		}
		h := per(began, n)
		began = time.Now()
		for range n {
			if fresh = p.Verify(high, low); fresh != nil {
				return fresh
			}
		}
		v := per(began, n)
		began = time.Now()
		for range n / jump {
			if fresh = p.Verify(top, bottom); fresh != nil {
				return fresh
			}
		}
		j := per(began, n/jump*jump)
		if i > 0 { // the first warms up
			bare, one, far = append(bare, h), append(one, v), append(far, j)
			oneRatio, farRatio = append(oneRatio, v/h), append(farRatio, j/h)
		}
	}
	b.found(Figure{Name: "sha256", What: fmt.Sprintf("SHA-256 of %d bytes, as long as a penny's", len(buf)), Value: median(bare), Unit: "ns"})
	b.found(Figure{Name: "verify_ratio", What: "verifying a penny, of one such hash", Value: median(oneRatio), Max: 1.3, Note: fmt.Sprintf("%.0f ns", median(one))})
	b.found(Figure{Name: "verify_rate", What: "pennies verified on one core", Value: 1e9 / median(one), Unit: "/s", Min: 5e6})
	b.found(Figure{Name: "jump_ratio", What: fmt.Sprintf("verifying a jump of %d pennies, of as many such hashes", jump), Value: median(farRatio), Max: 1.3, Note: fmt.Sprintf("%.0f µs", median(far)*jump/1e3)})
	b.found(Figure{Name: "jump_allocations", What: "allocations of such a jump", Value: allocations(func() { fresh = p.Verify(top, bottom) }), Max: 0.5})
	return fresh
}

func per(began time.Time, n int) float64 {
	return float64(time.Since(began).Nanoseconds()) / float64(n)
}

// allocations returns how often one call of f allocates. Other goroutines count
// too, so it takes the minimum of several rounds.
func allocations(f func()) float64 {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const calls = 50
	least := ^uint64(0)
	for range 5 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range calls {
			f()
		}
		runtime.ReadMemStats(&after)
		least = min(least, after.Mallocs-before.Mallocs)
	}
	return float64(least / calls)
}

// sizes reports the vsize of closes. Closes are built with these weights, which
// contract's tests compare with built transactions.
func (b *bench) sizes(context.Context) error {
	for _, rungs := range []uint32{62, 126, 1022} {
		f := Figure{Name: fmt.Sprintf("close_%d", rungs), What: fmt.Sprintf("closing a bank alone, %d rungs", rungs), Value: float64(contract.VSize(bank.CloseWeight(rungs))), Unit: "vB"}
		if rungs == 126 {
			f.Max = 265
		}
		b.found(f)
	}
	more := contract.RungInputWeight(125, 126) + contract.P2TROutputWeight
	b.found(Figure{Name: "close_more", What: "each further bank in the same close, 126 rungs", Value: float64(more) / 4, Unit: "vB"})
	both := contract.TxOverheadWeight + 2*contract.P2TROutputWeight + contract.TogetherInputWeight(126)
	b.found(Figure{Name: "close_both", What: "closing by both sides, 126 rungs", Value: float64(contract.VSize(both)), Unit: "vB"})
	return nil
}
