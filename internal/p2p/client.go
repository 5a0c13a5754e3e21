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

	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/wire"
)

// Quote asks an agent for a quote.
func (s *Host) Quote(ctx context.Context, to deal.Candidate, req *wire.QuoteRequest) (*wire.Quote, error) {
	q := new(wire.Quote)
	return q, s.ask(ctx, to, protoQuote, req, q)
}

// ask is one frame there and one back.
func (s *Host) ask(ctx context.Context, to deal.Candidate, id protocol.ID, req, resp wire.Limited) error {
	return s.call(ctx, to, id, func(st network.Stream) error {
		if err := wire.WriteFrame(st, req); err != nil {
			return err
		}
		return answer(st, resp)
	})
}

// Store hands an agent its package and sealed copy, and returns its checked
// receipt.
func (s *Host) Store(ctx context.Context, to deal.Candidate, p *wire.Package, body io.Reader) (*wire.Receipt, error) {
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
	if r.Agent != to.Agent || r.Package != p.Digest() {
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
	n, err := io.Copy(out, in)
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
		err = fmt.Errorf("%w: sealed copy has %d bytes, wanted %d", errLocal, n, size)
	default:
		err = st.CloseWrite()
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

// source remembers an error of reading, to tell it from one of writing.
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

// Ask asks an agent for proofs that it holds the message whose fetch key,
// derived for this agent, is known. Only those that it signed for this very
// channel are returned; nothing is disclosed but wire.FindKey.
func (s *Host) Ask(ctx context.Context, to deal.Candidate, fetchKey wire.Secret) (proofs []wire.Proof, err error) {
	err = s.call(ctx, to, protoFetch, func(st network.Stream) error {
		proofs, _, err = s.prove(st, to, fetchKey)
		return err
	})
	return proofs, err
}

func (s *Host) prove(st network.Stream, to deal.Candidate, fetchKey wire.Secret) ([]wire.Proof, wire.Hash, error) {
	ask := wire.Ask{Find: wire.FindKey(fetchKey)}
	_, _ = rand.Read(ask.Nonce[:]) // never fails (crypto/rand)
	if err := wire.WriteFrame(st, &ask); err != nil {
		return nil, ask.Nonce, err
	}
	var list wire.Proofs
	if err := answer(st, &list); err != nil {
		return nil, ask.Nonce, err
	}
	agentPeer, self := []byte(st.Conn().RemotePeer()), []byte(s.h.ID())
	list.Proofs = slices.DeleteFunc(list.Proofs, func(p wire.Proof) bool {
		d := wire.ProofDigest(ask.Nonce, agentPeer, self, p.Outpoint, p.Section.Leaf.Point)
		return p.Section.Leaf.Agent != to.Agent || to.Agent.Verify(d, p.Sig) != nil
	})
	return list.Proofs, ask.Nonce, nil
}

// Fetch has the agent prove itself anew on this channel for the leaf that the
// recipient verified, and only then shows the token and copies the sealed
// bytes to w. The caller checks their hash.
func (s *Host) Fetch(ctx context.Context, f *deal.Fetch, w io.Writer) error {
	return s.call(ctx, f.Candidate, protoFetch, func(st network.Stream) error {
		proofs, nonce, err := s.prove(st, f.Candidate, f.FetchKey)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(proofs, func(p wire.Proof) bool { return p.Outpoint == f.Outpoint && p.Section.Leaf == f.Leaf }) {
			return fmt.Errorf("%w: the agent no longer proves that it holds the message", wire.ErrMalformed)
		}
		token := wire.Token{Point: f.Leaf.Point,
			MAC: wire.TokenMAC(f.FetchKey, nonce, []byte(st.Conn().RemotePeer()), []byte(s.h.ID()), f.Outpoint, f.Leaf.Point)}
		if err := wire.WriteFrame(st, &token); err != nil {
			return err
		}
		if err := answer(st, nil); err != nil {
			return err
		}
		_, err = io.CopyN(w, bufio.NewReaderSize(s.limit.pace(st, f.Leaf.Size), 64<<10), int64(f.Leaf.Size))
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	})
}

// Release hands over σ and returns what the agent gives for τ, unchecked.
func (s *Host) Release(ctx context.Context, to deal.Candidate, point wire.Key, sigma wire.Secret) (wire.Secret, error) {
	var r wire.Reveal
	err := s.ask(ctx, to, protoRelease, &wire.Release{Point: point, Sigma: sigma}, &r)
	return r.Tau, err
}

// Acknowledge leaves a sealed acknowledgement.
func (s *Host) Acknowledge(ctx context.Context, to deal.Candidate, a *wire.Acknowledge) error {
	return s.ask(ctx, to, protoAck, a, new(wire.Done))
}

// Status asks how a message fares.
func (s *Host) Status(ctx context.Context, to deal.Candidate, req *wire.StatusRequest) (*wire.Status, error) {
	st := new(wire.Status)
	return st, s.ask(ctx, to, protoStatus, req, st)
}
