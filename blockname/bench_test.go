package blockname

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/wire"
)

// The blocks to scan: as many OP_RETURN outputs as fit in 1,000,000 bytes, 250
// per transaction; and a block of ordinary transactions.
func benchBlocks(b *testing.B) map[string][]byte {
	fill := func(outs int, text func(i int) []byte) []byte {
		txs := 1
		for {
			if raw := rawBlock(b, txs+txs/8+1, outs, false, text); len(raw) > 1_000_000 {
				return rawBlock(b, txs, outs, false, text)
			}
			txs += txs/8 + 1
		}
	}
	// 256 of each, so that the branch predictor cannot learn them.
	var hints, short, seeds, bad, other [256][]byte
	for i := range hints {
		hints[i] = fmt.Appendf(nil, "*!host%d.example.com%08x", i*7919, uint32(i)*0x9e3779b1)
		short[i] = fmt.Appendf(nil, "*!a%08x", uint32(i)*0x9e3779b1)
		seeds[i] = fmt.Appendf(nil, "*@bitgram.%08x/ip6/2001:db8:%x::%x/udp/4001/quic-v1", uint32(i)*0x9e3779b1, i+1, i+1)
		bad[i] = fmt.Appendf(nil, "*!host%d.Example.com%08x", i*7919, i)
		other[i] = bytes.Repeat([]byte{byte(i)}, 40)
	}
	pick := func(list [256][]byte) func(int) []byte { return func(i int) []byte { return list[i%256] } }
	ordinary := btcwire.MsgBlock{}
	for i := range 4000 {
		tx := btcwire.NewMsgTx(2)
		tx.AddTxIn(&btcwire.TxIn{PreviousOutPoint: btcwire.OutPoint{Index: uint32(i)}, Witness: btcwire.TxWitness{make([]byte, 72), make([]byte, 33)}})
		for range 2 {
			tx.AddTxOut(&btcwire.TxOut{Value: 1000, PkScript: append([]byte{0, 20}, make([]byte, 20)...)})
		}
		ordinary.Transactions = append(ordinary.Transactions, tx)
	}
	var raw bytes.Buffer
	if err := ordinary.Serialize(&raw); err != nil {
		b.Fatal(err)
	}
	return map[string][]byte{
		"hints":     fill(250, pick(hints)),
		"short":     fill(250, pick(short)),
		"one-a-tx":  fill(1, pick(hints)),
		"seeds":     fill(250, pick(seeds)),
		"malformed": fill(250, pick(bad)),
		"other":     fill(250, pick(other)),
		"ordinary":  raw.Bytes(),
	}
}

// BenchmarkScan measures the scan of raw blocks on one core; the required rate
// is 200 MB/s. BenchmarkScanBtcd does the same with btcd's decoder.
func BenchmarkScan(b *testing.B) {
	blocks := benchBlocks(b)
	for _, name := range slices.Sorted(maps.Keys(blocks)) {
		raw := blocks[name]
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ScanRaw(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkScanBtcd(b *testing.B) {
	for name, raw := range benchBlocks(b) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := slowScanRaw(raw); !ok {
					b.Fatal("not a block")
				}
			}
		})
	}
}

// BenchmarkScanTxs measures Scan on decoded transactions.
func BenchmarkScanTxs(b *testing.B) {
	for name, raw := range benchBlocks(b) {
		var m btcwire.MsgBlock
		if err := m.Deserialize(bytes.NewReader(raw)); err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			for b.Loop() {
				Scan(m.Transactions)
			}
		})
	}
}

// BenchmarkApply: ten thousand hints of as many keys, and of one.
func BenchmarkApply(b *testing.B) {
	for name, keys := range map[string]int{"keys": 10_000, "key": 1} {
		var block Block
		for i := range 10_000 {
			dht := binary.BigEndian.AppendUint32(nil, uint32(i%keys))
			h := Hint{Kind: TLD, Name: "bitgram", DHT: fmt.Sprintf("%x", dht), Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte(dht)), uint16(i+1))}
			block.Hints = append(block.Hints, Found{Hint: h, Value: wire.Sat(i)})
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, _, err := Apply(bucket{}.Get, 1, block); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(10_000*float64(b.N)/b.Elapsed().Seconds(), "hints/s")
		})
	}
}
