package daemon

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/bitgram/bitgram/internal/home"
)

// keeper keeps a backup file current.
type keeper struct {
	path    string
	every   time.Duration
	commits func() int64 // of the node
	write   func(context.Context, io.Writer) error
	log     *slog.Logger

	mu      sync.Mutex
	saved   int64 // commits that are in the file; -1: none
	running sync.WaitGroup
}

// lastSave is how long the last backup of a daemon that stops may take.
const lastSave = 10 * time.Second

// start writes a first backup, and another each time there is news, until ctx
// ends.
func (k *keeper) start(ctx context.Context) {
	k.running.Go(func() {
		t := time.NewTicker(k.every)
		defer t.Stop()
		for {
			k.tryUpdate(ctx)
			select {
			case <-t.C:
			case <-ctx.Done():
				return
			}
		}
	})
}

func (k *keeper) tryUpdate(ctx context.Context) {
	if err := k.update(ctx); err != nil && ctx.Err() == nil {
		k.log.Error("backup not written", "file", k.path, "err", err)
	}
}

// update makes the file current: when it returns nil, all that was committed
// before is in it.
func (k *keeper) update(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := k.commits()
	if n == k.saved {
		return nil
	}
	err := home.WriteFile(k.path, func(w io.Writer) error { return k.write(ctx, w) })
	if err == nil {
		k.saved = n
	}
	return err
}

// finish writes what is news since into a last backup, when the node has ended
// and nothing can change any more.
func (k *keeper) finish(write func(context.Context, io.Writer) error) {
	ctx, cancel := context.WithTimeout(context.Background(), lastSave)
	defer cancel()
	k.write = write
	if k.tryUpdate(ctx); ctx.Err() != nil {
		k.log.Error("the last backup took too long; the one before it stays", "file", k.path)
	}
}

func (k *keeper) wait() { k.running.Wait() }
