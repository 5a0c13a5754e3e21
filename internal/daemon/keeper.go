package daemon

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bitgram/bitgram/internal/engine"
)

// keeper keeps a backup file current.
type keeper struct {
	path  string
	every time.Duration
	write func(context.Context, io.Writer) error
	log   *slog.Logger

	dirty   atomic.Bool
	running sync.WaitGroup
}

// observe notices changes on their way to whoever else looks.
func (k *keeper) observe(next func(engine.Change)) func(engine.Change) {
	return func(c engine.Change) {
		k.dirty.Store(true)
		next(c)
	}
}

// lastSave is how long the last backup of a daemon that stops may take.
const lastSave = 10 * time.Second

// start writes a first backup, and another each time there is news, until ctx
// ends; what is news then goes into a last one.
func (k *keeper) start(ctx context.Context) {
	k.dirty.Store(true)
	k.running.Go(func() {
		t := time.NewTicker(k.every)
		defer t.Stop()
		for {
			k.update(ctx)
			select {
			case <-t.C:
			case <-ctx.Done():
				last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSave)
				defer cancel()
				k.update(last)
				return
			}
		}
	})
}

func (k *keeper) update(ctx context.Context) {
	if !k.dirty.Swap(false) {
		return
	}
	if err := k.save(ctx); err != nil {
		k.dirty.Store(true)
		if ctx.Err() == nil {
			k.log.Error("backup not written", "file", k.path, "err", err)
		}
	}
}

func (k *keeper) wait() { k.running.Wait() }

// save replaces the file by a whole one.
func (k *keeper) save(ctx context.Context) error {
	f, err := os.CreateTemp(filepath.Dir(k.path), ".bitgram-backup-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	out := bufio.NewWriter(f)
	if err := errors.Join(k.write(ctx, out), out.Flush(), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), k.path)
}
