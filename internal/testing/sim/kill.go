package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/bitgram/bitgram/internal/engine"
)

// Plan kills a node at the N-th effect of a type, counted from 1: before the
// effect is carried out or, with After, when it is carried out but not yet
// recorded. The lab reopens the node at the next Settle.
type Plan struct {
	Effect string // as %T prints it
	N      int
	After  bool

	mu      sync.Mutex
	counted int
	killed  bool
	last    engine.Tx // the one that is committed yet, if it was killed in one
	opened  bool      // again
}

// Killed reports whether the plan was carried out.
func (p *Plan) Killed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.killed
}

var errKilled = errors.New("killed")

// killer carries out effects until its plan is due; from then on it carries out
// and records nothing.
type killer struct {
	engine.Executor
	*Plan
}

func (k killer) Do(ctx context.Context, ref engine.Ref, e engine.Effect) (func(engine.Tx) ([]engine.Delivery, error), error) {
	k.mu.Lock()
	gone, mine := k.killed, false
	if !gone && fmt.Sprintf("%T", e) == k.Effect {
		k.counted++
		mine = k.counted == k.N
		k.killed = mine
	}
	k.mu.Unlock()
	if gone || mine && !k.After {
		return nil, errKilled
	}
	commit, err := k.Executor.Do(ctx, ref, e)
	if k.Killed() {
		return nil, errKilled // what was done is not recorded
	}
	return commit, err
}

// Commit counts the effects of a job's machine, which its room carries out there. One
// that is killed before the effect loses the whole step; one that is killed after it
// has committed it, and does nothing more.
func (k killer) Commit(tx engine.Tx, ref engine.Ref, e engine.Effect) ([]engine.Delivery, bool, error) {
	if name := fmt.Sprintf("%T", e); strings.HasPrefix(name, "job.") {
		k.mu.Lock()
		gone, mine := k.killed && (k.last == nil || k.last != tx), false
		if !gone && name == k.Effect && !k.killed {
			k.counted++
			mine = k.counted == k.N
			if k.killed = mine; mine && k.After {
				k.last = tx
			}
		}
		k.mu.Unlock()
		if gone || mine && !k.After {
			return nil, false, errKilled
		}
	}
	return k.Executor.Commit(tx, ref, e)
}

// Sends decides whether a message is sent; see node.Config.Intercept.
func (k killer) Sends(_ engine.Ref, e engine.Effect) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.killed {
		return false
	}
	if fmt.Sprintf("%T", e) == k.Effect {
		k.counted++
		k.killed = k.counted == k.N
		return !k.killed || k.After
	}
	return true
}

// reopen reopens nodes that plans have killed.
func (l *Lab) reopen() {
	l.T.Helper()
	for _, h := range l.Up() {
		if h.Plan != nil && h.Plan.Killed() && !h.Plan.opened {
			h.Plan.opened = true
			_ = h.Node.Close() // as it is: its state does not matter
			plan := h.Plan
			h.Plan = nil
			h.Open()
			h.Plan = plan
		}
	}
}
