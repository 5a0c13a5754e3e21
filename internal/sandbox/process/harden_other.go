//go:build !linux || !(amd64 || arm64)

package process

import "errors"

// Harden does nothing: it needs Linux on amd64 or arm64.
func Harden() error { return errors.ErrUnsupported }
