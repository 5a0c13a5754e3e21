package deal_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/wire"
)

// TestOlderStates: states that a devnet of 0.1.0 stored decode, so that their
// money is watched after an upgrade. A field that is added needs omitempty.
func TestOlderStates(t *testing.T) {
	for name, state := range map[string]any{"sender": new(deal.Sender), "agent": new(deal.Agent)} {
		raw, err := os.ReadFile(filepath.Join("testdata", "v0.1.0", name+".cbor"))
		if err != nil {
			t.Fatal(err)
		}
		if err := wire.Unmarshal(raw, state); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
