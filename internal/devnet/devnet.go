// Package devnet runs a whole network on one machine as separate processes: a
// regtest chain with a block every second, served like a Bitcoin node; agents;
// and two users with money.
package devnet

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/chain/corerpc"
	"github.com/bitgram/bitgram/internal/chain/devchain"
	"github.com/bitgram/bitgram/internal/home"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/wire"
)

// Options of a devnet.
type Options struct {
	Dir    string // directory of all files, reused at the next start
	Agents int
	Binary string // bitgram
	// Interval is the time between blocks.
	Interval time.Duration
	// Tell is called with each report: a ChainUp, AgentUp, UserUp, Ready or
	// Note.
	Tell func(any)
	Log  *slog.Logger
}

// Reports for Tell.
type (
	// ChainUp says that the chain is served.
	ChainUp struct {
		URL    string `json:"rpc_url"`
		Cookie string `json:"rpc_cookie_file"`
	}
	// AgentUp says that an agent runs.
	AgentUp struct {
		Name    string `json:"name"`
		Home    string `json:"home"`
		Address string `json:"address"`
		Seed    string `json:"seed"` // by which others enter the DHT
		PID     int    `json:"pid"`
	}
	// UserUp says that a user's daemon runs.
	UserUp struct {
		Name    string   `json:"name"`
		Home    string   `json:"home"`
		Address string   `json:"address"`
		Balance wire.Sat `json:"balance_sat"`
		PID     int      `json:"pid"`
	}
	// Ready says that the whole network runs.
	Ready struct {
		Dir string `json:"dir"`
	}
	// Note is any other event.
	Note struct {
		Text string `json:"text"`
	}
)

// Numbers of a devnet.
const (
	MaxAgents = 50
	purse     = wire.Sat(10_000_000) // each user's
	low       = purse / 10           // below which it is filled up
	// The initial money of each agent, for its hint on the chain and for banks.
	agentPurse = wire.Sat(1_000_000)
	agentLow   = agentPurse / 10
	baseRate   = 20               // sat per MB-day of the first agent; each further one asks one more
	upTime     = 60 * time.Second // for a daemon to answer
	stopTime   = 10 * time.Second // for all of them to end
	maxLog     = 16 << 20         // a longer log is started again
)

// ErrAgents means that the number of agents is out of range.
var ErrAgents = fmt.Errorf("a devnet runs 1 to %d agents", MaxAgents)

// ErrDied means that a process of the network ended repeatedly.
var ErrDied = errors.New("a process of the devnet does not stay up")

// party is one home and its process.
type party struct {
	name  string
	home  home.Home
	keys  *home.Keys
	agent bool
	port  int
	rate  int
	args  []string

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{}
}

// network is the running network.
type network struct {
	opt     Options
	chain   *devchain.Chain
	rpc     *corerpc.Server
	cookie  string
	parties []*party
	running sync.WaitGroup
}

