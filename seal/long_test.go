//go:build long

package seal

import (
	"errors"
	"io"
	"testing"
)

// The whole 4 GiB, and one byte more: go test -tags long ./seal
func TestMaxBody(t *testing.T) {
	for over := range 2 {
		_, err := sender(t).Encrypt(io.Discard, &source{left: MaxBody + over}, key("sender"))
		if (over == 0) != (err == nil) || err != nil && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%d over: %v", over, err)
		}
	}
}
