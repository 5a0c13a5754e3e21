package wire

import (
	"fmt"
	"strings"
)

// Refusal is an error that is sent to a peer as a Reply with its code.
type Refusal struct {
	Code Code
	Err  error
}

func (r *Refusal) Error() string { return fmt.Sprintf("%v: %v", r.Code, r.Err) }
func (r *Refusal) Unwrap() error { return r.Err }

// Refuse returns a *Refusal with a formatted text.
func Refuse(code Code, format string, a ...any) error {
	return &Refusal{Code: code, Err: fmt.Errorf(format, a...)}
}

// Clean makes text that may come from a peer safe to store: it is truncated and
// made valid UTF-8.
func Clean(s string) string {
	const limit = 200
	if len(s) > limit {
		s = s[:limit]
	}
	return strings.ToValidUTF8(s, "?")
}
