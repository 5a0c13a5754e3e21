package p2p

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/multiformats/go-multistream"
	"github.com/quic-go/quic-go"
)

// Probe returns the peer ID of the host at an address (/ip4 or /ip6 with /tcp,
// or with /udp and /quic-v1), as proven by the Noise handshake or QUIC's TLS.
// It uses a throw-away key. It returns ErrUnreachable if no host answers or
// this host would not dial the address.
func (s *Host) Probe(ctx context.Context, addr multiaddr.Multiaddr) (id peer.ID, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w: %s: %w", ErrUnreachable, addr, err)
		}
	}()
	if !s.dials(addr) {
		return "", errors.New("not a public address")
	}
	network, at, err := manet.DialArgs(addr)
	if err != nil {
		return "", err
	}
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, min(s.limit.Frame, 5*time.Second))
	defer cancel()
	if network == "udp4" || network == "udp6" {
		return probeQUIC(ctx, key, at)
	}
	return probeNoise(ctx, key, at)
}

func probeNoise(ctx context.Context, key crypto.PrivKey, at string) (peer.ID, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", at)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if end, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(end); err != nil {
			return "", err
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	if err := multistream.SelectProtoOrFail(noise.ID, c); err != nil {
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
		return "", err
	}
	return sec.RemotePeer(), nil
}

func probeQUIC(ctx context.Context, key crypto.PrivKey, at string) (peer.ID, error) {
	own, err := libp2ptls.NewIdentity(key)
	if err != nil {
		return "", err
	}
	conf, keys := own.ConfigForPeer("") // anyone's
	c, err := quic.DialAddr(ctx, at, conf, nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.CloseWithError(0, "") }()
	// The certificate was verified before the handshake completed.
	pub, ok := <-keys
	if !ok {
		return "", errors.New("no key in its certificate")
	}
	return peer.IDFromPublicKey(pub)
}
