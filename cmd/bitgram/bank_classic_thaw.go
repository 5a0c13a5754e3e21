package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/penny"
)

// errWork is returned for work that would take longer than --limit.
var errWork = errors.New("more work than --limit allows")

func (a *app) classicThaw() *cobra.Command {
	var nonceHex, idHex string
	var to int
	var limit time.Duration
	var estimate bool
	c := &cobra.Command{
		Use:   "thaw --nonce HEX PENNY",
		Short: "Find missing pennies by brute force",
		Long: "Tries all secrets of the penny --to (default: p₀) until one leads to PENNY, the last one that is known.\n" +
			"Without --id, any such secret is good enough, because it verifies like the real one. That takes about\n" +
			"2^bits hashes, no matter how many pennies are missing. With --id, it searches for the p₀ that has the\n" +
			"ID, and so for the preimage that a conditional multisig needs: up to 2^bits hashes for every penny.\n\n" +
			"Work that would take longer than --limit at this machine's rate is refused, with an estimate. With\n" +
			"--estimate, it only shows the estimate. Ctrl-C ends the work.\n\n" + forStudy,
		Example: "  bitgram bank classic pence --p0 a1b2 --n 20          # secrets of 2 bytes\n" +
			"  bitgram bank classic thaw --nonce NONCE --id ID PENNY  # its nonce, ID and last penny",
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			size, global, known, err := parsePenny(args[0])
			if err != nil {
				return err
			}
			if nonceHex == "" {
				return fmt.Errorf("%w: missing flag --nonce: give the nonce of the pence", errUsage)
			}
			ch := penny.Chain{Size: size}
			if ch.Nonce, err = nonce(nonceHex); err != nil {
				return err
			}
			id := global
			if idHex != "" {
				if id, err = unhex("--id", idHex, len(penny.ID{})); err != nil {
					return err
				}
			}
			if to < 0 || int64(to) >= int64(known.Seq) || len(id) > 0 && to != 0 {
				return fmt.Errorf("%w: --to %d: must be below %d, the number of PENNY, and 0 if an ID is given", errUsage, to, known.Seq)
			}
			return a.thaw(c.Context(), ch, known, uint32(to), id, limit, estimate)
		},
	}
	f := c.Flags()
	f.StringVar(&nonceHex, "nonce", "", "nonce of the pence, 24 bytes in hex")
	f.StringVar(&idHex, "id", "", "ID of the pence, 20 bytes in hex; it may be in front of PENNY instead")
	f.IntVar(&to, "to", 0, "number of the penny to find")
	f.DurationVar(&limit, "limit", 10*time.Minute, "longest time that the work may be expected to take")
	f.BoolVar(&estimate, "estimate", false, "show the estimate and do nothing")
	return c
}

// workEstimate is how long a search is expected to take.
type workEstimate struct {
	Bits    int      `json:"bits"`
	Pennies uint32   `json:"pennies"`
	Hashes  *big.Int `json:"hashes"` // on average
	Rate    uint64   `json:"hashes_per_s"`
	Seconds float64  `json:"seconds"`
}

func (e *workEstimate) String() string {
	h, _ := new(big.Float).SetInt(e.Hashes).Float64()
	return fmt.Sprintf("about %.3g hashes for %d pennies of %d bits, %s at this machine's %.3g per second", h, e.Pennies, e.Bits, lasts(e.Seconds), float64(e.Rate))
}

// lasts shows a duration in the largest unit of which there are two.
func lasts(seconds float64) string {
	for _, u := range []struct {
		name string
		s    float64
	}{{"years", 365.25 * 86400}, {"days", 86400}, {"hours", 3600}, {"minutes", 60}, {"seconds", 1}} {
		if seconds >= 2*u.s {
			return fmt.Sprintf("%.3g %s", seconds/u.s, u.name)
		}
	}
	return fmt.Sprintf("%.2g seconds", seconds)
}

// hashRate measures how many hashes per second all of this machine's processors
// compute together.
func hashRate(ch penny.Chain) uint64 {
	const long = 50 * time.Millisecond
	var hashes atomic.Uint64
	var wg sync.WaitGroup
	start := time.Now()
	for i := range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			const steps = 1 << 14
			p := penny.Penny{Secret: penny.Secret(sha256.Sum256([]byte{byte(i)}))}
			for time.Since(start) < long {
				ch.Forward(p, steps)
				hashes.Add(steps)
			}
		})
	}
	wg.Wait()
	return max(uint64(float64(hashes.Load())/time.Since(start).Seconds()), 1)
}

