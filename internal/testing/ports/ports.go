// Package ports finds TCP ports for tests that must know one before anything
// listens there.
package ports

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// Free returns a port of 127.0.0.1 on which nothing listens. The kernel does
// not assign it to other sockets, because it is below the range for outgoing
// connections.
func Free(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := 12_000 + rand.IntN(18_000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}
