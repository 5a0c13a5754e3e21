// Package blobs keeps the programs, inputs, checkpoints and outputs of jobs as
// files named by their BLAKE3 digests.
//
// A blob is on the disk whole and durable, or not at all, and there is one file
// for a digest, however many need it. A file stays while somebody holds it: a
// contract (Hold, Release), or for some blocks the peer that brought it. What arrives
// is written to a file of its own for each sender and digest, which survives cuts
// and restarts, and is verified when it is complete. So a false blob costs its
// sender all of it, and nobody else anything.
package blobs

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/zeebo/blake3"

	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node/disk"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/wire"
)

// dirBlobs contains the blobs, by digest; dirPartial what arrives, by nameOf.
const (
	dirBlobs   = "blobs"
	dirPartial = "blobs-partial"
)

// Dirs are the directories in a home that the room needs.
var Dirs = []string{dirBlobs, dirPartial}

// Errors of the room.
var (
	// ErrMissing means that a blob is not here.
	ErrMissing = errors.New("this blob is not here")
	// ErrLied means that a peer sent something else than the blob.
	ErrLied = errors.New("the peer sent another blob")
	// ErrTooBig means that a blob exceeds a limit.
	ErrTooBig = errors.New("the blob is too big")
	// ErrFull means that the quota for blobs, or the disk, is used up.
	ErrFull = errors.New("no room for this blob")
)

// Policy limits what the room stores, in bytes.
type Policy struct {
	MaxBlob   uint64 // of one blob
	MaxStored uint64 // of all
	// MaxWaiting limits what others have uploaded, whole or not, while no contract
	// holds it.
	MaxWaiting uint64
	// Keep is how many blocks a blob that no contract holds is kept, counted from
	// its end; an upload that makes no progress is forgotten after as many.
	Keep uint32
}

// Default is a policy for a node with some gigabytes to spare.
var Default = Policy{MaxBlob: 1 << 30, MaxStored: 16 << 30, MaxWaiting: 4 << 30, Keep: 12}

// Host makes requests; *p2p.Host is that.
type Host interface {
	PutBlob(ctx context.Context, to wire.Peer, as p2p.Owner, put *wire.BlobPut, rest func(have uint64) (io.Reader, error)) error
	GetBlob(ctx context.Context, to wire.Peer, as p2p.Owner, get *wire.BlobGet, into func(*wire.BlobPart) (io.Writer, error)) error
}

// Config is what a room is made of.
type Config struct {
	Policy Policy
	Store  engine.Store
	Files  *disk.Files // with Dirs
	Host   Host        // for requests of this node
	// Height returns the height of the chain.
	Height func() wire.Height
	// Allows reports whether the owner of a key may fetch a blob; nil allows
	// nobody. Who may not cannot learn whether the blob is here.
	Allows func(ctx context.Context, owner wire.Key, digest wire.Hash) bool
	Log    *slog.Logger
}

// The room's buckets.
const (
	bucketHold   = "blob/hold"   // digest ‖ holder → height (4 bytes) until which it is held
	bucketHolder = "blob/holder" // holder ‖ digest → nothing
	bucketWait   = "blob/wait"   // digest ‖ source ‖ key → waiting
)

// source says who brings a blob.
type source byte

const (
	uploaded source = iota // its owner, whose key follows
	fetched                // this node from a peer, whose key follows
	own                    // this node, from a reader; the key is zero
)

// waitKey is the key of a record in bucketWait.
type waitKey [65]byte

func keyOf(digest wire.Hash, s source, who wire.Key) (k waitKey) {
	copy(k[:], digest[:])
	k[32] = byte(s)
	copy(k[33:], who[:])
	return k
}

func (k *waitKey) digest() wire.Hash { return wire.Hash(k[:32]) }
func (k *waitKey) source() source    { return source(k[32]) }

// nameOf is the name of the file in dirPartial in which a blob arrives.
func (k *waitKey) nameOf() wire.Hash { return wire.Tagged("blob-partial", k[:]) }

// waiting is a blob that arrives, or arrived and is perhaps not yet held by a
// contract. It is stored before its first byte.
type waiting struct {
	_       struct{} `cbor:",toarray"`
	Size    uint64
	Network string      // of the uploader; or ""
	At      int64       // when it began; Unix time in nanoseconds
	Until   wire.Height // forgotten after that
	Mark    uint64      // its bytes when Until was set
	Whole   bool        // its file is, or is about to be, in dirBlobs
}

// overhead is what a blob costs besides its bytes, and maxWaits the maximum number
// of records.
const (
	overhead = 8192
	maxWaits = 1024
)

func (w *waiting) weight() uint64 { return w.Size + overhead }

