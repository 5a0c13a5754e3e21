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
	"github.com/bitgram/bitgram/internal/node/banking"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/wire"
)

// upOptions holds the flags of up. Each is also a key of config.toml.
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
	gap                                                 int
	rescanFrom                                          int64
	logLevel, logFormat                                 string
	withParent                                          bool
}

// hintsFrom is the first block that is read for hints, by network: no seed of
// .bitgram is older.
var hintsFrom = map[wire.Network]uint32{wire.Mainnet: 970_000, wire.Signet: 280_000, wire.Testnet4: 100_000}

// flags defines the flags.
func (o *upOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.api, "api", "127.0.0.1:0", "loopback address of the local API; port 0 picks a free one")
	f.StringVar(&o.passphraseFile, "passphrase-file", "", "read the passphrase from the first line of this file (or set BITGRAM_PASSPHRASE)")
	f.StringVar(&o.rpc, "rpc", "", "JSON-RPC URL of a Bitcoin node (default on regtest: an embedded chain of this home)")
	f.StringVar(&o.rpcUser, "rpc-user", "", "user name for the Bitcoin node, if it has no cookie")
	f.StringVar(&o.rpcPassword, "rpc-password", "", "password for the Bitcoin node")
	f.StringVar(&o.rpcCookie, "rpc-cookie", "", "cookie file of the Bitcoin node")
	f.StringVar(&o.rpcCA, "rpc-ca", "", "PEM file with the CA that signed the node's certificate, such as btcd's rpc.cert")
	f.StringVar(&o.rpcZMQ, "rpc-zmq", "", "ZMQ address of the node's hashblock, such as tcp://127.0.0.1:28332, to learn of blocks at once")
	f.DurationVar(&o.blockTime, "block-time", 10*time.Second, "block interval of the embedded chain")
	f.StringSliceVar(&o.seeds, "seed", nil, "multiaddrs with peer IDs to join the DHT through")
	f.BoolVar(&o.names, "names", true, "read names and DHT seeds from the chain")
	f.Uint32Var(&o.namesFrom, "names-from", 0, "first block to read for names, in a home that has read none (0: the network's default)")
	f.BoolVar(&o.advertise, "advertise", false, "publish the agent's address on the chain, so that new nodes find it; its wallet pays")
	f.Int64Var(&o.maxBurn, "max-burn", 10_000, "most sat to burn for --advertise, if others hold the agent's place")
	f.BoolVar(&o.agent, "agent", false, "store messages for others, for pay")
	f.StringSliceVar(&o.listen, "listen", []string{"/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/udp/4001/quic-v1"}, "multiaddrs to listen on, as an agent or as a payee of banks")
	f.Float64Var(&o.rate, "rate", 20, "the agent's price, in sat per megabyte and day")
	f.StringVar(&o.inboxMax, "inbox-max-message", "5GiB", "largest message to download; larger ones are left with their agents until you raise this or they expire")
	f.StringVar(&o.maxMessage, "max-message", "1GiB", "largest copy that the agent stores")
	f.Float64Var(&o.maxDays, "max-days", 30, "longest time that the agent stores a message, in days")
	f.StringVar(&o.disk, "disk", "10GiB", "disk space that the agent uses for messages")
	f.StringVar(&o.unpaid, "unpaid", "1GiB", "part of --disk for messages whose payment is not confirmed")
	f.Uint32Var(&o.validBlocks, "quote-blocks", 12, "blocks for which a quote is valid")
	f.Uint32Var(&o.patience, "claim-blocks", 6, "blocks that a claim waits for others to share its fee")
	f.BoolVar(&o.oneOfMany, "one-of-many", false, "accept messages that pay one of many agents: all store, only the one that delivers is paid")
	f.BoolVar(&o.bank.on, "bank", false, "accept penny banks opened by others")
	f.BoolVar(&o.bank.banker, "banker", false, "also forward payments from one bank to another, for a fee")
	f.Float64Var(&o.bank.base, "banker-fee", 0.01, "fee per step, in sat")
	f.Float64Var(&o.bank.percent, "banker-percent", 0.1, "proportional fee, in percent")
	f.Int64Var(&o.bank.min, "bank-min", 10_000, "smallest bank to accept, in sat")
	f.Int64Var(&o.bank.rung, "bank-rung", 20_000, "largest rung to accept, in sat: the most a payer can withhold by vanishing (0: any)")
	f.IntVar(&o.bank.max, "bank-max", 1_000, "most banks to accept")
	f.Int64Var(&o.bank.back, "bank-back", 0, "total sat to commit to reverse banks requested by payers (0: none)")
	f.IntVar(&o.gap, "gap", wallet.GapLimit, "number of unused addresses to watch ahead: more if another program used the words with a wider gap")
	f.Int64Var(&o.rescanFrom, "rescan-from", -1, "read the chain again from this block for the wallet's coins (-1: no)")
	f.StringVar(&o.backup, "backup", "", "keep an encrypted backup of the home in this file; choose another disk")
	f.DurationVar(&o.backupEvery, "backup-every", time.Minute, "shortest time between two backups")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	f.BoolVar(&o.withParent, "with-parent", false, "stop when standard input ends")
	_ = f.MarkHidden("with-parent")
}

