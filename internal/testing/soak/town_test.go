package soak

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/chain/bitcoind"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/home"
	"github.com/bitgram/bitgram/internal/mail"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/testing/ports"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

// town is a chain, agents and users, each a process of its own.
type town struct {
	t       *testing.T
	dir     string
	rand    *rand.Rand
	chain   *proc
	rpc     string // URL
	near    string // the same as the parties reach it
	cookie  string
	control string // URL
	agents  []*party
	users   []*party
	paid    map[wire.Outpoint]bool // by the faucet
	every   atomic.Int64           // time.Duration between blocks
	lag     atomic.Int64           // how many blocks the slowest may be behind
	many    atomic.Int64           // blocks mined at a time

	mu    sync.Mutex
	story []string // what was done to it
	start time.Time
}

// party is a home and its process.
type party struct {
	*proc
	home home.Home
	keys *home.Keys
	ip   string // of an agent
	port int
	away atomic.Bool // blocks do not reach it

	mu   sync.Mutex
	conn *api.Client
}

// proc is a process that is started, killed and started again.
type proc struct {
	t    *testing.T
	name string
	path string
	args []string
	env  []string
	log  string                // its output
	run  func(*exec.Cmd) error // starts it

	mu    sync.Mutex
	cmd   *exec.Cmd // nil while it is down
	ended chan struct{}
	err   error // of its last end
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newTown makes the homes of agents and users, and starts the chain.
func newTown(t *testing.T, seed uint64, every time.Duration, agents int, users ...string) *town {
	t.Helper()
	w := &town{t: t, dir: t.TempDir(), rand: rand.New(rand.NewPCG(seed, 7)), paid: map[wire.Outpoint]bool{}, start: time.Now()}
	t.Cleanup(w.tell)
	rpc, control := fmt.Sprintf("127.0.0.1:%d", ports.Free(t)), fmt.Sprintf("127.0.0.1:%d", ports.Free(t))
	w.rpc, w.control, w.cookie = "http://"+rpc, "http://"+control, filepath.Join(w.dir, "cookie")
	raw, err := json.Marshal(chainConfig{Dir: filepath.Join(w.dir, "chain"), Cookie: w.cookie, RPC: rpc, Control: control})
	must(t, err)
	self, err := os.Executable()
	must(t, err)
	w.near = w.rpc
	w.chain = &proc{t: t, name: "chain", path: self, env: append(os.Environ(), chainEnv+"="+string(raw)), log: filepath.Join(w.dir, "chain.log"), run: (*exec.Cmd).Start}
	w.chain.start()
	for i := range agents {
		a := w.party(fmt.Sprintf("agent-%d", i+1))
		a.ip, a.port = "127.0.0.1", ports.Free(t)
		w.agents = append(w.agents, a)
	}
	for _, name := range users {
		w.users = append(w.users, w.party(name))
	}
	w.arrange()
	w.call("mine", url.Values{"blocks": {"1"}})
	if every > 0 {
		w.every.Store(int64(every))
		w.lag.Store(3)
		w.many.Store(1)
		w.mine()
	}
	return w
}

// arrange writes the parties' command lines.
func (w *town) arrange() {
	var seeds []string
	for _, a := range w.agents[:min(3, len(w.agents))] {
		seeds = append(seeds, "--seed", a.seed())
	}
	for i, p := range w.parties() {
		p.args = append([]string{"up", "--home", p.home.Dir, "--with-parent", "--rpc", w.near, "--rpc-cookie", w.cookie}, seeds...)
		if i < len(w.agents) {
			p.args = append(p.args, "--agent", "--listen", p.listen(), "--rate", strconv.Itoa(20+i))
		}
	}
}

// mine lets the chain grow: a block each interval, but not while one that is up is
// three blocks behind, so that a slow machine has slow blocks.
func (w *town) mine() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	w.t.Cleanup(func() {
		cancel()
		<-done
	})
	go func() {
		defer close(done)
		for tip := wire.Height(0); ctx.Err() == nil; time.Sleep(time.Duration(w.every.Load())) {
			lag := wire.Height(w.lag.Load())
			for end := time.Now().Add(20 * time.Second); tip > lag && !w.level(ctx, tip-lag) && time.Now().Before(end); {
				time.Sleep(20 * time.Millisecond)
			}
			resp, err := http.PostForm(w.control+"/mine", url.Values{"blocks": {strconv.FormatInt(w.many.Load(), 10)}})
			if err != nil {
				continue // it is down
			}
			var refs []chain.BlockRef
			if err := json.NewDecoder(resp.Body).Decode(&refs); err == nil && len(refs) > 0 {
				tip = refs[len(refs)-1].Height
			}
			_ = resp.Body.Close()
		}
	}()
}

