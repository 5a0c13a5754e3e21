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

// errWork: what would take longer than the user allows.
var errWork = errors.New("more work than is allowed")

func (a *app) classicThaw() *cobra.Command {
	var nonceHex, idHex string
	var to int
	var limit time.Duration
	var estimate bool
	c := &cobra.Command{
		Use:   "thaw --nonce HEX PENNY",
		Short: "Find missing pennies by work, where that ends",
		Long: "Tries all secrets of the penny --to (p₀ unless told otherwise) until one leads to PENNY, the last that\n" +
			"is known. Without --id any that does will do: it verifies like the real ones. That takes about 2^bits\n" +
			"hashes, however many pennies are missing. With --id the p₀ is sought that the ID is of, and with it\n" +
			"the preimage that satisfies a conditional multisig: up to 2^bits hashes for every penny.\n\n" +
			"What would take longer than --limit at this machine's rate is refused with an estimate; --estimate\n" +
			"stops there in any case. Ctrl-C ends the work.\n\n" + forStudy,
		Example: "  bitgram bank classic pence --p0 a1b2 --n 20          # secrets of 2 bytes\n" +
			"  bitgram bank classic thaw --nonce NONCE --id ID PENNY  # its nonce, ID and last penny",
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			size, global, known, err := parsePenny(args[0])
			if err != nil {
				return err
			}
			if nonceHex == "" {
				return fmt.Errorf("%w: the nonce of the pence is wanted: --nonce", errUsage)
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
				return fmt.Errorf("%w: --to takes a number below %d, that of the penny, and with an ID only 0", errUsage, known.Seq)
			}
			return a.thaw(c.Context(), ch, known, uint32(to), id, limit, estimate)
		},
	}
	f := c.Flags()
	f.StringVar(&nonceHex, "nonce", "", "24 bytes in hex")
	f.StringVar(&idHex, "id", "", "ID of the pence, 20 bytes in hex; PENNY may have it in front instead")
	f.IntVar(&to, "to", 0, "number of the penny that is wanted")
	f.DurationVar(&limit, "limit", 10*time.Minute, "how long the work may be expected to take")
	f.BoolVar(&estimate, "estimate", false, "only say what it would take")
	return c
}

// workEstimate is what work is expected to take.
type workEstimate struct {
	Bits    int      `json:"bits"`
	Pennies uint32   `json:"pennies"`
	Hashes  *big.Int `json:"hashes"` // on average
	Rate    uint64   `json:"hashes_per_s"`
	Seconds float64  `json:"seconds"`
}

func (e *workEstimate) String() string {
	h, _ := new(big.Float).SetInt(e.Hashes).Float64()
	return fmt.Sprintf("about %.3g hashes for %d pennies of %d bits, %s at this machine's %.3g a second", h, e.Pennies, e.Bits, lasts(e.Seconds), float64(e.Rate))
}

// lasts says how long that is.
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

// hashRate is how many hashes a second all of this machine's processors make.
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
		e.Hashes = new(big.Int).Rsh(all, 1) // half of them on average
	}
	h, _ := new(big.Float).SetInt(e.Hashes).Float64()
	e.Seconds = h / float64(e.Rate)
	if only {
		a.print.summary(&e, func(w io.Writer) { fmt.Fprintf(w, "It takes %v.\n", &e) })
		return nil
	}
	a.print.line("estimate", &e, func(w io.Writer) { fmt.Fprintf(w, "Expected: %v.\n", &e) })
	if e.Seconds > limit.Seconds() {
		return fmt.Errorf("%w: %v, and %v is allowed", errWork, &e, limit)
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
			fmt.Fprintf(w, "It is the one of the ID. Preimage of the ID: %s\n", v.Preimage)
		} else {
			fmt.Fprintln(w, "Whoever only verifies pennies takes it; whether it is the one that was drawn, only the ID tells (--id).")
		}
	})
	return nil
}

// idOf is the ID of n pennies from a p₀.
func idOf(ch penny.Chain, n uint32, p0 penny.Penny) []byte {
	sum := (&penny.Pence{Chain: ch, N: n, P0: p0.Secret}).Sum()
	return sum.ID[:]
}

// search works on all processors until a penny that was found is right; nil where
// none is.
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
