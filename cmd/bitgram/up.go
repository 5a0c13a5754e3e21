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
	"github.com/bitgram/bitgram/wire"
)

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

// untilEOF ends a context when input does.
func untilEOF(ctx context.Context, in io.Reader) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	return ctx
}