// Blobs is the room. It is a p2p.Blobs.
type Blobs struct {
	cfg Config

	// changing is held while records change, a blob gets its name, or a file is
	// removed. It is never taken inside a transaction.
	changing sync.Mutex

	mu     sync.Mutex
	files  map[wire.Hash]uint64 // sizes of the blobs
	bytes  uint64               // of them
	waits  map[waitKey]waiting  // as stored
	active map[waitKey]*transfer
	loose  map[wire.Hash]bool        // perhaps held by nobody
	doomed wire.Hash                 // is being removed
	seen   map[wire.Hash]os.FileInfo // verified since the start

	step func(string) // called between two steps, in tests
}

// New returns a room. It deletes files that belong to nothing.
func New(ctx context.Context, cfg Config) (*Blobs, error) {
	if cfg.Policy == (Policy{}) {
		cfg.Policy = Default
	}
	b := &Blobs{cfg: cfg, files: map[wire.Hash]uint64{}, waits: map[waitKey]waiting{}, active: map[waitKey]*transfer{},
		loose: map[wire.Hash]bool{}, seen: map[wire.Hash]os.FileInfo{}, step: func(string) {}}
	if b.cfg.Log == nil {
		b.cfg.Log = slog.New(slog.DiscardHandler)
	}
	return b, cfg.Store.View(ctx, func(tx engine.Tx) error {
		partial := map[string]bool{}
		if err := tx.Scan(bucketWait, nil, 0, func(key, raw []byte) error {
			var w waiting
			if err := wire.Unmarshal(raw, &w); err != nil || len(key) != len(waitKey{}) {
				return fmt.Errorf("a record of blobs: %w", err)
			}
			k := waitKey(key)
			b.waits[k] = w
			partial[k.nameOf().String()] = true
			return nil
		}); err != nil {
			return err
		}
		if err := cfg.Files.Sweep(dirPartial, b.cfg.Log, func(name string) (bool, error) { return partial[name], nil }); err != nil {
			return err
		}
		return cfg.Files.Sweep(dirBlobs, b.cfg.Log, func(name string) (bool, error) {
			raw, err := hex.DecodeString(name)
			if err != nil || len(raw) != len(wire.Hash{}) {
				return false, nil
			}
			digest := wire.Hash(raw)
			needed, err := referenced(tx, digest)
			if err != nil || !needed {
				return needed, err
			}
			st, err := os.Stat(b.path(digest))
			if err != nil {
				return true, err
			}
			b.add(digest, uint64(st.Size()))
			return true, nil
		})
	})
}

// referenced reports whether anybody holds a blob, or brings it.
func referenced(tx engine.Tx, digest wire.Hash) (yes bool, err error) {
	for _, bucket := range []string{bucketHold, bucketWait} {
		if err := tx.Scan(bucket, digest[:], 1, func(_, _ []byte) error { yes = true; return nil }); err != nil || yes {
			return yes, err
		}
	}
	return false, nil
}

func (b *Blobs) path(digest wire.Hash) string { return b.cfg.Files.Path(dirBlobs, digest, "") }
func (b *Blobs) partial(k waitKey) string     { return b.cfg.Files.Path(dirPartial, k.nameOf(), "") }

// add counts a file; mu is held, or nobody else has the room yet.
func (b *Blobs) add(digest wire.Hash, size uint64) {
	b.bytes += size - b.files[digest]
	b.files[digest] = size
}

// drop undoes add; mu is held.
func (b *Blobs) drop(digest wire.Hash) {
	b.bytes -= b.files[digest]
	delete(b.files, digest)
	delete(b.seen, digest)
}

// Has reports whether a blob is here, and its size.
func (b *Blobs) Has(digest wire.Hash) (size uint64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	size, ok = b.files[digest]
	return size, ok && b.doomed != digest
}

// Hold holds a blob for a contract until a height, in a transaction of the engine;
// again to change the height. It returns ErrMissing if the blob is not here.
func (b *Blobs) Hold(tx engine.Tx, digest, holder wire.Hash, until wire.Height) error {
	if _, ok := b.Has(digest); !ok {
		return fmt.Errorf("%w: %s", ErrMissing, digest)
	}
	if err := tx.Put(bucketHolder, join(holder, digest), []byte{}); err != nil {
		return err
	}
	return tx.Put(bucketHold, join(digest, holder), binary.BigEndian.AppendUint32(nil, uint32(until)))
}

func join(a, b wire.Hash) []byte { return append(bytes.Clone(a[:]), b[:]...) }

// Release releases all blobs of a holder, in a transaction of the engine. Files
// that nobody holds any more are removed after it.
func (b *Blobs) Release(tx engine.Tx, holder wire.Hash) error {
	return tx.Scan(bucketHolder, holder[:], 0, func(key, _ []byte) error {
		digest := wire.Hash(key[32:])
		b.loosen(digest)
		return errors.Join(tx.Delete(bucketHolder, key), tx.Delete(bucketHold, join(digest, holder)))
	})
}