// level reports whether no daemon that could know better is behind a height.
func (w *town) level(ctx context.Context, h wire.Height) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, p := range w.parties() {
		c, err := p.dial()
		if err != nil || p.away.Load() {
			continue
		}
		if st, err := c.Status(ctx); err == nil && st.Chain.Error == "" && st.Chain.Height < uint32(h) {
			return false
		}
	}
	return true
}

func (w *town) parties() []*party { return slices.Concat(w.agents, w.users) }

// party makes a home.
func (w *town) party(name string) *party {
	w.t.Helper()
	entropy := make([]byte, 32)
	for i := range entropy {
		entropy[i] = byte(w.rand.Uint32())
	}
	_, address, err := node.Identity(wire.Regtest, entropy)
	must(w.t, err)
	k, err := home.NewKeys(wire.Regtest, address, time.Now().Unix(), entropy, "")
	must(w.t, err)
	h := home.At(filepath.Join(w.dir, name))
	must(w.t, h.Save(k))
	return &party{home: h, keys: k, proc: &proc{t: w.t, name: name, path: binary, env: os.Environ(), log: filepath.Join(w.dir, name+".log"), run: (*exec.Cmd).Start}}
}

func (p *party) listen() string { return fmt.Sprintf("/ip4/%s/tcp/%d", p.ip, p.port) }

func (p *party) key() wire.Key {
	key, err := wire.ParseRecipient(wire.Regtest, p.keys.Address)
	must(p.t, err)
	return key
}

func (p *party) seed() string {
	id, err := p2p.PeerID(p.key())
	must(p.t, err)
	return fmt.Sprintf("%s/p2p/%s", p.listen(), id)
}

// start runs the process; it ends with this one.
func (p *proc) start() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(p.t, err)
	defer log.Close()
	cmd := exec.Command(p.path, p.args...)
	cmd.Stdout, cmd.Stderr, cmd.Env = log, log, p.env
	in, err := cmd.StdinPipe()
	must(p.t, err)
	must(p.t, p.run(cmd))
	ended := make(chan struct{})
	p.cmd, p.ended = cmd, ended
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.err = err
		close(ended)
	}()
	p.t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill() // it may have ended
		<-ended
	})
}

// kill ends the process as a power cut does.
func (p *proc) kill() {
	p.t.Helper()
	if err := p.end(os.Kill, time.Minute); !strings.Contains(fmt.Sprint(err), "killed") {
		p.t.Errorf("%s had ended before it was killed: %v\n%s", p.name, err, tail(p.log))
	}
}

// stop ends it in good order, which must be within limit.
func (p *proc) stop(limit time.Duration) {
	p.t.Helper()
	if err := p.end(os.Interrupt, limit); err != nil {
		p.t.Errorf("%s: %v\n%s", p.name, err, tail(p.log))
	}
}

// signal tells a process that runs something.
func (p *proc) signal(s os.Signal) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	must(p.t, p.cmd.Process.Signal(s))
}

