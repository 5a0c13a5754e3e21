//go:build wasip1

// Montecarlo computes the price of a European call option by simulation, and by
// the formula of Black and Scholes for comparison. It simulates 2,000,000 paths
// by default, 100,000 in each epoch.
package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"strconv"

	"github.com/bitgram/bitgram/guest"
)

// The option: spot, strike, rate, volatility, years.
const (
	spot, strike = 100.0, 105.0
	rate, vol    = 0.03, 0.25
	years        = 1.0
	perEpoch     = 100_000
)

// state is the number of paths so far, the sum of their payoffs and of their
// squares.
type state struct {
	n           uint64
	sum, square float64
}

func (s state) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, s.n)
	b = binary.BigEndian.AppendUint64(b, math.Float64bits(s.sum))
	return binary.BigEndian.AppendUint64(b, math.Float64bits(s.square))
}

func decode(b []byte) state {
	f := func(b []byte) float64 { return math.Float64frombits(binary.BigEndian.Uint64(b)) }
	return state{binary.BigEndian.Uint64(b), f(b[8:]), f(b[16:])}
}

func main() {
	paths := uint64(2_000_000)
	if len(os.Args) > 1 {
		n, err := strconv.ParseUint(os.Args[1], 10, 40)
		if err != nil || n < 2 {
			fmt.Fprintln(os.Stderr, "montecarlo: how many paths?", os.Args[1])
			os.Exit(2)
		}
		paths = n
	}
	var s state
	if b, ok := guest.Restore(); ok {
		s = decode(b)
	}
	s.simulate(min(paths-s.n, perEpoch))
	if s.n < paths {
		guest.Sync(s.encode())
	}
	discount := math.Exp(-rate * years)
	n := float64(s.n)
	mean := s.sum / n
	deviation := math.Sqrt((s.square/n - mean*mean) / n)
	fmt.Printf("simulated %.4f ± %.4f over %d paths, by formula %.4f\n", mean*discount, 2*deviation*discount, s.n, formula())
}

// simulate adds paths, two for each pair of random numbers (Box, Muller).
func (s *state) simulate(paths uint64) {
	buf := make([]byte, 16<<10)
	drift, wide := (rate-vol*vol/2)*years, vol*math.Sqrt(years)
	for left := paths; left > 0; {
		_, _ = guest.Random.Read(buf)
		for b := buf; len(b) > 0 && left > 0; b = b[16:] {
			u := 1 - float64(binary.LittleEndian.Uint64(b)>>11)/(1<<53)
			v := float64(binary.LittleEndian.Uint64(b[8:])>>11) / (1 << 53)
			r := math.Sqrt(-2 * math.Log(u))
			for _, z := range [2]float64{r * math.Cos(2*math.Pi*v), r * math.Sin(2*math.Pi*v)} {
				if left == 0 {
					break
				}
				pay := max(spot*math.Exp(drift+wide*z)-strike, 0)
				s.n, s.sum, s.square, left = s.n+1, s.sum+pay, s.square+pay*pay, left-1
			}
		}
	}
}

// formula is the price of Black and Scholes.
func formula() float64 {
	normal := func(x float64) float64 { return math.Erfc(-x/math.Sqrt2) / 2 }
	d1 := (math.Log(spot/strike) + (rate+vol*vol/2)*years) / (vol * math.Sqrt(years))
	d2 := d1 - vol*math.Sqrt(years)
	return spot*normal(d1) - strike*math.Exp(-rate*years)*normal(d2)
}
