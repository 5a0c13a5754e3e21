package directory

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/bitgram/bitgram/blockname"
	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/names"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/wire"
)

// Errors of names.
var (
	// ErrNoNames means that the node does not read hints.
	ErrNoNames = errors.New("this daemon does not read names")
	// ErrOutbid means that another hint in the entry burned as much or more.
	ErrOutbid = errors.New("another hint burned more")
	// ErrStands means that the hint is already the first of its entry, or its
	// transaction is unconfirmed.
	ErrStands = errors.New("this hint is there already")
)

// Entry returns the entry of a hint, and the least value that the hint must
// burn to be first in it. It returns ErrNoNames if the node does not read
// hints.
func (d *Directory) Entry(ctx context.Context, h blockname.Hint) (e blockname.Entry, needed wire.Sat, err error) {
	if d.cfg.Names == nil {
		return nil, 0, ErrNoNames
	}
	err = d.cfg.Names.View(ctx, func(r blockname.Reader) (err error) {
		e, err = blockname.Lookup(r, h.Kind, h.Name, h.DHT)
		return err
	})
	return e, e.Needed(h), err
}

// Names returns the index of hints, or nil if the node does not read them.
func (d *Directory) Names() *names.Index { return d.cfg.Names }

// HintScript returns the output script of a hint. Errors wrap
// blockname.ErrMalformed.
func HintScript(h blockname.Hint) ([]byte, error) {
	data, err := h.Encode()
	if err != nil {
		return nil, err
	}
	return txscript.NewScriptBuilder().AddOp(txscript.OP_RETURN).AddData(data).Script()
}

// Register burns an amount for a hint, with a fee as in Pay. It returns
// ErrOutbid if that would not make it the first of its entry, ErrStands if it
// is already and would not gain, or is unconfirmed, wallet.ErrNoFunds, or an
// error that wraps blockname.ErrMalformed.
func (d *Directory) Register(ctx context.Context, h blockname.Hint, burn wire.Sat, fee wallet.Fee) (*btcwire.MsgTx, error) {
	return d.register(ctx, h, fee, func(tx engine.Tx, e blockname.Entry) (wire.Sat, error) {
		switch needed := e.Needed(h); {
		case burn < needed:
			return 0, fmt.Errorf("%w: burn %v or more", ErrOutbid, needed)
		case len(e) > 0 && e[0].Hint == h && (burn == 0 || !h.Kind.AddsUp() && burn <= e[0].Burned):
			return 0, ErrStands
		}
		return burn, d.onItsWay(tx, h)
	})
}

// register pays for a hint the amount that bid returns. bid runs, with the
// hint's entry, in the transaction that stores the payment.
func (d *Directory) register(ctx context.Context, h blockname.Hint, fee wallet.Fee, bid func(engine.Tx, blockname.Entry) (wire.Sat, error)) (*btcwire.MsgTx, error) {
	script, err := HintScript(h)
	if err != nil {
		return nil, err
	}
	if d.cfg.Names == nil {
		return nil, ErrNoNames
	}
	return d.cfg.Coins.PayWith(ctx, fee, func(tx engine.Tx, rate wire.SatPerKVB) (*btcwire.MsgTx, error) {
		e, err := blockname.Lookup(names.In(tx), h.Kind, h.Name, h.DHT)
		if err != nil {
			return nil, err
		}
		burn, err := bid(tx, e)
		if err != nil {
			return nil, err
		}
		return d.cfg.Coins.Burn(tx, script, burn, rate)
	})
}

// ownDHT is the number of digits of its place in an agent's hint: enough to be
// unique, and the hint has no more bytes than the reference writes.
const ownDHT = 16

// Hint returns the hint by which others find this agent, with its first public
// TCP address or, if it has none, with QUIC. It returns ErrNoAddress if there
// is none.
func (d *Directory) Hint() (h blockname.Hint, err error) {
	list, err := d.ownHints()
	if err == nil {
		h = list[0]
	}
	return h, err
}

