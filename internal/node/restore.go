package node

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/store"
)

// bucketHome stores facts about the whole home: restored, from the restore of a
// backup until every contract has been told.
const bucketHome = "home"

var keyRestored = []byte("restored")

// MarkRestored checks the database of a backup and marks it, so that the next
// node to open it relies on nothing that may have changed since the backup.
func MarkRestored(ctx context.Context, path string) error {
	s, err := store.Open(path)
	if err != nil {
		return err
	}
	if err = s.Verify(ctx); err == nil {
		err = s.Update(ctx, func(tx engine.Tx) error { return tx.Put(bucketHome, keyRestored, []byte{1}) })
	}
	return errors.Join(err, s.Close())
}

// Snapshot writes a copy of the node's database to path.
func (n *Node) Snapshot(ctx context.Context, path string) error { return n.store.Snapshot(ctx, path) }

// Commits counts what the node has committed since it was opened.
func (n *Node) Commits() int64 { return n.store.Commits() }

// SnapshotClosed writes to path a copy of the database of a home on which no
// node runs.
func SnapshotClosed(ctx context.Context, dir, path string) error {
	s, err := store.Open(filepath.Join(dir, fileDB))
	if err != nil {
		return err
	}
	return errors.Join(s.Snapshot(ctx, path), s.Close())
}

// fileDB is the database in a home.
const fileDB = "bitgram.db"

// restored tells every contract that the home was restored from a backup. If
// interrupted, it starts again.
func (n *Node) restored(ctx context.Context) error {
	type found struct {
		ref   engine.Ref
		event func(context.Context, engine.Ref) (engine.Event, error)
	}
	var list []found
	marked := false
	if err := n.store.View(ctx, func(tx engine.Tx) error {
		mark, err := tx.Get(bucketHome, keyRestored)
		if marked = mark != nil; err != nil || !marked {
			return err
		}
		for _, m := range n.machines() {
			if err := tx.Each(m.Kind, false, func(ref engine.Ref, _ []byte) error {
				list = append(list, found{ref, m.restored})
				return nil
			}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil || !marked {
		return err
	}
	n.log.Info("restored from a backup", "contracts", len(list))
	for _, c := range list {
		ref := c.ref
		ev, err := c.event(ctx, ref)
		if err != nil {
			return err
		}
		if _, err := n.engine.Tell(ctx, ref, ev); errors.Is(err, engine.ErrContract) {
			n.log.Error("a contract cannot be read", "contract", ref, "err", err)
		} else if err != nil {
			return err
		}
	}
	return n.store.Update(ctx, func(tx engine.Tx) error {
		if err := n.Coins.Restored(tx); err != nil {
			return err
		}
		return tx.Delete(bucketHome, keyRestored)
	})
}
