package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// TestCollectLate: in the child of another process, which collects between epochs
// alone, the first collection changes nothing; elsewhere it restores Go's pace.
func TestCollectLate(t *testing.T) {
	t.Setenv("GOGC", "")
	usual := debug.SetGCPercent(100)
	defer debug.SetGCPercent(usual)
	for name, want := range map[string]int{sandboxName: -1, "id": 100} {
		collectLate([]string{"bitgram", name})
		if name == sandboxName {
			debug.SetGCPercent(-1) // as the child does
		}
		got := 0
		for range 100 { // a cleanup runs some time after its collection
			runtime.GC()
			time.Sleep(time.Millisecond)
			if got = debug.SetGCPercent(-1); got == 100 {
				break
			}
			debug.SetGCPercent(got)
		}
		if got != want {
			t.Errorf("%s: after a collection GOGC is %d, wanted %d", name, got, want)
		}
		debug.SetGCPercent(100)
	}
}