func (a *app) thaw(ctx context.Context, ch penny.Chain, known penny.Penny, to uint32, id []byte, limit time.Duration, only bool) error {
	e := workEstimate{Bits: 8 * ch.Size, Pennies: known.Seq - to, Rate: hashRate(ch)}
	all := penny.ThawWork(e.Bits, e.Pennies)
	e.Hashes = penny.ForgeWork(e.Bits)
	if len(id) > 0 {
		e.Hashes = new(big.Int).Rsh(all, 1) // half of all on average
	}
	h, _ := new(big.Float).SetInt(e.Hashes).Float64()
	e.Seconds = h / float64(e.Rate)
	if only {
		a.print.summary(&e, func(w io.Writer) { fmt.Fprintf(w, "It takes %v.\n", &e) })
		return nil
	}
	a.print.line("estimate", &e, func(w io.Writer) { fmt.Fprintf(w, "Expected: %v.\n", &e) })
	if e.Seconds > limit.Seconds() {
		return fmt.Errorf("%w: %v, and --limit is %v", errWork, &e, limit)
	}
	start := time.Now()
	found, hashes, err := a.search(ctx, ch, known, to, all, func(p penny.Penny) bool {
		return len(id) == 0 || string(idOf(ch, known.Seq, p)) == string(id)
	})
	switch {
	case err != nil:
		return err
	case found == nil && len(id) > 0:
		return fmt.Errorf("%w: no p₀ that leads to it has the ID %x", penny.ErrFalse, id)
	case found == nil:
		return fmt.Errorf("%w: no secret leads to it in %d steps", penny.ErrFalse, e.Pennies)
	}
	took := time.Since(start).Seconds()
	v := struct {
		Penny    string  `json:"penny"`
		Seq      uint32  `json:"seq"`
		Secret   string  `json:"secret"`
		Right    bool    `json:"of_the_id"`
		Preimage string  `json:"preimage,omitempty"`
		Hashes   uint64  `json:"hashes"`
		Seconds  float64 `json:"seconds"`
	}{Penny: hex.EncodeToString(ch.Encode(nil, *found)), Seq: to, Secret: hex.EncodeToString(found.Secret[:ch.Size]), Right: len(id) > 0, Hashes: hashes, Seconds: took}
	if v.Right {
		v.Preimage = hex.EncodeToString((&penny.Pence{Chain: ch, N: known.Seq, P0: found.Secret}).Sum().Preimage)
	}
	a.print.summary(v, func(w io.Writer) {
		fmt.Fprintf(w, "Found p%d = %s after %d hashes in %s: it leads to penny %d.\n", v.Seq, v.Secret, v.Hashes, lasts(v.Seconds), known.Seq)
		if v.Right {
			fmt.Fprintf(w, "It is the p₀ of the ID. Preimage of the ID: %s\n", v.Preimage)
		} else {
			fmt.Fprintln(w, "It passes verification as a penny. Only the ID (--id) shows whether it is the original secret.")
		}
	})
	return nil
}

// idOf returns the ID of n pennies from a p₀.
func idOf(ch penny.Chain, n uint32, p0 penny.Penny) []byte {
	sum := (&penny.Pence{Chain: ch, N: n, P0: p0.Secret}).Sum()
	return sum.ID[:]
}

// search searches on all processors for a penny of which right is true; nil if
// there is none. It also returns the hashes it took.
func (a *app) search(ctx context.Context, ch penny.Chain, known penny.Penny, to uint32, all *big.Int, right func(penny.Penny) bool) (*penny.Penny, uint64, error) {
	const slice = 1 << 16 // hashes between two looks around
	var hashes atomic.Uint64
	var found atomic.Pointer[penny.Penny]
	most, _ := new(big.Float).SetInt(all).Float64()
	var wg sync.WaitGroup
	for _, w := range penny.NewWork(ch, known, to).Split(runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for done := false; !done && found.Load() == nil && ctx.Err() == nil; {
				var p penny.Penny
				var ok bool
				before := w.Hashes()
				p, ok, done = w.Search(slice)
				n := hashes.Add(w.Hashes() - before)
				if ok && right(p) {
					found.CompareAndSwap(nil, &p)
				}
				a.print.working(fmt.Sprintf("%.3g of at most %.3g hashes (%.1f%%)", float64(n), most, 100*float64(n)/most))
			}
		})
	}
	wg.Wait()
	if p := found.Load(); p != nil {
		return p, hashes.Load(), nil
	}
	return nil, hashes.Load(), ctx.Err()
}
