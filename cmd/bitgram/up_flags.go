package main

import (
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/spf13/pflag"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
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

// bankFlags of up.
type bankFlags struct {
	on, banker bool
	min, rung  int64
	max        int
	back       int64
	base       float64
	percent    float64
}

// fees are what the flags ask for passing a step on.
func (o *bankFlags) fees() (*wire.Fees, error) {
	base, ppm := o.base*1000, o.percent*10_000
	if !(base >= 0 && base <= float64(wire.MaxSat)) || !(ppm >= 0 && ppm <= 1_000_000) {
		return nil, fmt.Errorf("%w: --banker-fee and --banker-percent are no fees", errUsage)
	}
	return &wire.Fees{Base: wire.Msat(math.Ceil(base)), PPM: uint32(math.Ceil(ppm))}, nil
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
