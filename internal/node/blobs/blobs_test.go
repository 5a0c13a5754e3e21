package blobs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node/disk"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/store"
	"github.com/bitgram/bitgram/internal/testing/conform"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

var must, wantErr = conform.Must, conform.WantErr

func TestMain(m *testing.M) { os.Exit(m.Run()) }

// home is a room with its files and store.
type home struct {
	*Blobs
	t      testing.TB
	dir    string
	store  *store.Store
	files  *disk.Files
	height atomic.Uint32
	host   *p2p.Host
	me     wire.Secret
	to     wire.Peer
	// wrap, if set, changes the service.
	wrap  func(p2p.Blobs) p2p.Blobs
	cfg   Config
	frame time.Duration // the host's limit of a pause
}

var small = Policy{MaxBlob: 64 << 20, MaxStored: 256 << 20, MaxWaiting: 128 << 20, Keep: 3}

var homes atomic.Uint32

// open opens a room in a directory, with a host.
func open(t testing.TB, dir string, cfg Config, wrap func(p2p.Blobs) p2p.Blobs, frame ...time.Duration) *home {
	t.Helper()
	h := &home{t: t, dir: dir, cfg: cfg, wrap: wrap, frame: append(frame, 5*time.Second)[0]}
	n := homes.Add(1)
	h.me = wire.Secret{29: byte(n >> 8), 30: byte(n), 31: 1}
	h.height.Store(100)
	h.start()
	t.Cleanup(func() { h.close() })
	return h
}

func (h *home) start() {
	h.t.Helper()
	var err error
	h.files, err = disk.Open(h.dir, Dirs...)
	must(h.t, err)
	h.store, err = store.Open(filepath.Join(h.dir, "db"))
	must(h.t, err)
	cfg := h.cfg
	if cfg.Policy == (Policy{}) {
		cfg.Policy = small
	}
	cfg.Store, cfg.Files = h.store, h.files
	cfg.Height = func() wire.Height { return wire.Height(h.height.Load()) }
	h.Blobs, err = New(h.t.Context(), cfg)
	must(h.t, err)
	var service p2p.Blobs = h.Blobs
	if h.wrap != nil {
		service = h.wrap(service)
	}
	h.host, err = p2p.New(p2p.Config{Identity: h.me, Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Blobs: service,
		Limits: p2p.Limits{Frame: h.frame, MinRate: 1 << 20, Streams: 256}})
	must(h.t, err)
	h.Blobs.cfg.Host = h.host
	h.to = wire.Peer{Key: h.owner().Key, Addrs: h.host.Addrs()}
}

func (h *home) close() {
	_ = h.host.Close()
	_ = h.store.Close()
}

func (h *home) restart() {
	h.t.Helper()
	h.close()
	h.start()
}

func (h *home) owner() p2p.Owner { return owner(h.t, h.me) }

func owner(t testing.TB, s wire.Secret) p2p.Owner {
	t.Helper()
	o, err := p2p.OwnerOf(s)
	must(t, err)
	return o
}

// content returns bytes that derive from a number, and their digest.
func content(n uint64, size int) ([]byte, wire.Hash) {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)})
	_, _ = r.Read(b)
	return b, blake3.Sum256(b)
}

// holds checks that a room has a blob of this content.
func (h *home) holds(want []byte) {
	h.t.Helper()
	f, size, err := h.Open(blake3.Sum256(want))
	must(h.t, err)
	defer f.Close()
	got, err := io.ReadAll(f)
	must(h.t, err)
	if !bytes.Equal(got, want) || size != uint64(len(want)) {
		h.t.Fatalf("%d bytes of %d, or others", len(got), len(want))
	}
}

// tidy checks the files of a room: each blob is whole, counted and needed by
// somebody, and nothing else is there.
func (h *home) tidy() {
	h.t.Helper()
	var total uint64
	list, err := os.ReadDir(filepath.Join(h.dir, dirBlobs))
	must(h.t, err)
	for _, e := range list {
		raw, err := os.ReadFile(filepath.Join(h.dir, dirBlobs, e.Name()))
		must(h.t, err)
		sum := wire.Hash(blake3.Sum256(raw))
		if sum.String() != e.Name() {
			h.t.Errorf("%s contains %s", e.Name(), sum)
		}
		must(h.t, h.store.View(h.t.Context(), func(tx engine.Tx) error {
			if needed, err := referenced(tx, sum); err != nil || !needed {
				h.t.Errorf("nobody needs %s (%v)", e.Name(), err)
			}
			return nil
		}))
		total += uint64(len(raw))
	}
	if s := h.Stored(); s.Blobs != len(list) || s.Bytes != total {
		h.t.Errorf("it counts %+v, has %d of %d bytes", s, len(list), total)
	}
	partial := map[string]bool{}
	h.mu.Lock()
	for k := range h.waits {
		partial[k.nameOf().String()] = true
	}
	h.mu.Unlock()
	list, err = os.ReadDir(filepath.Join(h.dir, dirPartial))
	must(h.t, err)
	for _, e := range list {
		if !partial[e.Name()] {
			h.t.Errorf("a part of nothing: %s", e.Name())
		}
	}
}

