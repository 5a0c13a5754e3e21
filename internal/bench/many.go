package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/store"
	"github.com/bitgram/bitgram/wire"
)

// held is how many messages the agent of startup holds, each of heldSize bytes.
const (
	held     = 100_000
	heldSize = 1 << 10
)

// startup times an agent that holds very many messages.
func startup(ctx context.Context, w io.Writer, bin, home string) error {
	if out, err := exec.CommandContext(ctx, bin, "init", "--no-passphrase", "--home", home).CombinedOutput(); err != nil {
		return fmt.Errorf("init: %w: %s", err, out)
	}
	if _, _, err := runAgent(ctx, bin, home, false); err != nil { // makes chain and database
		return err
	}
	if err := fill(ctx, filepath.Join(home, "bitgram.db")); err != nil {
		return err
	}
	took, rss, err := runAgent(ctx, bin, home, true)
	if err != nil {
		return err
	}
	row(w, fmt.Sprintf("daemon of an agent with %d messages, from start to ready", held), fmt.Sprintf("%.2f s", took.Seconds()), "< 1 s")
	row(w, "its resident memory ten seconds later", fmt.Sprintf("%d MiB", rss>>20), "< 150 MiB")
	return nil
}

// runAgent runs an agent's daemon until it is ready, and for ten seconds more
// with wait.
func runAgent(ctx context.Context, bin, home string, wait bool) (took time.Duration, rss int64, err error) {
	began := time.Now()
	up := exec.CommandContext(ctx, bin, "up", "--home", home, "--json", "--agent", "--listen", "/ip4/127.0.0.1/tcp/0")
	out, err := up.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	if err := up.Start(); err != nil {
		return 0, 0, err
	}
	defer func() {
		_ = up.Process.Signal(os.Interrupt)
		_ = up.Wait()
	}()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return 0, 0, fmt.Errorf("up: %w", err)
	}
	took = time.Since(began)
	if wait {
		status, err := exec.CommandContext(ctx, bin, "status", "--home", home, "--json").Output()
		if err != nil {
			return 0, 0, fmt.Errorf("status: %w", err)
		}
		var st struct{ Agent node.Stored }
		if err := json.Unmarshal(status, &st); err != nil || st.Agent.Messages != held {
			return 0, 0, fmt.Errorf("the agent holds %d messages, not %d (%v)", st.Agent.Messages, held, err)
		}
		time.Sleep(10 * time.Second)
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", up.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if kb, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			_, err = fmt.Sscan(kb, &rss)
		}
	}
	return took, rss << 10, err
}

// fill writes deals that are cached and paid, as an agent keeps them.
func fill(ctx context.Context, db string) error {
	s, err := store.Open(db)
	if err != nil {
		return err
	}
	copy := make([]byte, heldSize)
	for from := 0; from < held && err == nil; from += 1000 {
		err = s.Update(ctx, func(tx engine.Tx) error {
			for i := from; i < from+1000; i++ {
				var point wire.Key
				binary.BigEndian.PutUint32(point[:], uint32(i))
				a := deal.Agent{Margins: deal.MarginsFor(wire.Regtest), Funded: true, Value: 1000,
					Quote: wire.Quote{Point: point, StoreUntil: 1_000_000, Expiry: 1_000_036, ValidUntil: 12},
					Package: &wire.Package{Funding: make([]byte, 300), Section: wire.Section{Leaf: wire.Leaf{Point: point, Size: heldSize}, Count: 3, Path: make([]wire.Hash, 2)},
						Frozen: wire.Frozen{Expiry: 1_000_036, Claims: make([]wire.ClaimLeaf, 1)}},
					At: wire.Outpoint{Txid: wire.Hash(point)}, Confirmed: &contract.Fact{Height: 1}, Tip: 50}
				if err := node.Plant(tx, a, copy); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if cerr := s.Close(); err == nil {
		err = cerr
	}
	return err
}
