package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/bitgram/bitgram/internal/engine"
)

// A home's generation is a random mark that is in its database and in a file
// beside it, and changes with every block, every start and every orderly end. If
// somebody puts an old copy of the database back, the two differ: then what was
// done since is unknown, as after the restore of a backup. A copy of the whole
// directory brings its own file back and is not recognised by this.

// fileGeneration is the file: the marks that the database may have, one or, while
// it is being changed, two. A mark of zeros means none.
const fileGeneration = "generation"

const generationSize = 16

var keyGeneration = []byte("generation")

// generationTime is the longest time without a new generation while something is
// committed.
const generationTime = time.Minute

// checkGeneration marks the home as restored if its database is not the one that
// the file was written for. A home without a file and without a generation, new or
// of a version that had none, gets one.
func (n *Node) checkGeneration(ctx context.Context) error {
	var have []byte
	if err := n.store.View(ctx, func(tx engine.Tx) (err error) {
		have, err = generation(tx)
		return err
	}); err != nil {
		return err
	}
	marks, err := os.ReadFile(n.generationPath())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	known := err != nil && bytes.Equal(have, noGeneration)
	for ; len(marks) >= generationSize; marks = marks[generationSize:] {
		known = known || bytes.Equal(have, marks[:generationSize])
	}
	if !known {
		n.log.Warn("the database is an old copy, or its file 'generation' is missing: nothing since the copy is relied on")
		if err := n.store.Update(ctx, func(tx engine.Tx) error { return tx.Put(bucketHome, keyRestored, []byte{1}) }); err != nil {
			return err
		}
	}
	return n.nextGeneration(ctx)
}

// noGeneration is the mark of a database that has none.
var noGeneration = make([]byte, generationSize)

// generation returns the database's mark.
func generation(tx engine.Tx) ([]byte, error) {
	have, err := tx.Get(bucketHome, keyGeneration)
	if err != nil || have != nil {
		return have, err
	}
	return noGeneration, nil
}

func (n *Node) generationPath() string { return filepath.Join(n.cfg.Dir, fileGeneration) }

// nextGeneration gives the home a new generation. If it is interrupted, the file
// has both marks.
func (n *Node) nextGeneration(ctx context.Context) error {
	next := make([]byte, generationSize)
	if _, err := rand.Read(next); err != nil {
		return err
	}
	write := func(marks ...[]byte) error {
		return n.files.Write(n.generationPath(), func(f *os.File) error {
			_, err := f.Write(bytes.Join(marks, nil))
			return err
		})
	}
	err := n.store.Update(ctx, func(tx engine.Tx) error {
		old, err := generation(tx)
		if err != nil {
			return err
		}
		if err := write(old, next); err != nil {
			return err
		}
		return tx.Put(bucketHome, keyGeneration, next)
	})
	if err != nil {
		return err
	}
	return write(next)
}

// generations gives the home a new generation after every block, and from time to
// time while something is committed, until ctx ends.
func (n *Node) generations(ctx context.Context) {
	for seen := n.store.Commits(); ; {
		block, cancel := context.WithTimeout(ctx, generationTime)
		_ = n.engine.WaitHeight(block, n.engine.Position().Height+1)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if n.store.Commits() == seen {
			continue
		}
		if err := n.nextGeneration(ctx); err != nil {
			if ctx.Err() == nil {
				n.log.Warn("no new generation of the home", "err", err)
			}
			continue
		}
		seen = n.store.Commits()
	}
}
