package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/bitgram/bitgram/internal/node/agent"
)

// held is how many messages of 1 KiB the agent of startup holds.
const held = 100_000

// startup times an agent that holds very many messages.
func startup(ctx context.Context, w io.Writer, bin, home string) error {
	if out, err := exec.CommandContext(ctx, bin, "init", "--no-passphrase", "--home", home).CombinedOutput(); err != nil {
		return fmt.Errorf("init: %w: %s", err, out)
	}
	if _, _, err := runAgent(ctx, bin, home, false); err != nil { // makes chain and database
		return err
	}
	if _, err := goBench(ctx, "./internal/node", "^BenchmarkPlant$", "1x", "BITGRAM_BENCH_DB="+filepath.Join(home, "bitgram.db")); err != nil {
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
		var st struct{ Agent agent.Stored }
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

// throughput measures an agent on loopback by benchmarks that need its inside;
// its callers run in the same process.
func throughput(ctx context.Context, w io.Writer) error {
	puts, err := goBench(ctx, "./internal/p2p", "^BenchmarkPut$", "10s")
	if err != nil {
		return err
	}
	agent, err := goBench(ctx, "./internal/node", "^Benchmark(Store|Fetch)$", "10s")
	if err != nil {
		return err
	}
	for _, r := range []struct {
		what, name string
		from       map[string]float64
		wanted     string
	}{
		{"put of 1 KiB without a contract, durable: 64 connections with one in flight", "BenchmarkPut/conns=64", puts, "≥ 3,500/s, aim 10,000/s"},
		{"the same with 512 connections", "BenchmarkPut/conns=512", puts, "≥ 6,200/s"},
		{"a message of 1 KiB stored, with quote, T, pre-signature and receipt: 64 senders", "BenchmarkStore", agent, "≥ 300/s"},
		{"fetch of 1 KiB over one proven session", "BenchmarkFetch", agent, "≥ 3,000/s"},
	} {
		rate, ok := r.from[r.name]
		if !ok {
			return fmt.Errorf("no result of %s", r.name)
		}
		row(w, r.what, fmt.Sprintf("%.0f/s", rate), r.wanted)
	}
	return nil
}

// goBench runs a package's benchmarks as a process of its own, and returns each
// one's rate: the metric whose unit ends in "/s".
func goBench(ctx context.Context, pkg, pattern, benchtime string, env ...string) (map[string]float64, error) {
	c := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", pattern, "-benchtime", benchtime, pkg)
	c.Env = append(os.Environ(), env...)
	out, err := c.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", pkg, err, out)
	}
	rates := map[string]float64{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		for i, unit := range fields {
			if i == 0 || !strings.HasSuffix(unit, "/s") {
				continue
			}
			rate, err := strconv.ParseFloat(fields[i-1], 64)
			if err != nil {
				return nil, fmt.Errorf("%s: %q", pkg, line)
			}
			name, _, _ := strings.Cut(fields[0], "-") // the number of CPUs
			rates[name] = rate
		}
	}
	return rates, nil
}
