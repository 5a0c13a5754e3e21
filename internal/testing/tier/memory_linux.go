package tier

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

// memory is a file system that lives in memory on most machines, and enough how
// much must be free there.
const (
	memory = "/dev/shm"
	enough = 6 << 30
)

// Tests write thousands of small databases, and half of their time would go into
// syncing them. No test cuts the power, so temporary directories are in memory if it
// is large. The nightly tier, benchmarks, and a TMPDIR that is set use the disk.
func init() {
	if !testing.Testing() || Nightly || os.Getenv("TMPDIR") != "" {
		return
	}
	for _, arg := range os.Args {
		if strings.HasPrefix(arg, "-test.bench=") || strings.HasPrefix(arg, "-test.fuzz=") {
			return
		}
	}
	var st syscall.Statfs_t
	if syscall.Statfs(memory, &st) == nil && st.Flags&syscall.MS_NOEXEC == 0 && st.Bavail*uint64(st.Bsize) >= enough && syscall.Access(memory, 7) == nil {
		_ = os.Setenv("TMPDIR", memory)
	}
}
