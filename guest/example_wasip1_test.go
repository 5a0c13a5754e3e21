package guest_test

import (
	"encoding/binary"
	"fmt"

	"github.com/bitgram/bitgram/guest"
)

// A program that adds up a hundred numbers, in epochs of ten. It has no output
// to compare here: it does not run on the machine that tests it, but under
// "bitgram run" and on nodes.
func Example() {
	next, sum := uint64(0), uint64(0)
	if state, ok := guest.Restore(); ok {
		next, sum = binary.BigEndian.Uint64(state), binary.BigEndian.Uint64(state[8:])
	}
	for next < 100 {
		sum += next
		if next++; next%10 == 0 {
			guest.Sync(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, next), sum))
		}
	}
	fmt.Fprintln(guest.Output, sum)
}
