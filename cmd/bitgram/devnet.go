package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/devnet"
	"github.com/bitgram/bitgram/wire"
)

func (a *app) devnetCommand() *cobra.Command {
	opt := devnet.Options{}
	c := &cobra.Command{
		Use:   "devnet",
		Short: "Run a whole network of processes on this machine",
		Long: "Runs a regtest chain with a block every second, served as Bitcoin Core's JSON-RPC; agents; and two users\n" +
			"with money, alice and bob. Each is a process with its own home. It prints how to use them. Ctrl-C stops\n" +
			"it; started again with the same directory, it continues.",
		Example: "  bitgram devnet\n" +
			"  bitgram devnet --agents 8 --dir ./net",
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if a.network != string(wire.Regtest) {
				return fmt.Errorf("%w: --network %s: a devnet runs on regtest only", errUsage, a.network)
			}
			if opt.Dir == "" {
				h, err := a.at()
				if err != nil {
					return err
				}
				opt.Dir = filepath.Join(h.Dir, "devnet")
			}
			if opt.Dir, err = filepath.Abs(opt.Dir); err != nil {
				return err
			}
			if opt.Binary, err = self(); err != nil {
				return err
			}
			opt.Log = a.log()
			var users []devnet.UserUp
			opt.Tell = func(e any) {
				if u, ok := e.(devnet.UserUp); ok {
					users = append(users, u)
				}
				a.tellDevnet(e, users)
			}
			if err := devnet.Run(c.Context(), opt); err != nil {
				return err
			}
			a.print.summary(devnet.Ready{Dir: opt.Dir}, func(w io.Writer) { fmt.Fprintln(w, "Stopped. Run 'bitgram devnet' again to resume.") })
			return nil
		},
	}
	f := c.Flags()
	f.IntVar(&opt.Agents, "agents", 5, "number of agents")
	f.StringVar(&opt.Dir, "dir", "", "directory for its files (default: devnet in the home directory)")
	f.DurationVar(&opt.Interval, "block-time", time.Second, "block interval")
	return c
}

// self returns the path of this program, by the name that it was started under.
func self() (string, error) {
	path, err := exec.LookPath(os.Args[0])
	if err != nil {
		return os.Executable()
	}
	return filepath.Abs(path)
}

func (a *app) tellDevnet(e any, users []devnet.UserUp) {
	switch e := e.(type) {
	case devnet.ChainUp:
		a.print.line("chain", e, func(w io.Writer) {
			fmt.Fprintf(w, "chain    %s  (cookie in %s)\n", e.URL, e.Cookie)
		})
	case devnet.AgentUp:
		a.print.line("agent", e, func(w io.Writer) { fmt.Fprintf(w, "%-8s %s  %s\n", e.Name, e.Address, e.Seed) })
	case devnet.UserUp:
		a.print.line("user", e, func(w io.Writer) { fmt.Fprintf(w, "%-8s %s  %v\n", e.Name, e.Address, e.Balance) })
	case devnet.Note:
		a.print.line("note", e, func(w io.Writer) { fmt.Fprintln(w, e.Text) })
	case devnet.Ready:
		a.print.line("ready", e, func(w io.Writer) {
			fmt.Fprintf(w, "\nReady. In another terminal:\n\n")
			fmt.Fprintf(w, "  echo 'Dear Bob' | bitgram --home %s send %s --subject hello\n", users[0].Home, users[1].Address)
			fmt.Fprintf(w, "  bitgram --home %s inbox --watch\n", users[1].Home)
			fmt.Fprintf(w, "  bitgram --home %s read ID\n\nCtrl-C stops it.\n", users[1].Home)
		})
	}
}