func (b *Blobs) loosen(digest wire.Hash) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.loose[digest] = true
}

// Open opens a blob, once its content is verified, and returns its size. A file
// that is truncated or damaged is removed, and ErrMissing returned, so that the
// caller fetches it again. The result is also an io.ReaderAt.
func (b *Blobs) Open(digest wire.Hash) (*os.File, uint64, error) {
	if _, ok := b.Has(digest); !ok {
		return nil, 0, fmt.Errorf("%w: %s", ErrMissing, digest)
	}
	f, err := os.Open(b.path(digest))
	if errors.Is(err, os.ErrNotExist) {
		return nil, 0, b.damaged(digest, nil, "it is gone")
	}
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	b.mu.Lock()
	was := b.seen[digest]
	b.mu.Unlock()
	if was != nil && os.SameFile(was, st) && was.Size() == st.Size() && was.ModTime().Equal(st.ModTime()) {
		return f, uint64(st.Size()), nil
	}
	sum, err := sumOf(f)
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	if sum != digest {
		return nil, 0, errors.Join(b.damaged(digest, st, "its content has changed"), f.Close())
	}
	b.mu.Lock()
	b.seen[digest] = st
	b.mu.Unlock()
	_, err = f.Seek(0, io.SeekStart)
	return f, uint64(st.Size()), err
}

// Check verifies a blob's content even if nothing suggests that its file has
// changed. A reader calls it that found another content than it expected.
func (b *Blobs) Check(digest wire.Hash) error {
	b.mu.Lock()
	delete(b.seen, digest)
	b.mu.Unlock()
	f, _, err := b.Open(digest)
	if err != nil {
		return err
	}
	return f.Close()
}

// sumOf returns the digest of a file.
func sumOf(f *os.File) (sum wire.Hash, err error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return sum, err
	}
	h := blake3.New()
	_, err = io.CopyBuffer(h, struct{ io.Reader }{f}, make([]byte, 256<<10))
	h.Sum(sum[:0])
	return sum, err
}

// damaged forgets a damaged file, unless another has taken its place since; those
// who hold the blob fetch it again.
func (b *Blobs) damaged(digest wire.Hash, found os.FileInfo, how string) error {
	b.cfg.Log.Warn("a blob is damaged", "digest", digest.String(), "how", how)
	b.changing.Lock()
	defer b.changing.Unlock()
	now, err := os.Stat(b.path(digest))
	if err == nil && found != nil && !os.SameFile(found, now) {
		return fmt.Errorf("%w: %s: %s", ErrMissing, digest, how)
	}
	if err := disk.Remove(b.path(digest)); err != nil {
		return err
	}
	b.mu.Lock()
	b.drop(digest)
	b.mu.Unlock()
	return fmt.Errorf("%w: %s: %s", ErrMissing, digest, how)
}

// Put stores what a reader gives, and keeps it for Policy.Keep blocks.
func (b *Blobs) Put(ctx context.Context, r io.Reader) (digest wire.Hash, size uint64, err error) {
	f, err := b.cfg.Files.Create()
	if err != nil {
		return digest, 0, err
	}
	defer f.Discard()
	h := blake3.New()
	for end := false; !end; {
		const part = 16 << 20
		give, err := b.cfg.Files.Reserve(part)
		if err != nil {
			return digest, 0, fmt.Errorf("%w: %w", ErrFull, err)
		}
		n, err := io.CopyN(io.MultiWriter(f, h), r, part)
		give()
		if end = errors.Is(err, io.EOF); err != nil && !end {
			return digest, 0, err
		}
		if size += uint64(n); size > b.cfg.Policy.MaxBlob {
			return digest, 0, fmt.Errorf("%w: more than %d bytes", ErrTooBig, b.cfg.Policy.MaxBlob)
		}
		if ctx.Err() != nil {
			return digest, 0, ctx.Err()
		}
	}
	h.Sum(digest[:0])
	k := keyOf(digest, own, wire.Key{})
	if err := b.admit(ctx, k, size, ""); err != nil {
		return digest, 0, err
	}
	return digest, size, b.name(ctx, k, f)
}

// name makes a verified file the blob of its digest, and keeps it for some blocks
// more.
func (b *Blobs) name(ctx context.Context, k waitKey, f *disk.Partial) error {
	if err := f.Sync(); err != nil { // before others wait
		return err
	}
	b.step("synced")
	b.changing.Lock()
	defer b.changing.Unlock()
	w, ok := b.record(k)
	if !ok {
		return errForgotten
	}
	w.Whole, w.Mark, w.Until = true, w.Size, b.cfg.Height()+wire.Height(b.cfg.Policy.Keep)
	if err := b.save(ctx, k, w); err != nil {
		return err
	}
	b.step("recorded")
	digest := k.digest()
	// In place of one that is here: this one is verified.
	if err := f.Keep(b.path(digest)); err != nil {
		return err
	}
	b.step("named")
	b.mu.Lock()
	defer b.mu.Unlock()
	b.add(digest, w.Size)
	delete(b.seen, digest)
	return nil
}

