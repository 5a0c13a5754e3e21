//go:build unix && !linux

package process

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Self returns the command that runs this binary with these arguments.
func Self(args ...string) ([]string, error) {
	path, err := os.Executable()
	return append([]string{path}, args...), err
}

// isolate gives the child a process group of its own, so that a terminal's signals do
// not reach it. With its parent it ends because its standard input ends.
func isolate(c *exec.Cmd) {
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}

func spawn(c *exec.Cmd) error {
	closeOnExec()
	return c.Start()
}

// closeOnExec keeps what this process has inherited from its own parent from the
// children. What it opens itself is not inherited by them.
func closeOnExec() {
	list, _ := os.ReadDir("/dev/fd")
	for _, f := range list {
		if fd, err := strconv.Atoi(f.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
}

func prepare(pid, nice int) {
	if nice != 0 {
		_ = unix.Setpriority(unix.PRIO_PGRP, pid, nice)
	}
}

func limitData(int, uint64) {}

func memoryOf(int) (uint64, bool) { return 0, false }