// Run runs a devnet until ctx ends. The next Run with the same Dir continues
// it.
func Run(ctx context.Context, opt Options) (err error) {
	if opt.Agents < 1 || opt.Agents > MaxAgents {
		return fmt.Errorf("%w: %d", ErrAgents, opt.Agents)
	}
	lock, err := home.At(opt.Dir).Lock()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	if lock.Note != "" {
		opt.Tell(Note{lock.Note})
	}
	n := &network{opt: opt, cookie: filepath.Join(opt.Dir, "rpc.cookie")}
	if n.chain, err = devchain.Open(filepath.Join(opt.Dir, "chain")); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.chain.Close()) }()
	if n.rpc, err = corerpc.Listen(corerpc.Config{Node: n.chain, Listen: "127.0.0.1:0", CookieFile: n.cookie, Log: opt.Log}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.rpc.Close()) }()
	opt.Tell(ChainUp{n.rpc.URL(), n.cookie})
	if err := n.prepare(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	miner := append([]byte{0x51, 0x20}, bytes.Repeat([]byte{2}, 32)...) // nobody's key
	if _, err := n.chain.Mine(ctx, 1, miner); err != nil {
		return err
	}
	n.running.Go(func() {
		if err := n.chain.MineEvery(ctx, opt.Interval, miner); err != nil {
			cancel(err)
		}
	})
	defer n.stop(cancel)
	for _, p := range n.parties {
		if err := p.start(opt.Binary); err != nil {
			return err
		}
		n.running.Go(func() {
			if err := n.keep(ctx, p); err != nil {
				cancel(err)
			}
		})
	}
	for _, p := range n.parties {
		if err := n.up(ctx, p); err != nil {
			return errors.Join(err, context.Cause(ctx))
		}
	}
	opt.Tell(Ready{opt.Dir})
	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// prepare creates missing homes, and the processes' arguments.
func (n *network) prepare() error {
	ports, err := n.ports()
	if err != nil {
		return err
	}
	for i := range n.opt.Agents {
		n.parties = append(n.parties, &party{name: fmt.Sprintf("agent-%d", i+1), agent: true, rate: baseRate + i})
	}
	n.parties = append(n.parties, &party{name: "alice"}, &party{name: "bob"})
	for _, p := range n.parties {
		p.home = home.At(filepath.Join(n.opt.Dir, p.name))
		if p.keys, err = identity(p.home); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if p.port, err = freePort(ports[p.name]); err != nil {
			return err
		}
		ports[p.name] = p.port
	}
	for _, p := range n.parties {
		p.args = []string{"up", "--home", p.home.Dir, "--with-parent", "--rpc", n.rpc.URL(), "--rpc-cookie", n.cookie}
		// They find each other only through the chain.
		p.args = append(p.args, "--listen", p.listen(), "--bank")
		if p.agent {
			p.args = append(p.args, "--agent", "--advertise", "--one-of-many", "--rate", fmt.Sprint(p.rate),
				"--banker", "--bank-back", fmt.Sprint(int64(agentPurse)/2))
		}
	}
	return n.savePorts(ports)
}

func (p *party) listen() string { return fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", p.port) }

func (p *party) seed() (string, error) {
	key, err := wire.ParseRecipient(wire.Regtest, p.keys.Address)
	if err != nil {
		return "", err
	}
	id, err := p2p.PeerID(key)
	return fmt.Sprintf("%s/p2p/%s", p.listen(), id), err
}

// identity reads a home's identity, or creates one without a passphrase.
func identity(h home.Home) (*home.Keys, error) {
	k, err := h.Keys()
	if !errors.Is(err, home.ErrNone) {
		return k, err
	}
	entropy := make([]byte, 32)
	_, _ = rand.Read(entropy) // never fails (crypto/rand)
	_, address, err := node.Identity(wire.Regtest, entropy)
	if err != nil {
		return nil, err
	}
	if k, err = home.NewKeys(wire.Regtest, address, time.Now().Unix(), entropy, ""); err != nil {
		return nil, err
	}
	return k, h.Save(k)
}

// ports reads the ports of the last run, because other parties remember these
// addresses.
func (n *network) ports() (map[string]int, error) {
	ports := map[string]int{}
	raw, err := os.ReadFile(filepath.Join(n.opt.Dir, "ports.json"))
	if errors.Is(err, os.ErrNotExist) {
		return ports, nil
	}
	if err != nil {
		return nil, err
	}
	if json.Unmarshal(raw, &ports) != nil {
		return map[string]int{}, nil // others are as good
	}
	return ports, nil
}

func (n *network) savePorts(ports map[string]int) error {
	raw, err := json.Marshal(ports)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(n.opt.Dir, "ports.json"), raw, 0o600)
}

// freePort returns want if it is free, or another free port.
func freePort(want int) (int, error) {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", want))
	if err != nil {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// start starts the party's process. It ends when its standard input closes,
// however this process ends.
func (p *party) start(binary string) error {
	path := filepath.Join(p.home.Dir, "log")
	if s, err := os.Stat(path); err == nil && s.Size() > maxLog {
		_ = os.Remove(path)
	}
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(binary, p.args...)
	cmd.Stdout, cmd.Stderr = log, log
	// A process group of its own: Ctrl-C is for this process, which ends the
	// others in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if _, err := cmd.StdinPipe(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd, p.ended = cmd, make(chan struct{})
	return nil
}

// Users kill processes of a devnet on purpose; a process that repeatedly dies
// on its own is a fault.
const (
	restarts     = 5
	restartsIn   = time.Minute
	restartAfter = 300 * time.Millisecond
)

// keep waits for a process and restarts it until ctx ends.
func (n *network) keep(ctx context.Context, p *party) error {
	var deaths []time.Time
	for {
		p.mu.Lock()
		cmd, ended := p.cmd, p.ended
		p.mu.Unlock()
		err := cmd.Wait()
		close(ended)
		if ctx.Err() != nil {
			return nil
		}
		now := time.Now()
		for len(deaths) > 0 && now.Sub(deaths[0]) > restartsIn {
			deaths = deaths[1:]
		}
		var exit *exec.ExitError
		killed := errors.As(err, &exit) && !exit.Exited()
		if deaths = append(deaths, now); !killed && len(deaths) > restarts {
			return fmt.Errorf("%w: %s: see %s", ErrDied, p.name, filepath.Join(p.home.Dir, "log"))
		}
		n.opt.Tell(Note{fmt.Sprintf("%s ended (%v); restarting it", p.name, err)})
		select {
		case <-time.After(restartAfter):
		case <-ctx.Done():
			return nil
		}
		if err := p.start(n.opt.Binary); err != nil {
			return err
		}
		if ctx.Err() != nil {
			p.signal(os.Interrupt) // stop has signalled the one before
		}
	}
}

// up waits until a party's daemon answers and has read the chain, fills a
// user's wallet, and reports it.
func (n *network) up(ctx context.Context, p *party) error {
	wait, cancel := context.WithTimeout(ctx, upTime)
	defer cancel()
	var last error
	for {
		client, err := api.Dial(p.home)
		var st api.Status
		if err == nil {
			st, err = client.Status(wait)
		}
		if err == nil && st.Chain.Synced && st.Joined {
			if p.agent {
				if st.Balance.Spendable < agentLow {
					if err := n.pay(wait, client, agentPurse); err != nil {
						return err
					}
				}
				seed, err := p.seed()
				n.opt.Tell(AgentUp{p.name, p.home.Dir, st.Address, seed, client.PID()})
				return err
			}
			return n.fund(wait, p, client, st)
		}
		if err != nil {
			last = err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-wait.Done():
			return fmt.Errorf("%s does not answer: %w (see %s)", p.name, errors.Join(wait.Err(), last), filepath.Join(p.home.Dir, "log"))
		}
	}
}

// pay pays a party from the faucet.
func (n *network) pay(ctx context.Context, client *api.Client, amount wire.Sat) error {
	to, err := client.NewAddress(ctx)
	if err != nil {
		return err
	}
	script, err := wallet.ParseAddress(to.Address, n.chain.Params())
	if err != nil {
		return err
	}
	_, err = n.chain.Faucet(ctx, script, amount)
	return err
}

// fund fills a user's purse from the faucet.
func (n *network) fund(ctx context.Context, p *party, client *api.Client, st api.Status) error {
	for st.Balance.Spendable < low {
		if err := n.pay(ctx, client, purse); err != nil {
			return err
		}
		var err error
		for deadline := time.Now().Add(upTime); st.Balance.Spendable < low; {
			if st, err = client.Status(ctx); err != nil {
				return err
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("%s: the money does not arrive", p.name)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	n.opt.Tell(UserUp{p.name, p.home.Dir, st.Address, st.Balance.Spendable, client.PID()})
	return nil
}

// stop ends every process, gently first.
func (n *network) stop(cancel context.CancelCauseFunc) {
	cancel(nil)
	end := time.After(stopTime)
	for _, p := range n.parties {
		p.signal(os.Interrupt)
	}
	for _, p := range n.parties {
		p.mu.Lock()
		ended := p.ended
		p.mu.Unlock()
		if ended == nil {
			continue
		}
		select {
		case <-ended:
		case <-end:
			for _, q := range n.parties {
				q.signal(os.Kill)
			}
			<-ended
		}
	}
	n.running.Wait()
}

func (p *party) signal(s os.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(s) // it may have ended
	}
}
