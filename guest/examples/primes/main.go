//go:build wasip1

// Primes counts the primes below a number (default: 10,000,000) with a
// segmented sieve, sixteen segments in each epoch.
package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"

	"github.com/bitgram/bitgram/guest"
)

const segment = 1 << 16

// state is the state of the count.
type state struct{ next, count, last uint64 }

func (s state) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, s.next)
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, s.count), s.last)
}

func decode(b []byte) state {
	return state{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])}
}

func main() {
	limit := uint64(10_000_000)
	if len(os.Args) > 1 {
		n, err := strconv.ParseUint(os.Args[1], 10, 40)
		if err != nil {
			fmt.Fprintln(os.Stderr, "primes: below which number?", err)
			os.Exit(2)
		}
		limit = n
	}
	s := state{next: 2}
	if b, ok := guest.Restore(); ok {
		s = decode(b)
	}
	small := sieve(limit)
	for n := 1; s.next < limit; n++ {
		s.step(min(s.next+segment, limit), small)
		if n%16 == 0 && s.next < limit {
			guest.Sync(s.encode())
		}
	}
	fmt.Printf("%d primes below %d, the last of them %d\n", s.count, limit, s.last)
}

// sieve returns the primes up to the root of limit.
func sieve(limit uint64) (list []uint64) {
	var composite []bool
	for root := uint64(1); root*root < limit; root++ {
		composite = append(composite, false)
	}
	composite = append(composite, false, false)
	for i := 2; i < len(composite); i++ {
		if composite[i] {
			continue
		}
		list = append(list, uint64(i))
		for j := i * i; j < len(composite); j += i {
			composite[j] = true
		}
	}
	return list
}

// step counts the primes from s.next to end.
func (s *state) step(end uint64, small []uint64) {
	var composite [segment]bool
	for _, p := range small {
		for m := max(p*p, (s.next+p-1)/p*p); m < end; m += p {
			composite[m-s.next] = true
		}
	}
	for n := s.next; n < end; n++ {
		if !composite[n-s.next] {
			s.count, s.last = s.count+1, n
		}
	}
	s.next = end
}
