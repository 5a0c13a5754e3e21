package p2p

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/bitgram/bitgram/wire"
)

// Quote asks an agent for a quote.
func (s *Host) Quote(ctx context.Context, to wire.Peer, req *wire.QuoteRequest) (*wire.Quote, error) {
	q := new(wire.Quote)
	return q, s.ask(ctx, to, protoQuote, req, q)
}

// ask sends one frame and reads one frame.
func (s *Host) ask(ctx context.Context, to wire.Peer, id protocol.ID, req, resp wire.Limited) error {
	return s.call(ctx, to, id, func(st network.Stream) error {
		if err := wire.WriteFrame(st, req); err != nil {
			return err
		}
		return answer(st, resp)
	})
}

// Store sends an agent its package and sealed copy, and returns its verified
// receipt.
func (s *Host) Store(ctx context.Context, to wire.Peer, p *wire.Package, body io.Reader) (*wire.Receipt, error) {
	r := new(wire.Receipt)
	size := p.Section.Leaf.Size
	err := s.call(ctx, to, protoStore, func(st network.Stream) error {
		if err := wire.WriteFrame(st, p); err != nil {
			return err
		}
		if err := answer(st, nil); err != nil {
			return err
		}
		return s.upload(st, body, size, r)
	})
	if err != nil {
		return nil, err
	}
	if r.Agent != to.Key || r.Package != p.Digest() {
		return nil, fmt.Errorf("%w: receipt for something else", wire.ErrMalformed)
	}
	return r, r.Agent.Verify(r.Digest(), r.Sig)
}

// upload sends a body of size bytes and reads the answer, which an agent that
// refuses gives before it has read all: the writing ends then.
func (s *Host) upload(st network.Stream, body io.Reader, size uint64, m wire.Limited) error {
	in, out := &source{Reader: body}, s.limit.pace(st, size)
	heard := make(chan error, 1)
	go func() {
		err := answer(st, m)
		if err != nil {
			out.stop()
		}
		heard <- err
	}()
	n, err := io.CopyBuffer(out, in, make([]byte, bufferFor(size)))
	switch {
	case in.err != nil:
		err = fmt.Errorf("%w: %w", errLocal, in.err)
	case err != nil:
		_ = st.SetReadDeadline(time.Now().Add(s.limit.Frame))
		var refused *Refused
		if why := <-heard; errors.As(why, &refused) {
			return why
		}
		return err
	case uint64(n) != size:
		err = fmt.Errorf("%w: the body has %d bytes, wanted %d", errLocal, n, size)
	}
	if err != nil {
		_ = st.Reset()
		<-heard
		return err
	}
	// What is on its way has to arrive and to be stored.
	_ = st.SetReadDeadline(time.Now().Add(s.limit.body(size)))
	return <-heard
}

// source records a read error, to distinguish it from a write error.
type source struct {
	io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// Session is a stream on which an agent has proved itself.
type Session struct {
	// Proofs are those that the agent signed for this very channel.
	Proofs []wire.Proof

	host     *Host
	st       network.Stream
	fetchKey wire.Secret
	nonce    wire.Hash
}

// Session asks an agent to prove that it holds the message whose fetch key,
// derived for this agent, is known, and then runs f. It discloses only
// wire.FindKey.
func (s *Host) Session(ctx context.Context, to wire.Peer, fetchKey wire.Secret, f func(*Session) error) error {
	return s.call(ctx, to, protoFetch, func(st network.Stream) error {
		ask := wire.Ask{Find: wire.FindKey(fetchKey)}
		_, _ = rand.Read(ask.Nonce[:]) // never fails (crypto/rand)
		if err := wire.WriteFrame(st, &ask); err != nil {
			return err
		}
		var list wire.Proofs
		if err := answer(st, &list); err != nil {
			return err
		}
		agent, self := []byte(st.Conn().RemotePeer()), []byte(s.h.ID())
		list.Proofs = slices.DeleteFunc(list.Proofs, func(p wire.Proof) bool {
			d := wire.ProofDigest(ask.Nonce, agent, self, p.Outpoint, p.Section.Leaf.Point)
			return p.Section.Leaf.Agent != to.Key || to.Key.Verify(d, p.Sig) != nil
		})
		return f(&Session{Proofs: list.Proofs, host: s, st: st, fetchKey: fetchKey, nonce: ask.Nonce})
	})
}

// Copy sends the token for a leaf that the agent has proven on this channel,
// and copies the sealed bytes to w. The caller must check their hash.
func (c *Session) Copy(at wire.Outpoint, leaf *wire.Leaf, w io.Writer) error {
	if !slices.ContainsFunc(c.Proofs, func(p wire.Proof) bool { return p.Outpoint == at && p.Section.Leaf == *leaf }) {
		return fmt.Errorf("%w: the agent does not prove that it holds the message", wire.ErrMalformed)
	}
	_ = c.st.SetDeadline(time.Now().Add(c.host.limit.Frame))
	token := wire.Token{Point: leaf.Point,
		MAC: wire.TokenMAC(c.fetchKey, c.nonce, []byte(c.st.Conn().RemotePeer()), []byte(c.host.h.ID()), at, leaf.Point)}
	if err := wire.WriteFrame(c.st, &token); err != nil {
		return err
	}
	if err := answer(c.st, nil); err != nil {
		return err
	}
	_, err := io.CopyN(w, bufio.NewReaderSize(io.LimitReader(c.host.limit.pace(c.st, leaf.Size), int64(leaf.Size)), bufferFor(leaf.Size)), int64(leaf.Size))
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// bufferFor returns the size of the buffer for a body.
func bufferFor(size uint64) int { return int(max(1, min(size, 64<<10))) }

// Ask returns an agent's proofs.
func (s *Host) Ask(ctx context.Context, to wire.Peer, fetchKey wire.Secret) (proofs []wire.Proof, err error) {
	err = s.Session(ctx, to, fetchKey, func(c *Session) error {
		proofs = c.Proofs
		return nil
	})
	return proofs, err
}

// Fetch makes an agent prove itself again for the leaf that the recipient
// verified, and then copies the sealed bytes to w.
func (s *Host) Fetch(ctx context.Context, to wire.Peer, fetchKey wire.Secret, at wire.Outpoint, leaf *wire.Leaf, w io.Writer) error {
	return s.Session(ctx, to, fetchKey, func(c *Session) error { return c.Copy(at, leaf, w) })
}

// Release sends σ and returns the agent's answer for τ, unverified.
func (s *Host) Release(ctx context.Context, to wire.Peer, point wire.Key, sigma wire.Secret) (wire.Secret, error) {
	var r wire.Reveal
	err := s.ask(ctx, to, protoRelease, &wire.Release{Point: point, Sigma: sigma}, &r)
	return r.Tau, err
}

// Acknowledge leaves a sealed acknowledgement.
func (s *Host) Acknowledge(ctx context.Context, to wire.Peer, a *wire.Acknowledge) error {
	return s.ask(ctx, to, protoAck, a, new(wire.Done))
}

// Status asks for the state of a message.
func (s *Host) Status(ctx context.Context, to wire.Peer, req *wire.StatusRequest) (*wire.Status, error) {
	st := new(wire.Status)
	return st, s.ask(ctx, to, protoStatus, req, st)
}
