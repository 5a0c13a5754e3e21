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
	"github.com/bitgram/bitgram/internal/node/directory"
	"github.com/bitgram/bitgram/wire"
)

func (a *app) nameRegister() *cobra.Command {
	var burn int64
	var fee feeFlags
	var dht, notary string
	var dry, wait bool
	c := a.simple("register NAME ADDR", "Register a name: put a hint on the chain", cobra.RangeArgs(1, 2), func(c *cobra.Command, client *api.Client, args []string) error {
		h, err := hintOf(args, dht, notary)
		if err != nil {
			return err
		}
		text, err := h.Encode()
		if err != nil {
			return err
		}
		f, err := fee.fee()
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
				fmt.Fprintf(w, "%s must burn at least %v to win. Nothing was sent.\n", o.Text, o.Needed)
			})
			return nil
		}
		o, err := client.Register(c.Context(), string(text), burn, f)
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
				fmt.Fprintf(w, "It has the name as of block %d.\n", o.Now[0].Height)
			}
		})
		return nil
	})
	c.Long = "Puts a hint on the chain, with a transaction of this home's wallet:\n\n" +
		"  register NAME IPv4              the name's address\n" +
		"  register NAME.TLD IPv4:PORT     the name server of a domain\n" +
		"  register TLD IPv4:PORT --dht X  a seed of the TLD's DHT, or a multiaddr such as /ip6/…/tcp/4001\n" +
		"  register NAME --notary ID       an authority\n\n" +
		"The hint that burned most wins the name; the same holds between its address and its name servers.\n" +
		"Burned money is gone. A hint that would not win is refused before anything is sent. --dry-run shows how\n" +
		"much to burn, and 'bitgram name resolve' which other hints the name has."
	c.Example = "  bitgram name register shop.example 192.0.2.1 --dry-run\n" +
		"  bitgram name register shop.example 192.0.2.1 --burn 1000 --wait"
	f := c.Flags()
	f.Int64Var(&burn, "burn", 0, "amount to burn, in sat")
	fee.add(f)
	f.StringVar(&dht, "dht", "", "first hex digits of the SHA-256 of the seed's peer ID")
	f.StringVar(&notary, "notary", "", "ID of the authority's notary, 8 hex digits")
	f.BoolVar(&wait, "wait", false, "wait until the hint has the name")
	f.BoolVar(&dry, "dry-run", false, "show the present hints and the amount to burn, and send nothing")
	return c
}

// hintOf reads the hint from register's arguments and flags.
func hintOf(args []string, dht, notary string) (h blockname.Hint, err error) {
	h = blockname.Hint{Name: args[0], DHT: dht}
	if notary != "" {
		id, err := hex.DecodeString(notary)
		if err != nil || len(id) != len(h.ID) || len(args) != 1 || dht != "" {
			return h, fmt.Errorf("%w: --notary %q: must be 8 hex digits, without an address or --dht", errUsage, shorten(notary))
		}
		h.Kind, h.ID = blockname.Authority, [4]byte(id)
		return h, nil
	}
	if len(args) != 2 {
		return h, fmt.Errorf("%w: missing ADDR: give an address, or --notary", errUsage)
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
		return h, fmt.Errorf("%w: ADDR %q: must be an IPv4 address, ADDRESS:PORT or a multiaddr", errUsage, shorten(args[1]))
	}
	return h, nil
}

// errNameGoesOn is returned when waiting for a hint is interrupted; its payment
// goes on.
var errNameGoesOn = errors.New("interrupted while waiting for a block")

// untilNamed waits until a hint that was paid for is the first of its entry, and
// returns the entry. It returns node.ErrOutbid if another hint won.
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
			return nil, fmt.Errorf("%w: %s has the name now", directory.ErrOutbid, o.Now[0].Text)
		}
		select {
		case <-time.After(300 * time.Millisecond):
		case <-ctx.Done():
			return nil, errNameGoesOn
		}
	}
}

// adds reports whether burns for the same hint of this kind add up.
func adds(kind string) bool { return kind == blockname.TLD.String() || kind == blockname.Seed.String() }

// lost reports whether a hint for which sum was burned is in the entry but not
// first, or has no place in it.
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
