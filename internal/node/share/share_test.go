package share

import (
	"testing"

	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/wire"
)

// TestFirstOf: one contract of a transaction looks after it in a block, whatever the
// others ask; once more if it becomes urgent.
func TestFirstOf(t *testing.T) {
	var l looked
	txid := wire.Hash{7}
	one, two := engine.Ref{Kind: "x", ID: wire.Hash{1}}, engine.Ref{Kind: "x", ID: wire.Hash{2}}
	for i, c := range []struct {
		ref    engine.Ref
		urgent bool
		tip    wire.Height
		want   bool
	}{{one, false, 10, true}, {two, false, 10, false}, {one, false, 10, true}, {two, true, 10, true}, {one, true, 10, false}, {two, false, 11, true}, {one, false, 10, true}} {
		if got := l.firstOf(txid, c.urgent, c.ref, c.tip); got != c.want {
			t.Errorf("%d: first of its batch: %v", i, got)
		}
	}
}
