package p2p

import (
	"context"

	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/bitgram/bitgram/wire"
)

// protoComputeQuote asks for the price of taking part in a job.
const protoComputeQuote protocol.ID = "/bitgram/compute-quote/1" // ComputeRequest → Reply, ComputeQuote

// Compute answers requests for quotes of jobs. Errors are handled as those of
// Service.
type Compute interface {
	Quote(ctx context.Context, from Caller, req *wire.ComputeRequest) (*wire.ComputeQuote, error)
}

// ComputeQuote asks a node for the price of taking part in a job, and verifies its
// answer.
func (s *Host) ComputeQuote(ctx context.Context, to wire.Peer, req *wire.ComputeRequest) (*wire.ComputeQuote, error) {
	q := new(wire.ComputeQuote)
	if err := s.ask(ctx, to, protoComputeQuote, req, q); err != nil {
		return nil, err
	}
	return q, q.Verify(to.Key, req)
}
