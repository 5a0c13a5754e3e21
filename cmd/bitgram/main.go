// Command bitgram is the one binary: the commands, the daemon and the demo.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
)

func main() {
	collectLate(os.Args)
	// The first signal stops everything in good order; the second ends the
	// process.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// collectLate delays the first garbage collection until the heap has 16 MiB in place
// of 4: most commands end before, and a collection costs them more than their work.
// From then on Go's usual pace applies. The child of another process has a pace of its
// own (process.Serve).
func collectLate(args []string) {
	if os.Getenv("GOGC") != "" || len(args) > 1 && args[1] == sandboxName {
		return
	}
	usual := debug.SetGCPercent(400)
	first := new([]byte) // which the first collection frees
	runtime.AddCleanup(first, func(p int) { debug.SetGCPercent(p) }, usual)
}