func (h *home) count(dir string) int {
	h.t.Helper()
	list, err := os.ReadDir(filepath.Join(h.dir, dir))
	must(h.t, err)
	return len(list)
}

func (h *home) hold(digest, holder wire.Hash, until wire.Height) error {
	return h.store.Update(h.t.Context(), func(tx engine.Tx) error { return h.Hold(tx, digest, holder, until) })
}

func (h *home) release(holder wire.Hash) {
	h.t.Helper()
	must(h.t, h.store.Update(h.t.Context(), func(tx engine.Tx) error { return h.Release(tx, holder) }))
}

// cutting is a service whose channel is cut after some bytes of each of the first
// bodies.
type cutting struct {
	p2p.Blobs
	mu       sync.Mutex
	cuts     []int // after how many bytes
	received int   // in all
}

func (c *cutting) next() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.cuts) == 0 {
		return -1
	}
	n := c.cuts[0]
	c.cuts = c.cuts[1:]
	return n
}

func (c *cutting) Receive(ctx context.Context, from p2p.Caller, owner wire.Key, put *wire.BlobPut, proceed func(uint64) (io.ReadCloser, error)) error {
	return c.Blobs.Receive(ctx, from, owner, put, func(have uint64) (io.ReadCloser, error) {
		r, err := proceed(have)
		if err != nil {
			return nil, err
		}
		return &cut{ReadCloser: r, c: c, left: c.next()}, nil
	})
}

func (c *cutting) Blob(ctx context.Context, from p2p.Caller, owner wire.Key, get *wire.BlobGet) (io.ReadCloser, *wire.BlobPart, error) {
	r, part, err := c.Blobs.Blob(ctx, from, owner, get)
	if err != nil {
		return nil, nil, err
	}
	return &cut{ReadCloser: r, c: c, left: c.next()}, part, nil
}

type cut struct {
	io.ReadCloser
	c    *cutting
	left int // negative: never
}

func (x *cut) Read(p []byte) (int, error) {
	if x.left == 0 {
		time.Sleep(200 * time.Millisecond) // what is on its way arrives
		_ = x.ReadCloser.Close()
		return 0, errors.New("cut")
	}
	if x.left > 0 {
		p = p[:min(len(p), x.left)]
	}
	n, err := x.ReadCloser.Read(p)
	if x.left > 0 {
		x.left -= n
	}
	x.c.mu.Lock()
	x.c.received += n
	x.c.mu.Unlock()
	return n, err
}

func all(context.Context, wire.Key, wire.Hash) bool { return true }

// mib is the unit of large transfers: 1 MiB, and less if the race detector makes
// ciphers slow.
var mib = func() int {
	if tier.Race {
		return 1 << 17
	}
	return 1 << 20
}()

// TestUploadResumed: an upload that is cut off goes on where it was, also after a
// restart of either side, and no byte crosses twice.
func TestUploadResumed(t *testing.T) {
	t.Parallel()
	c := &cutting{cuts: []int{mib, 100_000}}
	node := open(t, t.TempDir(), Config{}, func(b p2p.Blobs) p2p.Blobs { c.Blobs = b; return c })
	buyer := open(t, t.TempDir(), Config{}, nil)
	want, digest := content(1, 4*mib+17)
	put, size, err := buyer.Put(t.Context(), bytes.NewReader(want))
	must(t, err)
	if put != digest || size != uint64(len(want)) {
		t.Fatal(put, size)
	}
	var at []uint64
	must(t, buyer.Upload(t.Context(), node.to, buyer.owner(), digest, func(done, total uint64) { at = append(at, done) }))
	node.holds(want)
	if at[len(at)-1] != size || len(c.cuts) != 0 {
		t.Errorf("ends at %d; %d cuts to come", at[len(at)-1], len(c.cuts))
	}
	if c.received > int(size) {
		t.Errorf("%d bytes were received of %d", c.received, size)
	}
	// Again: it is there.
	c.received = 0
	must(t, buyer.Upload(t.Context(), node.to, buyer.owner(), digest, nil))
	if c.received != 0 {
		t.Errorf("%d bytes again", c.received)
	}

	// A cut that outlives both processes.
	want, digest = content(2, 3*mib)
	_, _, err = buyer.Put(t.Context(), bytes.NewReader(want))
	must(t, err)
	c.cuts = []int{mib, 0, 0}
	wantErr(t, buyer.Upload(t.Context(), node.to, buyer.owner(), digest, nil), p2p.ErrUnreachable)
	node.restart()
	buyer.restart()
	c.received, c.cuts = 0, nil
	must(t, buyer.Upload(t.Context(), node.to, buyer.owner(), digest, nil))
	node.holds(want)
	if c.received != 2*mib {
		t.Errorf("%d bytes after the restart", c.received)
	}
	for _, size := range []int{0, 1} {
		want, digest = content(3, size)
		_, _, err = buyer.Put(t.Context(), bytes.NewReader(want))
		must(t, err)
		must(t, buyer.Upload(t.Context(), node.to, buyer.owner(), digest, nil))
		node.holds(want)
	}
	node.tidy()
	if n := node.count(dirPartial); n != 0 {
		t.Errorf("%d parts are left", n)
	}
}

