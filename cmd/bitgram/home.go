package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/home"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/wire"
)

// at is the home that the command works on.
func (a *app) at() (home.Home, error) {
	dir := a.dir
	if dir == "" {
		dir = os.Getenv("BITGRAM_HOME")
	}
	if dir == "" {
		user, err := os.UserHomeDir()
		if err != nil {
			return home.Home{}, fmt.Errorf("%w: no home directory: pass --home: %w", errUsage, err)
		}
		dir = filepath.Join(user, ".bitgram")
	}
	abs, err := filepath.Abs(dir)
	return home.At(abs), err
}

// lock takes a home that is made, and tells what was mended about it.
func (a *app) lock(h home.Home) (release func() error, err error) {
	l, err := h.Lock()
	if err != nil {
		return nil, err
	}
	if l.Note != "" && !a.json {
		fmt.Fprintln(a.err, "note:", l.Note)
	}
	return l.Release, nil
}

// keys reads the home's key file, and holds its network against the flag's.
func (a *app) keys() (h home.Home, k *home.Keys, err error) {
	if h, err = a.at(); err != nil {
		return h, nil, err
	}
	if k, err = h.Keys(); err != nil {
		return h, nil, err
	}
	if a.networkGiven && wire.Network(a.network) != k.Network {
		return h, nil, fmt.Errorf("%w: the home is of %s, not %s", errHomeNetwork, k.Network, a.network)
	}
	return h, k, nil
}

// errHomeNetwork: --network names another network than the home's.
var errHomeNetwork = errors.New("--network does not match this home")

// dial finds the daemon of the home.
func (a *app) dial() (*api.Client, error) {
	h, _, err := a.keys()
	if err != nil {
		return nil, err
	}
	return api.Dial(h)
}

// simple is a command without flags of its own that asks the daemon.
func (a *app) simple(use, short string, args cobra.PositionalArgs, run func(*cobra.Command, *api.Client, []string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: usage(args), RunE: func(c *cobra.Command, args []string) error {
		client, err := a.dial()
		if err != nil {
			return err
		}
		return run(c, client, args)
	}}
}

func (a *app) tty() bool {
	in, ok := a.in.(*os.File)
	return ok && term.IsTerminal(int(in.Fd()))
}

// identity is who a key file is about.
func identity(k *home.Keys) (api.Identity, error) {
	key, err := wire.ParseRecipient(k.Network, k.Address)
	if err != nil {
		return api.Identity{}, fmt.Errorf("%w: the key file: %w", home.ErrDamaged, err)
	}
	id, err := p2p.PeerID(key)
	return api.Identity{Address: k.Address, Pubkey: key.String(), PeerID: id.String(), Network: k.Network}, err
}
