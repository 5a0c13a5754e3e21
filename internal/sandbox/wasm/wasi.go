package wasm

import (
	"encoding/binary"
	"math"

	"github.com/bitgram/bitgram/internal/sandbox/wasm/rewrite"
)

// WASI's error numbers that are used.
const (
	errnoSuccess = 0
	errnoBadf    = 8
	errnoFault   = 21
	errnoInval   = 28
	errnoNosys   = 52
	errnoSpipe   = 70
)

// File descriptors. There are no others.
const (
	stdin = iota
	stdout
	stderr
)

// wasi wraps a function that returns a WASI error number.
func wasi(sig string, f func(h *host, a []uint64) uint32) hostFunc {
	return hostFunc{sig: rewrite.Signature(sig), fuel: callCost, call: func(h *host, a []uint64) { a[0] = uint64(f(h, a)) }}
}

// badFile implements a function on a file other than the three.
func badFile(sig string) hostFunc {
	return wasi(sig, func(*host, []uint64) uint32 { return errnoBadf })
}

// ofFile implements a function with one result for any of the three files.
func ofFile(sig string, errno uint32) hostFunc {
	return wasi(sig, func(_ *host, a []uint64) uint32 {
		if uint32(a[0]) > stderr {
			return errnoBadf
		}
		return errno
	})
}

// wasiFuncs implements all of WASI preview 1: arguments, environment variables,
// the clock that advances with the fuel, random numbers from the seed, and
// three files. Functions for anything else return an error.
var wasiFuncs = map[string]hostFunc{
	"args_sizes_get":    wasi("ii:i", func(h *host, a []uint64) uint32 { return h.sizes(h.job.Args, a) }),
	"args_get":          wasi("ii:i", func(h *host, a []uint64) uint32 { return h.strings(h.job.Args, a) }),
	"environ_sizes_get": wasi("ii:i", func(h *host, a []uint64) uint32 { return h.sizes(h.job.Env, a) }),
	"environ_get":       wasi("ii:i", func(h *host, a []uint64) uint32 { return h.strings(h.job.Env, a) }),

	"clock_res_get":  wasi("ii:i", func(h *host, a []uint64) uint32 { return h.clockValue(a[0], uint32(a[1]), func() uint64 { return 1 }) }),
	"clock_time_get": wasi("ili:i", func(h *host, a []uint64) uint32 { return h.clockValue(a[0], uint32(a[2]), h.reading(a[0])) }),
	"poll_oneoff":    wasi("iiii:i", (*host).poll),
	"sched_yield":    wasi(":i", nothing),
	"proc_exit":      {"i:", callCost, func(h *host, a []uint64) { h.exit, h.phase = uint32(a[0]), exited; panic(errExit) }},
	"proc_raise":     wasi("i:i", func(*host, []uint64) uint32 { return errnoNosys }),
	"random_get": wasi("ii:i", func(h *host, a []uint64) uint32 {
		b, ok := h.bytes(uint32(a[0]), uint32(a[1]))
		if !ok {
			return errnoFault
		}
		h.fill(b)
		return errnoSuccess
	}),

	"fd_read":             wasi("iiii:i", (*host).fdRead),
	"fd_write":            wasi("iiii:i", (*host).fdWrite),
	"fd_fdstat_get":       wasi("ii:i", (*host).fdStat),
	"fd_filestat_get":     wasi("ii:i", (*host).fileStat),
	"fd_close":            ofFile("i:i", errnoSuccess),
	"fd_sync":             ofFile("i:i", errnoSuccess),
	"fd_datasync":         ofFile("i:i", errnoSuccess),
	"fd_fdstat_set_flags": ofFile("ii:i", errnoSuccess),
	"fd_seek":             ofFile("ilii:i", errnoSpipe),
	"fd_tell":             ofFile("ii:i", errnoSpipe),
	"fd_pread":            ofFile("iiili:i", errnoSpipe),
	"fd_pwrite":           ofFile("iiili:i", errnoSpipe),

	"fd_advise":               ofFile("illi:i", errnoSpipe),
	"fd_allocate":             ofFile("ill:i", errnoInval),
	"fd_fdstat_set_rights":    ofFile("ill:i", errnoInval),
	"fd_filestat_set_size":    ofFile("il:i", errnoInval),
	"fd_filestat_set_times":   ofFile("illi:i", errnoInval),
	"fd_readdir":              ofFile("iiili:i", errnoInval),
	"fd_renumber":             ofFile("ii:i", errnoInval),
	"fd_prestat_get":          badFile("ii:i"),
	"fd_prestat_dir_name":     badFile("iii:i"),
	"path_create_directory":   badFile("iii:i"),
	"path_filestat_get":       badFile("iiiii:i"),
	"path_filestat_set_times": badFile("iiiilli:i"),
	"path_link":               badFile("iiiiiii:i"),
	"path_open":               badFile("iiiiillii:i"),
	"path_readlink":           badFile("iiiiii:i"),
	"path_remove_directory":   badFile("iii:i"),
	"path_rename":             badFile("iiiiii:i"),
	"path_symlink":            badFile("iiiii:i"),
	"path_unlink_file":        badFile("iii:i"),
	"sock_accept":             badFile("iii:i"),
	"sock_recv":               badFile("iiiiii:i"),
	"sock_send":               badFile("iiiii:i"),
	"sock_shutdown":           badFile("ii:i"),
}