// TestFetchResumed: so does a download, from one peer or another.
func TestFetchResumed(t *testing.T) {
	t.Parallel()
	c := &cutting{cuts: []int{mib, 100_000}}
	node := open(t, t.TempDir(), Config{Allows: all}, func(b p2p.Blobs) p2p.Blobs { c.Blobs = b; return c })
	want, digest := content(1, 4*mib+17)
	_, _, err := node.Put(t.Context(), bytes.NewReader(want))
	must(t, err)
	buyer := open(t, t.TempDir(), Config{}, nil)
	wantErr(t, buyer.Fetch(t.Context(), node.to, buyer.owner(), digest, uint64(mib), nil), ErrTooBig)
	if n := buyer.count(dirPartial); n != 0 {
		t.Errorf("%d parts of what is too big", n)
	}
	c.cuts, c.received = []int{mib, 100_000}, 0
	must(t, buyer.Fetch(t.Context(), node.to, buyer.owner(), digest, uint64(5*mib), nil))
	buyer.holds(want)
	// What a cut has swallowed on its way is sent again.
	if most := len(want) + 2*mib; c.received > most || len(c.cuts) != 0 {
		t.Errorf("%d bytes were sent", c.received)
	}
	want, digest = content(2, 3*mib)
	_, _, err = node.Put(t.Context(), bytes.NewReader(want))
	must(t, err)
	c.cuts = []int{2 * mib, 0, 0, 0, 0}
	wantErr(t, buyer.Fetch(t.Context(), node.to, buyer.owner(), digest, uint64(5*mib), nil), p2p.ErrUnreachable)
	buyer.restart()
	c.cuts = nil
	must(t, buyer.Fetch(t.Context(), node.to, buyer.owner(), digest, uint64(5*mib), nil))
	buyer.holds(want)
	must(t, buyer.Fetch(t.Context(), node.to, buyer.owner(), digest, uint64(5*mib), nil)) // is there
	for _, size := range []int{0, 1} {
		want, digest = content(3, size)
		_, _, err = node.Put(t.Context(), bytes.NewReader(want))
		must(t, err)
		must(t, buyer.Fetch(t.Context(), node.to, buyer.owner(), digest, 1, nil))
		buyer.holds(want)
	}
	buyer.tidy()
}

// put uploads bytes as a stranger would, who need not have the blob.
func put(t testing.TB, node *home, from *p2p.Host, as p2p.Owner, digest wire.Hash, size uint64, body io.Reader) (have uint64, err error) {
	t.Helper()
	err = from.PutBlob(t.Context(), node.to, as, &wire.BlobPut{Digest: digest, Size: size}, func(h uint64) (io.Reader, error) {
		have = h
		if s, ok := body.(io.Seeker); ok {
			if _, err := s.Seek(int64(h), io.SeekStart); err != nil {
				return nil, err
			}
		}
		return body, nil
	})
	return have, err
}

func caller(t testing.TB) *p2p.Host {
	t.Helper()
	h, err := p2p.New(p2p.Config{Limits: p2p.Limits{Frame: 5 * time.Second, MinRate: 1 << 20, Streams: 64}})
	must(t, err)
	t.Cleanup(func() { h.Close() })
	return h
}

func refusedAs(t testing.TB, err error, code wire.Code) {
	t.Helper()
	var r *p2p.Refused
	if !errors.As(err, &r) || r.Code != code {
		t.Fatalf("%v, not refused as %v", err, code)
	}
}

