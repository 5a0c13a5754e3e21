package process

import (
	"os"

	"github.com/bitgram/bitgram/internal/sandbox"
)

// Kill kills a run's child as anybody could.
func Kill(r sandbox.Run) { _ = r.(*run).c.cmd.Process.Kill() }

// CloseInput ends the child's standard input, as if this process had died.
func CloseInput(r sandbox.Run) { _ = r.(*run).c.in.Close() }

// MeasuresMemory reports whether the system tells how much memory a process takes.
func MeasuresMemory() bool {
	_, ok := memoryOf(os.Getpid())
	return ok
}
