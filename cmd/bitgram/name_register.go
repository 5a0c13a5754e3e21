package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/blockname"
	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/wire"
)

func (a *app) nameRegister() *cobra.Command {
	var burn int64
	var rate float64
	var dht, notary string
	var dry, wait bool
	c := a.simple("register NAME ADDR", "Put a hint on the chain", cobra.RangeArgs(1, 2), func(c *cobra.Command, client *api.Client, args []string) error {
		h, err := hintOf(args, dht, notary)
		if err != nil {
			return err
		}
		text, err := h.Encode()
		if err != nil {
			return err
		}
		kvb, err := perVB(rate)
		if err != nil {
			return err
		}
		if dry {
			o, err := client.OfferName(c.Context(), string(text))
			if err != nil {
				return err
			}
			a.print.summary(o, func(w io.Writer) {
				printBids(w, o.Now)
				fmt.Fprintf(w, "%s has to burn %v to stand first. Nothing was sent.\n", o.Text, o.Needed)
			})
			return nil
		}
		o, err := client.Register(c.Context(), string(text), burn, kvb)
		if err != nil {
			return maybe(c.Context(), err)
		}
		if wait {
			if o.Now, err = untilNamed(c.Context(), client, &o); err != nil {
				return err
			}
		}
		a.print.summary(o, func(w io.Writer) {
			fmt.Fprintf(w, "%s, burning %v: %s\n", o.Text, o.Burned, o.Txid)
			if wait {
				fmt.Fprintf(w, "It stands there as of block %d.\n", o.Now[0].Height)
			}
		})
		return nil
	})
	c.Long = "Puts a hint on the chain, in a transaction of this home's wallet:\n\n" +
		"  register NAME IPv4              the name's address\n" +
		"  register NAME.TLD IPv4:PORT     the name server of a domain\n" +
		"  register TLD IPv4:PORT --dht X  a seed of the TLD's DHT, or a multiaddr such as /ip6/…/tcp/4001\n" +
		"  register NAME --notary ID       an authority\n\n" +
		"Under a name the hint that burned most wins, of the address and the name servers that speak for it,\n" +
		"too; what is burned is gone. A hint that would not win its own place is refused before anything is\n" +
		"sent; --dry-run says how much it takes, and 'name resolve' what else there is."
	f := c.Flags()
	f.Int64Var(&burn, "burn", 0, "satoshi to burn")
	f.Float64Var(&rate, "rate", 0, "fee in satoshi per vbyte; 0 for the node's estimate")
	f.StringVar(&dht, "dht", "", "hex digits with which the SHA-256 of the seed's peer ID begins")
	f.StringVar(&notary, "notary", "", "8 hex digits")
	f.BoolVar(&wait, "wait", false, "return once it stands first")
	f.BoolVar(&dry, "dry-run", false, "say what stands there and what it takes, and send nothing")
	return c
}

// hintOf is the hint of register's arguments.
func hintOf(args []string, dht, notary string) (h blockname.Hint, err error) {
	h = blockname.Hint{Name: args[0], DHT: dht}
	if notary != "" {
		id, err := hex.DecodeString(notary)
		if err != nil || len(id) != len(h.ID) || len(args) != 1 || dht != "" {
			return h, fmt.Errorf("%w: --notary takes 8 hex digits, and no address", errUsage)
		}
		h.Kind, h.ID = blockname.Authority, [4]byte(id)
		return h, nil
	}
	if len(args) != 2 {
		return h, fmt.Errorf("%w: an address is wanted", errUsage)
	}
	ip, noIP := netip.ParseAddr(args[1])
	at, noPort := netip.ParseAddrPort(args[1])
	switch {
	case strings.HasPrefix(args[1], "/"):
		h.Kind, h.Multiaddr = blockname.Seed, args[1]
	case dht != "" && noPort == nil:
		h.Kind, h.Addr = blockname.TLD, at
	case noPort == nil:
		h.Kind, h.Addr = blockname.Domain, at
	case noIP == nil:
		h.Kind, h.Addr = blockname.Host, netip.AddrPortFrom(ip, 0)
	default:
		return h, fmt.Errorf("%w: %q is neither an address nor one with a port", errUsage, args[1])
	}
	return h, nil
}

// errNameGoesOn: the wait was interrupted, not the payment.
var errNameGoesOn = errors.New("interrupted while waiting for a block")

// untilNamed waits until a hint that was paid for stands first, and returns its
// entry: node.ErrOutbid where it never will.
func untilNamed(ctx context.Context, client *api.Client, paid *api.Offer) ([]api.Bid, error) {
	sum := paid.Burned
	for _, b := range paid.Now {
		if b.Text == paid.Text && adds(b.Kind) {
			sum += b.Burned
		}
	}
	for {
		o, err := client.OfferName(ctx, paid.Text)
		switch {
		case ctx.Err() != nil:
			return nil, errNameGoesOn
		case err != nil:
			return nil, err
		case len(o.Now) > 0 && o.Now[0].Text == paid.Text && o.Now[0].Burned >= sum:
			return o.Now, nil
		case lost(o.Now, paid.Text, sum):
			return nil, fmt.Errorf("%w: %s has it now", node.ErrOutbid, o.Now[0].Text)
		}
		select {
		case <-time.After(300 * time.Millisecond):
		case <-ctx.Done():
			return nil, errNameGoesOn
		}
	}
}

// adds: what is burned for the same hint of a kind adds up.
func adds(kind string) bool { return kind == blockname.TLD.String() || kind == blockname.Seed.String() }

// lost: a hint for which sum was burned is in the entry and not the first, or has
// no place in it.
func lost(now []api.Bid, hint string, sum wire.Sat) bool {
	for _, b := range now {
		if b.Text == hint {
			return now[0].Text != hint && b.Burned >= sum
		}
	}
	places := 1
	if len(now) > 0 && adds(now[0].Kind) {
		places = blockname.MaxBids
	}
	return len(now) >= places && now[places-1].Burned >= sum
}