// TestLiars: who uploads another blob loses what he sent, and another uploader of
// the same digest nothing; a peer that answers with another blob is named, and
// what an honest one has sent stays.
func TestLiars(t *testing.T) {
	t.Parallel()
	c := &cutting{}
	node := open(t, t.TempDir(), Config{Allows: all}, func(b p2p.Blobs) p2p.Blobs { c.Blobs = b; return c })
	want, digest := content(1, 3*mib)
	honest, liar, from := owner(t, wire.Secret{31: 7}), owner(t, wire.Secret{31: 8}), caller(t)
	c.cuts = []int{mib}
	_, err := put(t, node, from, honest, digest, uint64(len(want)), bytes.NewReader(want))
	wantErr(t, err, p2p.ErrUnreachable)
	false1, _ := content(9, len(want))
	_, err = put(t, node, from, liar, digest, uint64(len(want)), bytes.NewReader(false1))
	refusedAs(t, err, wire.BadRequest)
	if n := node.count(dirPartial); n != 1 {
		t.Errorf("%d parts", n)
	}
	have, err := put(t, node, from, liar, digest, uint64(len(want)), bytes.NewReader(false1[:mib]))
	if err == nil || have != 0 {
		t.Errorf("the liar goes on at %d (%v)", have, err)
	}
	have, err = put(t, node, from, honest, digest, uint64(len(want)), bytes.NewReader(want))
	must(t, err)
	if have != uint64(mib) {
		t.Errorf("the honest uploader goes on at %d", have)
	}
	node.holds(want)

	buyer := open(t, t.TempDir(), Config{}, nil)
	c.cuts = []int{mib, 0, 0, 0, 0}
	wantErr(t, buyer.Fetch(t.Context(), node.to, buyer.owner(), digest, uint64(4*mib), nil), p2p.ErrUnreachable)
	for _, what := range []any{false1, false1[:len(false1)-1], append(bytes.Clone(want), 1)} {
		bad := open(t, t.TempDir(), Config{}, func(p2p.Blobs) p2p.Blobs { return fixed(what.([]byte)) })
		wantErr(t, buyer.Fetch(t.Context(), bad.to, buyer.owner(), digest, uint64(4*mib), nil), ErrLied)
	}
	if n := buyer.count(dirPartial); n != 1 {
		t.Errorf("%d parts", n)
	}
	if _, ok := buyer.Has(digest); ok {
		t.Error("the lie is here")
	}
	c.cuts = nil
	must(t, buyer.Fetch(t.Context(), node.to, buyer.owner(), digest, uint64(4*mib), nil))
	buyer.holds(want)
	buyer.tidy()
	node.tidy()
}

// fixed answers every request with the same bytes.
type fixed []byte

func (f fixed) Receive(context.Context, p2p.Caller, wire.Key, *wire.BlobPut, func(uint64) (io.ReadCloser, error)) error {
	return errors.New("not asked")
}

func (f fixed) Blob(_ context.Context, _ p2p.Caller, _ wire.Key, g *wire.BlobGet) (io.ReadCloser, *wire.BlobPart, error) {
	return io.NopCloser(bytes.NewReader(f[g.From:])), &wire.BlobPart{Size: uint64(len(f)), Bytes: uint64(len(f)) - g.From}, nil
}

// TestStalled: while a peer stalls, others are served, and its next connection goes
// on at once, without waiting for the older one.
func TestStalled(t *testing.T) {
	node := open(t, t.TempDir(), Config{Allows: all}, nil, time.Minute)
	want, digest := content(1, 2*mib)
	one, other, from := owner(t, wire.Secret{31: 7}), owner(t, wire.Secret{31: 8}), caller(t)
	r, w := io.Pipe()
	defer w.Close()
	stalled := make(chan error, 1)
	go func() {
		_, err := put(t, node, from, one, digest, uint64(len(want)), r)
		stalled <- err
	}()
	_, err := w.Write(want[:mib])
	must(t, err)
	_, err = put(t, node, caller(t), other, digest, uint64(len(want)), bytes.NewReader(want))
	must(t, err)
	node.holds(want)
	// The bytes on their way arrive.
	k := keyOf(digest, uploaded, one.Key)
	for end := time.Now().Add(10 * time.Second); node.arrived(k) < uint64(mib) && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	start := time.Now()
	have, err := put(t, node, caller(t), one, digest, uint64(len(want)), bytes.NewReader(want))
	must(t, err)
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("it waited %v for its older connection", took)
	}
	if have == 0 {
		t.Error("it begins again")
	}
	_ = w.CloseWithError(errors.New("no more"))
	if err := <-stalled; err == nil {
		t.Error("the stalled upload succeeded")
	}
}

// TestStallsEnd: each side drops the other if it stalls.
func TestStallsEnd(t *testing.T) {
	t.Parallel()
	tier.NotShort(t)
	node := open(t, t.TempDir(), Config{}, nil, 2*time.Second)
	want, digest := content(1, 2*mib)
	r, w := io.Pipe()
	stalled := make(chan error, 1)
	go func() {
		_, err := put(t, node, caller(t), owner(t, wire.Secret{31: 7}), digest, uint64(len(want)), r)
		stalled <- err
	}()
	_, err := w.Write(want[:mib])
	must(t, err)
	idle := func() bool {
		node.mu.Lock()
		defer node.mu.Unlock()
		return len(node.active) == 0
	}
	for end := time.Now().Add(30 * time.Second); !idle(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the server waits for ever")
		}
	}
	_ = w.CloseWithError(errors.New("no more"))
	if err := <-stalled; err == nil {
		t.Error("the stalled upload succeeded")
	}
	slow := open(t, t.TempDir(), Config{}, func(p2p.Blobs) p2p.Blobs { return stalls{} })
	buyer := open(t, t.TempDir(), Config{}, nil, 2*time.Second)
	wantErr(t, buyer.Fetch(t.Context(), slow.to, buyer.owner(), digest, uint64(4*mib), nil), p2p.ErrUnreachable)
}