func nothing(*host, []uint64) uint32 { return errnoSuccess }

func (h *host) putU32(ptr, v uint32) bool { return h.inst.mod.Memory().WriteUint32Le(ptr, v) }

func (h *host) putU64(ptr uint32, v uint64) bool { return h.inst.mod.Memory().WriteUint64Le(ptr, v) }

// sizes writes the number of strings and of their bytes.
func (h *host) sizes(list []string, a []uint64) uint32 {
	h.charge(stringCost * uint64(len(list)))
	n := 0
	for _, s := range list {
		n += len(s) + 1
	}
	if !h.putU32(uint32(a[0]), uint32(len(list))) || !h.putU32(uint32(a[1]), uint32(n)) {
		return errnoFault
	}
	return errnoSuccess
}

// strings writes pointers, and what they point to.
func (h *host) strings(list []string, a []uint64) uint32 {
	at, to := uint32(a[0]), uint32(a[1])
	for _, s := range list {
		h.charge(stringCost + uint64(len(s)))
		b, ok := h.bytes(to, uint32(len(s)+1))
		if !ok || !h.putU32(at, to) {
			return errnoFault
		}
		b[copy(b, s)] = 0
		at, to = at+4, to+uint32(len(b))
	}
	return errnoSuccess
}

// Clocks: all show the same time; only the first counts from 1970.
const (
	clockReal  = 0
	lastClock  = 3
	nanosecond = 1_000_000_000
)

func (h *host) reading(clock uint64) func() uint64 {
	return func() uint64 {
		if uint32(clock) == clockReal {
			return uint64(h.job.Time)*nanosecond + h.time()
		}
		return h.time()
	}
}

func (h *host) clockValue(clock uint64, ptr uint32, value func() uint64) uint32 {
	switch {
	case uint32(clock) > lastClock:
		return errnoInval
	case !h.putU64(ptr, value()):
		return errnoFault
	}
	return errnoSuccess
}

// vectors calls f with each buffer of a list until it returns less than the
// buffer's size.
func (h *host) vectors(ptr, n uint32, f func(b []byte) int) (total uint32, errno uint32) {
	const most = 1024
	if n > most {
		return 0, errnoInval
	}
	list, ok := h.bytes(ptr, n*8)
	if !ok {
		return 0, errnoFault
	}
	for ; len(list) > 0; list = list[8:] {
		h.charge(callCost / 8)
		b, ok := h.bytes(binary.LittleEndian.Uint32(list), binary.LittleEndian.Uint32(list[4:]))
		if !ok {
			return total, errnoFault
		}
		if uint64(len(b))+uint64(total) > math.MaxInt32 {
			return total, errnoInval
		}
		did := f(b)
		total += uint32(did)
		if did < len(b) {
			break
		}
	}
	return total, errnoSuccess
}

func (h *host) fdRead(a []uint64) uint32 {
	if uint32(a[0]) != stdin {
		return errnoBadf
	}
	n, errno := h.vectors(uint32(a[1]), uint32(a[2]), func(b []byte) int {
		did := copy(b, h.job.Input[h.read:])
		h.charge(uint64(did) >> copyShift)
		h.read += did
		return did
	})
	if errno == errnoSuccess && !h.putU32(uint32(a[3]), n) {
		return errnoFault
	}
	return errno
}

