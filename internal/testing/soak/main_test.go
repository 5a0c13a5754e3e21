package soak

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/bitgram/bitgram/internal/chain/corerpc"
	"github.com/bitgram/bitgram/internal/chain/devchain"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/wire"
)

var (
	soakTime = flag.Duration("soak.time", 0, "for how long TestKills kills; 0 for what fits into a test run")
	soakSeed = flag.Uint64("soak.seed", 1, "of TestKills; 0 for a fresh one, which is printed")
)

// binary is bitgram, built once.
var binary string

// chainEnv makes the test binary a chain's process.
const chainEnv = "BITGRAM_TEST_CHAIN"

func TestMain(m *testing.M) {
	if raw := os.Getenv(chainEnv); raw != "" {
		if err := serveChain(raw); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	if tier.Short() { // no test runs a process
		os.Exit(m.Run())
	}
	os.Exit(build(m))
}

func build(m *testing.M) int {
	dir, err := os.MkdirTemp("", "bitgram-soak-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "bitgram")
	args := []string{"build", "-o", binary}
	if tier.Race {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "github.com/bitgram/bitgram/cmd/bitgram")...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "go build:", err)
		return 1
	}
	return m.Run()
}

// chainConfig is what a chain's process is told.
type chainConfig struct {
	Dir, Cookie  string
	RPC, Control string // addresses to listen on
}

// miner's key is nobody's.
var miner = append([]byte{0x51, 0x20}, []byte("nobody has the key to this money")...)

// serveChain runs a chain until its standard input ends.
func serveChain(raw string) error {
	var cfg chainConfig
	if err := json.Unmarshal([]byte(raw), &cfg); err != nil {
		return err
	}
	signal.Ignore(syscall.SIGINT)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	c, err := devchain.Open(cfg.Dir)
	if err != nil {
		return err
	}
	rpc, err := corerpc.Listen(corerpc.Config{Node: c, Listen: cfg.RPC, CookieFile: cfg.Cookie})
	if err != nil {
		return errors.Join(err, c.Close())
	}
	l, err := net.Listen("tcp", cfg.Control)
	if err != nil {
		return errors.Join(err, rpc.Close(), c.Close())
	}
	srv := &http.Server{Handler: control(c)}
	go func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintln(os.Stderr, err)
			cancel()
		}
	}()
	<-ctx.Done()
	return errors.Join(srv.Close(), rpc.Close(), c.Close())
}

// control does what Bitcoin's RPC has no method for: /pay gives an address a
// number of coins, /mine mines, /reorg replaces blocks.
func control(c *devchain.Chain) http.Handler {
	mux := http.NewServeMux()
	handle := func(name string, f func(ctx context.Context, get func(string) string, n func(string) int) (any, error)) {
		mux.HandleFunc("POST /"+name, func(w http.ResponseWriter, r *http.Request) {
			v, err := f(r.Context(), r.FormValue, func(key string) int {
				n, _ := strconv.Atoi(r.FormValue(key))
				return n
			})
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			_ = json.NewEncoder(w).Encode(v)
		})
	}
	handle("pay", func(ctx context.Context, get func(string) string, n func(string) int) (any, error) {
		script, err := wallet.ParseAddress(get("to"), c.Params())
		if err != nil {
			return nil, err
		}
		var coins []wire.Outpoint
		for i := range n("coins") {
			at, err := c.Faucet(ctx, script, wire.Sat(n("sat")))
			if err != nil {
				return nil, err
			}
			if coins = append(coins, at); i%20 == 19 {
				if _, err := c.Mine(ctx, 1, miner); err != nil {
					return nil, err
				}
			}
		}
		_, err = c.Mine(ctx, 1, miner)
		return coins, err
	})
	handle("mine", func(ctx context.Context, _ func(string) string, n func(string) int) (any, error) {
		return c.Mine(ctx, n("blocks"), miner)
	})
	handle("reorg", func(ctx context.Context, _ func(string) string, n func(string) int) (any, error) {
		return nil, c.Reorg(ctx, n("depth"), miner)
	})
	return mux
}
