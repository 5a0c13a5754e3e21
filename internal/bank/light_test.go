package bank_test

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/wire"
)

// lightSteps counts the steps that were light in all worlds.
var lightSteps atomic.Int64

// checkLight panics if a step of a payee that says that it is light has changed
// anything but its part: the rest would not be written.
func checkLight(before, after *bank.Payee, ev bank.Event, err error) {
	if err != nil || !after.Light(*before, ev) {
		return
	}
	lightSteps.Add(1)
	encode := func(v any) []byte {
		raw, err := wire.Marshal(v)
		if err != nil {
			panic(err)
		}
		return raw
	}
	was, is, part := encode(before), encode(after), encode(before.Part())
	if n := bytes.Count(was, part); n != 1 {
		panic(fmt.Sprintf("the part of a payee occurs %d times in its state", n))
	}
	if !bytes.Equal(bytes.Replace(was, part, encode(after.Part()), 1), is) {
		panic(fmt.Sprintf("a light step, %T, changes more than its part:\n%x\n%x", ev, was, is))
	}
}

// TestLight: a penny that reaches no rung is a light step; one that does, and
// everything else, is not.
func TestLight(t *testing.T) {
	w := newTown(t, nil)
	id := w.a.opened(w.c, small, shortLife)
	count := func(what string, want int64, f func()) {
		t.Helper()
		n := lightSteps.Load()
		f()
		if n = lightSteps.Load() - n; n != want {
			t.Errorf("%s: %d light steps, want %d", what, n, want)
		}
	}
	count("a penny below the first rung", 1, func() { w.pay(w.a, id, 9) })
	count("the penny of a rung", 0, func() { w.pay(w.a, id, 1) })
	count("pennies that pass a rung", 0, func() { w.pay(w.a, id, 14) })
	count("a penny between rungs", 1, func() { w.pay(w.a, id, 1) })
	count("blocks", 0, func() { w.mine(2) })
	count("the first penny after a block", 0, func() { w.pay(w.a, id, 1) })
	count("the next", 1, func() { w.pay(w.a, id, 1) })
	count("a close", 0, func() { w.closed(w.a, payer, id); w.end() })
}
