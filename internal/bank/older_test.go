package bank_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/wire"
)

// TestOlderStates: states that a devnet of 0.1.0 stored decode, so that their
// money is watched after an upgrade. A field that is added needs omitempty.
func TestOlderStates(t *testing.T) {
	for name, state := range map[string]any{"bank-payer": new(bank.Payer), "bank-payee": new(bank.Payee), "payment": new(bank.Sending), "relay": new(bank.Relay)} {
		raw, err := os.ReadFile(filepath.Join("testdata", "v0.1.0", name+".cbor"))
		if err != nil {
			t.Fatal(err)
		}
		if err := wire.Unmarshal(raw, state); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
