package share

import (
	"testing"

	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/wire"
)

// TestFirstOf: one contract of a transaction looks after it in a block, whatever
// the others ask.
func TestFirstOf(t *testing.T) {
	var l looked
	txid := wire.Hash{7}
	one, two := engine.Ref{Kind: "x", ID: wire.Hash{1}}, engine.Ref{Kind: "x", ID: wire.Hash{2}}
	for i, c := range []struct {
		ref  engine.Ref
		tip  wire.Height
		want bool
	}{{one, 10, true}, {two, 10, false}, {one, 10, true}, {two, 11, true}, {one, 11, false}, {two, 11, true}} {
		if got := l.firstOf(txid, c.ref, c.tip); got != c.want {
			t.Errorf("%d: first of its batch: %v", i, got)
		}
	}
	l.leave(one, 11)
	if !l.isLeft(one, 11) || l.isLeft(two, 11) || l.isLeft(one, 12) {
		t.Error("what was left out")
	}
}
