//go:build linux && (amd64 || arm64)

package process

import (
	"errors"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Harden takes from this process what a child never needs: it cannot open sockets,
// start programs, signal, trace or limit other processes, or change what it sees of
// the system; such calls fail with EPERM. It cannot be undone. Files are not
// restricted, because the engine has its cache; /proc is among them, so a process
// whose memory a child must not read is not dumpable (prctl(2)), as a parent here.
func Harden() error {
	arch := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	// struct seccomp_data: the call's number at 0, the architecture at 4, its first
	// argument at 16, lower half first.
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	give := func(what uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: what} }
	const deny = seccompErrno | uint32(unix.EPERM)
	on := func(what uint16, k uint32, yes uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | what | unix.BPF_K, K: k, Jt: yes}
	}
	unless := func(call uint32, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jf: skip}
	}
	f := []unix.SockFilter{
		load(4), {Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: arch, Jt: 1}, give(deny),
		// amd64 has every call a second time from here up (x32).
		load(0), {Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: 1 << 30, Jf: 1}, give(deny),
	}
	for _, call := range denied {
		f = append(f, unless(uint32(call), 1), give(deny))
	}
	for _, call := range ofItself {
		f = append(f, unless(uint32(call), 5), load(16), on(unix.BPF_JEQ, 0, 2), on(unix.BPF_JEQ, uint32(unix.Getpid()), 1), give(deny), give(seccompAllow))
	}
	// Threads, but no user namespace. A filter cannot read what clone3 is to do; C's
	// library uses clone if the system does not have it.
	f = append(f, unless(unix.SYS_CLONE3, 1), give(seccompErrno|uint32(unix.ENOSYS)),
		unless(unix.SYS_CLONE, 4), load(16), on(unix.BPF_JSET, unix.CLONE_NEWUSER, 1), give(seccompAllow), give(deny))
	f = append(f, give(seccompAllow))
	prog := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	runtime.LockOSThread() // both calls are about one thread, before the second is about all
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, seccompSetFilter, seccompAllThreads, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return errno
	}
	if thread != 0 {
		return errors.New("a thread has another filter of system calls")
	}
	return nil
}

// From linux/seccomp.h.
const (
	seccompSetFilter  = 1
	seccompAllThreads = 1
	seccompErrno      = 0x00050000
	seccompAllow      = 0x7fff0000
)

// denied are the calls that fail.
var denied = []uintptr{
	unix.SYS_SOCKET, unix.SYS_SOCKETPAIR, unix.SYS_CONNECT, unix.SYS_BIND, unix.SYS_LISTEN, unix.SYS_ACCEPT, unix.SYS_ACCEPT4, unix.SYS_IO_URING_SETUP,
	unix.SYS_KILL, unix.SYS_TKILL, unix.SYS_RT_SIGQUEUEINFO, unix.SYS_RT_TGSIGQUEUEINFO, unix.SYS_PIDFD_SEND_SIGNAL,
	unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP,
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_FSOPEN, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE,
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL, unix.SYS_KEXEC_LOAD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE,
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_ACCT, unix.SYS_QUOTACTL,
}

// ofItself are the calls whose first argument must be this process, or 0.
var ofItself = []uintptr{unix.SYS_TGKILL, unix.SYS_PRLIMIT64}