// ownHints returns the hints of all public addresses, the best first, or
// ErrNoAddress.
func (d *Directory) ownHints() ([]blockname.Hint, error) {
	if !d.serves() {
		return nil, ErrNoAddress
	}
	id, err := p2p.PeerID(d.cfg.Self)
	if err != nil {
		return nil, err
	}
	name := blockname.Hint{Name: TLD, DHT: PlaceOf(id)[:ownDHT]}
	var short, tcp, quic []blockname.Hint
	for _, a := range d.host.Public() {
		m, err := multiaddr.NewMultiaddr(a)
		if err != nil {
			continue
		}
		t, _ := manet.ToNetAddr(m) // none for QUIC
		at, isTCP := t.(*net.TCPAddr)
		if isTCP && at.IP.To4() != nil {
			h, ip := name, at.AddrPort()
			h.Kind, h.Addr = blockname.TLD, netip.AddrPortFrom(ip.Addr().Unmap(), ip.Port())
			short = append(short, h)
			continue
		}
		h := name
		h.Kind, h.Multiaddr = blockname.Seed, a
		if _, err := h.Encode(); err != nil {
			continue // there is no hint for IPv4 with QUIC only
		}
		if isTCP {
			tcp = append(tcp, h)
		} else {
			quic = append(quic, h)
		}
	}
	list := slices.Concat(short, tcp, quic)
	if len(list) == 0 {
		return nil, ErrNoAddress
	}
	return list, nil
}