// stalls answers with a body that never comes.
type stalls struct{ fixed }

func (stalls) Blob(context.Context, p2p.Caller, wire.Key, *wire.BlobGet) (io.ReadCloser, *wire.BlobPart, error) {
	r, w := io.Pipe()
	time.AfterFunc(20*time.Second, func() { _ = w.Close() })
	return r, &wire.BlobPart{Size: 1 << 20, Bytes: 1 << 20}, nil
}

// TestDiskFull: an upload that would use the last of the disk is refused before its
// body, and goes on once there is room.
func TestDiskFull(t *testing.T) {
	policy := small
	policy.MaxBlob, policy.MaxStored, policy.MaxWaiting = 1<<30, 2<<30, 2<<30
	node := open(t, t.TempDir(), Config{Policy: policy}, nil)
	want, digest := content(1, 1<<20)
	low, high := uint64(0), uint64(1<<62)
	for high-low > 1<<19 {
		mid := low + (high-low)/2
		if give, err := node.files.Reserve(mid); err == nil {
			low = mid
			give()
		} else {
			high = mid
		}
	}
	if low < 1<<28 {
		t.Fatalf("only %d bytes are free here", low)
	}
	give, err := node.files.Reserve(low) // another transfer's
	must(t, err)
	one, from := owner(t, wire.Secret{31: 7}), caller(t)
	big := policy.MaxBlob
	_, err = put(t, node, from, one, digest, big, bytes.NewReader(want))
	refusedAs(t, err, wire.Full)
	_, _, err = node.Put(t.Context(), bytes.NewReader(want))
	wantErr(t, err, ErrFull)
	_, err = put(t, node, from, one, digest, big+1, bytes.NewReader(want))
	refusedAs(t, err, wire.TooBig)
	give()
	_, err = put(t, node, from, one, digest, uint64(len(want)), bytes.NewReader(want))
	must(t, err)
	node.holds(want)
	node.tidy()
}

// TestTwoUploaders: two uploaders of one digest make one file, which stays until
// neither they nor a contract need it; the second must send it, too, and so learns
// nothing.
func TestTwoUploaders(t *testing.T) {
	c := &cutting{}
	node := open(t, t.TempDir(), Config{Allows: func(_ context.Context, k wire.Key, _ wire.Hash) bool {
		return k == owner(t, wire.Secret{31: 9}).Key
	}}, func(b p2p.Blobs) p2p.Blobs { c.Blobs = b; return c })
	want, digest := content(1, 1<<20)
	size, from := uint64(len(want)), caller(t)
	var wait sync.WaitGroup
	for n := range byte(2) {
		wait.Go(func() {
			if have, err := put(t, node, from, owner(t, wire.Secret{31: 7 + n}), digest, size, bytes.NewReader(want)); err != nil || have != 0 {
				t.Errorf("uploader %d goes on at %d: %v", n, have, err)
			}
		})
	}
	wait.Wait()
	if s := node.Stored(); s.Blobs != 1 || s.Bytes != size || s.Waiting != 2*size {
		t.Errorf("%+v", s)
	}
	// Who may fetch it learns that it is here.
	have, err := put(t, node, from, owner(t, wire.Secret{31: 9}), digest, size, bytes.NewReader(want))
	must(t, err)
	if have != size {
		t.Errorf("goes on at %d", have)
	}
	node.tidy()

	one, two := wire.Hash{1}, wire.Hash{2}
	must(t, node.hold(digest, one, 200))
	must(t, node.hold(digest, two, 300))
	wantErr(t, node.hold(wire.Hash{9}, one, 200), ErrMissing)
	node.height.Add(small.Keep + 1)
	must(t, node.Clean(t.Context())) // the uploads are forgotten
	if s := node.Stored(); s.Waiting != 0 {
		t.Errorf("%+v", s)
	}
	node.holds(want)
	node.restart()
	node.release(one)
	must(t, node.Clean(t.Context()))
	node.holds(want)
	node.height.Store(301)
	must(t, node.Clean(t.Context()))
	if _, _, err := node.Open(digest); !errors.Is(err, ErrMissing) {
		t.Error(err)
	}
	node.tidy()
	if n := node.count(dirBlobs); n != 0 {
		t.Errorf("%d files", n)
	}
}

