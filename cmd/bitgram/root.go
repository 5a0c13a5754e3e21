package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/store"
	"github.com/bitgram/bitgram/wire"
)

// app holds what all commands share: the streams, the global flags and the printer.
type app struct {
	ctx     context.Context
	in      io.Reader
	out     io.Writer
	err     io.Writer
	dir     string // --home
	network string
	// networkGiven reports that --network was passed: a home of another network is
	// an error then.
	networkGiven bool
	json         bool
	verbose      bool
	print        printer
	start        time.Time
}

// run runs the program with these arguments and streams, and returns the exit
// code.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	a := &app{ctx: ctx, in: in, out: out, err: errOut, start: time.Now()}
	// An error before the flags are parsed must be printed in the right form, too.
	a.json = slices.Contains(args, "--json")
	a.setPrinter()
	root := a.root()
	root.SetArgs(args)
	c, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	if told := errors.Is(err, errGoesOn) || errors.Is(err, errNameGoesOn) || errors.Is(err, errMaybe) || errors.Is(err, store.ErrCorrupt); ctx.Err() != nil && !told {
		err = errInterrupted // the interrupt is why it failed
	}
	if c.Name() == "help" {
		c = c.Root()
	}
	err = &commandError{err, c.CommandPath()}
	a.print.fail(err)
	_, exit, _ := explain(err)
	var program *exitError
	if errors.As(err, &program) && program.code < 256 {
		return int(program.code)
	}
	return exit
}

func (a *app) setPrinter() {
	if a.json {
		a.print = &jsonPrinter{out: a.out}
	} else {
		a.print = &textPrinter{out: a.out, err: a.err, tty: isTerminal(a.err), start: a.start}
	}
}

// newRoot returns the whole tree of commands, for tests and for the generator of
// the reference.
func newRoot() *cobra.Command {
	a := &app{ctx: context.Background(), in: strings.NewReader(""), out: io.Discard, err: io.Discard}
	a.setPrinter()
	return a.root()
}

// groups are the headings under which the root help lists the commands.
var groups = []*cobra.Group{
	{ID: "messages", Title: "Messages:"},
	{ID: "money", Title: "Money:"},
	{ID: "banks", Title: "Penny banks:"},
	{ID: "names", Title: "Names and agents:"},
	{ID: "programs", Title: "Programs:"},
	{ID: "home", Title: "Home and daemon:"},
	{ID: "try", Title: "Try it on this machine:"},
}

func (a *app) root() *cobra.Command {
	var showVersion bool
	root := &cobra.Command{
		Use:   "bitgram",
		Short: "Store-and-forward messaging, delivered by strangers, paid in bitcoin, trustless",
		Long: "Bitgram stores and forwards messages: strangers deliver them, are paid in bitcoin for it, and\n" +
			"nobody has to trust anybody.\n\n" +
			"A home is a directory with one identity and its wallet. 'bitgram init' creates it, 'bitgram up'\n" +
			"runs its daemon, and the other commands talk to that daemon.",
		Example: "  bitgram demo                                  # a whole network in one process\n" +
			"  bitgram init && bitgram up                    # an identity, and its daemon\n" +
			"  echo 'Dear Bob' | bitgram send ADDRESS -s hello",
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
		PersistentPreRunE: func(c *cobra.Command, _ []string) error {
			a.networkGiven = c.Flags().Changed("network")
			if wire.Network(a.network).HRP() == "" {
				return fmt.Errorf("%w: --network: unknown network %q (regtest, signet, testnet4 or mainnet)", errUsage, a.network)
			}
			a.setPrinter()
			return nil
		},
		Args: noSuchCommand,
		RunE: func(c *cobra.Command, _ []string) error {
			if showVersion {
				a.printVersion()
				return nil
			}
			return c.Help()
		},
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", errUsage, err) })
	f := root.PersistentFlags()
	f.StringVar(&a.dir, "home", "", "directory of the identity (default $BITGRAM_HOME, or ~/.bitgram)")
	f.StringVar(&a.network, "network", string(wire.Regtest), "regtest, signet, testnet4 or mainnet")
	f.BoolVar(&a.json, "json", a.json, "print one JSON object per line, for scripts")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "log to standard error")
	root.Flags().BoolVar(&showVersion, "version", false, "show the version")
	cobra.EnableCommandSorting = false // commands are listed in the order in which one uses them
	root.AddGroup(groups...)
	for _, g := range []struct {
		id       string
		commands []*cobra.Command
	}{
		{"messages", []*cobra.Command{a.sendCommand(), a.inboxCommand(), a.sentCommand(), a.statusCommand(), a.readCommand(), a.cancelCommand(), a.deleteCommand(), a.proofCommand(), a.verifyCommand()}},
		{"money", []*cobra.Command{a.walletCommand()}},
		{"banks", []*cobra.Command{a.bankCommand(), a.bankerCommand()}},
		{"names", []*cobra.Command{a.nameCommand(), a.agentsCommand()}},
		{"programs", []*cobra.Command{a.runCommand()}},
		{"home", []*cobra.Command{a.initCommand(), a.idCommand(), a.upCommand()}},
		{"try", []*cobra.Command{a.demoCommand(), a.devnetCommand()}},
		{"", []*cobra.Command{a.versionCommand(), a.generateCommand(), a.sandboxCommand()}},
	} {
		for _, c := range g.commands {
			c.GroupID = g.id
			root.AddCommand(c)
		}
	}
	root.SetHelpCommand(helpCommand(root))
	root.SetHelpFunc(a.printHelp)
	return root
}

// usage makes an error of cobra about the arguments a mistake on the command line.
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
