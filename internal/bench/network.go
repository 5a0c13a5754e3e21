package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/chain/devchain"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// lookups measures the DHT over fifty hosts on loopback.
func lookups(ctx context.Context, w io.Writer) error {
	const hosts, rounds = 50, 200
	var seeds []string
	open := func(identity wire.Secret) (*p2p.Host, error) {
		dht := &p2p.DHT{Network: wire.Regtest, Serve: identity != wire.Secret{}, Seeds: func() []string { return seeds }}
		cfg := p2p.Config{Identity: identity, DHT: dht}
		if dht.Serve {
			cfg.Listen = []string{"/ip4/127.0.0.1/tcp/0"}
		}
		h, err := p2p.New(cfg)
		if err != nil {
			return nil, err
		}
		if dht.Serve {
			ad := &wire.Advertisement{Agent: keyOf(identity), Services: wire.Delivery, Limits: wire.Limits{Size: 1, Blocks: 1},
				Record: wire.Record{Expires: time.Now().Unix() + 3600, Addrs: h.Addrs()}}
			if ad.Sig, err = wire.Sign(identity, ad.Digest(wire.Regtest)); err != nil {
				return nil, err
			}
			h.Offer(ad)
		}
		return h, h.Bootstrap(ctx)
	}
	for range hosts {
		h, err := open(randomSecret())
		if err != nil {
			return err
		}
		defer h.Close()
		if seeds == nil {
			seeds = h.Seed()
		}
	}
	client, err := open(wire.Secret{})
	if err != nil {
		return err
	}
	defer client.Close()
	var times []float64
	for range rounds {
		key := make([]byte, 8)
		_, _ = rand.Read(key)
		began := time.Now()
		if _, err := client.Nearest(ctx, key, false); err != nil {
			return err
		}
		times = append(times, ms(time.Since(began)))
	}
	row(w, "lookup among 50 hosts on loopback, each answer with its advertisement", fmt.Sprintf("%.1f ms", median(times)), fmt.Sprintf("%.1f ms", quantile(times, 0.9)), "< 100 ms")
	return nil
}

// hosts200 runs the test of 200 DHT hosts in memory as a process of its own and
// tells its peak memory.
func hosts200(ctx context.Context, w io.Writer) error {
	dir, err := os.MkdirTemp("", "bitgram-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "p2p.test")
	if out, err := exec.CommandContext(ctx, "go", "test", "-c", "-o", bin, "./internal/p2p").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, out)
	}
	c := exec.CommandContext(ctx, bin, "-test.run", "^TestLookup$")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("200 hosts: %w: %s", err, out)
	}
	row(w, "peak memory of 200 DHT hosts in memory, with churn and 200 lookups", fmt.Sprintf("%d MiB", c.ProcessState.SysUsage().(*syscall.Rusage).Maxrss>>10), "", "< 2048 MiB")
	return nil
}

// scan has a recipient read blocks full of strangers' markers.
func scan(ctx context.Context, w io.Writer) (err error) {
	const blocks, perBlock = 1000, 10
	dir, err := os.MkdirTemp("", "bitgram-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	chain, err := devchain.Open(filepath.Join(dir, "chain"))
	if err != nil {
		return err
	}
	defer chain.Close()
	anyone := []byte{0x51} // OP_TRUE
	refs, err := chain.Mine(ctx, 101, anyone)
	if err != nil {
		return err
	}
	first, _, err := chain.Block(ctx, refs[0].Hash)
	if err != nil {
		return err
	}
	birthday := refs[len(refs)-1].Height
	coin := first.Transactions[0]
	at, value := btcwire.OutPoint{Hash: coin.TxHash()}, coin.TxOut[0].Value
	keys := make([]wire.Key, blocks*perBlock)
	for i := range keys {
		keys[i] = randomKey()
	}
	for b := range blocks {
		var txs []*btcwire.MsgTx
		for i := range perBlock {
			m := seal.Marker{E: keys[b*perBlock+i]}
			binary.BigEndian.PutUint32(m.Root[:], uint32(b*perBlock+i))
			raw := m.Encode()
			tx := btcwire.NewMsgTx(2)
			tx.AddTxIn(&btcwire.TxIn{PreviousOutPoint: at, Sequence: 0xfffffffd})
			tx.AddTxOut(btcwire.NewTxOut(value, anyone))
			tx.AddTxOut(btcwire.NewTxOut(0, append([]byte{0x6a, 0x4c, byte(len(raw))}, raw[:]...)))
			at = btcwire.OutPoint{Hash: chainhash.Hash(tx.TxHash())}
			txs = append(txs, tx)
		}
		if _, err := chain.MineWith(ctx, anyone, txs...); err != nil {
			return err
		}
	}
	tip, err := chain.Tip(ctx)
	if err != nil {
		return err
	}
	k, err := randomSecret().PrivKey()
	if err != nil {
		return err
	}
	n := 0
	r, t := ratio(3, func() {
		for _, key := range keys {
			p, perr := key.Point()
			if err = errors.Join(err, perr); perr == nil {
				bareECDH(&k.Key, p)
			}
		}
	}, func() {
		seed := make([]byte, 64)
		_, _ = rand.Read(seed)
		n++
		r, operr := node.Open(node.Config{Dir: filepath.Join(dir, fmt.Sprint("recipient-", n)), Network: wire.Regtest, Seed: seed, Chain: chain, Birthday: func(context.Context) (wire.Height, error) { return birthday, nil }})
		if operr != nil {
			err = errors.Join(err, operr)
			return
		}
		r.Start()
		err = errors.Join(err, r.Engine().WaitHeight(ctx, tip.Height), r.Close())
	})
	if err != nil {
		return err
	}
	row(w, fmt.Sprintf("recipient reads %d blocks with %d markers", blocks, blocks*perBlock), fmt.Sprintf("%.2f of bare ECDH on one core", r), fmt.Sprintf("%.2f s", t.Seconds()), "")
	return nil
}