// TestRemovalRace: a contract that takes a blob while it is being removed either
// has it, or is told that it is missing.
func TestRemovalRace(t *testing.T) {
	node := open(t, t.TempDir(), Config{}, nil)
	for n := range uint64(40) {
		want, digest := content(n, 100)
		_, _, err := node.Put(t.Context(), bytes.NewReader(want))
		must(t, err)
		node.height.Add(small.Keep + 1)
		held := make(chan error, 1)
		go func() {
			time.Sleep(time.Duration(n) * 100 * time.Microsecond)
			held <- node.hold(digest, wire.Hash{1, byte(n)}, 1<<30-1)
		}()
		must(t, node.Clean(t.Context()))
		switch err := <-held; {
		case err == nil:
			node.holds(want)
		case !errors.Is(err, ErrMissing):
			t.Error(err)
		}
	}
	node.tidy()
}

// TestStranger: who may not fetch a blob is told the same whether it is here or
// not, and a proof is good for its key and channel only.
func TestStranger(t *testing.T) {
	friend := owner(t, wire.Secret{31: 9})
	node := open(t, t.TempDir(), Config{Allows: func(_ context.Context, k wire.Key, _ wire.Hash) bool { return k == friend.Key }}, nil)
	want, digest := content(1, 1000)
	_, _, err := node.Put(t.Context(), bytes.NewReader(want))
	must(t, err)
	buyer := open(t, t.TempDir(), Config{}, nil)
	var texts []string
	for _, d := range []wire.Hash{digest, {1}} {
		err := buyer.Fetch(t.Context(), node.to, owner(t, wire.Secret{31: 8}), d, 1<<20, nil)
		refusedAs(t, err, wire.Unknown)
		texts = append(texts, err.Error())
	}
	if texts[0] != texts[1] {
		t.Error(texts)
	}
	thief := p2p.Owner{Key: friend.Key, Sign: owner(t, wire.Secret{31: 8}).Sign}
	refusedAs(t, buyer.Fetch(t.Context(), node.to, thief, digest, 1<<20, nil), wire.WrongSecret)
	must(t, buyer.Fetch(t.Context(), node.to, friend, digest, 1<<20, nil))
	buyer.holds(want)
}

// TestDamaged: a blob that was truncated, changed or deleted on the disk is found,
// and fetched again.
func TestDamaged(t *testing.T) {
	node := open(t, t.TempDir(), Config{Allows: all}, nil)
	want, digest := content(1, 100_000)
	_, _, err := node.Put(t.Context(), bytes.NewReader(want))
	must(t, err)
	buyer := open(t, t.TempDir(), Config{Allows: all}, nil)
	must(t, buyer.Fetch(t.Context(), node.to, buyer.owner(), digest, 1<<20, nil))
	must(t, buyer.hold(digest, wire.Hash{1}, 1000))
	path := buyer.path(digest)
	damages := map[string]func() error{
		"truncated": func() error { return os.Truncate(path, 99_999) },
		"empty":     func() error { return os.Truncate(path, 0) },
		"longer":    func() error { return os.Truncate(path, 100_001) },
		"gone":      func() error { return os.Remove(path) },
		"changed": func() error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			must(t, err)
			_, err = f.WriteAt([]byte{want[5] ^ 1}, 5)
			return errors.Join(err, f.Close())
		},
	}
	for name, damage := range damages {
		for _, restart := range []bool{false, true} {
			buyer.holds(want)                 // verified
			time.Sleep(20 * time.Millisecond) // the clock of files is coarse
			must(t, damage())
			if restart {
				buyer.restart()
			}
			if _, _, err := buyer.Open(digest); !errors.Is(err, ErrMissing) {
				t.Errorf("%s: %v", name, err)
			}
			must(t, buyer.Fetch(t.Context(), node.to, buyer.owner(), digest, 1<<20, nil))
			buyer.holds(want)
			buyer.tidy()
		}
	}
	// A change that leaves no trace is found by who asks.
	st, err := os.Stat(path)
	must(t, err)
	must(t, damages["changed"]())
	must(t, os.Chtimes(path, st.ModTime(), st.ModTime()))
	wantErr(t, buyer.Check(digest), ErrMissing)
}

// receive uploads to a room without a channel.
func (h *home) receive(as wire.Key, network string, b []byte, size int) (have uint64, err error) {
	err = h.Blobs.Receive(h.t.Context(), p2p.Caller{Network: network}, as, &wire.BlobPut{Digest: blake3.Sum256(b), Size: uint64(size)}, func(n uint64) (io.ReadCloser, error) {
		have = n
		return io.NopCloser(bytes.NewReader(b[min(int(n), len(b)):])), nil
	})
	return have, err
}

func strangerKey(n int) wire.Key { return wire.Key{0: byte(n >> 8), 1: byte(n), 2: 1} }

