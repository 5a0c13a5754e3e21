package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/home"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/wire"
)

// wireTxid is a txid as people write it.
func wireTxid(h wire.Hash) string { return chainhash.Hash(h).String() }

func (a *app) walletCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "wallet",
		Short: "Money on the chain",
		Args:  usage(cobra.NoArgs),
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.walletAddress(), a.walletBalance(), a.walletSend(), a.walletHistory(), a.walletBump(), a.walletAbandon(), a.walletBackup(), a.walletRestore(), a.walletWords())
	return c
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

func (a *app) walletAddress() *cobra.Command {
	return a.simple("address", "A fresh bitcoin address to be paid at", cobra.NoArgs, func(c *cobra.Command, client *api.Client, _ []string) error {
		address, err := client.NewAddress(c.Context())
		if err != nil {
			return err
		}
		a.print.summary(struct {
			Address string `json:"address"`
		}{address}, func(w io.Writer) { fmt.Fprintln(w, address) })
		return nil
	})
}

func (a *app) walletBalance() *cobra.Command {
	return a.simple("balance", "What the wallet holds", cobra.NoArgs, func(c *cobra.Command, client *api.Client, _ []string) error {
		b, err := client.Balance(c.Context())
		if err != nil {
			return err
		}
		a.print.summary(b, func(w io.Writer) {
			t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
			fmt.Fprintf(t, "spendable\t%v\t\n", b.Spendable)
			if b.Locked != 0 {
				fmt.Fprintf(t, "kept for messages\t%v\t\n", b.Locked)
			}
			if b.Pending != 0 {
				fmt.Fprintf(t, "pending\t%v\t\n", b.Pending)
			}
			if b.Immature != 0 {
				fmt.Fprintf(t, "mined, immature\t%v\t\n", b.Immature)
			}
			t.Flush()
		})
		return nil
	})
}

// errAmount: no amount of satoshi.
var errAmount = errors.New("not an amount of satoshi")

func satoshi(s string) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimSuffix(strings.ReplaceAll(s, "_", ""), "sat"), 10, 64)
	if err != nil || n <= 0 || n > int64(wire.MaxSat) {
		return 0, fmt.Errorf("%w: %q", errAmount, s)
	}
	return n, nil
}

// perVB reads a fee rate in satoshi per vbyte into satoshi per 1,000.
func perVB(rate float64) (int64, error) {
	if !(rate >= 0 && rate <= 100_000) {
		return 0, fmt.Errorf("%w: a fee rate of %v sat/vB", errUsage, rate)
	}
	return int64(math.Ceil(rate * 1000)), nil
}

func (a *app) walletSend() *cobra.Command {
	var rate float64
	c := a.simple("send ADDRESS SATOSHI", "Pay to a bitcoin address", cobra.ExactArgs(2), func(c *cobra.Command, client *api.Client, args []string) error {
		amount, err := satoshi(args[1])
		if err != nil {
			return err
		}
		kvb, err := perVB(rate)
		if err != nil {
			return err
		}
		p, err := client.Pay(c.Context(), args[0], amount, kvb)
		return a.paid(p, maybe(c.Context(), err))
	})
	c.Flags().Float64Var(&rate, "rate", 0, "fee in satoshi per vbyte; 0 for the node's estimate")
	return c
}

func (a *app) walletBump() *cobra.Command {
	var rate float64
	c := a.simple("bump TXID", "Raise the fee of a payment that does not confirm, or of a message's funding", cobra.ExactArgs(1), func(c *cobra.Command, client *api.Client, args []string) error {
		kvb, err := perVB(rate)
		if err != nil {
			return err
		}
		p, err := client.Bump(c.Context(), args[0], kvb)
		return a.paid(p, maybe(c.Context(), err))
	})
	c.Flags().Float64Var(&rate, "rate", 0, "fee in satoshi per vbyte; 0 for twice the node's estimate")
	return c
}

func (a *app) walletAbandon() *cobra.Command {
	return a.simple("abandon TXID", "Take back a payment that no node has taken yet", cobra.ExactArgs(1), func(c *cobra.Command, client *api.Client, args []string) error {
		return a.paid(client.Abandon(c.Context(), args[0]))
	})
}

func (a *app) paid(p api.Payment, err error) error {
	if err != nil {
		return err
	}
	a.print.summary(p, func(w io.Writer) { fmt.Fprintln(w, p.Txid) })
	return nil
}

func (a *app) walletHistory() *cobra.Command {
	return a.simple("history", "The wallet's transactions", cobra.NoArgs, func(c *cobra.Command, client *api.Client, _ []string) error {
		list, err := client.History(c.Context())
		if err != nil {
			return err
		}
		a.print.summary(struct {
			Transactions []api.Transaction `json:"transactions"`
		}{list}, func(w io.Writer) {
			t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
			for _, r := range list {
				height, change := "waiting", ""
				if r.Kept {
					height = "not taken"
				}
				if r.Height != 0 {
					height, change = fmt.Sprint("block ", r.Height), fmt.Sprintf("%+d sat", int64(r.In-r.Out))
				}
				fmt.Fprintf(t, "%s\t%s\t  %s\t\n", height, change, r.Txid)
			}
			t.Flush()
		})
		return nil
	})
}

