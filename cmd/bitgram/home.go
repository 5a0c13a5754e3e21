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

// at returns the home that the command works on: --home, BITGRAM_HOME or
// ~/.bitgram.
func (a *app) at() (home.Home, error) {
	dir := a.dir
	if dir == "" {
		dir = os.Getenv("BITGRAM_HOME")
	}
	if dir == "" {
		user, err := os.UserHomeDir()
		if err != nil {
			return home.Home{}, fmt.Errorf("%w: the user has no home directory: pass --home: %w", errUsage, err)
		}
		dir = filepath.Join(user, ".bitgram")
	}
	abs, err := filepath.Abs(dir)
	return home.At(abs), err
}

// lock takes the lock of a home that is being created, and shows what was fixed
// about its directory.
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

// keys reads the home's key file, and checks its network against --network.
func (a *app) keys() (h home.Home, k *home.Keys, err error) {
	if h, err = a.at(); err != nil {
		return h, nil, err
	}
	if k, err = h.Keys(); err != nil {
		return h, nil, err
	}
	if a.networkGiven && wire.Network(a.network) != k.Network {
		return h, nil, fmt.Errorf("%w: this home is for %s, not for %s", errHomeNetwork, k.Network, a.network)
	}
	return h, k, nil
}

// errHomeNetwork: --network names another network than the home's.
var errHomeNetwork = errors.New("wrong --network")

// dial connects to the daemon of the home.
func (a *app) dial() (*api.Client, error) {
	h, _, err := a.keys()
	if err != nil {
		return nil, err
	}
	return api.Dial(h)
}

// invocation returns how to call bitgram for the same home, for a user to copy.
func (a *app) invocation() string {
	if a.dir == "" {
		return "bitgram"
	}
	return "bitgram --home " + a.dir
}

// simple returns a command whose run asks the daemon. The caller adds its flags.
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

// identity returns the public identity in a key file.
func identity(k *home.Keys) (api.Identity, error) {
	key, err := wire.ParseRecipient(k.Network, k.Address)
	if err != nil {
		return api.Identity{}, fmt.Errorf("%w: the key file: %w", home.ErrDamaged, err)
	}
	id, err := p2p.PeerID(key)
	return api.Identity{Address: k.Address, Pubkey: key.String(), PeerID: id.String(), Network: k.Network}, err
}
