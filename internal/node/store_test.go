package node

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"github.com/bitgram/bitgram/internal/chain/devchain"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node/agent"
	"github.com/bitgram/bitgram/internal/node/disk"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/store"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// agentEnv makes the test binary an agent, in the directory that it names.
const agentEnv = "BITGRAM_TEST_AGENT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(agentEnv); dir != "" {
		if err := runAgent(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

var agentSeed = bytes.Repeat([]byte{7}, 64)

// runAgent prints where it listens and runs until its standard input ends.
func runAgent(dir string) error {
	chain, err := devchain.Open(filepath.Join(dir, "chain"))
	if err != nil {
		return err
	}
	if tip, err := chain.Tip(context.Background()); err != nil {
		return err
	} else if tip.Height == 0 {
		if _, err := chain.Mine(context.Background(), 1, []byte{0x51}); err != nil {
			return err
		}
	}
	n, err := Open(Config{Dir: dir, Network: wire.Regtest, Seed: agentSeed, Chain: chain, Listen: []string{"/ip4/127.0.0.1/tcp/0"},
		Policy: &deal.Policy{Rate: 20_000_000, MaxSize: 1 << 20, MaxBlocks: 1008, ValidFor: 12}})
	if err != nil {
		return err
	}
	n.Start()
	fmt.Println(n.Addrs()[0])
	_, _ = io.Copy(io.Discard, os.Stdin)
	return errors.Join(n.Close(), chain.Close())
}

// storeOne has the sender's machine store one message with an agent, without any
// money behind it.
func storeOne(t testing.TB, h *p2p.Host, to wire.Peer, recipient wire.Key, tip wire.Height, size int) (*wire.Package, error) {
	ctx := t.Context()
	payload := make([]byte, size)
	_, _ = rand.Read(payload)
	terms := deal.Terms{Recipient: recipient, PayloadHash: blake3.Sum256(payload), PayloadSize: uint64(size), Agents: 1, MaxCost: 1_000_000,
		Blocks: 20, Candidates: []deal.Candidate{{Agent: to.Key, Addrs: to.Addrs}}, Margins: deal.MarginsFor(wire.Regtest), RefundTo: make([]byte, 34)}
	terms.Ephemeral, _ = secret(t)
	terms.Seed, _ = secret(t)
	terms.RefundKey, _ = secret(t)
	terms.Key = seal.MessageKey(terms.PayloadHash, 0)
	s, effects, err := deal.NewSender(terms)
	if err != nil {
		return nil, err
	}
	step := func(ev deal.Event) {
		if err == nil {
			s, effects, err = s.Step(ev)
		}
		if err == nil && s.Phase == deal.SenderFailed {
			err = errors.New(s.Failure)
		}
	}
	ask := effects[0].(deal.AskQuotes)
	q, err := h.Quote(ctx, to, &wire.QuoteRequest{Session: deal.SessionFor(ask.Seed, to.Key), E: ask.E, Size: ask.Size,
		StoreUntil: tip + wire.Height(ask.Blocks), Expiry: tip + wire.Height(ask.Blocks+ask.Slack), Shape: ask.Shape})
	if err != nil {
		return nil, err
	}
	step(deal.Quoted{Height: tip, Quotes: []wire.Quote{*q}})
	if err != nil {
		return nil, err
	}
	kappa, err := seal.SealKey(terms.Ephemeral, q.Point, to.Key, terms.Key)
	if err != nil {
		return nil, err
	}
	info, err := seal.SealTo(io.Discard, bytes.NewReader(payload), kappa)
	step(deal.CopiesSealed{Hashes: []wire.Hash{info.Hash}})
	var coin wire.Outpoint
	_, _ = rand.Read(coin.Txid[:])
	step(deal.CoinsLocked{Inputs: []wire.Outpoint{coin}, Fee: 500})
	if err != nil {
		return nil, err
	}
	p := effects[0].(deal.Place).Package
	_, err = h.Store(ctx, to, &p, seal.SealReader(bytes.NewReader(payload), kappa))
	return &p, err
}

// TestStoreKilled kills an agent's process in the middle of many stores: what it
// gave a receipt for is there.
func TestStoreKilled(t *testing.T) {
	tier.NotShort(t)
	dir, rounds := t.TempDir(), tier.Pick(0, 2, 4)
	identity, err := KeyOf(agentSeed)
	must(t, err)
	_, recipient := secret(t)
	var mu sync.Mutex
	var held []*wire.Package
	for round := range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env, cmd.Stderr = append(os.Environ(), agentEnv+"="+dir), os.Stderr
		in, err := cmd.StdinPipe()
		must(t, err)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		addr, err := bufio.NewReader(out).ReadString('\n')
		must(t, err)
		to := wire.Peer{Key: identity, Addrs: []string{strings.TrimSpace(addr)}}
		h, err := p2p.New(p2p.Config{})
		must(t, err)
		for _, p := range held {
			if st, err := h.Status(t.Context(), to, &wire.StatusRequest{Session: p.Session, Point: p.Section.Leaf.Point}); err != nil || deal.AgentPhase(st.State) != deal.AgentHeld {
				t.Errorf("round %d: %v, %v", round, st, err)
			}
		}
		before := len(held)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				for ctx.Err() == nil {
					size := 1 << 10 // in the database
					if i%4 == 0 {
						size = 2 * maxSmall // a file
					}
					p, err := storeOne(t, h, to, recipient, 1, size)
					if err != nil {
						return // it was killed
					}
					mu.Lock()
					held = append(held, p)
					mu.Unlock()
				}
			})
		}
		time.Sleep(time.Duration(200+mrand.IntN(800)) * time.Millisecond)
		for n := 0; n <= before+10 && ctx.Err() == nil; time.Sleep(time.Millisecond) {
			mu.Lock()
			n = len(held)
			mu.Unlock()
		}
		must(t, cmd.Process.Kill())
		_ = cmd.Wait()
		cancel()
		wg.Wait()
		must(t, h.Close())
		_ = in.Close()
		t.Logf("round %d: %d receipts", round, len(held)-before)
	}
	s, err := store.Open(filepath.Join(dir, "bitgram.db"))
	must(t, err)
	defer s.Close()
	files, err := disk.Open(dir, dirCopies)
	must(t, err)
	for _, p := range held {
		leaf := &p.Section.Leaf
		var raw []byte
		if leaf.Size > maxSmall {
			raw, err = os.ReadFile(files.Path(dirCopies, leaf.Point, ""))
		} else {
			err = s.View(t.Context(), func(tx engine.Tx) (err error) {
				raw, err = tx.Get(bucketCopies, leaf.Point[:])
				return err
			})
		}
		if must(t, err); wire.Hash(blake3.Sum256(raw)) != leaf.CopyHash {
			t.Errorf("a copy of %d bytes is lost", leaf.Size)
		}
	}
}