func refusalOf(err error) wire.Code {
	var r *wire.Refusal
	if !errors.As(err, &r) {
		return wire.OK
	}
	return r.Code
}

// TestFlood: a flood displaces itself, whether it comes with one key or many; what
// contracts hold and what others upload stays.
func TestFlood(t *testing.T) {
	const room = 1 << 20
	for _, keys := range []int{1, 50} {
		t.Run(fmt.Sprint(keys, " keys"), func(t *testing.T) {
			node := open(t, t.TempDir(), Config{Policy: Policy{MaxBlob: room, MaxStored: 2 * room, MaxWaiting: room, Keep: 3}}, nil)
			paid, digest := content(1, room/2)
			_, err := node.receive(strangerKey(999), "3.3.3.0/24", paid, len(paid))
			must(t, err)
			must(t, node.hold(digest, wire.Hash{1}, 1000))
			others := map[string][]byte{}
			for n := range 3 {
				b, _ := content(uint64(100+n), 50_000)
				network := fmt.Sprintf("4.4.%d.0/24", n)
				_, err := node.receive(strangerKey(2000+n), network, b, len(b))
				must(t, err)
				others[network] = b
			}
			for n := range 100 {
				b, _ := content(uint64(1000+n), 30_000)
				// Some whole, some cut off, some lies.
				size := len(b)
				switch n % 3 {
				case 1:
					b = b[:1000]
				case 2:
					b = append(bytes.Clone(b), 1)
				}
				if _, err := node.receive(strangerKey(n%keys), "5.5.5.0/24", b, size); (err == nil) != (n%3 == 0) {
					t.Fatal(n, err)
				}
				if s := node.Stored(); s.Bytes > 2*room {
					t.Fatalf("%+v", s)
				}
			}
			node.holds(paid)
			for _, b := range others {
				node.holds(b)
			}
			// A newcomer finds a place, and the flood makes it.
			late, _ := content(5000, 200_000)
			_, err = node.receive(strangerKey(3000), "6.6.6.0/24", late, len(late))
			must(t, err)
			node.holds(late)
			must(t, node.Clean(t.Context()))
			node.tidy()
			for _, b := range others {
				node.holds(b)
			}
			// What cannot fit is refused, and displaces nobody.
			before := node.Stored()
			huge, _ := content(6000, room)
			if _, err := node.receive(strangerKey(3001), "5.5.5.0/24", huge, len(huge)); refusalOf(err) != wire.Full {
				t.Error(err)
			}
			if after := node.Stored(); after != before {
				t.Errorf("%+v, then %+v", before, after)
			}
			// In time the uploads go, and what is paid for stays.
			node.height.Add(4)
			must(t, node.Clean(t.Context()))
			if s := node.Stored(); s.Blobs != 1 || s.Waiting != 0 {
				t.Errorf("%+v", s)
			}
			node.holds(paid)
			node.tidy()
		})
	}
}

// TestQuota: all blobs together, contracts' included, stay within MaxStored.
func TestQuota(t *testing.T) {
	const room = 1 << 20
	node := open(t, t.TempDir(), Config{Policy: Policy{MaxBlob: room, MaxStored: 2 * room, MaxWaiting: room, Keep: 3}}, nil)
	for n := range 4 {
		b, digest := content(uint64(n), room/2)
		_, _, err := node.Put(t.Context(), bytes.NewReader(b))
		must(t, err)
		must(t, node.hold(digest, wire.Hash{1}, 1000))
	}
	b, _ := content(10, 1000)
	_, _, err := node.Put(t.Context(), bytes.NewReader(b))
	wantErr(t, err, ErrFull)
	if _, err := node.receive(strangerKey(1), "1.1.1.0/24", b, len(b)); refusalOf(err) != wire.Full {
		t.Error(err)
	}
	other := open(t, t.TempDir(), Config{Allows: all}, nil)
	digest, _, err := other.Put(t.Context(), bytes.NewReader(b))
	must(t, err)
	wantErr(t, node.Fetch(t.Context(), other.to, node.owner(), digest, room, nil), ErrFull)
	node.release(wire.Hash{1})
	node.height.Add(4)
	must(t, node.Clean(t.Context()))
	must(t, node.Fetch(t.Context(), other.to, node.owner(), digest, room, nil))
	node.tidy()
	_, _, err = node.Put(t.Context(), bytes.NewReader(make([]byte, room+1)))
	wantErr(t, err, ErrTooBig)
}