// errForgotten: a transfer lost its record to others, or took too long.
var errForgotten = fmt.Errorf("%w: others need it", ErrFull)

func (b *Blobs) record(k waitKey) (waiting, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w, ok := b.waits[k]
	return w, ok
}

// save stores a record and forgets others; changing is held.
func (b *Blobs) save(ctx context.Context, k waitKey, w waiting, forget ...waitKey) error {
	if err := b.cfg.Store.Update(ctx, func(tx engine.Tx) error {
		for _, f := range forget {
			if err := tx.Delete(bucketWait, f[:]); err != nil {
				return err
			}
		}
		if w == (waiting{}) {
			return nil
		}
		raw, err := wire.Marshal(&w)
		if err != nil {
			return err
		}
		return tx.Put(bucketWait, k[:], raw)
	}); err != nil {
		return err
	}
	b.mu.Lock()
	for _, f := range forget {
		delete(b.waits, f)
		b.loose[f.digest()] = true
	}
	if w != (waiting{}) {
		b.waits[k] = w
	}
	b.mu.Unlock()
	for _, f := range forget {
		if f != k && !b.stop(f) {
			if err := disk.Remove(b.partial(f)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Clean forgets what has expired, and removes blobs that nobody holds.
func (b *Blobs) Clean(ctx context.Context) error {
	tip := b.cfg.Height()
	if err := b.cfg.Store.Update(ctx, func(tx engine.Tx) error {
		return tx.Scan(bucketHold, nil, 0, func(key, until []byte) error {
			if len(key) != 64 || len(until) != 4 || wire.Height(binary.BigEndian.Uint32(until)) >= tip {
				return nil
			}
			digest, holder := wire.Hash(key[:32]), wire.Hash(key[32:])
			b.loosen(digest)
			return errors.Join(tx.Delete(bucketHold, key), tx.Delete(bucketHolder, join(holder, digest)))
		})
	}); err != nil {
		return err
	}
	b.step("expired")
	b.changing.Lock()
	defer b.changing.Unlock()
	var late []waitKey
	b.mu.Lock()
	for k, w := range b.waits {
		if w.Until < tip && b.active[k] == nil {
			late = append(late, k)
		}
	}
	b.mu.Unlock()
	if len(late) > 0 {
		if err := b.save(ctx, waitKey{}, waiting{}, late...); err != nil {
			return err
		}
	}
	b.step("forgotten")
	b.mu.Lock()
	loose := b.loose
	b.loose = map[wire.Hash]bool{}
	b.mu.Unlock()
	var errs []error
	for digest := range loose {
		if err := b.remove(ctx, digest); err != nil {
			b.loosen(digest)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// remove removes a blob unless somebody needs it; changing is held. A
// transaction with Hold either is committed when the look is, which comes after it,
// or finds the blob missing.
func (b *Blobs) remove(ctx context.Context, digest wire.Hash) error {
	b.mu.Lock()
	_, here := b.files[digest]
	if here {
		b.doomed = digest
	}
	b.mu.Unlock()
	if !here {
		return nil
	}
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.doomed = wire.Hash{}
	}()
	var needed bool
	if err := b.cfg.Store.Update(ctx, func(tx engine.Tx) (err error) {
		needed, err = referenced(tx, digest)
		return err
	}); err != nil || needed {
		return err
	}
	if err := disk.Remove(b.path(digest)); err != nil {
		return err
	}
	b.step("removed")
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop(digest)
	return nil
}

// Run cleans after every new block, and soon after a release, until ctx ends.
func (b *Blobs) Run(ctx context.Context) {
	const pause = 10 * time.Second
	var last wire.Height
	for tick := time.NewTicker(pause); ; {
		b.mu.Lock()
		loose := len(b.loose)
		b.mu.Unlock()
		if tip := b.cfg.Height(); tip != last || loose > 0 {
			if err := b.Clean(ctx); err != nil && ctx.Err() == nil {
				b.cfg.Log.Error("blobs cannot be removed", "err", err)
			} else {
				last = tip
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return
		}
	}
}

// Stored reports what the room stores.
type Stored struct {
	Blobs   int    `json:"blobs"`
	Bytes   uint64 `json:"bytes"`   // of them
	Waiting uint64 `json:"waiting"` // bytes of uploads, whole or not
}

// Stored reports what the room stores.
func (b *Blobs) Stored() (s Stored) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.Blobs, s.Bytes = len(b.files), b.bytes
	for k, w := range b.waits {
		if k.source() == uploaded {
			s.Waiting += w.Size
		}
	}
	return s
}
