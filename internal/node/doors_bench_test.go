package node

import (
	"crypto/rand"
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// cpu returns the CPU time of this process.
func cpu() time.Duration {
	var use syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &use)
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// BenchmarkWorkPerByte measures what a byte of hostile requests costs: the CPU
// time of payee and sender together, who are in one process, so it is an upper
// bound of the payee's.
func BenchmarkWorkPerByte(b *testing.B) {
	w := emptyTown(b)
	from, to := w.home("payer", nil), w.payee("payee", nil)
	from.start()
	w.mine(1)
	w.fund(from, 1_000_000)
	y := service(to)
	// True pennies, as far apart as is allowed: verified and stored.
	id := w.opened(from, to, 10_000, 64, 262_143)
	p := w.payer(from, id)
	u := penny.NewPurse(bank.Pence(p.Root, p.Ladder.N()))
	c := p.Chain()
	seq := p.Ladder.N()
	b.Run("pennies", func(b *testing.B) {
		b.StopTimer()
		spent, sent := time.Duration(0), 0
		for range b.N {
			till, err := y.Till(b.Context(), id)
			must(b, err)
			var list []byte
			for range wire.MaxPennies {
				if seq < wire.MaxSkip {
					b.Skip("the bank is empty")
				}
				seq -= wire.MaxSkip
				list = c.Encode(list, u.At(seq))
			}
			b.StartTimer()
			began := cpu()
			must(b, till.Check(list))
			_, err = till.Keep(b.Context())
			must(b, err)
			spent, sent = spent+cpu()-began, sent+len(list)
			b.StopTimer()
			till.Close()
		}
		b.ReportMetric(float64(spent)/float64(sent)/1000, "µs/byte")
	})
	// The same pennies again, on many streams: nothing is hashed.
	b.Run("pennies-again", func(b *testing.B) {
		till, err := y.Till(b.Context(), id)
		must(b, err)
		defer till.Close()
		var list []byte
		for n := range uint32(wire.MaxPennies) {
			list = c.Encode(list, u.At(p.Ladder.N()-1-n))
		}
		began := cpu()
		for range b.N {
			_ = till.Check(list)
		}
		b.ReportMetric(float64(cpu()-began)/float64(b.N*len(list))/1000, "µs/byte")
	})
	// A stranger's requests about a bank whose id it knows, each on a stream of
	// its own; above its rate it gets busy.
	b.Run("stranger-hello", func(b *testing.B) {
		h, err := libp2p.New(libp2p.NoListenAddrs)
		must(b, err)
		defer h.Close()
		peerID, err := p2p.PeerID(to.node.Key())
		must(b, err)
		info := peer.AddrInfo{ID: peerID}
		for _, a := range to.node.Addrs() {
			info.Addrs = append(info.Addrs, multiaddr.StringCast(a))
		}
		must(b, h.Connect(b.Context(), info))
		const proto = "/bitgram/pennies/3"
		size, began := 0, cpu()
		for range b.N {
			st, err := h.NewStream(b.Context(), peerID, proto)
			must(b, err)
			hello := &wire.BankHello{Bank: id}
			_, _ = rand.Read(hello.Proof[:])
			frame := &wire.PayerFrame{Hello: []wire.BankHello{*hello}}
			raw, err := wire.Marshal(frame)
			must(b, err)
			must(b, wire.WriteFrame(st, frame))
			_ = st.CloseWrite()
			_, _ = io.Copy(io.Discard, st)
			_ = st.Close()
			// The frame, two lines of negotiation, and three headers of yamux, noise
			// and TCP over IPv4.
			size += 4 + len(raw) + 21 + 2 + len(proto) + 3*(12+18+40)
		}
		b.ReportMetric(float64(cpu()-began)/float64(size)/1000, "µs/byte")
	})
	// Offers of banks with one false signature, the last, from many peers.
	for _, rungs := range []uint32{1, 126, 1022} {
		var bankID bank.ID
		var root wire.Secret
		_, _ = rand.Read(bankID[:])
		_, _ = rand.Read(root[:])
		o := w.offered(to, bankID, root, penny.Ladder{Value: 90_000, Rungs: rungs, PerRung: 10}, to.node.engine.Position().Height+300, false, nil)
		o.Sigs[rungs-1][40]++
		raw, err := wire.Marshal(o)
		must(b, err)
		b.Run(fmt.Sprint("stranger-offer-", rungs), func(b *testing.B) {
			began := cpu()
			for n := range b.N {
				if err := y.Open(b.Context(), p2p.Caller{Peer: peer.ID(fmt.Sprint(n))}, o); refusal(err) != wire.BadRequest {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(cpu()-began)/float64(b.N*len(raw))/1000, "µs/byte")
		})
	}
}
