package p2p

import (
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// publicOnly keeps a host of a public network from dialling addresses in its
// own local network that strangers announce.
type publicOnly struct{}

func (publicOnly) InterceptAddrDial(_ peer.ID, a multiaddr.Multiaddr) bool {
	return manet.IsPublicAddr(a)
}
func (publicOnly) InterceptPeerDial(peer.ID) bool              { return true }
func (publicOnly) InterceptAccept(network.ConnMultiaddrs) bool { return true }
func (publicOnly) InterceptSecured(network.Direction, peer.ID, network.ConnMultiaddrs) bool {
	return true
}
func (publicOnly) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }
