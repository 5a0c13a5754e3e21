package tier

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// memory is a file system that lives in memory on most machines, and enough how
// much must be free there. No test binary runs for as long as stale.
const (
	memory = "/dev/shm"
	enough = 6 << 30
	stale  = 24 * time.Hour
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
		if dir, ok := ours(memory); ok {
			_ = os.Setenv("TMPDIR", dir)
		}
	}
}

// ours returns the directory of this user's tests in parent, which everybody can
// write. It removes what tests that were killed have left there more than stale ago.
// Several test binaries may call it at once.
func ours(parent string) (dir string, ok bool) {
	dir = filepath.Join(parent, "bitgram-tests-"+strconv.Itoa(os.Getuid()))
	_ = os.Mkdir(dir, 0o700)
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || info.Mode().Perm() != 0o700 || info.Sys().(*syscall.Stat_t).Uid != uint32(os.Getuid()) {
		return "", false // another's, or a link
	}
	list, _ := os.ReadDir(dir)
	for _, one := range list {
		if info, err := one.Info(); err == nil && time.Since(info.ModTime()) > stale {
			_ = os.RemoveAll(filepath.Join(dir, one.Name())) // another binary may remove it too
		}
	}
	return dir, true
}
