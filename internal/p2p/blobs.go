package p2p

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/bitgram/bitgram/wire"
)

// The protocols of blobs: programs, inputs, checkpoints and outputs of jobs.
const (
	protoBlobPut protocol.ID = "/bitgram/blob-put/1" // BlobHello, BlobPut → Reply, BlobHave; body → Reply, Done
	protoBlobGet protocol.ID = "/bitgram/blob-get/1" // BlobHello, BlobGet → Reply, BlobPart, body
)

// Blobs keeps blobs for others. Errors are handled as those of Service. Each
// caller has proved on the channel that owner is its key.
type Blobs interface {
	// Receive calls proceed with the number of bytes that it has from this owner,
	// for the remaining bytes of the blob, and returns when the blob is verified
	// and durable. The body must be read to its end, or until it fails. Its Close
	// makes a blocked Read fail, and may be called at any time.
	Receive(ctx context.Context, from Caller, owner wire.Key, put *wire.BlobPut, proceed func(have uint64) (io.ReadCloser, error)) error
	// Blob opens a part of a blob.
	Blob(ctx context.Context, from Caller, owner wire.Key, get *wire.BlobGet) (io.ReadCloser, *wire.BlobPart, error)
}

func (s *Host) handleBlobs(b Blobs) {
	s.blobs(protoBlobPut, func(ctx context.Context, st network.Stream, owner wire.Key) error {
		var put wire.BlobPut
		if err := wire.ReadFrame(st, &put); err != nil {
			return err
		}
		var in received
		err := b.Receive(ctx, s.caller(st), owner, &put, func(have uint64) (io.ReadCloser, error) {
			size := put.Size - have
			in = received{body: body{r: s.limit.pace(st, size), left: int64(size)}, st: st}
			in.err = s.reply(st, &wire.BlobHave{Bytes: have}, nil)
			return &in, in.err
		})
		if in.err != nil {
			return in.err // the peer's, or the network's
		}
		_ = st.SetDeadline(time.Now().Add(s.limit.Frame))
		return s.reply(st, &wire.Done{}, err)
	})
	s.blobs(protoBlobGet, func(ctx context.Context, st network.Stream, owner wire.Key) error {
		var get wire.BlobGet
		if err := wire.ReadFrame(st, &get); err != nil {
			return err
		}
		r, part, err := b.Blob(ctx, s.caller(st), owner, &get)
		if err != nil {
			return s.reply(st, nil, err)
		}
		defer r.Close()
		_ = st.SetDeadline(time.Now().Add(s.limit.Frame))
		if err := s.reply(st, part, nil); err != nil {
			return err
		}
		if n, err := io.Copy(s.limit.pace(st, part.Bytes), io.LimitReader(r, int64(part.Bytes))); err != nil {
			return err
		} else if uint64(n) != part.Bytes {
			return fmt.Errorf("a blob should have %d more bytes but has %d", part.Bytes, n)
		}
		return nil
	})
}

// received is the body of an upload.
type received struct {
	body
	st network.Stream
}

// Close makes a blocked Read fail.
func (r *received) Close() error { return r.st.Reset() }

// blobs registers f for requests about blobs: it runs once the peer has proved
// that it owns a key. Few run at once.
func (s *Host) blobs(id protocol.ID, f func(context.Context, network.Stream, wire.Key) error) {
	s.handle(id, func(ctx context.Context, st network.Stream) error {
		leave, ok := s.bulk.enter(st.Conn())
		if !ok {
			return s.reply(st, nil, wire.Refuse(wire.Busy, "too many blobs at once"))
		}
		defer leave()
		var h wire.BlobHello
		if err := wire.ReadFrame(st, &h); err != nil {
			return err
		}
		if h.Owner.Verify(wire.BlobHelloDigest(h.Owner, []byte(st.Conn().RemotePeer()), []byte(s.h.ID())), h.Proof) != nil {
			return s.reply(st, nil, wire.Refuse(wire.WrongSecret, "the proof is not of this key and channel"))
		}
		return f(ctx, st, h.Owner)
	})
}

// Owner makes requests about blobs as the owner of a key.
type Owner struct {
	Key  wire.Key
	Sign func(digest wire.Hash) (wire.Signature, error)
}

// OwnerOf returns the owner of a secret key.
func OwnerOf(s wire.Secret) (Owner, error) {
	priv, err := s.PrivKey()
	if err != nil {
		return Owner{}, err
	}
	return Owner{Key: wire.XOnly(priv.PubKey()), Sign: func(d wire.Hash) (wire.Signature, error) { return wire.Sign(s, d) }}, nil
}

// blob makes a request about a blob.
func (s *Host) blob(ctx context.Context, to wire.Peer, as Owner, id protocol.ID, req wire.Limited, f func(network.Stream) error) error {
	server, err := PeerID(to.Key)
	if err != nil {
		return err
	}
	h := wire.BlobHello{Owner: as.Key}
	if h.Proof, err = as.Sign(wire.BlobHelloDigest(as.Key, []byte(s.h.ID()), []byte(server))); err != nil {
		return fmt.Errorf("%w: %w", errLocal, err)
	}
	return s.call(ctx, to, id, func(st network.Stream) error {
		if err := writeAll(st, &h, req); err != nil {
			return err
		}
		return f(st)
	})
}

// PutBlob uploads a blob. It calls rest with the number of bytes that the peer
// has, for the remaining ones.
func (s *Host) PutBlob(ctx context.Context, to wire.Peer, as Owner, put *wire.BlobPut, rest func(have uint64) (io.Reader, error)) error {
	return s.blob(ctx, to, as, protoBlobPut, put, func(st network.Stream) error {
		var have wire.BlobHave
		if err := answer(st, &have); err != nil {
			return err
		}
		if have.Bytes > put.Size {
			return fmt.Errorf("%w: the peer has %d bytes of %d", wire.ErrMalformed, have.Bytes, put.Size)
		}
		r, err := rest(have.Bytes)
		if err != nil {
			return fmt.Errorf("%w: %w", errLocal, err)
		}
		return s.upload(st, r, put.Size-have.Bytes, new(wire.Done))
	})
}

// GetBlob downloads a part of a blob. It calls into with the peer's answer, for
// the writer of the bytes, whose number is in it.
func (s *Host) GetBlob(ctx context.Context, to wire.Peer, as Owner, get *wire.BlobGet, into func(*wire.BlobPart) (io.Writer, error)) error {
	return s.blob(ctx, to, as, protoBlobGet, get, func(st network.Stream) error {
		var part wire.BlobPart
		if err := answer(st, &part); err != nil {
			return err
		}
		if get.From > part.Size || part.Bytes > get.Most || part.Bytes > part.Size-get.From {
			return fmt.Errorf("%w: %d bytes of a blob of %d", wire.ErrMalformed, part.Bytes, part.Size)
		}
		w, err := into(&part)
		if err != nil {
			return fmt.Errorf("%w: %w", errLocal, err)
		}
		out := &sink{Writer: w}
		_, err = io.CopyN(out, bufio.NewReaderSize(io.LimitReader(s.limit.pace(st, part.Bytes), int64(part.Bytes)), bufferFor(part.Bytes)), int64(part.Bytes))
		if out.err != nil {
			return fmt.Errorf("%w: %w", errLocal, out.err)
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	})
}

// sink records a write error, to distinguish it from a read error.
type sink struct {
	io.Writer
	err error
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.Writer.Write(p)
	if err != nil {
		s.err = err
	}
	return n, err
}
