package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/store"
	"github.com/bitgram/bitgram/wire"
)

// bucketHome keeps what concerns the home as a whole: restored, from when it was
// made of a backup until every contract knows.
const bucketHome = "home"

var keyRestored = []byte("restored")

// MarkRestored checks the database of a backup and marks it, so that the node
// that opens it next trusts nothing in it that may have changed since.
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

// SnapshotClosed writes a copy of the database of a home, on which no node runs,
// to path.
func SnapshotClosed(ctx context.Context, dir, path string) error {
	s, err := store.Open(filepath.Join(dir, fileDB))
	if err != nil {
		return err
	}
	return errors.Join(s.Snapshot(ctx, path), s.Close())
}

// fileDB is the database in a home.
const fileDB = "bitgram.db"

// restored tells every contract of a home that was made of a backup. Cut off in
// the middle, it begins anew.
func (n *Node) restored(ctx context.Context) error {
	var refs []engine.Ref
	marked := false
	if err := n.store.View(ctx, func(tx engine.Tx) error {
		mark, err := tx.Get(bucketHome, keyRestored)
		if marked = mark != nil; err != nil || !marked {
			return err
		}
		for _, kind := range []engine.Kind{deal.KindSender, deal.KindAgent, deal.KindRecipient,
			bank.KindPayer, bank.KindPayee, bank.KindSending, bank.KindRelay} {
			if err := tx.Each(kind, false, func(ref engine.Ref, _ []byte) error {
				refs = append(refs, ref)
				return nil
			}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil || !marked {
		return err
	}
	n.log.Info("restored from a backup", "contracts", len(refs))
	for _, ref := range refs {
		ev, err := n.restoredEvent(ctx, ref)
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

// restoredEvent is what a contract of a restored home is told.
func (n *Node) restoredEvent(ctx context.Context, ref engine.Ref) (engine.Event, error) {
	switch ref.Kind {
	case bank.KindPayer, bank.KindPayee, bank.KindSending, bank.KindRelay:
		// The blocks since the backup are told only later. Without a node to ask, what
		// waits for others waits from the first of them.
		var ev bank.Restored
		if tip, err := n.cfg.Chain.Tip(ctx); err == nil {
			ev.Height = tip.Height
		}
		return ev, nil
	case deal.KindAgent:
		_, err := os.Stat(n.files.Path(dirCopies, wire.Key(ref.ID), ""))
		here := err == nil
		err = n.store.View(ctx, func(tx engine.Tx) error {
			small, err := tx.Get(bucketCopies, ref.ID[:])
			here = here || small != nil
			return err
		})
		return deal.Restored{CopyHere: here}, err
	}
	return n.Delivery.Restored(ctx, ref)
}
