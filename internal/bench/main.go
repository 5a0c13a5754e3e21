// Command bench measures the figures of BENCHMARKS.md on the current machine,
// together with bare rates in the same run, so that ratios are valid even if
// absolute numbers are not.
//
//	go run ./internal/bench -o BENCHMARKS.md
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/bitgram/bitgram/internal/contract"
)

func main() {
	out := flag.String("o", "", "write the report to this file as well")
	huge := flag.Int64("huge", 1<<30, "bytes of the huge message")
	names := flag.Bool("discovery", false, "measure discovery alone, to standard output")
	penny := flag.Bool("banks", false, "measure penny banks alone, to standard output")
	hunt := flag.Duration("search", 0, "search for this time for programs that take long for their fuel, to standard output")
	huntSeed := flag.Uint64("search.seed", uint64(time.Now().UnixNano()), "seed of the search")
	sandboxes := flag.Bool("runtime", false, "measure the runtime alone, to standard output")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *names {
		if err := discovery(ctx, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if *penny {
		if err := banks(ctx, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if *hunt > 0 {
		if err := search(context.Background(), os.Stdout, *hunt, *huntSeed); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if *sandboxes {
		if err := runtimes(ctx, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	var b bytes.Buffer
	w := io.MultiWriter(os.Stdout, &b)
	if err := report(ctx, w, *huge); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	if *out != "" {
		// What is below this heading is written by hand, and stays.
		if old, err := os.ReadFile(*out); err == nil {
			if i := bytes.Index(old, []byte("\n## The house\n")); i >= 0 {
				b.Write(old[i:])
			}
		}
		if err := os.WriteFile(*out, b.Bytes(), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
	}
}

func report(ctx context.Context, w io.Writer, huge int64) error {
	fmt.Fprintf(w, "# Benchmarks\n\nWritten by `make bench` on %s: %s, %d CPUs, %s %s/%s.\n", time.Now().UTC().Format("2006-01-02"),
		cpu(), runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	fmt.Fprintln(w, "Medians; ratios are of alternating runs. Every figure is listed with the bare rates of the same run.")
	table(w, "Bare rates", "rate", "measured")
	bare, err := bareRates()
	if err != nil {
		return err
	}
	bare.print(w)

	// This comes first: a child's peak memory includes this process's size at
	// the fork, which must still be small.
	table(w, "Whole processes", "figure", "measured", "wanted")
	if err := processes(ctx, w, huge); err != nil {
		return err
	}

	table(w, "Encryption", "figure", "measured", "wanted")
	if err := encryption(w); err != nil {
		return err
	}

	table(w, "On the chain", "figure", "measured", "wanted")
	const batch = 100
	claim := contract.VSize(contract.TxOverheadWeight + batch*contract.ClaimInputWeight(0, 1) + contract.P2TROutputWeight)
	row(w, "claim of a batch of 100, per message", fmt.Sprintf("%.2f vB", float64(claim)/batch), "≤ 135 vB")
	row(w, "funding of one message to 3 agents", fmt.Sprintf("%d vB", contract.VSize(contract.FundingWeight(1, 3, true))), "≤ 335 vB")

	table(w, "Latency on loopback, one message of 4 KiB", "figure", "p50", "p90", "wanted p50")
	if err := latency(ctx, w); err != nil {
		return err
	}

	table(w, "An agent on loopback, with its callers in the same process", "figure", "measured", "wanted")
	if err := throughput(ctx, w); err != nil {
		return err
	}

	table(w, "Network", "figure", "measured", "p90, or absolute", "wanted")
	for _, f := range []func(context.Context, io.Writer) error{lookups, hosts200, scan} {
		if err := f(ctx, w); err != nil {
			return err
		}
	}

	table(w, "Discovery", "figure", "measured", "wanted")
	if err := discovery(ctx, w); err != nil {
		return err
	}
	if err := banks(ctx, w); err != nil {
		return err
	}
	table(w, "Runtime", "figure", "measured", "wanted")
	return runtimes(ctx, w)
}

func table(w io.Writer, title string, cols ...string) {
	fmt.Fprintf(w, "\n## %s\n\n| %s |\n|%s\n", title, strings.Join(cols, " | "), strings.Repeat(" --- |", len(cols)))
}

func row(w io.Writer, cells ...string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }

func cpu() string {
	raw, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown CPU"
	}
	for line := range strings.Lines(string(raw)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown CPU"
}

func median[T cmp.Ordered](list []T) T { return quantile(list, 0.5) }

func quantile[T cmp.Ordered](list []T, q float64) T {
	s := slices.Sorted(slices.Values(list))
	return s[min(int(float64(len(s))*q), len(s)-1)]
}

// processes runs the binary itself.
func processes(ctx context.Context, w io.Writer, huge int64) error {
	dir, err := os.MkdirTemp("", "bitgram-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "bitgram")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", bin, "./cmd/bitgram").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, out)
	}
	demo := func(size int64) (time.Duration, int64, error) {
		path := filepath.Join(dir, "letter")
		if err := randomFile(path, size); err != nil {
			return 0, 0, err
		}
		c := exec.CommandContext(ctx, bin, "demo", path)
		began := time.Now()
		if out, err := c.CombinedOutput(); err != nil {
			return 0, 0, fmt.Errorf("demo: %w: %s", err, out)
		}
		return time.Since(began), c.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10, nil
	}
	var times []float64
	var small []int64
	for range 5 {
		t, rss, err := demo(4096)
		if err != nil {
			return err
		}
		times, small = append(times, t.Seconds()), append(small, rss)
	}
	row(w, "`demo`, happy path, from process start to its end", fmt.Sprintf("%.2f s", median(times)), "< 5 s")
	t, rss, err := demo(huge)
	if err != nil {
		return err
	}
	row(w, fmt.Sprintf("`demo` with a message of %d MiB", huge>>20), fmt.Sprintf("%.0f s", t.Seconds()), "")
	row(w, "memory that it takes more than with 4 KiB, all parties together", fmt.Sprintf("%d MiB", (rss-median(small))>>20), "< 64 MiB each")
	row(w, "peak memory with 4 KiB: a chain, 5 agents, sender, recipient", fmt.Sprintf("%d MiB", median(small)>>20), "")
	if err := daemon(ctx, w, bin, filepath.Join(dir, "home")); err != nil {
		return err
	}
	return startup(ctx, w, bin, filepath.Join(dir, "agent"))
}

// daemon runs one, and a command that speaks to it.
func daemon(ctx context.Context, w io.Writer, bin, home string) error {
	if out, err := exec.CommandContext(ctx, bin, "init", "--no-passphrase", "--home", home).CombinedOutput(); err != nil {
		return fmt.Errorf("init: %w: %s", err, out)
	}
	began := time.Now()
	up := exec.CommandContext(ctx, bin, "up", "--home", home, "--json")
	out, err := up.StdoutPipe()
	if err != nil {
		return err
	}
	if err := up.Start(); err != nil {
		return err
	}
	defer func() {
		_ = up.Process.Signal(os.Interrupt)
		_ = up.Wait()
	}()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return fmt.Errorf("up: %w", err)
	}
	row(w, "daemon of an empty home, from start to ready", fmt.Sprintf("%.0f ms", time.Since(began).Seconds()*1e3), "")
	var times []float64
	for range 41 {
		began := time.Now()
		if out, err := exec.CommandContext(ctx, bin, "id", "--json", "--home", home).CombinedOutput(); err != nil {
			return fmt.Errorf("id: %w: %s", err, out)
		}
		times = append(times, time.Since(began).Seconds()*1e3)
	}
	row(w, "`bitgram id --json` and its running daemon, whole process", fmt.Sprintf("%.0f ms", median(times)), "< 50 ms")
	return nil
}
