package p2p

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-msgio"
	"github.com/multiformats/go-multiaddr"

	"github.com/bitgram/bitgram/wire"
)

// maxRequest is more than the maximum size of a request: a value and its name.
const maxRequest = wire.MaxRecord + 1024

// kadHost is the host that the DHT's library sees. The library would read 4 MiB
// on a peer's announcement, wait a minute, and forward any number of addresses.
// Here its streams have the same limits as all others and carry one request
// each, and a peer has at most wire.MaxAddrs addresses, which may be dialled.
type kadHost struct {
	host.Host
	s *Host
}

func (k kadHost) Peerstore() peerstore.Peerstore { return kadPeers{k.Host.Peerstore(), k.s} }

func (k kadHost) SetStreamHandler(id protocol.ID, handle network.StreamHandler) {
	k.Host.SetStreamHandler(id, func(st network.Stream) {
		leave, ok := k.s.guard.enter(st.Conn())
		if !ok {
			_ = st.Reset()
			return
		}
		defer leave()
		_ = st.SetDeadline(time.Now().Add(k.s.limit.Frame))
		r := msgio.NewVarintReaderSize(st, maxRequest)
		raw, err := r.ReadMsg()
		if err != nil {
			_ = st.Reset()
			return
		}
		handle(oneRequest{st, bytes.NewReader(append(binary.AppendUvarint(nil, uint64(len(raw))), raw...))})
		r.ReleaseMsg(raw)
	})
}

// oneRequest is a stream whose only request has been read already.
type oneRequest struct {
	network.Stream
	r io.Reader
}

func (o oneRequest) Read(p []byte) (int, error) { return o.r.Read(p) }

// kadPeers is the peerstore, restricted to what may be forwarded about a peer.
type kadPeers struct {
	peerstore.Peerstore
	s *Host
}

func (k kadPeers) PeerInfo(p peer.ID) peer.AddrInfo {
	return peer.AddrInfo{ID: p, Addrs: k.Addrs(p)}
}

// Addrs returns first the address at which we reached the peer, then those that
// it signed, and last those that others announced.
func (k kadPeers) Addrs(p peer.ID) (list []multiaddr.Multiaddr) {
	for _, c := range k.s.h.Network().ConnsToPeer(p) {
		if c.Stat().Direction == network.DirOutbound {
			list = append(list, c.RemoteMultiaddr())
		}
	}
	if book, ok := peerstore.GetCertifiedAddrBook(k.Peerstore); ok {
		if env := book.GetPeerRecord(p); env != nil {
			if rec, err := env.Record(); err == nil {
				if own, ok := rec.(*peer.PeerRecord); ok {
					list = append(list, own.Addrs...)
				}
			}
		}
	}
	return k.s.reachable(append(list, k.Peerstore.Addrs(p)...))
}

// reachable returns the addresses that may be dialled, at most wire.MaxAddrs,
// without duplicates.
func (s *Host) reachable(list []multiaddr.Multiaddr) (out []multiaddr.Multiaddr) {
	for _, a := range list {
		if len(out) == wire.MaxAddrs {
			break
		}
		if s.dials(a) && !slices.ContainsFunc(out, a.Equal) {
			out = append(out, a)
		}
	}
	return out
}