// policy reads the agent's flags.
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
		return nil, fmt.Errorf("%w: --rate %v: must be 0 to %v sat per megabyte and day", errUsage, o.rate, uint64(wire.MaxRate/1e6))
	case !(blocks >= 1 && blocks <= math.MaxUint16):
		return nil, fmt.Errorf("%w: --max-days %v: must be at least one block and at most %.0f days", errUsage, o.maxDays, math.MaxUint16/float64(margins.BlocksPerDay))
	case p.ValidFor < 2*margins.RevealConf:
		return nil, fmt.Errorf("%w: --quote-blocks %d: must be at least %d", errUsage, p.ValidFor, 2*margins.RevealConf)
	}
	p.Rate, p.MaxBlocks = wire.Psat(rate), uint32(blocks)
	return p, nil
}

// bankFlags holds the flags of up about penny banks.
type bankFlags struct {
	on, banker bool
	min, rung  int64
	max        int
	back       int64
	base       float64
	percent    float64
}

// fees reads the flags about what a banker takes for forwarding a step.
func (o *bankFlags) fees() (*wire.Fees, error) {
	base, ppm := o.base*1000, o.percent*10_000
	if !(base >= 0 && base <= float64(wire.MaxSat)) || !(ppm >= 0 && ppm <= 1_000_000) {
		return nil, fmt.Errorf("%w: --banker-fee %v --banker-percent %v: must not be negative, and at most 100 percent", errUsage, o.base, o.percent)
	}
	return &wire.Fees{Base: wire.Msat(math.Ceil(base)), PPM: uint32(math.Ceil(ppm))}, nil
}

// banking reads the flags about penny banks.
func (o *upOptions) banking() (*banking.Policy, error) {
	for _, f := range []struct {
		name         string
		value, least int64
	}{{"bank-min", o.bank.min, int64(contract.Dust)}, {"bank-max", int64(o.bank.max), 1}, {"bank-back", o.bank.back, 0}, {"bank-rung", o.bank.rung, 0}} {
		if f.value < f.least {
			return nil, fmt.Errorf("%w: --%s %d: must be at least %d", errUsage, f.name, f.value, f.least)
		}
	}
	b := &banking.Policy{Policy: bank.Policy{MinValue: wire.Sat(o.bank.min), MaxRungs: wire.MaxRungs, MaxRung: wire.Sat(o.bank.rung), MaxBanks: o.bank.max}, Back: wire.Sat(o.bank.back)}
	var err error
	if o.bank.banker {
		b.Fees, err = o.bank.fees()
	}
	return b, err
}

func (o *upOptions) logger(a *app) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return nil, fmt.Errorf("%w: --log-level %q: must be debug, info, warn or error", errUsage, o.logLevel)
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
	return nil, fmt.Errorf("%w: --log-format %q: must be text or json", errUsage, o.logFormat)
}
