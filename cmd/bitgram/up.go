package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/daemon"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/node/directory"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/wire"
)

func (a *app) upCommand() *cobra.Command {
	o := new(upOptions)
	c := &cobra.Command{
		Use:   "up",
		Short: "Run the daemon",
		Long: "Runs the daemon of this home. It follows the chain, downloads messages for this home, delivers the\n" +
			"messages it sends and, with --agent, stores messages for others. The other commands talk to it. Ctrl-C\n" +
			"stops it; started again, it continues where it stopped, even after a crash.\n\n" +
			"Every flag can also be set in config.toml in the home; the command line takes precedence.",
		Example: "  bitgram up\n" +
			"  bitgram up --rpc http://127.0.0.1:8332 --rpc-cookie ~/.bitcoin/.cookie\n" +
			"  bitgram up --agent --disk 100GiB --rate 20 --bank",
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
			if o.gap < wallet.GapLimit || o.gap > wallet.MaxGap {
				return fmt.Errorf("%w: --gap %d: must be %d to %d", errUsage, o.gap, wallet.GapLimit, wallet.MaxGap)
			}
			cfg.Gap = o.gap
			if o.rescanFrom >= 0 {
				if o.rescanFrom > wire.MaxHeight {
					return fmt.Errorf("%w: --rescan-from %d: must be a block height", errUsage, o.rescanFrom)
				}
				from := wire.Height(o.rescanFrom)
				cfg.RescanFrom = &from
			}
			if o.names {
				from := wire.Height(cmp.Or(o.namesFrom, hintsFrom[keys.Network]))
				cfg.Hints = &from
			}
			if o.advertise && (!o.agent || !o.names) {
				return fmt.Errorf("%w: --advertise requires --agent and --names", errUsage)
			}
			if o.maxBurn < 0 {
				return fmt.Errorf("%w: --max-burn %d: must not be negative", errUsage, o.maxBurn)
			}
			if o.advertise {
				cfg.Advertise = &directory.Advertise{MaxBurn: wire.Sat(o.maxBurn)}
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
					fmt.Fprintf(w, "%s is up. Ctrl-C stops it.\n", n.Address())
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

// untilEOF returns a context that ends when in does.
func untilEOF(ctx context.Context, in io.Reader) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	return ctx
}
