package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/daemon"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/home"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/wire"
)

// upOptions are the flags of up; config.toml has the same.
type upOptions struct {
	api, passphraseFile                                 string
	rpc, rpcUser, rpcPassword, rpcCookie, rpcZMQ, rpcCA string
	blockTime                                           time.Duration
	seeds                                               []string
	agent                                               bool
	listen                                              []string
	rate                                                float64
	maxMessage, disk, unpaid, inboxMax                  string
	maxDays                                             float64
	validBlocks, patience                               uint32
	names, advertise                                    bool
	namesFrom                                           uint32
	maxBurn                                             int64
	oneOfMany                                           bool
	bank                                                bankFlags
	backup                                              string
	backupEvery                                         time.Duration
	logLevel, logFormat                                 string
	withParent                                          bool
}

// hintsFrom is the first block that is read for hints: no seed of .bitgram is
// older.
var hintsFrom = map[wire.Network]uint32{wire.Mainnet: 970_000, wire.Signet: 280_000, wire.Testnet4: 100_000}

// errConfig: the configuration file is not what up takes.
var errConfig = errors.New("the configuration")

// flags defines them; each is a key of config.toml too.
func (o *upOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.api, "api", "127.0.0.1:0", "loopback address of the local API; port 0 picks one")
	f.StringVar(&o.passphraseFile, "passphrase-file", "", "read the passphrase from the first line of this file (or set BITGRAM_PASSPHRASE)")
	f.StringVar(&o.rpc, "rpc", "", "JSON-RPC URL of a Bitcoin node; without one, on regtest, a chain of this home's own")
	f.StringVar(&o.rpcUser, "rpc-user", "", "its user, where it has no cookie")
	f.StringVar(&o.rpcPassword, "rpc-password", "", "its password")
	f.StringVar(&o.rpcCookie, "rpc-cookie", "", "its cookie file")
	f.StringVar(&o.rpcCA, "rpc-ca", "", "a PEM file that its certificate must stand on, such as btcd's rpc.cert")
	f.StringVar(&o.rpcZMQ, "rpc-zmq", "", "its ZMQ address for hashblock, such as tcp://127.0.0.1:28332; blocks are noticed at once")
	f.DurationVar(&o.blockTime, "block-time", 10*time.Second, "how often the embedded chain has a block")
	f.StringSliceVar(&o.seeds, "seed", nil, "multiaddrs with peer IDs by which the DHT is entered")
	f.BoolVar(&o.names, "names", true, "read names and seeds of the DHT from the chain")
	f.Uint32Var(&o.namesFrom, "names-from", 0, "the first block that is read for them, for a home that has read none; 0 for the network's own")
	f.BoolVar(&o.advertise, "advertise", false, "keep the agent's address on the chain, for those who know nobody yet; its wallet pays")
	f.Int64Var(&o.maxBurn, "max-burn", 10_000, "satoshi that are burned for that at most, where others stand at the agent's place")
	f.BoolVar(&o.agent, "agent", false, "store messages for others, for pay")
	f.StringSliceVar(&o.listen, "listen", []string{"/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/udp/4001/quic-v1"}, "multiaddrs on which an agent or the payee of banks listens")
	f.Float64Var(&o.rate, "rate", 20, "the agent's price: satoshi for a megabyte and a day")
	f.StringVar(&o.inboxMax, "inbox-max-message", "5GiB", "the largest message that is fetched for this home; larger ones stay with their agents, until you raise it or they run out")
	f.StringVar(&o.maxMessage, "max-message", "1GiB", "the largest copy that the agent takes")
	f.Float64Var(&o.maxDays, "max-days", 30, "for how long at most")
	f.StringVar(&o.disk, "disk", "10GiB", "the disk space that the agent gives to messages")
	f.StringVar(&o.unpaid, "unpaid", "1GiB", "how much of it to messages whose payment is not confirmed")
	f.Uint32Var(&o.validBlocks, "quote-blocks", 12, "blocks within which a quote must be paid")
	f.Uint32Var(&o.patience, "claim-blocks", 6, "blocks for which a claim waits for others to share its fee")
	f.BoolVar(&o.oneOfMany, "one-of-many", false, "take part in messages that pay one of many agents: all store, and the one that delivers is paid")
	f.BoolVar(&o.bank.on, "bank", false, "be the payee of penny banks that others open")
	f.BoolVar(&o.bank.banker, "banker", false, "also pass payments on, from one bank to another, for a fee")
	f.Float64Var(&o.bank.base, "banker-fee", 0.01, "satoshi that a banker takes for each step")
	f.Float64Var(&o.bank.percent, "banker-percent", 0.1, "and percent of what it passes on")
	f.Int64Var(&o.bank.min, "bank-min", 10_000, "the smallest bank that is taken, satoshi")
	f.Int64Var(&o.bank.rung, "bank-rung", 20_000, "the largest rung that is taken, satoshi: what a payer can keep back by vanishing; 0 for any")
	f.IntVar(&o.bank.max, "bank-max", 1_000, "how many banks are taken")
	f.Int64Var(&o.bank.back, "bank-back", 0, "satoshi that go, all in all, into banks that payers ask for the other way")
	f.StringVar(&o.backup, "backup", "", "keep an encrypted backup of the home current in this file, on another disk")
	f.DurationVar(&o.backupEvery, "backup-every", time.Minute, "how often at most it is written")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	f.BoolVar(&o.withParent, "with-parent", false, "end when standard input does")
	_ = f.MarkHidden("with-parent")
}

