package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/bitgram/bitgram/wire"
)

// errAmount: no amount of satoshi.
var errAmount = errors.New("not an amount of satoshi")

func satoshi(s string) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimSuffix(strings.ReplaceAll(s, "_", ""), "sat"), 10, 64)
	if err != nil || n <= 0 || n > int64(wire.MaxSat) {
		return 0, fmt.Errorf("%w: %q", errAmount, s)
	}
	return n, nil
}

// errMsat marks text that is not an amount of satoshi with decimals.
var errMsat = errors.New("not an amount")

// msat reads an amount: satoshi, with up to three decimals.
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

// perVB reads a fee rate in satoshi per vbyte into satoshi per 1,000.
func perVB(rate float64) (int64, error) {
	if !(rate >= 0 && rate <= 100_000) {
		return 0, fmt.Errorf("%w: a fee rate of %v sat/vB", errUsage, rate)
	}
	return int64(math.Ceil(rate * 1000)), nil
}

// days reads a time of storage: 7d, 36h, 2w.
func days(s string) (float64, error) {
	units := map[byte]float64{'h': 1. / 24, 'd': 1, 'w': 7}
	var n float64
	if s != "" && units[s[len(s)-1]] > 0 {
		if _, err := fmt.Sscanf(s[:len(s)-1], "%g", &n); err == nil && n > 0 && fmt.Sprintf("%g", n) == s[:len(s)-1] {
			return n * units[s[len(s)-1]], nil
		}
	}
	return 0, fmt.Errorf("%w: --ttl %q: say 7d, 36h or 2w", errUsage, s)
}

// daysOf is days for a flag of a name.
func daysOf(flag, s string) (float64, error) {
	d, err := days(s)
	if err != nil {
		return 0, fmt.Errorf("%w: --%s %q: say 30d, 36h or 2w", errUsage, flag, s)
	}
	return d, nil
}

// bytesOf reads a size such as 10GiB.
func bytesOf(flag, s string) (uint64, error) {
	n, err := humanize.ParseBytes(s)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%w: --%s %q is no size, such as 10GiB", errUsage, flag, s)
	}
	return n, nil
}
