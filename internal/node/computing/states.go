package computing

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bitgram/bitgram/internal/job"
	"github.com/bitgram/bitgram/internal/node/disk"
	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/wire"
)

// states are a job's files: a file for each epoch that was run or fetched, with its
// output and the checkpoint after it, and the certified output of all epochs.
type states struct {
	dir string

	mu     sync.Mutex
	read   bool // the directory
	epochs map[uint32]*epoch
	leases map[uint8]lease
	size   uint64 // of the certified output that is here
	dirty  bool   // it is not durable yet
}

// epoch is the head of an epoch's file: its length, then itself, its output, and a
// checkpoint unless the outcome is final.
type epoch struct {
	_       struct{} `cbor:",toarray"`
	Epoch   uint32
	Turn    uint32    // of its run; fetched for a state of another party
	Before  wire.Hash // the state that it began with, of those that were run
	Root    wire.Hash
	Outcome job.Outcome
	Total   uint64 // bytes of output up to its end
	Output  uint32 // bytes of them that are its own, and in this file
	End     []byte // encoded End, of the last epoch
}

// fetched is the turn of states that another party gave.
const fetched = 1<<32 - 1

// lease keeps a state for a party that fetches it.
type lease struct {
	epoch uint32
	until time.Time
}

const leaseTime = 30 * time.Second

// extra is the number of certified states before the last that are kept, for parties
// that know no later certificate.
const extra = 2

// outputName is the file of the certified output.
const outputName = "output"

func (s *states) path(e uint32) string { return filepath.Join(s.dir, fmt.Sprintf("%d.epoch", e)) }

// load reads the directory, once; mu is held.
func (s *states) load() error {
	if s.read {
		return nil
	}
	list, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = os.MkdirAll(s.dir, 0o700)
	}
	if err != nil {
		return err
	}
	s.epochs, s.leases = map[uint32]*epoch{}, map[uint8]lease{}
	for _, f := range list {
		if f.Name() == outputName {
			i, err := f.Info()
			if err != nil {
				return err
			}
			s.size = uint64(i.Size())
		}
		name, ok := strings.CutSuffix(f.Name(), ".epoch")
		n, err := strconv.ParseUint(name, 10, 32)
		if !ok || err != nil {
			continue
		}
		if h, r, err := s.open(uint32(n)); err == nil {
			s.epochs[uint32(n)] = h
			_ = r.Close()
		} // what cannot be read is run again
	}
	s.size = min(s.size, s.durable())
	s.read = true
	return nil
}

// durable returns the size of the output up to which it was made durable: an epoch's file
// is deleted only after that. What is behind comes from the files again. mu is held.
func (s *states) durable() (size uint64) {
	first := uint32(0)
	for e := range s.epochs {
		first = max(first, e)
	}
	for s.epochs[first-1] != nil {
		first--
	}
	if h := s.epochs[first]; h != nil {
		size = h.Total - min(h.Total, uint64(h.Output))
	}
	return size
}

// open opens an epoch's file behind its head.
func (s *states) open(e uint32) (*epoch, *os.File, error) {
	f, err := os.Open(s.path(e))
	if err != nil {
		return nil, nil, err
	}
	h := new(epoch)
	var n [4]byte
	if _, err = io.ReadFull(f, n[:]); err == nil {
		b := make([]byte, min(binary.BigEndian.Uint32(n[:]), 1<<20))
		if _, err = io.ReadFull(f, b); err == nil {
			err = wire.Unmarshal(b, h)
		}
	}
	if err == nil && h.Epoch != e {
		err = fmt.Errorf("%w: epoch %d in the file of %d", sandbox.ErrCheckpoint, h.Epoch, e)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return h, f, nil
}

// get returns the head of an epoch's file, or nil.
func (s *states) get(e uint32) (*epoch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.load()
	return s.epochs[e], err
}

// checkpoint opens the checkpoint of an epoch, and returns its head.
func (s *states) checkpoint(e uint32) (*epoch, *os.File, error) {
	h, f, err := s.open(e)
	if err != nil {
		return nil, nil, err
	}
	if _, err := f.Seek(int64(h.Output), io.SeekCurrent); err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return h, f, nil
}

// write writes an epoch's file, durably.
func (s *states) write(files *disk.Files, h *epoch, output []byte, checkpoint func(io.Writer) error) error {
	h.Output = uint32(len(output))
	head, err := wire.Marshal(h)
	if err != nil {
		return err
	}
	if err := files.Write(s.path(h.Epoch), func(f *os.File) error {
		if _, err := f.Write(append(append(binary.BigEndian.AppendUint32(nil, uint32(len(head))), head...), output...)); err != nil {
			return err
		}
		return checkpoint(f)
	}); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(); err != nil {
		return err
	}
	s.epochs[h.Epoch] = h
	return nil
}

// follow adds the output of certified epochs to that of the job, and deletes the states
// that nobody needs any more.
func (s *states) follow(n *job.Node) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(); err != nil || n.Last == nil {
		return err
	}
	c := n.Last.Body.Epoch
	if h := s.epochs[c]; h != nil && h.Root == n.Last.Body.State {
		if err := s.append(h); err != nil {
			return err
		}
	}
	low := min(c, n.Base)
	for e := range s.epochs {
		if e+extra >= low || s.leased(e) {
			continue
		}
		if s.dirty {
			if err := s.sync(); err != nil {
				return err
			}
		}
		if err := disk.Remove(s.path(e)); err != nil {
			return err
		}
		delete(s.epochs, e)
	}
	return nil
}

