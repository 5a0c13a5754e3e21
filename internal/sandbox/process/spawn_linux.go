package process

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Self returns the command that runs this binary with these arguments: the file that
// runs now, also if another one has its name meanwhile.
func Self(args ...string) ([]string, error) { return append([]string{self}, args...), nil }

const self = "/proc/self/exe"

// isolate gives the child a process group of its own, so that a terminal's signals do
// not reach it, and ends it with its parent.
func isolate(c *exec.Cmd) {
	c.Dir = "/"
	if c.Path == self {
		c.Args[0] = os.Args[0] // what it is called by, and listed as
	}
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// spawn starts the child. Linux sends the signal of a parent's death when the thread
// ends that started the child, so one thread that never ends starts all of them.
func spawn(c *exec.Cmd) error {
	spawner()
	closeOnExec()
	done := make(chan error)
	spawns <- func() { done <- c.Start() }
	return <-done
}

var spawns = make(chan func())

// The children's user is this process's. If it is not dumpable, they cannot read its
// memory, nor its environment, in /proc.
var spawner = sync.OnceFunc(func() {
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	go func() {
		runtime.LockOSThread()
		for f := range spawns {
			f()
		}
	}()
})

// closeOnExec keeps what this process has inherited from its own parent from the
// children. What it opens itself is not inherited by them.
func closeOnExec() { _ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC) }

// prepare lowers the child's priority, and lets the system end it first if memory
// runs out.
func prepare(pid, nice int) {
	if nice != 0 {
		_ = unix.Setpriority(unix.PRIO_PGRP, pid, nice) // of all threads; the process leads its group
	}
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte("1000"), 0)
	_ = unix.Prlimit(pid, unix.RLIMIT_CORE, &unix.Rlimit{}, nil)
}

// limitData limits the private memory that the child can write, used or not.
func limitData(pid int, size uint64) {
	_ = unix.Prlimit(pid, unix.RLIMIT_DATA, &unix.Rlimit{Cur: size, Max: unix.RLIM_INFINITY}, nil)
}

// memoryOf returns the memory that only this process takes, with what is swapped out.
func memoryOf(pid int) (sum uint64, ok bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, false
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		name, rest, _ := bytes.Cut(lines.Bytes(), []byte(":"))
		switch string(name) {
		case "RssAnon", "RssShmem", "VmSwap":
			kib, err := strconv.ParseUint(string(bytes.TrimSuffix(bytes.TrimSpace(rest), []byte(" kB"))), 10, 64)
			if err != nil {
				return 0, false
			}
			sum, ok = sum+kib<<10, true
		}
	}
	return sum, ok
}