// readConfig sets what the home's config.toml says and no flag does.
func readConfig(h home.Home, f *pflag.FlagSet) error {
	path := filepath.Join(h.Dir, home.FileConfig)
	var values map[string]any
	if _, err := toml.DecodeFile(path, &values); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("%w: %s: %w", errConfig, path, err)
	}
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	new(upOptions).flags(own)
	for key, v := range values {
		if fl := own.Lookup(key); fl == nil || fl.Hidden {
			return fmt.Errorf("%w: %s: unknown key %q", errConfig, path, key)
		}
		if f.Changed(key) {
			continue
		}
		text := fmt.Sprint(v)
		if list, ok := v.([]any); ok {
			var items []string
			for _, i := range list {
				items = append(items, fmt.Sprint(i))
			}
			text = strings.Join(items, ",")
		}
		if err := f.Set(key, text); err != nil {
			return fmt.Errorf("%w: %s: %s: %w", errConfig, path, key, err)
		}
	}
	return nil
}

// writeConfig writes a config.toml that says what there is to say, and changes
// nothing.
func writeConfig(h home.Home) error {
	var b strings.Builder
	b.WriteString("# The flags of 'bitgram up'. Take a # away to set one.\n")
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.SortFlags = false
	new(upOptions).flags(f)
	f.VisitAll(func(fl *pflag.Flag) {
		if fl.Hidden {
			return
		}
		value := fl.DefValue
		switch fl.Value.Type() {
		case "string", "duration":
			value = fmt.Sprintf("%q", value)
		case "stringSlice":
			value = strings.NewReplacer("[", `["`, ",", `", "`, "]", `"]`).Replace(value)
			if value == `[""]` {
				value = "[]"
			}
		}
		fmt.Fprintf(&b, "\n# %s\n# %s = %s\n", fl.Usage, fl.Name, value)
	})
	return h.WriteConfig([]byte(b.String()))
}

// bytesOf reads a size such as 10GiB.
func bytesOf(flag, s string) (uint64, error) {
	n, err := humanize.ParseBytes(s)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%w: --%s %q is no size, such as 10GiB", errUsage, flag, s)
	}
	return n, nil
}

// policy is what the agent's flags amount to.
func (o *upOptions) policy(n wire.Network) (p *deal.Policy, err error) {
	p = &deal.Policy{ValidFor: o.validBlocks, Patience: o.patience, OneOfMany: o.oneOfMany}
	for _, s := range []struct {
		flag, text string
		to         *uint64
	}{{"max-message", o.maxMessage, &p.MaxSize}, {"disk", o.disk, &p.MaxStored}, {"unpaid", o.unpaid, &p.MaxUnfunded}} {
		if *s.to, err = bytesOf(s.flag, s.text); err != nil {
			return nil, err
		}
	}
	p.MaxSize = min(p.MaxSize, wire.MaxPayload)
	margins := deal.MarginsFor(n)
	// One satoshi for a megabyte-day is 10⁶ psat for a byte-day.
	rate, blocks := o.rate*1e6, o.maxDays*float64(margins.BlocksPerDay)
	switch {
	case !(rate >= 0 && rate <= wire.MaxRate):
		return nil, fmt.Errorf("%w: --rate %v is no price", errUsage, o.rate)
	case !(blocks >= 1 && blocks <= math.MaxUint16):
		return nil, fmt.Errorf("%w: --max-days %v", errUsage, o.maxDays)
	case p.ValidFor < 2*margins.RevealConf:
		return nil, fmt.Errorf("%w: --quote-blocks %d: senders want %d or more", errUsage, p.ValidFor, 2*margins.RevealConf)
	}
	p.Rate, p.MaxBlocks = wire.Psat(rate), uint32(blocks)
	return p, nil
}

