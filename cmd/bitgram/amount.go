package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/pflag"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/wire"
)

// errAmount marks text that is not a whole number of satoshi.
var errAmount = errors.New("not an amount of satoshi")

// satoshi reads a positive amount in satoshi: 20000, 20_000 or 20000sat.
func satoshi(s string) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimSuffix(strings.ReplaceAll(s, "_", ""), "sat"), 10, 64)
	if err != nil || n <= 0 || n > int64(wire.MaxSat) {
		return 0, fmt.Errorf("%w: %q", errAmount, s)
	}
	return n, nil
}

// errMsat marks text that is not an amount of satoshi with decimals.
var errMsat = errors.New("not an amount")

// msat reads a positive amount in satoshi, with up to three decimals.
func msat(s string) (wire.Msat, error) {
	text := strings.TrimSuffix(strings.ReplaceAll(s, "_", ""), "sat")
	whole, frac, _ := strings.Cut(strings.TrimSpace(text), ".")
	if len(frac) > 3 {
		return 0, fmt.Errorf("%w: %q has more than three decimals", errMsat, s)
	}
	n, err := strconv.ParseUint(whole+(frac + "000")[:3], 10, 64)
	if err != nil || n == 0 || n > uint64(wire.MaxSat.Msat()) {
		return 0, fmt.Errorf("%w: %q", errMsat, s)
	}
	return wire.Msat(n), nil
}

// feeFlags are the flags of a command that pays a fee to miners.
type feeFlags struct {
	rate float64 // in sat/vB
	most int64   // in sat
}

func (f *feeFlags) add(to *pflag.FlagSet) {
	to.Float64Var(&f.rate, "rate", 0, "fee rate in sat/vB (0: the node's estimate)")
	to.Int64Var(&f.most, "max-fee", 0, "most to pay in fees, in sat, even if it is much for the amount (0: refuse a fee that is too high)")
}

// fee returns the fee, with the rate in sat per 1,000 vbytes, rounded up.
func (f *feeFlags) fee() (api.Fee, error) {
	if most := float64(wire.MaxFeeRate) / 1000; !(f.rate >= 0 && f.rate <= most) {
		return api.Fee{}, fmt.Errorf("%w: --rate %v: must be 0 to %.0f sat/vB", errUsage, f.rate, most)
	}
	if f.most < 0 || f.most > int64(wire.MaxSat) {
		return api.Fee{}, fmt.Errorf("%w: --max-fee %d: must not be negative", errUsage, f.most)
	}
	return api.Fee{Rate: int64(math.Ceil(f.rate * 1000)), Max: f.most}, nil
}

// days reads a duration in days, hours or weeks: 7d, 36h, 2w.
func days(s string) (float64, error) {
	units := map[byte]float64{'h': 1. / 24, 'd': 1, 'w': 7}
	var n float64
	if s != "" && units[s[len(s)-1]] > 0 {
		if _, err := fmt.Sscanf(s[:len(s)-1], "%g", &n); err == nil && n > 0 && fmt.Sprintf("%g", n) == s[:len(s)-1] {
			return n * units[s[len(s)-1]], nil
		}
	}
	return 0, fmt.Errorf("%w: --ttl %q: give a time such as 7d, 36h or 2w", errUsage, s)
}

// daysOf is days for the value of another flag.
func daysOf(flag, s string) (float64, error) {
	d, err := days(s)
	if err != nil {
		return 0, fmt.Errorf("%w: --%s %q: give a time such as 30d, 36h or 2w", errUsage, flag, s)
	}
	return d, nil
}

// bytesOf reads the value of a flag that is a size, such as 10GiB.
func bytesOf(flag, s string) (uint64, error) {
	n, err := humanize.ParseBytes(s)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%w: --%s: invalid size %q (example: 10GiB)", errUsage, flag, s)
	}
	return n, nil
}
