//go:build !wasip1

package guest_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/bitgram/bitgram/internal/testing/tier"
)

// TestExampleCompiles: the example is for GOOS=wasip1, where the package's
// functions are, and so is only compiled here.
func TestExampleCompiles(t *testing.T) {
	tier.NotShort(t)
	c := exec.Command("go", "vet", ".")
	c.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
