package p2p

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/multiformats/go-multistream"
)

// Probe asks who listens at a TCP address: it returns the peer ID that the Noise
// handshake proves. A throw-away key asks. ErrUnreachable where nobody answers,
// or at an address that this host would not dial.
func (s *Host) Probe(ctx context.Context, at netip.AddrPort) (peer.ID, error) {
	unreachable := func(err error) (peer.ID, error) { return "", fmt.Errorf("%w: %s: %w", ErrUnreachable, at, err) }
	addr, err := manet.FromNetAddr(net.TCPAddrFromAddrPort(at))
	if err != nil {
		return unreachable(err)
	}
	if !s.dials(addr) {
		return unreachable(fmt.Errorf("not a public address"))
	}
	ctx, cancel := context.WithTimeout(ctx, min(s.limit.Frame, 5*time.Second))
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", at.String())
	if err != nil {
		return unreachable(err)
	}
	defer c.Close()
	if end, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(end); err != nil {
			return unreachable(err)
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	if err := multistream.SelectProtoOrFail(noise.ID, c); err != nil {
		return unreachable(err)
	}
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return "", err
	}
	t, err := noise.New(noise.ID, key, nil)
	if err != nil {
		return "", err
	}
	anyone, err := t.WithSessionOptions(noise.DisablePeerIDCheck())
	if err != nil {
		return "", err
	}
	sec, err := anyone.SecureOutbound(ctx, c, "")
	if err != nil {
		return unreachable(err)
	}
	return sec.RemotePeer(), nil
}
