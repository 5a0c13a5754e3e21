//go:build wasip1

// The program that internal/testing/conform runs in every engine: what it does is its
// first argument.
package main

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/bitgram/bitgram/guest"
)

func main() {
	n := 0
	if len(os.Args) > 2 {
		var err error
		if n, err = strconv.Atoi(os.Args[2]); err != nil {
			panic(err)
		}
	}
	switch os.Args[1] {
	case "count":
		count(uint64(n))
	case "spin":
		for i := uint64(0); ; i++ {
			if i == 1<<63 {
				fmt.Println("never")
			}
		}
	case "forever":
		guest.Sync([]byte("again"))
	case "exit":
		os.Exit(n)
	case "crash":
		var p *int
		fmt.Fprintln(os.Stderr, "about to crash")
		fmt.Println(*p)
	case "output":
		_, _ = os.Stdout.Write(make([]byte, n))
	case "state":
		guest.Sync(make([]byte, n))
	case "events":
		for range n {
			_ = guest.Event(make([]byte, 100))
		}
		guest.Sync(nil)
	case "memory":
		hold := make([]byte, n)
		for i := range hold {
			hold[i] = byte(i)
		}
		fmt.Println(len(hold))
	case "deep":
		fmt.Println(deep(n))
	case "world":
		world()
	default:
		panic("no such mode: " + os.Args[1])
	}
}

// count goes through n epochs, in each of which it does everything that a
// state holds.
func count(n uint64) {
	var state [16]byte
	if b, ok := guest.Restore(); ok {
		copy(state[:], b)
	}
	at := binary.BigEndian.Uint64(state[:])
	var random [8]byte
	_, _ = guest.Random.Read(random[:])
	sum := binary.BigEndian.Uint64(state[8:])*31 + binary.BigEndian.Uint64(random[:]) + uint64(time.Now().UnixNano())
	heap := make([]byte, 100_000)
	for i := range heap {
		heap[i] = byte(sum >> (i % 57))
	}
	fmt.Printf("epoch %d: %d of %d, %x\n", guest.Epoch(), at, n, sum+uint64(heap[sum%uint64(len(heap))]))
	fmt.Fprintf(os.Stderr, "note %d\n", at)
	_ = guest.Event(fmt.Appendf(nil, "%d", at))
	time.Sleep(time.Duration(at) * time.Millisecond)
	if at++; at < n {
		binary.BigEndian.PutUint64(state[:], at)
		binary.BigEndian.PutUint64(state[8:], sum)
		guest.Sync(state[:])
	}
}

func deep(n int) int {
	if n == 0 {
		return 0
	}
	return deep(n-1) + n%3
}

// world prints all that the program can see.
func world() {
	fmt.Println("args", os.Args[1:])
	fmt.Println("env", os.Environ())
	in, err := io.ReadAll(os.Stdin)
	fmt.Printf("stdin %q %v\n", in, err)
	b := make([]byte, 5)
	k, err := guest.Input().ReadAt(b, 3)
	fmt.Printf("input %q %v of %d\n", b[:k], err, guest.Input().Size())
	_, err = os.Open("/etc/passwd")
	fmt.Println("file", err != nil)
	fmt.Println("time", time.Now().UTC().Format(time.DateTime))
	var a [16]byte
	_, _ = rand.Read(a[:])
	_, _ = guest.Random.Read(a[8:])
	fmt.Printf("random %x\n", a)
	_, ok := guest.Restore()
	fmt.Println("restored", ok, "epoch", guest.Epoch())
}
