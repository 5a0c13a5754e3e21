package banking

import (
	"testing"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/wire"
)

// TestSplitRest: less than 1 sat goes on to the final payee, but never over a
// banker, who refuses a first step of it.
func TestSplitRest(t *testing.T) {
	for bankers, want := range []wire.Msat{minPayment - 1, 0} {
		s := source{Leg: bank.Leg{Bankers: make([]wire.RouteHop, bankers)}, room: 10 * minPayment}
		if _, reached := split([]source{s}, minPayment, 2*minPayment-1, minPayment); reached-minPayment != want {
			t.Errorf("with %d bankers: %v", bankers, reached-minPayment)
		}
	}
}