// banking is what the banks' flags amount to.
func (o *upOptions) banking() (*node.Banking, error) {
	if o.bank.min < int64(contract.Dust) || o.bank.max < 1 || o.bank.back < 0 || o.bank.rung < 0 {
		return nil, fmt.Errorf("%w: --bank-min is %v at least, --bank-max 1, --bank-back and --bank-rung 0", errUsage, contract.Dust)
	}
	b := &node.Banking{Policy: bank.Policy{MinValue: wire.Sat(o.bank.min), MaxRungs: wire.MaxRungs, MaxRung: wire.Sat(o.bank.rung), MaxBanks: o.bank.max}, Back: wire.Sat(o.bank.back)}
	var err error
	if o.bank.banker {
		b.Fees, err = o.bank.fees()
	}
	return b, err
}

func (o *upOptions) logger(a *app) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return nil, fmt.Errorf("%w: --log-level: %w", errUsage, err)
	}
	if a.verbose {
		level = slog.LevelDebug
	}
	opts := &slog.HandlerOptions{Level: level}
	switch o.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(a.err, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(a.err, opts)), nil
	}
	return nil, fmt.Errorf("%w: --log-format is text or json", errUsage)
}

func (a *app) upCommand() *cobra.Command {
	o := new(upOptions)
	c := &cobra.Command{
		Use:   "up",
		Short: "Run the daemon of this home",
		Long: "Runs the daemon: it follows the chain, fetches what is for this home, delivers what it sends, and,\n" +
			"as an agent, stores messages for others. All other commands speak to it. It ends on Ctrl-C, and\n" +
			"goes on where it was when it is started again, however it ended.\n\n" +
			"Each flag can stand in config.toml in the home; a flag on the command line counts more.",
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			h, keys, err := a.keys()
			if err != nil {
				return err
			}
			if err := readConfig(h, c.Flags()); err != nil {
				return err
			}
			cfg := daemon.Config{Home: h, Seeds: o.seeds, API: o.api, Version: version(),
				Backup: o.backup, BackupEvery: max(o.backupEvery, time.Second),
				Passphrase: func() (string, error) { return a.passphrase(o.passphraseFile, "Passphrase", false) },
				Chain: daemon.Chain{URL: o.rpc, User: o.rpcUser, Password: o.rpcPassword, Cookie: o.rpcCookie, CA: o.rpcCA, ZMQ: o.rpcZMQ,
					Interval: max(o.blockTime, 100*time.Millisecond)}}
			if cfg.MaxMessage, err = bytesOf("inbox-max-message", o.inboxMax); err != nil {
				return err
			}
			if o.names {
				from := wire.Height(cmp.Or(o.namesFrom, hintsFrom[keys.Network]))
				cfg.Hints = &from
			}
			if o.advertise && (!o.agent || !o.names || o.maxBurn < 0) {
				return fmt.Errorf("%w: --advertise is for agents that read names, and --max-burn no less than 0", errUsage)
			}
			if o.advertise {
				cfg.Advertise = &node.Advertise{MaxBurn: wire.Sat(o.maxBurn)}
			}
			if o.agent {
				if cfg.Policy, err = o.policy(keys.Network); err != nil {
					return err
				}
			}
			if o.bank.on || o.bank.banker {
				if cfg.Banking, err = o.banking(); err != nil {
					return err
				}
			}
			if cfg.Policy != nil || cfg.Banking != nil {
				cfg.Listen = o.listen
			}
			if cfg.Log, err = o.logger(a); err != nil {
				return err
			}
			cfg.Ready = func(url string, n *node.Node) {
				a.print.line("up", struct {
					Home    string   `json:"home"`
					Address string   `json:"address"`
					API     string   `json:"api_url"`
					Seeds   []string `json:"seeds,omitempty"`
					PID     int      `json:"pid"`
				}{h.Dir, n.Address(), url, n.Seed(), os.Getpid()}, func(w io.Writer) {
					fmt.Fprintf(w, "%s is up. Ctrl-C ends it.\n", n.Address())
				})
			}
			ctx := c.Context()
			if o.withParent {
				ctx = untilEOF(ctx, a.in)
			}
			if err := daemon.Run(ctx, cfg); err != nil {
				return err
			}
			a.print.summary(struct {
				Home string `json:"home"`
			}{h.Dir}, func(w io.Writer) { fmt.Fprintln(w, "Stopped.") })
			return nil
		},
	}
	c.Flags().SortFlags = false
	o.flags(c.Flags())
	return c
}