func (a *app) walletBackup() *cobra.Command {
	return a.simple("backup FILE", "Write an encrypted backup of the home: seed, contracts and their secrets, received messages", cobra.ExactArgs(1), func(c *cobra.Command, client *api.Client, args []string) error {
		if err := checkOutput(args[0], false); err != nil {
			return err
		}
		content, err := client.Backup(c.Context())
		if err != nil {
			return err
		}
		defer content.Close()
		var n int64
		if err := writeWhole(args[0], func(w io.Writer) error {
			n, err = io.Copy(w, content)
			return err
		}); err != nil {
			return err
		}
		a.print.summary(struct {
			File  string `json:"file"`
			Bytes int64  `json:"bytes"`
		}{args[0], n}, func(w io.Writer) {
			fmt.Fprintf(w, "%d bytes in %s. The home's words open it, and its passphrase; without a passphrase whoever has the file has the money.\n", n, args[0])
		})
		return nil
	})
}

func (a *app) walletRestore() *cobra.Command {
	var file string
	var words, open bool
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a home out of a backup",
		Long: "Makes the home that --home names out of a backup. What was under way then goes on, as far as it is\n" +
			"safe: messages that were not paid for yet are given up, since they may have been sent since, and\n" +
			"quotes are void. What was done after the backup was made is found on the chain where it left a\n" +
			"trace there: coins, and received messages. Do not run the old home again.\n\n" +
			"The backup is opened by the passphrase that its home had. With --words it is opened by the 24 words\n" +
			"instead, from standard input, and the new home gets a new passphrase.",
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			h, err := a.at()
			if err != nil {
				return err
			}
			f, _, err := openInput(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			release, err := a.lock(h)
			if err != nil {
				return err
			}
			defer release()
			keys, err := h.Restore(f, func(k *home.Keys) ([]byte, *home.Keys, error) {
				if words {
					return a.byWords(k, file, open)
				}
				pass := ""
				if k.Encrypted() {
					if pass, err = a.passphrase(file, "Passphrase of the home in the backup", false); err != nil {
						return nil, nil, err
					}
				}
				entropy, err := k.Open(pass)
				return entropy, k, err
			}, func(entropy []byte) ([]byte, error) {
				seed, _, err := node.Identity(wire.Network(a.network), entropy)
				return seed, err
			}, func(db string) error { return node.MarkRestored(c.Context(), db) })
			if err != nil {
				return err
			}
			id, err := identity(keys)
			if err != nil {
				return err
			}
			a.print.summary(struct {
				api.Identity
				Home string `json:"home"`
			}{id, h.Dir}, func(w io.Writer) { fmt.Fprintf(w, "Restored %s to %s.\n\nNext: bitgram up\n", id.Address, h.Dir) })
			return nil
		},
	}
	c.Flags().StringVar(&file, "passphrase-file", "", "read the passphrase from the first line of this file (or set BITGRAM_PASSPHRASE)")
	c.Flags().BoolVar(&words, "words", false, "read the 24 words from standard input instead, and set a new passphrase")
	c.Flags().BoolVar(&open, "no-passphrase", false, "with --words, leave the seed on the disk as it is, for whoever reads the disk")
	return c
}

// byWords opens a backup for who has its words and not its passphrase, which is
// why the key file is sealed anew.
func (a *app) byWords(k *home.Keys, file string, open bool) ([]byte, *home.Keys, error) {
	if a.tty() {
		fmt.Fprintln(a.err, "The words, in one line:")
	}
	line, err := firstLine(a.in)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errInput, err)
	}
	entropy, err := wallet.Entropy(line)
	if err != nil {
		return nil, nil, err
	}
	if _, address, err := node.Identity(k.Network, entropy); err != nil {
		return nil, nil, err
	} else if address != k.Address {
		return nil, nil, fmt.Errorf("%w: these are the words of %s, and the backup is of %s", home.ErrPassphrase, address, k.Address)
	}
	pass, err := a.newPassphrase(file, open)
	if err != nil {
		return nil, nil, err
	}
	sealed, err := home.NewKeys(k.Network, k.Address, k.Created, entropy, pass)
	return entropy, sealed, err
}

func (a *app) walletWords() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "words",
		Short: "Show the words that the home can be made anew from",
		Args:  usage(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			_, k, err := a.keys()
			if err != nil {
				return err
			}
			pass := ""
			if k.Encrypted() {
				if pass, err = a.passphrase(file, "Passphrase", false); err != nil {
					return err
				}
			}
			entropy, err := k.Open(pass)
			if err != nil {
				return err
			}
			words, err := wallet.NewMnemonic(entropy)
			if err != nil {
				return err
			}
			a.print.summary(struct {
				Mnemonic string `json:"mnemonic"`
			}{words}, func(w io.Writer) { fmt.Fprintln(w, words) })
			return nil
		},
	}
	c.Flags().StringVar(&file, "passphrase-file", "", "read the passphrase from the first line of this file (or set BITGRAM_PASSPHRASE)")
	return c
}

func (a *app) agentsCommand() *cobra.Command {
	return a.simple("agents [KEY]", "Agents that this node has met, or what one offers", cobra.MaximumNArgs(1), func(c *cobra.Command, client *api.Client, args []string) error {
		list := []api.Agent{}
		if len(args) == 1 {
			g, err := client.Agent(c.Context(), args[0])
			if err != nil {
				return err
			}
			list = append(list, g)
		} else {
			all, err := client.Agents(c.Context())
			if err != nil {
				return err
			}
			list = append(list, all...)
		}
		a.print.summary(struct {
			Agents []api.Agent `json:"agents"`
		}{list}, func(w io.Writer) {
			if len(list) == 0 {
				fmt.Fprintln(w, "No agents met yet.")
				return
			}
			printAgents(w, list)
		})
		return nil
	})
}
