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
	write func(io.Writer) error
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

// start writes a first backup, and another each time there is news, until ctx
// ends.
func (k *keeper) start(ctx context.Context) {
	k.dirty.Store(true)
	k.running.Go(func() {
		t := time.NewTicker(k.every)
		defer t.Stop()
		for {
			if k.dirty.Swap(false) {
				if err := k.save(); err != nil && ctx.Err() == nil {
					k.dirty.Store(true)
					k.log.Error("backup not written", "file", k.path, "err", err)
				}
			}
			select {
			case <-t.C:
			case <-ctx.Done():
				return
			}
		}
	})
}

func (k *keeper) wait() { k.running.Wait() }

// save replaces the file by a whole one.
func (k *keeper) save() error {
	f, err := os.CreateTemp(filepath.Dir(k.path), ".bitgram-backup-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	out := bufio.NewWriter(f)
	if err := errors.Join(k.write(out), out.Flush(), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), k.path)
}