func (s *states) leased(e uint32) bool {
	for p, l := range s.leases {
		if time.Now().After(l.until) {
			delete(s.leases, p)
		} else if l.epoch == e {
			return true
		}
	}
	return false
}

// append adds the output of a certified epoch, and of those before it that are not
// there yet; mu is held.
func (s *states) append(h *epoch) error {
	var list []*epoch
	for h.Total > s.size {
		list = append(list, h)
		if h.Total-uint64(h.Output) <= s.size {
			break
		}
		before := s.epochs[h.Epoch-1]
		if before == nil || before.Root != h.Before {
			return nil // it comes with a state that is fetched
		}
		h = before
	}
	for i := len(list) - 1; i >= 0; i-- {
		h, f, err := s.open(list[i].Epoch)
		if err != nil {
			return err
		}
		out := make([]byte, h.Output)
		_, err = io.ReadFull(f, out)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		if err := s.writeAt(out, h.Total-uint64(h.Output)); err != nil {
			return err
		}
		s.size = h.Total
	}
	return nil
}

// writeAt writes certified output; mu is held.
func (s *states) writeAt(b []byte, at uint64) error {
	f, err := os.OpenFile(filepath.Join(s.dir, outputName), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, int64(at))
	s.dirty = true
	return errors.Join(err, f.Close())
}

// sync makes the certified output durable; mu is held.
func (s *states) sync() error {
	f, err := os.OpenFile(filepath.Join(s.dir, outputName), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close(), syncDir(s.dir)); err != nil {
		return err
	}
	s.dirty = false
	return nil
}

var errNoState = wire.Refuse(wire.Unknown, "this state is not here")

// piece returns a piece of a part that another asks for. from is the party that asks,
// or none.
func (s *states) piece(n *job.Node, a *Ask, from int) (*Chunk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(); err != nil {
		return nil, err
	}
	h := s.epochs[a.Epoch]
	switch {
	case a.Part == PartOutput:
		return pieceOf(filepath.Join(s.dir, outputName), 0, s.size, a.From)
	case h == nil || h.Root != a.State || a.Epoch > certified(n):
		return nil, errNoState
	case a.Part == PartPrefix:
		if h.Total > s.size {
			return nil, errNoState
		}
		return pieceOf(filepath.Join(s.dir, outputName), 0, h.Total, a.From)
	case a.Part == PartEnd:
		if h.End == nil || a.From > uint64(len(h.End)) {
			return nil, errNoState
		}
		b := h.End[a.From:]
		return &Chunk{Total: uint64(len(h.End)), Data: b[:min(len(b), maxChunk)]}, nil
	case h.Outcome != job.Running:
		return nil, errNoState
	}
	if from >= 0 {
		s.leases[uint8(from)] = lease{a.Epoch, time.Now().Add(leaseTime)}
	}
	_, f, err := s.checkpoint(a.Epoch)
	if err != nil {
		return nil, err
	}
	at, err := f.Seek(0, io.SeekCurrent)
	i, ierr := f.Stat()
	if err := errors.Join(err, ierr, f.Close()); err != nil {
		return nil, err
	}
	return pieceOf(s.path(a.Epoch), uint64(at), uint64(i.Size()-at), a.From)
}

// pieceOf reads a piece of the size bytes of a file from start on.
func pieceOf(path string, start, size, from uint64) (*Chunk, error) {
	if from > size {
		return nil, wire.Refuse(wire.BadRequest, "from byte %d of %d", from, size)
	}
	c := &Chunk{Total: size, Data: make([]byte, min(size-from, maxChunk))}
	if len(c.Data) == 0 {
		return c, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	_, err = f.ReadAt(c.Data, int64(start+from))
	return c, errors.Join(err, f.Close())
}

// outputSize returns the bytes of certified output that are here.
func (s *states) outputSize() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size
}

// extend adds to the certified output what another party gave of it: add, from at to
// total. It returns errOutput unless the whole then has this SHA-256.
func (s *states) extend(add io.ReadSeeker, at, total uint64, sum [32]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(); err != nil {
		return err
	}
	if s.size != at {
		return errNoState // it has grown meanwhile
	}
	f, err := os.OpenFile(filepath.Join(s.dir, outputName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, int64(min(at, total)))); err != nil {
		return err
	}
	// Nothing is written before it is verified: a restart takes the file's size for
	// that of the certified output.
	if total > at {
		if _, err := io.Copy(h, add); err != nil {
			return err
		}
	}
	if [32]byte(h.Sum(nil)) != sum {
		return errOutput
	}
	if total > at {
		if _, err := add.Seek(0, io.SeekStart); err != nil {
			return err
		}
		_, err := io.Copy(io.NewOffsetWriter(f, int64(at)), add)
		if err = errors.Join(err, f.Sync()); err != nil {
			return errors.Join(err, f.Truncate(int64(at)))
		}
	}
	s.size = max(s.size, total)
	return syncDir(s.dir)
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// errOutput means that an output is not the one that a state binds.
var errOutput = errors.New("not the output of the certified state")