func (p *proc) end(s os.Signal, limit time.Duration) error {
	p.t.Helper()
	p.mu.Lock()
	cmd, ended := p.cmd, p.ended
	p.cmd = nil
	p.mu.Unlock()
	if cmd == nil {
		p.t.Fatalf("%s is not running", p.name)
	}
	_ = cmd.Process.Signal(s) // it may have ended
	select {
	case <-ended:
	case <-time.After(busy * limit):
		_ = cmd.Process.Signal(syscall.SIGQUIT) // for the stacks
		<-ended
		p.t.Errorf("%s did not end within %v", p.name, busy*limit)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// wait waits for a process that ends by itself, and returns its exit code.
func (p *proc) wait(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(busy*limit + time.Second):
		p.t.Fatalf("%s still runs after %v\n%s", p.name, busy*limit, tail(p.log))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd = nil
	var exit *exec.ExitError
	if errors.As(p.err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

func (p *proc) up() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd != nil
}

// tail is the end of a log.
func tail(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	const most = 3000
	if len(raw) > most {
		raw = append([]byte("…"), raw[len(raw)-most:]...)
	}
	return string(raw)
}

// did keeps what was done for the day that it fails.
func (w *town) did(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.story = append(w.story, fmt.Sprintf("%7.2fs  ", time.Since(w.start).Seconds())+fmt.Sprintf(format, args...))
}

// tell says, where the test failed, what was done and what the processes said;
// and in any case whether one of them said what none may.
func (w *town) tell() {
	logs, err := filepath.Glob(filepath.Join(w.dir, "*.log"))
	must(w.t, err)
	for _, path := range logs {
		raw, err := os.ReadFile(path)
		must(w.t, err)
		for _, bad := range []string{"panic: ", "DATA RACE", "fatal error: ", "level=ERROR"} {
			if i := bytes.Index(raw, []byte(bad)); i >= 0 {
				w.t.Errorf("%s: %.3000s", filepath.Base(path), raw[i:])
			}
		}
	}
	if !w.t.Failed() {
		return
	}
	w.t.Logf("what was done:\n%s", strings.Join(w.story, "\n"))
	for _, path := range logs {
		w.t.Logf("the end of %s:\n%s", filepath.Base(path), tail(path))
	}
}

// call asks the chain's process for something.
func (w *town) call(what string, form url.Values) (answer []byte) {
	w.t.Helper()
	var resp *http.Response
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if resp, err = http.PostForm(w.control+"/"+what, form); err == nil {
			break
		}
	}
	if err != nil {
		w.t.Fatalf("%v\n%s", err, tail(w.chain.log))
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	must(w.t, err)
	if resp.StatusCode != http.StatusOK {
		w.t.Fatalf("%s: %s", what, raw)
	}
	return raw
}

// fund gives a party coins of its own.
func (w *town) fund(p *party, coins int, each wire.Sat) {
	w.t.Helper()
	c := p.client()
	address, err := c.NewAddress(w.t.Context())
	must(w.t, err)
	var list []wire.Outpoint
	must(w.t, json.Unmarshal(w.call("pay", url.Values{"to": {address.Address}, "coins": {strconv.Itoa(coins)}, "sat": {strconv.Itoa(int(each))}}), &list))
	for _, at := range list {
		w.paid[at] = true
	}
	want := wire.Sat(coins) * each
	w.until(time.Minute, func() error {
		b, err := c.Balance(w.t.Context())
		if err == nil && b.Spendable < want {
			err = fmt.Errorf("%s has %v of %v", p.name, b.Spendable, want)
		}
		return err
	})
}

// busy is how much longer all takes where other tests have the processors, too.
const busy = 6

// until tries f until it works.
func (w *town) until(limit time.Duration, f func() error) {
	w.t.Helper()
	var err error
	for end := time.Now().Add(busy * limit); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	w.t.Fatalf("not within %v: %v", busy*limit, err)
}

// up starts all that are down, and waits until they are ready.
func (w *town) up() {
	w.t.Helper()
	for _, p := range w.parties() {
		if !p.proc.up() {
			p.start()
		}
	}
	for _, p := range w.parties() {
		w.ready(p)
	}
}

// ready waits until a daemon follows the chain and is in the DHT, if there is one.
func (w *town) ready(p *party) {
	w.t.Helper()
	w.until(90*time.Second, func() error {
		select {
		case <-p.ended:
			w.t.Fatalf("%s ended: %v\n%s", p.name, p.err, tail(p.log))
		default:
		}
		c, err := p.dial()
		if err != nil {
			return err
		}
		st, err := c.Status(w.t.Context())
		if err == nil && !(st.Chain.Synced && (st.Joined || len(w.agents) == 0)) {
			err = fmt.Errorf("%s: %+v, in the DHT: %v", p.name, st.Chain, st.Joined)
		}
		return err
	})
}

// client speaks to the daemon that runs now.
func (p *party) client() *api.Client {
	p.t.Helper()
	c, err := p.dial()
	must(p.t, err)
	return c
}

// dial is for its daemon: the client that was there before where that is the
// same process, whose connections are used again; a daemon takes 256.
func (p *party) dial() (*api.Client, error) {
	c, err := api.Dial(p.home)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn == nil || p.conn.PID() != c.PID() {
		p.conn = c
	}
	return p.conn, nil
}

// letter is what somebody wants to send.
type letter struct {
	from, to *party
	name     string // its subject
	body     []byte
	days     float64
	agents   int
	// ids are its messages: those before the last have failed before anything
	// was paid.
	ids []string
}

// last is the newest of l's messages; empty where there is none.
func (l *letter) last() string {
	if len(l.ids) == 0 {
		return ""
	}
	return l.ids[len(l.ids)-1]
}

func (w *town) letter(from, to *party, size int) *letter {
	l := &letter{from: from, to: to, name: fmt.Sprintf("letter-%x", w.rand.Uint64()), body: make([]byte, size), days: tier.Pick[float64](2, 1, 2), agents: 3}
	for i := range l.body {
		l.body[i] = byte(w.rand.Uint32())
	}
	return l
}

// post has the daemon take a letter; where it is not known whether it did, its
// list says so.
func (w *town) post(ctx context.Context, l *letter) error {
	c, err := l.from.dial()
	if err != nil {
		return err
	}
	list, _, err := c.List(ctx, "sent", 100_000)
	if err != nil {
		return err
	}
	for _, m := range list {
		if m.Subject == l.name && !slices.Contains(l.ids, m.ID) {
			l.ids = append(l.ids, m.ID)
			return nil
		}
	}
	m, err := c.Send(ctx, api.Terms{To: l.to.keys.Address, Subject: l.name, Filename: "letter", Days: l.days, Agents: l.agents, MaxSat: 100_000}, uint64(len(l.body)), bytes.NewReader(l.body))
	if err == nil {
		l.ids = append(l.ids, m.ID)
	}
	return err
}

// settle has every letter come to its end, delivered byte for byte or refunded,
// and sends again what failed before anything was paid. It returns how many
// were delivered.
func (w *town) settle(limit time.Duration, letters []*letter) (delivered int) {
	w.t.Helper()
	open := map[*letter]bool{}
	for _, l := range letters {
		open[l] = true
	}
	state, why := map[string]string{}, map[string]string{}
	var count map[string]int
	w.until(limit, func() error {
		for _, p := range w.users {
			list, _, err := p.client().List(w.t.Context(), "sent", 100_000)
			if err != nil {
				return err
			}
			for _, m := range list {
				state[m.ID] = m.State
				if m.State == "failed" {
					state[m.ID] += ": " + string(m.FailedBy)
					why[m.ID] = m.Failure
				}
			}
		}
		count = map[string]int{}
		for l := range open {
			s := "not sent"
			if id := l.last(); id != "" {
				s = state[id]
			}
			count[s]++
			switch {
			case s == "not sent", s == "failed: agents", s == "failed: funds", strings.Contains(why[l.last()], "too late for the agents"):
				if err := w.post(w.t.Context(), l); err != nil {
					return err
				}
				w.did("%s sends %s (%s)", l.from.name, l.name, s)
			case s == "delivered":
				delivered++
				delete(open, l)
			case s == "refunded":
				delete(open, l)
			case strings.HasPrefix(s, "failed"):
				w.t.Fatalf("%s %s: %s", l.name, s, why[l.last()])
			}
		}
		if len(open) > 0 {
			return fmt.Errorf("%d of %d letters are on their way: %v", len(open), len(letters), count)
		}
		return nil
	})
	for _, l := range letters {
		id := l.last()
		if state[id] == "delivered" {
			w.read(l, id)
		}
	}
	return delivered
}

// read compares what the recipient has with what was sent.
func (w *town) read(l *letter, id string) {
	w.t.Helper()
	w.until(time.Minute, func() error {
		body, err := l.to.client().Content(w.t.Context(), id)
		if err != nil {
			return err
		}
		defer body.Close()
		msg, err := mail.Read(body)
		if err != nil {
			return err
		}
		part, err := msg.Next()
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		got, err := io.ReadAll(part.Body)
		if err != nil {
			return err
		}
		if msg.Subject != l.name || !bytes.Equal(got, l.body) {
			w.t.Errorf("%s: %d bytes were received, of other contents", l.name, len(got))
		}
		return nil
	})
}

// balance waits until every satoshi that the faucet paid is in a wallet, with
// the miners, or in an output that is not worth its refund; the fees are read
// back from the chain.
func (w *town) balance(limit time.Duration) {
	w.t.Helper()
	w.every.Store(w.every.Load() / 4) // what is left waits for blocks alone,
	w.lag.Store(0)                    // and each of them for who is slow: nobody acts while it is behind
	w.many.Store(tier.Pick[int64](1, 4, 1))
	w.until(limit, func() error {
		paid, fees, coins, tip, err := w.audit()
		if err != nil {
			return err
		}
		sum, list := wire.Sat(0), ""
		for _, p := range w.parties() {
			b, err := p.client().Balance(w.t.Context())
			if err != nil {
				return err
			}
			if b.Locked != 0 || b.Pending != 0 {
				return fmt.Errorf("%s: %v locked, %v pending", p.name, b.Locked, b.Pending)
			}
			sum += b.Spendable
			list += fmt.Sprintf("\n  %s holds %v", p.name, b.Spendable)
			if st, err := p.client().Status(w.t.Context()); err == nil {
				list += fmt.Sprintf(" at block %d of %d %s", st.Chain.Height, tip, st.Chain.Error)
			}
		}
		left, messages, err := w.left(coins, tip)
		if err != nil {
			return err
		}
		if paid != sum+fees+left {
			return fmt.Errorf("the faucet paid %v; wallets hold %v, miners %v, and %v are not worth a refund; %v are not accounted for:%s%s",
				paid, sum, fees, left, paid-sum-fees-left, list, messages)
		}
		w.t.Logf("the faucet paid %v; wallets hold %v, miners %v, and %v are not worth a refund", paid, sum, fees, left)
		return nil
	})
}

// left tells of messages that still have money in their outputs. sum is of those
// whose one output that nobody claimed cannot pay for its own refund, which
// stay where they are until fees fall.
func (w *town) left(coins map[wire.Outpoint]wire.Sat, tip uint32) (sum wire.Sat, text string, err error) {
	for _, p := range w.users {
		list, _, err := p.client().List(w.t.Context(), "sent", 100_000)
		if err != nil {
			return 0, "", err
		}
		for _, m := range list {
			var there []wire.Sat
			for at, value := range coins {
				// Behind the frozen outputs come the marker and the change.
				if chainhash.Hash(at.Txid).String() == m.Funding && int(at.Vout) < len(m.Agents) {
					there = append(there, value)
				}
			}
			if len(there) == 1 && there[0] < worthless && tip > m.Expiry+6 {
				sum += there[0]
			} else if len(there) > 0 {
				text += fmt.Sprintf("\n  %v in %+v", there, m)
			}
		}
	}
	return sum, text, nil
}

// worthless is what a single frozen output must be worth to pay for its own
// refund and not be dust: 330 sat, and 1 sat/vB.
const worthless = 330 + 150

// audit follows the faucet's money through the chain; coins are what is unspent
// of it.
func (w *town) audit() (paid, fees wire.Sat, coins map[wire.Outpoint]wire.Sat, height uint32, err error) {
	ctx := w.t.Context()
	c, err := bitcoind.New(bitcoind.Config{URL: w.rpc, CookieFile: w.cookie, Network: wire.Regtest})
	if err != nil {
		return 0, 0, nil, 0, err
	}
	defer c.Close()
	tip, err := c.Tip(ctx)
	if err != nil {
		return 0, 0, nil, 0, err
	}
	coins = map[wire.Outpoint]wire.Sat{}
	found := 0
	for h := wire.Height(1); h <= tip.Height; h++ {
		hash, err := c.HashAt(ctx, h)
		if err != nil {
			return 0, 0, nil, 0, err
		}
		b, _, err := c.Block(ctx, hash)
		if err != nil {
			return 0, 0, nil, 0, err
		}
		for _, t := range b.Transactions {
			fee, err := spend(t, coins, func(at wire.Outpoint, value wire.Sat) bool {
				if !w.paid[at] {
					return false
				}
				paid += value
				found++
				return true
			})
			if err != nil {
				return 0, 0, nil, 0, err
			}
			fees += fee
		}
	}
	if found != len(w.paid) {
		return 0, 0, nil, 0, fmt.Errorf("%d of %d payments of the faucet are on the chain", found, len(w.paid))
	}
	return paid, fees, coins, uint32(tip.Height), nil
}

// spend moves coins as a transaction does, and returns the fee that it paid of
// them; ours says which outputs of others' transactions are.
func spend(t *btcwire.MsgTx, coins map[wire.Outpoint]wire.Sat, ours func(wire.Outpoint, wire.Sat) bool) (fee wire.Sat, err error) {
	own := 0
	for _, in := range t.TxIn {
		at := contract.OutpointOf(in.PreviousOutPoint)
		if v, ok := coins[at]; ok {
			fee += v
			own++
			delete(coins, at)
		}
	}
	if own != 0 && own != len(t.TxIn) {
		return 0, fmt.Errorf("%v spends others' money", t.TxHash())
	}
	for n, o := range t.TxOut {
		at, value := wire.Outpoint{Txid: contract.Txid(t), Vout: uint32(n)}, wire.Sat(o.Value)
		if own > 0 {
			fee -= value
		}
		if own > 0 || ours(at, value) {
			coins[at] = value
		}
	}
	return fee, nil
}

// health asks a daemon for it.
func (w *town) health(p *party) (status int, body string) {
	w.t.Helper()
	at, err := p.home.Endpoint()
	must(w.t, err)
	req, err := http.NewRequestWithContext(w.t.Context(), "GET", at.URL+"/health", nil)
	must(w.t, err)
	req.Header.Set("Authorization", "Bearer "+at.Token)
	resp, err := http.DefaultClient.Do(req)
	must(w.t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	must(w.t, err)
	return resp.StatusCode, string(raw)
}

// bitgram runs a command at a party's home.
func (p *party) bitgram(args ...string) (out string, code int) {
	p.t.Helper()
	cmd := exec.Command(p.path, append([]string{"--home", p.home.Dir}, args...)...)
	cmd.Env = p.env
	raw, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return string(raw), cmd.ProcessState.ExitCode()
}