func (h *host) fdWrite(a []uint64) uint32 {
	to := h.put
	switch uint32(a[0]) {
	case stdout:
	case stderr:
		to = h.note
	default:
		return errnoBadf
	}
	n, errno := h.vectors(uint32(a[1]), uint32(a[2]), func(b []byte) int {
		to(b)
		return len(b)
	})
	if errno == errnoSuccess && !h.putU32(uint32(a[3]), n) {
		return errnoFault
	}
	return errno
}

// The three files are of no type that WASI names, as pipes are: a C library does not
// take them for a terminal, and writes when its buffer is full.
const (
	pipe       = 0
	rightRead  = 1 << 1
	rightWrite = 1 << 6
)

func (h *host) fdStat(a []uint64) uint32 {
	fd := uint32(a[0])
	if fd > stderr {
		return errnoBadf
	}
	b, ok := h.bytes(uint32(a[1]), 24)
	if !ok {
		return errnoFault
	}
	clear(b)
	b[0] = pipe
	rights := uint64(rightWrite)
	if fd == stdin {
		rights = rightRead
	}
	binary.LittleEndian.PutUint64(b[8:], rights)
	return errnoSuccess
}

func (h *host) fileStat(a []uint64) uint32 {
	if uint32(a[0]) > stderr {
		return errnoBadf
	}
	b, ok := h.bytes(uint32(a[1]), 64)
	if !ok {
		return errnoFault
	}
	clear(b)
	b[16] = pipe
	return errnoSuccess
}

// Sizes and kinds of poll_oneoff.
const (
	subscriptionSize = 48
	eventSize        = 32
	pollClock        = 0
	pollRead         = 1
	pollWrite        = 2
	clockAbsolute    = 1
	maxPolls         = 256
)

// poll waits. Files are always ready; a clock is ready if nothing else is,
// because sleeping advances it.
func (h *host) poll(a []uint64) uint32 {
	in, out, n := uint32(a[0]), uint32(a[1]), uint32(a[2])
	if n == 0 || n > maxPolls {
		return errnoInval
	}
	h.charge(uint64(n) * (callCost / 2))
	raw, ok := h.bytes(in, n*subscriptionSize)
	if !ok {
		return errnoFault
	}
	subs := append([]byte{}, raw...) // the events may overwrite them
	events := h.ready(subs)
	b, ok := h.bytes(out, uint32(len(events)))
	if !ok {
		return errnoFault
	}
	copy(b, events)
	if !h.putU32(uint32(a[3]), uint32(len(events)/eventSize)) {
		return errnoFault
	}
	return errnoSuccess
}

// ready returns the events of subscriptions that are ready.
func (h *host) ready(subs []byte) (events []byte) {
	now, first := h.time(), uint64(math.MaxUint64)
	for rest := subs; len(rest) > 0; rest = rest[subscriptionSize:] {
		switch kind := rest[8]; kind {
		case pollClock:
			first = min(first, h.deadline(rest, now))
		case pollRead, pollWrite:
			e := pollEvent(rest, errnoSuccess)
			if fd := binary.LittleEndian.Uint32(rest[16:]); fd > stderr {
				binary.LittleEndian.PutUint16(e[8:], errnoBadf)
			} else if fd == stdin {
				binary.LittleEndian.PutUint64(e[16:], uint64(len(h.job.Input)-h.read))
			}
			events = append(events, e...)
		default:
			events = append(events, pollEvent(rest, errnoInval)...)
		}
	}
	if len(events) > 0 {
		return events
	}
	if first > now {
		h.slept += first - now
	}
	for rest := subs; len(rest) > 0; rest = rest[subscriptionSize:] {
		if h.deadline(rest, now) <= max(first, now) {
			events = append(events, pollEvent(rest, errnoSuccess)...)
		}
	}
	return events
}

// deadline returns when a clock's subscription is due, on the clock of time, at
// most a century ahead.
func (h *host) deadline(sub []byte, now uint64) uint64 {
	const century = 100 * 365 * 86_400 * nanosecond
	t := binary.LittleEndian.Uint64(sub[24:])
	if binary.LittleEndian.Uint16(sub[40:])&clockAbsolute == 0 {
		return now + min(t, century)
	}
	if binary.LittleEndian.Uint32(sub[16:]) == clockReal {
		t -= min(t, uint64(h.job.Time)*nanosecond)
	}
	return min(t, now+century)
}

func pollEvent(sub []byte, errno uint16) []byte {
	e := make([]byte, eventSize)
	copy(e, sub[:8])
	binary.LittleEndian.PutUint16(e[8:], errno)
	e[10] = sub[8]
	return e
}
