package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/store"
	"github.com/bitgram/bitgram/wire"
)

// app is what every command shares.
type app struct {
	ctx     context.Context
	in      io.Reader
	out     io.Writer
	err     io.Writer
	dir     string // --home
	network string
	// networkGiven: the user said which network, so another is an error.
	networkGiven bool
	json         bool
	verbose      bool
	print        printer
	start        time.Time
}

// run is the program: it returns the exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	a := &app{ctx: ctx, in: in, out: out, err: errOut, start: time.Now()}
	// Also an error before the flags are read has to come out as asked for.
	a.json = slices.Contains(args, "--json")
	a.setPrinter()
	root := a.root()
	root.SetArgs(args)
	c, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	if told := errors.Is(err, errGoesOn) || errors.Is(err, errNameGoesOn) || errors.Is(err, errMaybe) || errors.Is(err, store.ErrCorrupt); ctx.Err() != nil && !told {
		err = errInterrupted // whatever broke, broke because of it
	}
	err = &commandError{err, c.CommandPath()}
	a.print.fail(err)
	_, exit, _ := explain(err)
	return exit
}

func (a *app) setPrinter() {
	if a.json {
		a.print = &jsonPrinter{out: a.out}
	} else {
		a.print = &textPrinter{out: a.out, err: a.err, tty: isTerminal(a.err), start: a.start}
	}
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "bitgram",
		Short:         "Message delivery that strangers do for bitcoin, without anyone having to trust anyone",
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(c *cobra.Command, _ []string) error {
			a.networkGiven = c.Flags().Changed("network")
			if wire.Network(a.network).HRP() == "" {
				return fmt.Errorf("%w: no network %q: regtest, signet, testnet4 or mainnet", errUsage, a.network)
			}
			a.setPrinter()
			return nil
		},
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", errUsage, err) })
	f := root.PersistentFlags()
	f.StringVar(&a.dir, "home", "", "where this identity lives (default $BITGRAM_HOME or ~/.bitgram)")
	f.StringVar(&a.network, "network", string(wire.Regtest), "regtest, signet, testnet4 or mainnet")
	f.BoolVar(&a.json, "json", a.json, "one JSON object a line, for scripts")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "log to standard error")
	root.AddCommand(a.initCommand(), a.idCommand(), a.upCommand(), a.sendCommand(), a.listCommand("inbox", "Messages received"),
		a.listCommand("sent", "Messages sent"), a.statusCommand(), a.readCommand(), a.cancelCommand(), a.deleteCommand(), a.proofCommand(),
		a.verifyCommand(), a.walletCommand(), a.agentsCommand(), a.nameCommand(), a.bankCommand(), a.bankerCommand(), a.devnetCommand(), a.demoCommand(), a.runCommand(), a.versionCommand())
	return root
}

// usage wraps what cobra finds wrong with the arguments.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		return nil
	}
}

func (a *app) log() *slog.Logger {
	if !a.verbose {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
