package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/miekg/dns"
)

// discovery measures the scan for hints, a newcomer, and the DNS server.
func discovery(ctx context.Context, w io.Writer) (err error) {
	if err := hintScan(ctx, w); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bitgram-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "bitgram")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", bin, "./cmd/bitgram").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, out)
	}
	town := filepath.Join(dir, "net")
	lines, stop, err := background(ctx, `"type":"ready"`, bin, "devnet", "--agents", "3", "--json", "--dir", town)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	var chain struct {
		URL    string `json:"rpc_url"`
		Cookie string `json:"rpc_cookie_file"`
	}
	if err := json.Unmarshal(lines[0], &chain); err != nil {
		return err
	}
	var times []float64
	for i := range 5 {
		t, err := newcomer(ctx, bin, filepath.Join(dir, fmt.Sprint("home-", i)), chain.URL, chain.Cookie)
		if err != nil {
			return err
		}
		times = append(times, t.Seconds())
	}
	row(w, "from an empty home to the first resolved agent on a devnet, `init`, `up` and `name resolve`", fmt.Sprintf("%.2f s", median(times)), "< 2 s")
	return dnsRates(ctx, w, bin, dir, filepath.Join(town, "alice"))
}

// hintScan runs the benchmark of blocks full of outputs with data.
func hintScan(ctx context.Context, w io.Writer) error {
	out, err := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkScan$", "-cpu", "1", "./blockname").CombinedOutput()
	if err != nil {
		return fmt.Errorf("scan: %w: %s", err, out)
	}
	found := regexp.MustCompile(`BenchmarkScan/(\S+)\s.*?([\d.]+) MB/s`).FindAllSubmatch(out, -1)
	if found == nil {
		return fmt.Errorf("scan: %s", out)
	}
	for _, m := range found {
		row(w, fmt.Sprintf("scan of raw blocks for hints, one core: %s", m[1]), fmt.Sprintf("%s MB/s", m[2]), "≥ 200 MB/s")
	}
	return nil
}

// background starts a command and returns its lines up to one with a word.
func background(ctx context.Context, until, name string, args ...string) (lines [][]byte, stop func() error, err error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = 10 * time.Second
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := c.Start(); err != nil {
		return nil, nil, err
	}
	scan := bufio.NewScanner(out)
	for scan.Scan() {
		lines = append(lines, bytes.Clone(scan.Bytes()))
		if bytes.Contains(scan.Bytes(), []byte(until)) {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return lines, func() error {
				_ = c.Process.Signal(os.Interrupt)
				_ = c.Wait()
				return nil
			}, nil
		}
	}
	return nil, nil, errors.Join(fmt.Errorf("%s %v ended: %s", name, args, stderr.Bytes()), scan.Err(), c.Wait())
}

// newcomer is how long somebody takes to find an agent who has nothing but a
// chain.
func newcomer(ctx context.Context, bin, home, url, cookie string) (took time.Duration, err error) {
	began := time.Now()
	if out, err := exec.CommandContext(ctx, bin, "init", "--no-passphrase", "--home", home).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("init: %w: %s", err, out)
	}
	_, stop, err := background(ctx, `"type":"up"`, bin, "up", "--home", home, "--json", "--rpc", url, "--rpc-cookie", cookie)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	for time.Since(began) < time.Minute {
		out, err := exec.CommandContext(ctx, bin, "name", "resolve", "anybody.bitgram", "--home", home, "--json").Output()
		if err == nil && bytes.Contains(out, []byte(`"peer_id"`)) {
			return time.Since(began), nil
		}
	}
	return 0, errors.New("no agent within a minute")
}

// dnsNames are asked for; more would not fit into CoreDNS's default cache.
const dnsNames = 1000

// dnsRates compares answers from the cache with CoreDNS's, asked by dnsperf.
func dnsRates(ctx context.Context, w io.Writer, bin, dir, home string) (err error) {
	const what = "DNS answers from the cache, of CoreDNS's rate with its cache plugin"
	for _, need := range []string{"dnsperf", "coredns"} {
		if _, err := exec.LookPath(need); err != nil {
			row(w, what, "not measured: no "+need+" here", "≥ 0.8")
			return nil
		}
	}
	upstream, err := upstreamOf()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, upstream.Shutdown()) }()
	up := upstream.PacketConn.LocalAddr().String()
	var queries bytes.Buffer
	for i := range dnsNames {
		fmt.Fprintf(&queries, "host%d.example.org A\n", i)
	}
	file := filepath.Join(dir, "queries")
	if err := os.WriteFile(file, queries.Bytes(), 0o600); err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	corefile := filepath.Join(dir, "Corefile")
	if err := os.WriteFile(corefile, fmt.Appendf(nil, ".:%s {\n bind 127.0.0.1\n cache 3600\n forward . %s\n}\n", port, up), 0o600); err != nil {
		return err
	}
	_, stop, err := background(ctx, "CoreDNS-", "coredns", "-conf", corefile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	lines, stopOwn, err := background(ctx, "serving", bin, "name", "serve", "--home", home, "--json", "--listen", "127.0.0.1:0", "--upstream", up)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopOwn()) }()
	var serving struct{ Address string }
	if err := json.Unmarshal(lines[len(lines)-1], &serving); err != nil {
		return err
	}
	_, own, err := net.SplitHostPort(serving.Address)
	if err != nil {
		return err
	}
	var rates [2][]float64
	for round := range 6 {
		for i, p := range []string{own, port} {
			r, err := dnsperf(ctx, p, file)
			if err != nil {
				return err
			}
			if round > 0 { // the first fills the caches
				rates[i] = append(rates[i], r)
			}
		}
	}
	row(w, what, fmt.Sprintf("%.2f (%.0f/s)", median(rates[0])/median(rates[1]), median(rates[0])), "≥ 0.8")
	return nil
}

var perSecond = regexp.MustCompile(`Queries per second:\s+([\d.]+)`)

func dnsperf(ctx context.Context, port, file string) (float64, error) {
	out, err := exec.CommandContext(ctx, "dnsperf", "-s", "127.0.0.1", "-p", port, "-d", file, "-l", "3", "-c", "8", "-q", "100").CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("dnsperf: %w: %s", err, out)
	}
	m := perSecond.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("dnsperf: %s", out)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

// upstreamOf is a name server that has an address for every name.
func upstreamOf() (*dns.Server, error) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ready := make(chan struct{})
	s := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(ready) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(r)
		m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: r.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 3600}, A: net.IPv4(192, 0, 2, 1)}}
		_ = w.WriteMsg(m)
	})}
	failed := make(chan error, 1)
	go func() { failed <- s.ActivateAndServe() }()
	select {
	case <-ready:
		return s, nil
	case err := <-failed:
		return nil, err
	}
}

// freePort is one that nobody listens on now.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}