// TestSlowUploadExpires: an upload lives as long as it makes progress.
func TestSlowUploadExpires(t *testing.T) {
	node := open(t, t.TempDir(), Config{}, nil)
	b, digest := content(1, 64_000)
	k := strangerKey(1)
	send := func(to int) uint64 {
		t.Helper()
		have := uint64(0)
		err := node.Blobs.Receive(t.Context(), p2p.Caller{}, k, &wire.BlobPut{Digest: digest, Size: uint64(len(b))}, func(n uint64) (io.ReadCloser, error) {
			have = n
			return io.NopCloser(bytes.NewReader(b[n:max(int(n), to)])), nil
		})
		if to < len(b) && err == nil {
			t.Fatal("half of a blob is a blob")
		}
		return have
	}
	send(10_000)
	for n := range 5 { // progress
		node.height.Add(3)
		must(t, node.Clean(t.Context()))
		if have := send(20_000 + 10_000*n); have == 0 {
			t.Fatal("forgotten")
		}
	}
	node.height.Add(3)
	must(t, node.Clean(t.Context()))
	if have := send(60_001); have != 60_000 { // almost none
		t.Errorf("goes on at %d", have)
	}
	node.height.Add(1)
	must(t, node.Clean(t.Context()))
	if have := send(60_002); have != 0 {
		t.Errorf("goes on at %d", have)
	}
	node.tidy()
}

// TestBlobCrash: a home that is killed between any two steps has each blob whole or
// not at all, knows what it holds, keeps what had arrived, and goes on.
func TestBlobCrash(t *testing.T) {
	t.Parallel()
	const size = 200_000
	type killed struct{ step, dir string }
	var list []killed
	root := t.TempDir()
	dir := filepath.Join(root, "home")
	must(t, os.Mkdir(dir, 0o700))
	node := open(t, dir, Config{Allows: all}, nil)
	source := open(t, t.TempDir(), Config{Allows: all}, nil)
	uploadOf, upDigest := content(1, size)
	fetchOf, fetchDigest := content(2, size)
	putOf, putDigest := content(3, size)
	_, _, err := source.Put(t.Context(), bytes.NewReader(fetchOf))
	must(t, err)
	kill := func(step string) {
		at := filepath.Join(root, fmt.Sprint(len(list)))
		must(t, os.CopyFS(at, os.DirFS(dir)))
		list = append(list, killed{step, at})
	}
	node.step = kill
	k := strangerKey(1)
	// The story: an upload in two parts, a fetch, a blob of one's own; all are held,
	// released, and removed.
	_, err = node.receive(k, "", uploadOf[:size/2], size)
	if err == nil {
		t.Fatal("half a blob")
	}
	story := func(h *home, step func(string)) {
		_, err := h.receive(k, "", uploadOf, size)
		must(t, err)
		must(t, h.Fetch(t.Context(), source.to, h.owner(), fetchDigest, size, nil))
		_, _, err = h.Put(t.Context(), bytes.NewReader(putOf))
		must(t, err)
		for n, d := range []wire.Hash{upDigest, fetchDigest, putDigest} {
			must(t, h.hold(d, wire.Hash{1, byte(n)}, 1000))
		}
		step("held")
		h.height.Add(4)
		must(t, h.Clean(t.Context()))
		for _, b := range [][]byte{uploadOf, fetchOf, putOf} {
			h.holds(b)
		}
		for n := range 3 {
			h.release(wire.Hash{1, byte(n)})
		}
		step("released")
		must(t, h.Clean(t.Context()))
		h.tidy()
		if s := h.Stored(); s != (Stored{}) {
			t.Errorf("%+v is left", s)
		}
	}
	// An upload under another's digest of half the bytes was no blob: its sender has
	// to send the true half.
	half := func(h *home) {
		err := h.Blobs.Receive(t.Context(), p2p.Caller{}, k, &wire.BlobPut{Digest: upDigest, Size: size}, func(n uint64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(uploadOf[n:max(int(n), size/2)])), nil
		})
		if err == nil {
			t.Fatal("half a blob")
		}
	}
	half(node)
	story(node, kill)
	steps := map[string]int{}
	for _, x := range list {
		steps[x.step]++
	}
	for _, s := range []string{"admitted", "opened", "written", "hashed", "synced", "recorded", "named", "expired", "forgotten", "removed", "held", "released"} {
		if steps[s] == 0 {
			t.Errorf("nothing is killed after %q", s)
		}
	}
	for n, x := range list {
		t.Run(fmt.Sprint(n, " ", x.step), func(t *testing.T) {
			h := open(t, x.dir, Config{Allows: all}, nil)
			h.height.Store(node.height.Load())
			h.tidy()
			for _, b := range [][]byte{uploadOf, fetchOf, putOf} {
				if _, ok := h.Has(blake3.Sum256(b)); ok {
					h.holds(b)
				}
			}
			if slices.Contains([]string{"held"}, x.step) {
				for _, b := range [][]byte{uploadOf, fetchOf, putOf} {
					h.holds(b)
				}
			}
			for n := range 3 {
				h.release(wire.Hash{1, byte(n)})
			}
			story(h, func(string) {})
		})
	}
}
