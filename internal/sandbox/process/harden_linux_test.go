package process_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bitgram/bitgram/internal/sandbox/process"
	"github.com/bitgram/bitgram/internal/testing/tier"
)

func init() { children["child-harden"] = harden }

// harden tries what it must not do.
func harden([]string) {
	if err := process.Harden(); err != nil {
		panic(fmt.Sprint("not hardened: ", err))
	}
	_, dial := net.Dial("tcp", "127.0.0.1:1")
	_, listen := net.Listen("unix", "@bitgram-test")
	run := exec.Command("/bin/true").Run()
	thread := make(chan error)
	go func() { // a thread of its own can still be made
		runtime.LockOSThread()
		thread <- nil
	}()
	signal := syscall.Kill(os.Getppid(), 0)
	tgkill := unix.Tgkill(os.Getppid(), os.Getppid(), 0)
	limit := unix.Prlimit(os.Getppid(), unix.RLIMIT_CORE, nil, &unix.Rlimit{})
	own := errors.Join(unix.Tgkill(os.Getpid(), unix.Gettid(), 0), unix.Prlimit(0, unix.RLIMIT_CORE, nil, &unix.Rlimit{}))
	_, _, space := unix.Syscall(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD), 0, 0)
	panic(fmt.Sprintf("dial %v, listen %v, run %v, signal %v, tgkill %v, limit %v, space %v, own %v, thread %v", dial, listen, run, signal, tgkill, limit, space, own, <-thread))
}

// TestHardened: a child that has called Harden has no network, starts no program and
// reaches no other process, and its parent's memory is closed to it.
func TestHardened(t *testing.T) {
	tier.NotShort(t)
	_, err := process.New(process.Config{Command: self("child-harden")}).Load(t.Context(), strings.NewReader(endless))
	isLost(t, err, nil)
	if said := err.Error(); strings.Contains(said, "not hardened") {
		t.Skip(said)
	} else if strings.Count(said, "operation not permitted") != 7 || !strings.Contains(said, "own <nil>, thread <nil>") {
		t.Error(said)
	}
	if open, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); open != 0 || err != nil {
		t.Errorf("this process's memory can be read by others of its user: %d, %v", open, err)
	}
}
