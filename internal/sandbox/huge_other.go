//go:build !linux

package sandbox

// Huge does nothing: only Linux takes this advice.
func Huge([]byte) {}
