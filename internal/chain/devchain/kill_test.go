package devchain

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/bitgram/bitgram/internal/testing/conform"
	"github.com/bitgram/bitgram/internal/testing/tier"
)

// childDir makes the test binary a child that mines in that directory until it
// is killed.
const childDir = "BITGRAM_TEST_DEVCHAIN"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := mineUntilKilled(dir); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// mineUntilKilled prints each block when, and only when, Mine returned it.
func mineUntilKilled(dir string) error {
	ctx := context.Background()
	c, err := Open(dir)
	if err != nil {
		return err
	}
	fmt.Println("open")
	for i := 0; ; i++ {
		if i%7 == 6 {
			if err := c.Reorg(ctx, 1+i%3, miner); err != nil {
				return err
			}
		}
		refs, err := c.Mine(ctx, 1+i%4, miner)
		if err != nil {
			return err
		}
		for _, r := range refs {
			fmt.Println(r.Hash, r.Height)
		}
	}
}

// TestKill: every block that was told survives SIGKILL at any moment.
func TestKill(t *testing.T) {
	tier.NotShort(t)
	const seed = 20
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	told := map[chainhash.Hash]int{}
	for round := range 5 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		out, err := cmd.StdoutPipe()
		conform.Must(t, err)
		conform.Must(t, cmd.Start())
		lines := bufio.NewScanner(out)
		if !lines.Scan() || lines.Text() != "open" {
			t.Fatalf("round %d: the child says %q", round, lines.Text())
		}
		kill := time.AfterFunc(time.Duration(20_000+random.IntN(250_000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
		last, n := "", 0
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "error") {
				t.Error(lines.Text())
			}
			var hash string
			var height int
			if k, _ := fmt.Sscan(lines.Text(), &hash, &height); k != 2 {
				continue // a torn last line
			}
			h, err := chainhash.NewHashFromStr(hash)
			if err != nil || len(hash) != 2*len(h) {
				continue
			}
			told[*h], last = height, hash
			n++
		}
		_ = cmd.Wait()
		kill.Stop()
		t.Logf("round %d: %d blocks told", round, n)

		c, err := Open(dir)
		if err != nil {
			t.Fatalf("round %d (seed %d): %v", round, seed, err)
		}
		list := active(t, c)
		on := map[string]bool{}
		for _, h := range list {
			on[h.String()] = true
		}
		for h, height := range told {
			if _, got, err := c.Block(t.Context(), h); err != nil || int(got) != height {
				t.Fatalf("round %d (seed %d): block %d told and lost: %d, %v", round, seed, height, got, err)
			}
		}
		// Nothing but a reorg that the child began and did not live to tell
		// replaces the last one told.
		if last != "" && !on[last] && len(list)-1 <= told[mustHash(t, last)] {
			t.Errorf("round %d: the last block told is not on the active chain", round)
		}
		conform.Must(t, c.Close())
	}
	if len(told) < 20 {
		t.Errorf("only %d blocks told in all: too few to mean anything", len(told))
	}
}

func mustHash(t *testing.T, s string) chainhash.Hash {
	h, err := chainhash.NewHashFromStr(s)
	conform.Must(t, err)
	return *h
}
