package blobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node/disk"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/wire"
)

// transfer is the arrival of a blob from one source, of which there is one at a
// time.
type transfer struct {
	done    chan struct{}
	stopped bool      // its record is gone, or its sender begins again
	body    io.Closer // makes its reads fail
}

// begin begins a transfer after the one that there is, which it stops if the
// sender is the same and begins again: a connection that was cut may look alive for
// a while.
func (b *Blobs) begin(ctx context.Context, k waitKey, anew bool) (*transfer, error) {
	for {
		b.mu.Lock()
		old := b.active[k]
		if old == nil {
			t := &transfer{done: make(chan struct{})}
			b.active[k] = t
			b.mu.Unlock()
			return t, nil
		}
		b.mu.Unlock()
		if anew {
			b.stop(k)
		}
		select {
		case <-old.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// stop stops a transfer and reports whether there is one.
func (b *Blobs) stop(k waitKey) bool {
	b.mu.Lock()
	t := b.active[k]
	var body io.Closer
	if t != nil {
		t.stopped, body = true, t.body
	}
	b.mu.Unlock()
	if body != nil {
		_ = body.Close()
	}
	return t != nil
}

// attach gives a transfer its body, whose reads fail once it is stopped.
func (b *Blobs) attach(t *transfer, body io.Closer) {
	b.mu.Lock()
	t.body = body
	stopped := t.stopped
	b.mu.Unlock()
	if stopped {
		_ = body.Close()
	}
}

func (b *Blobs) isStopped(t *transfer) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return t.stopped
}

// end ends a transfer. What has arrived stays if its record does.
func (b *Blobs) end(k waitKey, t *transfer) {
	if _, ok := b.record(k); !ok {
		if err := disk.Remove(b.partial(k)); err != nil {
			b.cfg.Log.Error("a part of a blob cannot be removed", "err", err)
		}
	}
	b.mu.Lock()
	delete(b.active, k)
	b.mu.Unlock()
	close(t.done)
}

// admit stores the record of a blob that arrives, or refuses it with ErrFull. If
// there is no room, those uploads lose their places that belong to the network,
// then the owner, with the most bytes, the oldest first: who floods the room
// displaces himself.
func (b *Blobs) admit(ctx context.Context, k waitKey, size uint64, network string) error {
	b.changing.Lock()
	defer b.changing.Unlock()
	w, known := b.record(k)
	if known && w.Size == size {
		return b.advance(ctx, k, w)
	}
	if known { // of another size, by the same sender
		if err := disk.Remove(b.partial(k)); err != nil {
			return err
		}
	}
	w = waiting{Size: size, Network: network, At: time.Now().UnixNano(), Until: b.cfg.Height() + wire.Height(b.cfg.Policy.Keep)}
	losers, err := b.losers(ctx, k, w)
	if err != nil {
		return err
	}
	return b.save(ctx, k, w, losers...)
}

// advance gives a blob that arrives more time if a sixteenth of it has arrived since
// it was given some; changing is held.
func (b *Blobs) advance(ctx context.Context, k waitKey, w waiting) error {
	have := b.arrived(k)
	if k.source() == uploaded && (have < w.Mark || have-w.Mark < max(1, w.Size/16)) {
		return nil
	}
	w.Mark, w.Until = have, b.cfg.Height()+wire.Height(b.cfg.Policy.Keep)
	return b.save(ctx, k, w)
}

// pause ends a transfer that was cut, for its sender to go on later.
func (b *Blobs) pause(ctx context.Context, k waitKey, f *disk.Partial) error {
	if err := f.Pause(); err != nil {
		return err
	}
	b.changing.Lock()
	defer b.changing.Unlock()
	w, ok := b.record(k)
	if !ok {
		return nil
	}
	return b.advance(ctx, k, w)
}

// arrived returns how many bytes of a blob have arrived.
func (b *Blobs) arrived(k waitKey) uint64 {
	st, err := os.Stat(b.partial(k))
	if err != nil {
		return 0
	}
	return uint64(st.Size())
}

// losers returns the uploads that must give way to a new one; changing is held.
func (b *Blobs) losers(ctx context.Context, k waitKey, w waiting) (list []waitKey, err error) {
	b.mu.Lock()
	total, open := b.bytes+w.Size, uint64(0)
	waits := map[waitKey]waiting{k: w}
	for o, x := range b.waits {
		if o != k {
			waits[o] = x
		}
	}
	b.mu.Unlock()
	bringing := map[wire.Hash]int{}
	for o, x := range waits {
		bringing[o.digest()]++
		if o != k && !x.Whole {
			total += x.Size
		}
		if o.source() == uploaded {
			open += x.weight()
		}
	}
	p, count := &b.cfg.Policy, len(waits)
	full := func() bool {
		return total > p.MaxStored || open > p.MaxWaiting && k.source() == uploaded || count > maxWaits
	}
	if !full() {
		return nil, nil
	}
	// Uploads that contracts hold are paid for: they are not counted here, and stay.
	held := map[wire.Hash]bool{}
	if err := b.cfg.Store.View(ctx, func(tx engine.Tx) error {
		return tx.Scan(bucketHold, nil, 0, func(key, _ []byte) error {
			held[wire.Hash(key[:32])] = true
			return nil
		})
	}); err != nil {
		return nil, err
	}
	networks, owners := map[string]uint64{}, map[wire.Key]uint64{}
	var order []waitKey
	for o, x := range waits {
		if o.source() != uploaded {
			continue
		}
		if x.Whole && held[o.digest()] {
			open -= x.weight()
			continue
		}
		order = append(order, o)
		networks[x.Network] += x.weight()
		owners[wire.Key(o[33:])] += x.weight()
	}
	for full() {
		if len(order) == 0 {
			return nil, ErrFull
		}
		loser := slices.MinFunc(order, func(x, y waitKey) int {
			return cmp.Or(cmp.Compare(networks[waits[y].Network], networks[waits[x].Network]),
				cmp.Compare(owners[wire.Key(y[33:])], owners[wire.Key(x[33:])]), cmp.Compare(waits[x].At, waits[y].At))
		})
		if loser == k {
			return nil, ErrFull
		}
		x := waits[loser]
		networks[x.Network] -= x.weight()
		owners[wire.Key(loser[33:])] -= x.weight()
		open, count = open-x.weight(), count-1
		if bringing[loser.digest()]--; !x.Whole || bringing[loser.digest()] == 0 && !held[loser.digest()] {
			total -= x.Size
		}
		order = slices.DeleteFunc(order, func(o waitKey) bool { return o == loser })
		list = append(list, loser)
	}
	return list, nil
}

// finish verifies what has arrived, and makes it the blob. If it is another, it and
// its record are removed, and the error is ErrLied.
func (b *Blobs) finish(ctx context.Context, k waitKey, f *disk.Partial) error {
	sum, err := sumOf(f.File)
	if err != nil {
		return errors.Join(err, f.Pause())
	}
	b.step("hashed")
	if sum != k.digest() {
		f.Discard()
		b.changing.Lock()
		defer b.changing.Unlock()
		return errors.Join(fmt.Errorf("%w: its digest is %s, not %s", ErrLied, sum, k.digest()), b.save(ctx, k, waiting{}, k))
	}
	if err := b.name(ctx, k, f); err != nil {
		return errors.Join(err, f.Pause())
	}
	return nil
}

// Receive implements p2p.Blobs.
func (b *Blobs) Receive(ctx context.Context, from p2p.Caller, owner wire.Key, put *wire.BlobPut, proceed func(have uint64) (io.ReadCloser, error)) error {
	return b.refusal(b.receive(ctx, from, owner, put, proceed))
}

// refusal returns the error that a peer is told.
func (b *Blobs) refusal(err error) error {
	for _, x := range []struct {
		is   error
		code wire.Code
	}{{ErrFull, wire.Full}, {disk.ErrFull, wire.Full}, {ErrTooBig, wire.TooBig}, {ErrLied, wire.BadRequest}, {ErrMissing, wire.Unknown}} {
		if errors.Is(err, x.is) {
			b.cfg.Log.Debug("a blob is refused", "err", err)
			return &wire.Refusal{Code: x.code, Err: x.is}
		}
	}
	return err
}

func (b *Blobs) receive(ctx context.Context, from p2p.Caller, owner wire.Key, put *wire.BlobPut, proceed func(have uint64) (io.ReadCloser, error)) error {
	if put.Size > b.cfg.Policy.MaxBlob {
		return ErrTooBig
	}
	k := keyOf(put.Digest, uploaded, owner)
	t, err := b.begin(ctx, k, true)
	if err != nil {
		return err
	}
	defer b.end(k, t)
	// Only who has sent a blob before, or may fetch it, learns that it is here.
	here := func() bool { size, ok := b.Has(put.Digest); return ok && size == put.Size }
	if b.allows(ctx, owner, put.Digest) && here() {
		_, err := proceed(put.Size)
		return err
	}
	if err := b.admit(ctx, k, put.Size, from.Network); err != nil {
		return err
	}
	b.step("admitted")
	if w, _ := b.record(k); w.Whole && here() {
		_, err := proceed(put.Size)
		return err
	}
	return b.take(ctx, k, t, put.Size, proceed)
}

func (b *Blobs) allows(ctx context.Context, owner wire.Key, digest wire.Hash) bool {
	return b.cfg.Allows != nil && b.cfg.Allows(ctx, owner, digest)
}

// take receives the rest of a blob that is admitted.
func (b *Blobs) take(ctx context.Context, k waitKey, t *transfer, size uint64, proceed func(have uint64) (io.ReadCloser, error)) error {
	if b.isStopped(t) {
		return errForgotten
	}
	f, err := b.cfg.Files.Continue(b.partial(k))
	if err != nil {
		return err
	}
	have, err := f.Seek(0, io.SeekEnd)
	if err == nil && uint64(have) > size {
		have, err = 0, f.Truncate(0)
	}
	if err != nil {
		return errors.Join(err, f.Pause())
	}
	give, err := b.cfg.Files.Reserve(size - uint64(have))
	if err != nil {
		b.cfg.Log.Warn("no room for a blob", "err", err)
		return errors.Join(err, f.Pause())
	}
	defer give()
	body, err := proceed(uint64(have))
	if err != nil {
		return errors.Join(err, f.Pause())
	}
	b.attach(t, body)
	b.step("opened")
	n, err := io.CopyBuffer(struct{ io.Writer }{f}, body, make([]byte, 64<<10))
	b.step("written")
	switch {
	case b.isStopped(t):
		return errors.Join(errForgotten, f.Pause())
	case err == nil && uint64(have+n) != size:
		err = fmt.Errorf("%w: %d bytes of %d", io.ErrUnexpectedEOF, have+n, size)
	}
	if err != nil {
		return errors.Join(err, b.pause(context.WithoutCancel(ctx), k, f))
	}
	return b.finish(ctx, k, f)
}

// Blob implements p2p.Blobs.
func (b *Blobs) Blob(ctx context.Context, _ p2p.Caller, owner wire.Key, get *wire.BlobGet) (io.ReadCloser, *wire.BlobPart, error) {
	if !b.allows(ctx, owner, get.Digest) {
		return nil, nil, b.refusal(ErrMissing)
	}
	f, size, err := b.Open(get.Digest)
	if err != nil {
		return nil, nil, b.refusal(err)
	}
	if get.From > size {
		return nil, nil, errors.Join(wire.Refuse(wire.BadRequest, "the blob has %d bytes", size), f.Close())
	}
	if _, err := f.Seek(int64(get.From), io.SeekStart); err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, &wire.BlobPart{Size: size, Bytes: min(get.Most, size-get.From)}, nil
}

// retry is the pause before a transfer that was cut goes on.
const retry = 250 * time.Millisecond

// again reports whether a transfer that failed may go on, after a pause: if its
// peer is unreachable, and it got further than before.
func again(ctx context.Context, err error, have uint64, last *int64) bool {
	if !errors.Is(err, p2p.ErrUnreachable) || ctx.Err() != nil || int64(have) <= *last {
		return false
	}
	*last = int64(have)
	select {
	case <-time.After(retry):
		return true
	case <-ctx.Done():
		return false
	}
}

// Upload sends a blob that is here to a peer, as the owner of a key. It goes on
// where an earlier upload was cut off, and after each cut as long as it gets
// further. progress, if not nil, is called with the bytes that the peer has.
func (b *Blobs) Upload(ctx context.Context, to wire.Peer, as p2p.Owner, digest wire.Hash, progress func(done, total uint64)) error {
	f, size, err := b.Open(digest)
	if err != nil {
		return err
	}
	defer f.Close()
	if progress == nil {
		progress = func(uint64, uint64) {}
	}
	last, anew := int64(-1), true
	for {
		var start uint64
		err := b.cfg.Host.PutBlob(ctx, to, as, &wire.BlobPut{Digest: digest, Size: size}, func(have uint64) (io.Reader, error) {
			start = have
			return io.TeeReader(io.NewSectionReader(f, int64(have), int64(size-have)), &meter{have, size, progress}), nil
		})
		var refused *p2p.Refused
		switch {
		case err == nil:
			progress(size, size)
			return nil
		case errors.As(err, &refused) && refused.Code == wire.BadRequest && start > 0 && anew:
			anew = false // what the peer had was not the beginning of it
		case !again(ctx, err, start, &last):
			return err
		}
	}
}

// meter reports how much passes it.
type meter struct {
	done, total uint64
	tell        func(done, total uint64)
}

func (m *meter) Write(p []byte) (int, error) {
	m.done += uint64(len(p))
	m.tell(m.done, m.total)
	return len(p), nil
}

// Fetch fetches a blob of at most most bytes from a peer, as the owner of a key,
// and keeps it for Policy.Keep blocks. It goes on where an earlier one was cut off.
// If the peer sends another blob, nothing of it stays, and the error is ErrLied.
func (b *Blobs) Fetch(ctx context.Context, to wire.Peer, as p2p.Owner, digest wire.Hash, most uint64, progress func(done, total uint64)) error {
	if progress == nil {
		progress = func(uint64, uint64) {}
	}
	k := keyOf(digest, fetched, to.Key)
	t, err := b.begin(ctx, k, false)
	if err != nil {
		return err
	}
	defer b.end(k, t)
	if f, size, err := b.Open(digest); err == nil {
		if err := errors.Join(f.Close(), b.keep(ctx, k, size)); err != nil {
			return err
		}
		progress(size, size)
		return nil
	} else if !errors.Is(err, ErrMissing) {
		return err
	}
	most = min(most, b.cfg.Policy.MaxBlob)
	last, anew := int64(-1), true
	for {
		have, err := b.fetch(ctx, to, as, k, t, most, progress)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, ErrLied) && have > 0 && anew:
			anew = false // what was here was not the beginning of it
		case !again(ctx, err, have, &last):
			return err
		}
	}
}

