package p2p

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bitgram/bitgram/wire"
)

// Service handles an agent's requests. If an error wraps *wire.Refusal, the
// peer gets its code and text; syscall.ENOSPC is sent as wire.Full, and any
// other error only as Internal. Requests are decoded and in range.
type Service interface {
	Quote(ctx context.Context, from Caller, req *wire.QuoteRequest) (*wire.Quote, error)
	// Store verifies p, calls proceed for the sealed copy, which has
	// p.Section.Leaf.Size bytes or ends in an error, and returns when the copy
	// is durable.
	Store(ctx context.Context, p *wire.Package, proceed func() (io.Reader, error)) (*wire.Receipt, error)
	// Proofs signs a proof for each message under ask.Find.
	Proofs(ctx context.Context, ask *wire.Ask, self, from peer.ID) ([]wire.Proof, error)
	// Copy verifies the token, given for nonce, and opens the sealed copy. A
	// session may request several.
	Copy(ctx context.Context, t *wire.Token, nonce wire.Hash, self, from peer.ID) (copy io.ReadCloser, size uint64, err error)
	Release(ctx context.Context, r *wire.Release) (*wire.Reveal, error)
	Acknowledge(ctx context.Context, a *wire.Acknowledge) error
	Status(ctx context.Context, r *wire.StatusRequest) (*wire.Status, error)
}

// Caller identifies the peer that asks.
type Caller struct {
	Peer    peer.ID
	Network string // of its address; "" if all hosts are in one
}

func (s *Host) caller(st network.Stream) Caller {
	c := Caller{Peer: st.Conn().RemotePeer()}
	if !s.local {
		c.Network = networkOf(ipOf(st.Conn())).String()
	}
	return c
}

func (s *Host) serveQuote(ctx context.Context, st network.Stream) error {
	var req wire.QuoteRequest
	if err := wire.ReadFrame(st, &req); err != nil {
		return err
	}
	q, err := s.serve.Quote(ctx, s.caller(st), &req)
	return s.reply(st, q, err)
}

func (s *Host) serveStore(ctx context.Context, st network.Stream) error {
	var p wire.Package
	if err := wire.ReadFrame(st, &p); err != nil {
		return err
	}
	size := p.Section.Leaf.Size
	in := &body{left: int64(size)}
	r, err := s.serve.Store(ctx, &p, func() (io.Reader, error) {
		in.r, in.err = s.limit.pace(st, size), wire.WriteFrame(st, &wire.Reply{})
		return in, in.err
	})
	if in.err != nil {
		return in.err // the peer's, or the network's
	}
	_ = st.SetDeadline(time.Now().Add(s.limit.Frame))
	return s.reply(st, r, err)
}

// body is a reader of a declared number of bytes: it returns io.EOF only after
// all of them.
type body struct {
	r    io.Reader
	left int64
	err  error // of r
}

func (b *body) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if err == io.EOF && b.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	if b.left > 0 {
		b.err = err
	}
	return n, err
}

func (s *Host) serveFetch(ctx context.Context, st network.Stream) error {
	self, from := s.h.ID(), st.Conn().RemotePeer()
	var ask wire.Ask
	if err := wire.ReadFrame(st, &ask); err != nil {
		return err
	}
	proofs, err := s.serve.Proofs(ctx, &ask, self, from)
	if err := s.reply(st, &wire.Proofs{Proofs: proofs}, err); err != nil || len(proofs) == 0 {
		return err
	}
	for {
		_ = st.SetDeadline(time.Now().Add(s.limit.Frame))
		var t wire.Token
		if err := wire.ReadFrame(st, &t); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		copy, size, err := s.serve.Copy(ctx, &t, ask.Nonce, self, from)
		if err != nil {
			return s.reply(st, nil, err)
		}
		if err := s.send(st, copy, size); err != nil {
			return err
		}
	}
}

// send answers with a body of size bytes.
func (s *Host) send(st network.Stream, body io.ReadCloser, size uint64) error {
	defer body.Close()
	if err := s.reply(st, nil, nil); err != nil {
		return err
	}
	if n, err := io.Copy(s.limit.pace(st, size), body); err != nil {
		return err
	} else if uint64(n) != size {
		return fmt.Errorf("a copy should have %d bytes but has %d", size, n)
	}
	return nil
}

func (s *Host) serveRelease(ctx context.Context, st network.Stream) error {
	var r wire.Release
	if err := wire.ReadFrame(st, &r); err != nil {
		return err
	}
	reveal, err := s.serve.Release(ctx, &r)
	return s.reply(st, reveal, err)
}

func (s *Host) serveAck(ctx context.Context, st network.Stream) error {
	var a wire.Acknowledge
	if err := wire.ReadFrame(st, &a); err != nil {
		return err
	}
	return s.reply(st, &wire.Done{}, s.serve.Acknowledge(ctx, &a))
}

func (s *Host) serveStatus(ctx context.Context, st network.Stream) error {
	var r wire.StatusRequest
	if err := wire.ReadFrame(st, &r); err != nil {
		return err
	}
	status, err := s.serve.Status(ctx, &r)
	return s.reply(st, status, err)
}