// advertise keeps the agent's own hint on the chain, as the first of its entry,
// until ctx ends.
func (d *Directory) advertise(ctx context.Context) {
	var last error
	for at := wire.Height(0); d.cfg.Names.Wait(ctx, at) == nil; {
		at, _ = d.cfg.Names.Read()
		at++
		err := d.AdvertiseOnce(ctx, d.cfg.Advertise.MaxBurn)
		for errors.Is(err, ErrApart) && ctx.Err() == nil {
			select {
			case <-time.After(time.Second):
				err = d.AdvertiseOnce(ctx, d.cfg.Advertise.MaxBurn)
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil && (last == nil || err.Error() != last.Error()) {
			d.cfg.Log.Warn("the agent's hint is not on the chain, and it cannot be put there", "err", err)
		}
		last = err
	}
}

// ErrHintLost means that others can no longer find this agent by its own hint.
var ErrHintLost = errors.New("the agent's hint is not on the chain")

// HintTrouble returns why the hint that the agent must keep on the chain is not
// there and could not be put there at the last block: an error that wraps
// ErrHintLost and the reason. It returns nil if all is well, or if the agent
// keeps no hint.
func (d *Directory) HintTrouble() error {
	if why := d.hintLost.Load(); why != nil {
		return fmt.Errorf("%w: %w", ErrHintLost, *why)
	}
	return nil
}

// announced records how much an agent burned to outbid others, and when it last
// paid.
type announced struct {
	_           struct{} `cbor:",toarray"`
	Total, Last wire.Sat
	At          wire.Height
}

// bucketHome keeps what concerns the home as a whole; the announcement is under
// keyAnnounced.
const bucketHome = "home"

var keyAnnounced = []byte("announcement")

// errSoon means that a hint was paid for less than a day ago.
var errSoon = errors.New("it was put there less than a day ago; the next try comes a day after")

// ErrApart: the wallet and the index of names are not at the same block.
var ErrApart = errors.New("the chain is being read")

// AdvertiseOnce checks whether the agent's hint is on the chain, puts it there
// if not, burning at most limit in total, and records the result for
// HintTrouble. It may return ErrOutbid or ErrApart.
func (d *Directory) AdvertiseOnce(ctx context.Context, limit wire.Sat) error {
	err := d.putHint(ctx, limit)
	switch {
	case err == nil:
		d.hintLost.Store(nil)
	case !errors.Is(err, ErrApart) && d.cfg.Engine.Synced() && ctx.Err() == nil:
		d.hintLost.Store(&err)
	}
	return err
}

// putHint puts the hint on the chain unless it is there or unconfirmed. Each
// time it is outbid, it burns at least twice as much as the last time, so few
// rounds reach the limit.
func (d *Directory) putHint(ctx context.Context, limit wire.Sat) error {
	own, err := d.ownHints()
	if err != nil {
		return err
	}
	h := own[0]
	var before announced
	var burned wire.Sat
	t, err := d.register(ctx, h, wallet.Fee{}, func(tx engine.Tx, _ blockname.Entry) (burn wire.Sat, err error) {
		var e blockname.Entry // of h, or of any of our own hints that is first in its entry
		for _, o := range slices.Backward(own) {
			if e, err = blockname.Lookup(names.In(tx), o.Kind, o.Name, o.DHT); err != nil {
				return 0, err
			}
			if len(e) > 0 && slices.Contains(own, e[0].Hint) {
				return 0, ErrStands
			}
			if err := d.onItsWay(tx, o); err != nil {
				return 0, err
			}
		}
		// If one had read one block more than the other, a hint that is there
		// could look lost.
		at, _, err := tx.Position()
		if err != nil {
			return 0, err
		}
		if read, ok, err := names.Position(tx); err != nil || !ok || read != at {
			return 0, cmp.Or(err, ErrApart)
		}
		raw, err := tx.Get(bucketHome, keyAnnounced)
		if err != nil {
			return 0, err
		}
		before = announced{}
		if raw != nil {
			if err := wire.Unmarshal(raw, &before); err != nil {
				return 0, err
			}
		}
		now := announced{Total: before.Total, Last: before.Last, At: at.Height}
		needed := e.Needed(h)
		switch {
		case before.At > 0 && at.Height >= before.At && at.Height < before.At+wire.Height(d.cfg.BlocksPerDay):
			// Others' statements about our address must not cost us a fee in
			// every block.
			return 0, errSoon
		case needed == 0:
			return 0, d.keepAnnounced(tx, now)
		}
		if burn = max(needed, 2*before.Last); burn > limit-before.Total {
			return 0, fmt.Errorf("%w: %v for %s, %v burned before, and %v is the limit", ErrOutbid, burn, h.DHT, before.Total, limit)
		}
		burned = burn
		now.Total, now.Last = before.Total+burn, burn
		return burn, d.keepAnnounced(tx, now)
	})
	switch {
	case errors.Is(err, ErrStands):
		return nil
	case errors.Is(err, chain.ErrRejected): // nothing is paid
		return errors.Join(err, d.cfg.Store.Update(ctx, func(tx engine.Tx) error { return d.keepAnnounced(tx, before) }))
	case err != nil:
		return err
	}
	d.cfg.Log.Info("the agent's hint is broadcast", "hint", h.DHT, "burned", burned, "txid", t.TxHash())
	return nil
}

func (d *Directory) keepAnnounced(tx engine.Tx, a announced) error {
	raw, err := wire.Marshal(&a)
	if err != nil {
		return err
	}
	return tx.Put(bucketHome, keyAnnounced, raw)
}

// onItsWay returns ErrStands if an unconfirmed transaction of the wallet,
// whatever its ID, pays for a hint.
func (d *Directory) onItsWay(tx engine.Tx, h blockname.Hint) error {
	script, err := HintScript(h)
	if err != nil {
		return err
	}
	txs, err := d.cfg.Coins.Unconfirmed(tx)
	if err != nil {
		return err
	}
	for _, t := range txs {
		if slices.ContainsFunc(t.TxOut, func(o *btcwire.TxOut) bool { return bytes.Equal(o.PkScript, script) }) {
			return ErrStands
		}
	}
	return nil
}

// Advertise says that an agent keeps its own hint on the chain.
type Advertise struct {
	// MaxBurn is the maximum total that it burns to outbid others, without
	// fees.
	MaxBurn wire.Sat
}
