package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/home"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/wallet"
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

// errPassphrase: there is nobody to ask for it.
var errPassphrase = errors.New("a passphrase is needed")

// maxSecret bounds a passphrase or a mnemonic, bytes.
const maxSecret = 4096

// passphrase is read from a file, from BITGRAM_PASSPHRASE, or from the terminal.
func (a *app) passphrase(file, prompt string, twice bool) (string, error) {
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("%w: %w", errInput, err)
		}
		defer f.Close()
		return firstLine(f)
	}
	if p, ok := os.LookupEnv("BITGRAM_PASSPHRASE"); ok {
		return p, nil
	}
	in, ok := a.in.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return "", fmt.Errorf("%w, and there is no terminal to ask on", errPassphrase)
	}
	ask := func(text string) ([]byte, error) {
		fmt.Fprint(a.err, text)
		defer fmt.Fprintln(a.err)
		return term.ReadPassword(int(in.Fd()))
	}
	p, err := ask(prompt + ": ")
	if err != nil {
		return "", err
	}
	if twice {
		again, err := ask("Once more: ")
		if err != nil {
			return "", err
		}
		if !bytes.Equal(p, again) {
			return "", fmt.Errorf("%w: the two are not the same", errUsage)
		}
	}
	return string(p), nil
}

// newPassphrase is one for a new home, or none where open is set.
func (a *app) newPassphrase(file string, open bool) (string, error) {
	if open {
		return "", nil
	}
	pass, err := a.passphrase(file, "Passphrase for the new home", true)
	if err == nil && pass == "" {
		err = fmt.Errorf("%w: an empty passphrase protects nothing: pass --no-passphrase if you mean it", errUsage)
	}
	return pass, err
}

func firstLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, maxSecret)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimRight(line, "\r\n"), nil
}

func (a *app) initCommand() *cobra.Command {
	var restore, open bool
	var file string
	c := &cobra.Command{
		Use:   "init",
		Short: "Create an identity and its wallet",
		Long: "Creates the home: a key for messages and a bitcoin wallet, both made of 24 words. Write\n" +
			"them down: with them everything but messages can be restored on any machine. On disk\n" +
			"they are encrypted under a passphrase.\n\n" +
			"--restore reads 12 or 24 words of an earlier identity from standard input.",
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := a.at()
			if err != nil {
				return err
			}
			if _, err := h.Keys(); err == nil {
				return fmt.Errorf("%w: %s", home.ErrExists, h.Dir)
			} else if !errors.Is(err, home.ErrNone) {
				return err
			}
			entropy, created := make([]byte, 32), time.Now().Unix()
			_, _ = rand.Read(entropy) // never fails (crypto/rand)
			if restore {
				created = 0
				if a.tty() {
					fmt.Fprintln(a.err, "The words, in one line:")
				}
				words, err := firstLine(a.in)
				if err != nil {
					return fmt.Errorf("%w: %w", errInput, err)
				}
				if entropy, err = wallet.Entropy(words); err != nil {
					return err
				}
			}
			pass, err := a.newPassphrase(file, open)
			if err != nil {
				return err
			}
			network := wire.Network(a.network)
			_, address, err := node.Identity(network, entropy)
			if err != nil {
				return err
			}
			k, err := home.NewKeys(network, address, created, entropy, pass)
			if err != nil {
				return err
			}
			words, err := wallet.NewMnemonic(entropy)
			if err != nil {
				return err
			}
			release, err := a.lock(h)
			if err != nil {
				return err
			}
			defer release()
			if err := h.Save(k); err != nil {
				return err
			}
			if err := writeConfig(h); err != nil {
				return err
			}
			id, err := identity(k)
			if err != nil {
				return err
			}
			if restore {
				words = "" // its owner has them
			}
			a.print.summary(struct {
				api.Identity
				Home     string `json:"home"`
				Mnemonic string `json:"mnemonic,omitempty"`
			}{id, h.Dir, words}, func(w io.Writer) {
				fmt.Fprintf(w, "Created %s.\n\nYour address, for others to write to:\n\n  %s\n", h.Dir, id.Address)
				if words != "" {
					fmt.Fprintf(w, "\nWrite these words down, in their order, and keep them safe. 'bitgram wallet words' shows them again, as long as this home is there:\n\n  %s\n", words)
				}
				fmt.Fprintf(w, "\nNext: bitgram up\n")
			})
			return nil
		},
	}
	f := c.Flags()
	f.BoolVar(&restore, "restore", false, "from words on standard input")
	f.BoolVar(&open, "no-passphrase", false, "leave the seed on the disk as it is, for whoever reads the disk")
	f.StringVar(&file, "passphrase-file", "", "read the passphrase from the first line of this file (or set BITGRAM_PASSPHRASE)")
	return c
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

func (a *app) idCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "id",
		Short: "Show who this home is",
		Args:  usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			h, k, err := a.keys()
			if err != nil {
				return err
			}
			// The daemon is asked where there is one; the file says the same.
			client, err := api.Dial(h)
			var id api.Identity
			if err == nil {
				id, err = client.ID(c.Context())
			}
			if err != nil {
				if id, err = identity(k); err != nil {
					return err
				}
			}
			a.print.summary(id, func(w io.Writer) { fmt.Fprintln(w, id.Address) })
			return nil
		},
	}
}