// keep keeps a blob that is here, as if it had just come.
func (b *Blobs) keep(ctx context.Context, k waitKey, size uint64) error {
	b.changing.Lock()
	defer b.changing.Unlock()
	if _, ok := b.Has(k.digest()); !ok {
		return fmt.Errorf("%w: %s", ErrMissing, k.digest())
	}
	return b.save(ctx, k, waiting{Size: size, At: time.Now().UnixNano(), Until: b.cfg.Height() + wire.Height(b.cfg.Policy.Keep), Mark: size, Whole: true})
}

// fetch asks a peer once for the rest of a blob, and returns how many bytes were
// here before.
func (b *Blobs) fetch(ctx context.Context, to wire.Peer, as p2p.Owner, k waitKey, t *transfer, most uint64, progress func(done, total uint64)) (have uint64, err error) {
	w, known := b.record(k)
	if known {
		have = b.arrived(k)
	}
	if have > 0 && have >= w.Size { // it only has to be verified
		return have, b.take(ctx, k, t, w.Size, func(uint64) (io.ReadCloser, error) { return io.NopCloser(eof{}), nil })
	}
	if have > most {
		return have, fmt.Errorf("%w: more than %d bytes", ErrTooBig, most)
	}
	// The peer's bytes are taken like those of an upload.
	r, pipe := io.Pipe()
	taken := make(chan error, 1)
	begun := false
	err = b.cfg.Host.GetBlob(ctx, to, as, &wire.BlobGet{Digest: k.digest(), From: have, Most: most - have}, func(part *wire.BlobPart) (io.Writer, error) {
		switch {
		case begun:
			return nil, errors.New("asked twice")
		case part.Size > most:
			return nil, fmt.Errorf("%w: %d bytes of at most %d", ErrTooBig, part.Size, most)
		case have > 0 && part.Size != w.Size, part.Bytes != part.Size-have:
			return nil, fmt.Errorf("%w: %d bytes from %d on, of %d", ErrLied, part.Bytes, have, part.Size)
		}
		if err := b.admit(ctx, k, part.Size, ""); err != nil {
			return nil, err
		}
		begun = true
		go func() {
			err := b.take(ctx, k, t, part.Size, func(uint64) (io.ReadCloser, error) { return r, nil })
			_ = r.CloseWithError(cmp.Or(err, io.ErrClosedPipe))
			taken <- err
		}()
		return io.MultiWriter(pipe, &meter{have, part.Size, progress}), nil
	})
	if !begun {
		return have, err
	}
	_ = pipe.CloseWithError(cmp.Or(err, io.EOF))
	if terr := <-taken; err == nil || errors.Is(terr, ErrFull) || errors.Is(terr, disk.ErrFull) {
		err = terr
	}
	return have, err
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }
