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
	saved   int64 // number of commits in the file; -1 for none
	running sync.WaitGroup
}

// lastSave is the time limit for the last backup of a daemon that stops.
const lastSave = 10 * time.Second

// start writes a backup now, and another after each interval in which something
// has changed, until ctx ends.
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

// update brings the file up to date. When it returns nil, the file holds
// everything committed before the call.
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

// finish writes a last backup after the node has ended, if something has changed
// since.
func (k *keeper) finish(write func(context.Context, io.Writer) error) {
	ctx, cancel := context.WithTimeout(context.Background(), lastSave)
	defer cancel()
	k.write = write
	if k.tryUpdate(ctx); ctx.Err() != nil {
		k.log.Error("the last backup took too long; the previous one is kept", "file", k.path)
	}
}

func (k *keeper) wait() { k.running.Wait() }