// TestDiskLimit: an agent takes what fits and no more, forgets what nobody pays
// for in time, with its copy, and then takes again.
func TestDiskLimit(t *testing.T) {
	tier.NotShort(t)
	w := newTown(t, 1)
	const limit = 300_000
	a := w.open("small", &deal.Policy{Rate: 20_000_000, MaxSize: 1 << 20, MaxBlocks: 1008, ValidFor: 12, MaxStored: limit})
	h, err := p2p.New(p2p.Config{})
	must(t, err)
	defer h.Close()
	_, recipient := secret(t)
	to := wire.Peer{Key: a.node.Key(), Addrs: a.node.Addrs()}
	fill := func() (n int) {
		for ; ; n++ {
			size := 10_000
			if n%2 == 0 {
				size = 3 * maxSmall
			}
			if _, err := storeOne(t, h, to, recipient, a.node.Engine().Position().Height, size); err != nil {
				var r *p2p.Refused
				if !errors.As(err, &r) || r.Code != wire.Full {
					t.Fatalf("after %d messages: %v", n, err)
				}
				return n
			}
		}
	}
	held := func() (files, rows int) {
		entries, err := os.ReadDir(filepath.Join(a.cfg.Dir, dirCopies))
		must(t, err)
		must(t, a.node.store.View(t.Context(), func(tx engine.Tx) error {
			return tx.Scan(bucketCopies, nil, 0, func(_, _ []byte) error { rows++; return nil })
		}))
		return len(entries), rows
	}
	first := fill()
	s, err := a.node.Stored(t.Context())
	must(t, err)
	files, rows := held()
	if first < 4 || s.Bytes > limit || s.Messages != int64(first) || files+rows != first {
		t.Errorf("%d messages, %d files, %d rows; %+v", first, files, rows, s)
	}
	w.mine(20)
	w.settle()
	if s, err = a.node.Stored(t.Context()); err != nil || s != (agent.Stored{}) {
		t.Errorf("left: %+v, %v", s, err)
	}
	if files, rows := held(); files+rows != 0 {
		t.Errorf("%d files and %d rows are left", files, rows)
	}
	if again := fill(); again != first {
		t.Errorf("%d messages were taken then, %d before", again, first)
	}
}
