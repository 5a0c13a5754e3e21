// Package wallet manages one home's coins: a BIP86 account (single-key taproot)
// under a BIP39 seed, with coins locked for contracts, exact undo on reorgs,
// recovery from the seed by gap limit, and fee bumping.
//
// It keeps only keys in memory. Every method works in the caller's transaction,
// so coins, contracts and chain position are always consistent.
package wallet

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// Tx is the part of a store's transaction that the wallet needs: an ordered
// key-value interface. Get returns nil for a missing key; a Scan with limit 0
// has no limit.
type Tx interface {
	Get(bucket string, key []byte) ([]byte, error)
	Put(bucket string, key, value []byte) error
	Delete(bucket string, key []byte) error
	Scan(bucket string, prefix []byte, limit int, f func(key, value []byte) error) error
}

// Errors of the wallet.
var (
	// ErrOut means that a payment can no longer be abandoned.
	ErrOut = errors.New("it has been sent")
	// ErrNoFunds means that there are not enough unlocked, confirmed coins. The
	// error is a *Short.
	ErrNoFunds = errors.New("not enough money")
	// ErrUnknownTx means that this wallet did not send the transaction.
	ErrUnknownTx = errors.New("not a transaction of this wallet")
	// ErrNotBumpable means that the transaction is confirmed, replaced or
	// conflicted, its change is too small, or it is a funding whose signatures
	// would become invalid.
	ErrNotBumpable = errors.New("transaction cannot be bumped")
	// ErrAmount means that the amount is dust or out of range.
	ErrAmount = errors.New("amount cannot be sent")
)

// Short is ErrNoFunds with the amounts.
type Short struct {
	Need, Have wire.Sat
	Soon       wire.Sat // Have, and what is locked or unconfirmed
}

func (s *Short) Error() string {
	return fmt.Sprintf("%v: %v needed, %v there", ErrNoFunds, s.Need, s.Have)
}

// Is makes errors.Is(err, ErrNoFunds) true.
func (s *Short) Is(target error) bool { return target == ErrNoFunds }

// GapLimit is the number of unpaid addresses that are watched ahead on each
// branch (BIP44). No later address is given away, because a wallet restored from
// its words would not find what is paid to it.
const GapLimit = 20

// MaxGap is the largest gap that a wallet can be told to watch.
const MaxGap = 10_000

// coinbaseMaturity is the number of blocks before a coinbase may be spent, by
// consensus.
const coinbaseMaturity = 100

// The buckets. Only Connect writes coin and history, through the undo log, so
// that Disconnect restores them exactly.
const (
	bucketScript  = "wallet/script"  // script → path
	bucketNext    = "wallet/next"    // branch → next unused index
	bucketPaid    = "wallet/paid"    // branch → index after the last one that a block pays
	bucketCoin    = "wallet/coin"    // outpoint → coin
	bucketHistory = "wallet/history" // txid → record of a confirmed transaction
	bucketUndo    = "wallet/undo"    // height → what Connect changed there
	bucketLock    = "wallet/lock"    // outpoint → holder
	// A pending mark counts only while its transaction can still confirm. The
	// state of its inputs on the chain is looked up each time, so a reorg needs
	// no undo of the mark.
	bucketPending = "wallet/pending" // outpoint → txid of our latest spend
	bucketSent    = "wallet/sent"    // txid → our own transaction
	// Unconfirmed change of transactions that the network has accepted. It is
	// removed, through the undo log, when its transaction confirms.
	bucketChange = "wallet/change" // outpoint → coin
)

// undoKeep is the number of blocks that can be undone.
const undoKeep = 2016

type coin struct {
	Value    wire.Sat
	Path     path
	Height   wire.Height
	Coinbase bool
	SpentBy  wire.Hash // zero while unspent
}

// Record is one transaction of the history.
type Record struct {
	Txid   wire.Hash
	Height wire.Height // 0 while unconfirmed
	In     wire.Sat    // received by outputs of ours
	Out    wire.Sat    // spent from coins of ours
	// Kept means unconfirmed and not yet accepted by any node.
	Kept bool
}

type change struct {
	Bucket   string
	Key, Old []byte // Old is empty if there was no value
}

// Sent is a transaction that the wallet signed.
type Sent struct {
	Tx     []byte // with witnesses
	Fee    wire.Sat
	Change int  // index of the change output, -1 for none
	Fixed  bool // must not be replaced: other signatures depend on its txid
	// Replaces is the transaction that this one replaces, or zero.
	Replaces wire.Hash
	// Parents are our own transactions that were unconfirmed when this one
	// spent their change.
	Parents []wire.Hash
	// Accepted means that the network has accepted it at some time.
	Accepted bool
}

// Wallet is a home's wallet.
type Wallet struct {
	params *chaincfg.Params
	acct   *account
	gap    uint32 // number of unused addresses that are watched
}

// New returns the wallet of a BIP39 seed on a network. It watches GapLimit unused
// addresses on each branch or, if it is more, gap, up to MaxGap: for words that
// another program used with a wider gap.
func New(seed []byte, params *chaincfg.Params, gap int) (*Wallet, error) {
	a, err := newAccount(seed, params)
	if err != nil {
		return nil, err
	}
	return &Wallet{params: params, acct: a, gap: uint32(min(max(gap, GapLimit), MaxGap))}, nil
}

// Init makes the wallet watch its first addresses. It may be called repeatedly.
func (w *Wallet) Init(tx Tx) error {
	if err := w.initPaid(tx); err != nil {
		return err
	}
	for branch := range uint32(2) {
		next, err := w.next(tx, branch)
		if err != nil {
			return err
		}
		if err := w.watchAhead(tx, branch, next); err != nil {
			return err
		}
	}
	return nil
}

func branchKey(b uint32) []byte { return binary.BigEndian.AppendUint32(nil, b) }

func (w *Wallet) next(tx Tx, branch uint32) (uint32, error) {
	raw, err := tx.Get(bucketNext, branchKey(branch))
	if err != nil || raw == nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(raw), nil
}

// watchAhead watches the addresses of the gap from next on. Earlier ones are
// watched already, so it starts at the far end and stops at the first that is.
func (w *Wallet) watchAhead(tx Tx, branch, next uint32) error {
	for i := next + w.gap; i > 0; i-- {
		p := path{branch, i - 1}
		script, err := w.acct.script(p)
		if err != nil {
			return err
		}
		if known, err := tx.Get(bucketScript, script); err != nil || known != nil {
			return err
		}
		if err := put(tx, bucketScript, script, p); err != nil {
			return err
		}
	}
	return nil
}

// initPaid fills bucketPaid in a home made before there was one.
func (w *Wallet) initPaid(tx Tx) error {
	if raw, err := tx.Get(bucketPaid, branchKey(External)); err != nil || raw != nil {
		return err
	}
	var paid [2]uint32
	if err := tx.Scan(bucketCoin, nil, 0, func(_, raw []byte) error {
		var c coin
		if err := wire.Unmarshal(raw, &c); err != nil {
			return err
		}
		if c.Path.Branch < 2 {
			paid[c.Path.Branch] = max(paid[c.Path.Branch], c.Path.Index+1)
		}
		return nil
	}); err != nil {
		return err
	}
	for branch, i := range paid {
		if err := put(tx, bucketPaid, branchKey(uint32(branch)), i); err != nil {
			return err
		}
	}
	return nil
}

// paid returns the index after the last address of a branch that a block pays.
func (w *Wallet) paid(tx Tx, branch uint32) (i uint32, err error) {
	_, err = get(tx, bucketPaid, branchKey(branch), &i)
	return i, err
}

// fresh returns the path of a new address of a branch or, if that would be beyond
// the gap, the oldest one after the last that a block pays; again is then true.
func (w *Wallet) fresh(tx Tx, branch uint32) (p path, again bool, err error) {
	next, err := w.next(tx, branch)
	if err != nil {
		return path{}, false, err
	}
	paid, err := w.paid(tx, branch)
	if next >= paid+GapLimit {
		return path{branch, paid}, true, err
	}
	return path{branch, next}, false, err
}

// NewScript returns the script of a new address of a branch, and marks it as
// used. If GapLimit addresses are unpaid, it returns the oldest of these again.
func (w *Wallet) NewScript(tx Tx, branch uint32) (script []byte, again bool, err error) {
	p, again, err := w.fresh(tx, branch)
	if err != nil {
		return nil, false, err
	}
	if err := w.use(tx, p); err != nil {
		return nil, false, err
	}
	script, err = w.acct.script(p)
	return script, again, err
}

// PeekScript returns the script that NewScript would return next. It stays
// unused until UseScript is called or a transaction that pays it is signed. A
// payment that may be given up uses PeekScript, so it leaves no gap of unused
// addresses.
func (w *Wallet) PeekScript(tx Tx, branch uint32) ([]byte, error) {
	p, _, err := w.fresh(tx, branch)
	if err != nil {
		return nil, err
	}
	return w.acct.script(p)
}

// UseScript marks an address of PeekScript as used.
func (w *Wallet) UseScript(tx Tx, script []byte) error {
	var p path
	if ok, err := get(tx, bucketScript, script, &p); err != nil || !ok {
		return err
	}
	return w.use(tx, p)
}

// use marks p and all before it as used.
func (w *Wallet) use(tx Tx, p path) error {
	next, err := w.next(tx, p.Branch)
	if err != nil || p.Index < next {
		return err
	}
	if err := tx.Put(bucketNext, branchKey(p.Branch), binary.BigEndian.AppendUint32(nil, p.Index+1)); err != nil {
		return err
	}
	return w.watchAhead(tx, p.Branch, p.Index+1)
}

// Address encodes a script of NewScript.
func (w *Wallet) Address(script []byte) (string, error) {
	_, addrs, _, err := txscript.ExtractPkScriptAddrs(script, w.params)
	if err != nil || len(addrs) != 1 {
		return "", fmt.Errorf("script has no address: %v", err)
	}
	return addrs[0].EncodeAddress(), nil
}

// ErrAddress means that the text is not a Bitcoin address of the network.
var ErrAddress = errors.New("not a bitcoin address")

// ParseAddress returns the script of a Bitcoin address of a network, or
// ErrAddress.
func ParseAddress(s string, params *chaincfg.Params) ([]byte, error) {
	a, err := address.DecodeAddress(s, params)
	if err != nil {
		return nil, fmt.Errorf("%w: %q: %w", ErrAddress, s, err)
	}
	if !a.IsForNet(params) {
		return nil, fmt.Errorf("%w of %s: %s", ErrAddress, params.Name, s)
	}
	return txscript.PayToAddrScript(a)
}

// Connect processes the transactions of the block at height.
func (w *Wallet) Connect(tx Tx, txs []*btcwire.MsgTx, height wire.Height) error {
	return w.connect(tx, txs, height, height)
}

// Rescan processes a block that Connect may have processed before, or that is
// older than the wallet, to find what is paid to addresses that are watched since.
// Blocks must follow in order up to tip, the last one that was connected.
func (w *Wallet) Rescan(tx Tx, txs []*btcwire.MsgTx, height, tip wire.Height) error {
	return w.connect(tx, txs, height, tip)
}

func (w *Wallet) connect(tx Tx, txs []*btcwire.MsgTx, height, tip wire.Height) error {
	var undo []change
	if _, err := get(tx, bucketUndo, heightKey(height), &undo); err != nil {
		return err
	}
	before := len(undo)
	set := func(bucket string, key []byte, v any) error {
		old, err := tx.Get(bucket, key)
		if err != nil {
			return err
		}
		raw, err := wire.Marshal(v)
		if err != nil || bytes.Equal(old, raw) {
			return err
		}
		undo = append(undo, change{bucket, key, old})
		return tx.Put(bucket, key, raw)
	}
	if err := w.discover(tx, txs); err != nil {
		return err
	}
	for n, t := range txs {
		r := Record{Txid: contract.Txid(t), Height: height}
		for _, in := range t.TxIn {
			key := contract.OutpointOf(in.PreviousOutPoint).Bytes()
			var c coin
			if ok, err := get(tx, bucketCoin, key, &c); err != nil {
				return err
			} else if !ok {
				continue
			}
			r.Out += c.Value
			c.SpentBy = r.Txid
			if err := set(bucketCoin, key, c); err != nil {
				return err
			}
		}
		for vout, o := range t.TxOut {
			var p path
			if ok, err := get(tx, bucketScript, o.PkScript, &p); err != nil {
				return err
			} else if !ok {
				continue
			}
			r.In += wire.Sat(o.Value)
			key := wire.Outpoint{Txid: r.Txid, Vout: uint32(vout)}.Bytes()
			if old, err := tx.Get(bucketChange, key); err != nil {
				return err
			} else if old != nil {
				undo = append(undo, change{bucketChange, key, old})
				if err := tx.Delete(bucketChange, key); err != nil {
					return err
				}
			}
			paid, err := w.paid(tx, p.Branch)
			if err != nil {
				return err
			}
			if p.Index >= paid {
				if err := set(bucketPaid, branchKey(p.Branch), p.Index+1); err != nil {
					return err
				}
			}
			if old, err := tx.Get(bucketCoin, key); err != nil {
				return err
			} else if old != nil {
				continue // connected again; a later block may have spent it
			}
			if err := set(bucketCoin, key, coin{Value: wire.Sat(o.Value), Path: p, Height: height, Coinbase: n == 0}); err != nil {
				return err
			}
		}
		if r.In != 0 || r.Out != 0 {
			if err := set(bucketHistory, r.Txid[:], r); err != nil {
				return err
			}
		}
	}
	if len(undo) == before || tip >= height+undoKeep {
		return nil
	}
	if height > undoKeep {
		if err := tx.Delete(bucketUndo, heightKey(height-undoKeep)); err != nil {
			return err
		}
	}
	return put(tx, bucketUndo, heightKey(height), undo)
}

// discover marks the addresses that txs pay as used. It repeats as long as that
// extends the watched range, because payments to later addresses may come first
// in a block.
func (w *Wallet) discover(tx Tx, txs []*btcwire.MsgTx) error {
	for more := true; more; {
		more = false
		for _, t := range txs {
			for _, o := range t.TxOut {
				var p path
				if ok, err := get(tx, bucketScript, o.PkScript, &p); err != nil {
					return err
				} else if !ok {
					continue
				}
				next, err := w.next(tx, p.Branch)
				if err != nil {
					return err
				}
				if p.Index >= next {
					more = true
					if err := w.use(tx, p); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// Disconnect undoes Connect at height exactly.
func (w *Wallet) Disconnect(tx Tx, height wire.Height) error {
	var undo []change
	if ok, err := get(tx, bucketUndo, heightKey(height), &undo); err != nil || !ok {
		return err
	}
	for _, c := range slices.Backward(undo) {
		var err error
		if len(c.Old) == 0 {
			err = tx.Delete(c.Bucket, c.Key)
		} else {
			err = tx.Put(c.Bucket, c.Key, c.Old)
		}
		if err != nil {
			return err
		}
	}
	return tx.Delete(bucketUndo, heightKey(height))
}

func heightKey(h wire.Height) []byte { return binary.BigEndian.AppendUint32(nil, uint32(h)) }

// Balance is the wallet's balance.
type Balance struct {
	Confirmed wire.Sat // spendable now
	Locked    wire.Sat // locked for contracts that are not published yet
	Change    wire.Sat // also spendable: own unconfirmed change
	Pending   wire.Sat // in our own unconfirmed transactions, including their change
	Immature  wire.Sat // coinbases
}

// Spendable returns the amount that can be spent now.
func (b Balance) Spendable() wire.Sat { return b.Confirmed + b.Change }

// Leaving returns the pending amount that does not return as spendable change.
func (b Balance) Leaving() wire.Sat { return max(b.Pending-b.Change, 0) }

// unspent iterates over the coins that are unspent on the chain; with change
// also over unconfirmed change whose transaction can still confirm.
func (w *Wallet) unspent(tx Tx, tip wire.Height, change bool, f func(o wire.Outpoint, c coin, locked, pending, mature bool) error) error {
	alive := map[wire.Hash]bool{}
	bucket := bucketCoin
	if change {
		bucket = bucketChange
	}
	return tx.Scan(bucket, nil, 0, func(key, raw []byte) error {
		var c coin
		if err := wire.Unmarshal(raw, &c); err != nil {
			return err
		}
		if c.SpentBy != (wire.Hash{}) {
			return nil
		}
		lock, err := tx.Get(bucketLock, key)
		if err != nil {
			return err
		}
		spend, err := tx.Get(bucketPending, key)
		if err != nil {
			return err
		}
		pending := false
		if spend != nil {
			txid := wire.Hash(spend)
			if _, known := alive[txid]; !known {
				if alive[txid], err = w.alive(tx, txid); err != nil {
					return err
				}
			}
			pending = alive[txid]
		}
		o := wire.Outpoint{Txid: wire.Hash(key[:32]), Vout: binary.LittleEndian.Uint32(key[32:])}
		if change {
			if ok, err := w.alive(tx, o.Txid); err != nil || !ok {
				return err
			}
		}
		return f(o, c, lock != nil, pending, !c.Coinbase || tip+1 >= c.Height+coinbaseMaturity)
	})
}

// sent loads one of our own transactions, or returns nil.
func (w *Wallet) sent(tx Tx, txid wire.Hash) (*Sent, *btcwire.MsgTx, error) {
	var s Sent
	if ok, err := get(tx, bucketSent, txid[:], &s); err != nil || !ok {
		return nil, nil, err
	}
	t := btcwire.NewMsgTx(contract.TxVersion)
	return &s, t, t.Deserialize(bytes.NewReader(s.Tx))
}

// alive reports whether one of our own transactions can still confirm, or has:
// no block spends one of its inputs otherwise. An input whose own transaction
// was dropped by a reorg may return, so it does not count against it.
func (w *Wallet) alive(tx Tx, txid wire.Hash) (bool, error) {
	s, t, err := w.sent(tx, txid)
	if err != nil || t == nil {
		return false, err
	}
	return w.possible(tx, s, t, txid)
}

func (w *Wallet) possible(tx Tx, s *Sent, t *btcwire.MsgTx, txid wire.Hash) (bool, error) {
	for _, in := range t.TxIn {
		var c coin
		if ok, err := get(tx, bucketCoin, contract.OutpointOf(in.PreviousOutPoint).Bytes(), &c); err != nil {
			return false, err
		} else if ok && c.SpentBy != (wire.Hash{}) && c.SpentBy != txid {
			return false, nil
		}
	}
	for _, p := range s.Parents {
		confirmed, err := tx.Get(bucketHistory, p[:])
		if err != nil {
			return false, err
		}
		if confirmed != nil {
			continue
		}
		if ok, err := w.alive(tx, p); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

// maxAncestors is the maximum length of a chain of our own unconfirmed
// transactions, including the last; nodes relay 25 (Bitcoin Core's policy).
const maxAncestors = 20

// ancestors counts one of our own transactions and its unconfirmed ancestors.
func (w *Wallet) ancestors(tx Tx, txid wire.Hash, seen map[wire.Hash]bool) error {
	if seen[txid] || len(seen) > maxAncestors {
		return nil
	}
	if confirmed, err := tx.Get(bucketHistory, txid[:]); err != nil || confirmed != nil {
		return err
	}
	seen[txid] = true
	s, t, err := w.sent(tx, txid)
	if err != nil || s == nil {
		return err
	}
	for _, in := range t.TxIn { // also those that a reorg dropped since
		p := wire.Hash(in.PreviousOutPoint.Hash)
		if own, err := tx.Get(bucketSent, p[:]); err != nil {
			return err
		} else if own == nil {
			continue
		}
		if err := w.ancestors(tx, p, seen); err != nil {
			return err
		}
	}
	return nil
}

// IsOut reports whether the network has ever accepted one of our own
// transactions.
func (w *Wallet) IsOut(tx Tx, txid wire.Hash) (bool, error) {
	s, _, err := w.sent(tx, txid)
	return s != nil && s.Accepted, err
}

// Accepted records that the network has accepted one of our own transactions.
// From now on its change can be spent.
func (w *Wallet) Accepted(tx Tx, txid wire.Hash) error {
	s, t, err := w.sent(tx, txid)
	if err != nil || s == nil {
		return err
	}
	if !s.Accepted {
		s.Accepted = true
		if err := put(tx, bucketSent, txid[:], s); err != nil {
			return err
		}
	}
	if s.Change < 0 {
		return nil
	}
	key := wire.Outpoint{Txid: txid, Vout: uint32(s.Change)}.Bytes()
	if known, err := tx.Get(bucketCoin, key); err != nil || known != nil {
		return err
	}
	out := t.TxOut[s.Change]
	c := coin{Value: wire.Sat(out.Value)}
	if ok, err := get(tx, bucketScript, out.PkScript, &c.Path); err != nil || !ok {
		return err
	}
	return put(tx, bucketChange, key, c)
}

// current reports whether t is the latest of our transactions for all its
// inputs: neither replaced nor forgotten in favour of another.
func (w *Wallet) current(tx Tx, t *btcwire.MsgTx, txid wire.Hash) (bool, error) {
	for _, in := range t.TxIn {
		mark, err := tx.Get(bucketPending, contract.OutpointOf(in.PreviousOutPoint).Bytes())
		if err != nil || !bytes.Equal(mark, txid[:]) {
			return false, err
		}
	}
	return true, nil
}

// Balance adds up the coins as of tip.
func (w *Wallet) Balance(tx Tx, tip wire.Height) (b Balance, err error) {
	if err := w.unspent(tx, tip, true, func(_ wire.Outpoint, c coin, locked, pending, _ bool) error {
		switch {
		case pending:
		case locked:
			b.Locked += c.Value
		default:
			b.Change += c.Value
		}
		return nil
	}); err != nil {
		return b, err
	}
	err = w.unspent(tx, tip, false, func(_ wire.Outpoint, c coin, locked, pending, mature bool) error {
		switch {
		case !mature:
			b.Immature += c.Value
		case pending:
			b.Pending += c.Value
		case locked:
			b.Locked += c.Value
		default:
			b.Confirmed += c.Value
		}
		return nil
	})
	return b, err
}

// Picked are coins for a transaction.
type Picked struct {
	Inputs       []wire.Outpoint
	Change       wire.Sat // 0 for no change output
	ChangeScript []byte
	Fee          wire.Sat
}

// Lock selects coins for outputs of amount in total, in a transaction with the
// given weight without inputs and change, and locks them for holder. It first
// unlocks holder's earlier coins. It returns a *Short if the coins do not
// suffice.
func (w *Wallet) Lock(tx Tx, holder []byte, amount wire.Sat, weight int64, rate wire.SatPerKVB, tip wire.Height) (*Picked, error) {
	if err := w.Unlock(tx, holder); err != nil {
		return nil, err
	}
	p, err := w.pick(tx, amount, weight, rate, tip)
	if err != nil {
		return nil, err
	}
	for _, o := range p.Inputs {
		if err := tx.Put(bucketLock, o.Bytes(), holder); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Unlock unlocks holder's coins.
func (w *Wallet) Unlock(tx Tx, holder []byte) error {
	return tx.Scan(bucketLock, nil, 0, func(key, value []byte) error {
		if !bytes.Equal(value, holder) {
			return nil
		}
		return tx.Delete(bucketLock, key)
	})
}

// pick selects the smallest coin that suffices alone, or else coins from the
// largest down.
func (w *Wallet) pick(tx Tx, amount wire.Sat, weight int64, rate wire.SatPerKVB, tip wire.Height) (*Picked, error) {
	if amount < 0 || amount > wire.MaxSat {
		return nil, fmt.Errorf("%w: %v", ErrAmount, amount)
	}
	type choice struct {
		at    wire.Outpoint
		value wire.Sat
		on    map[wire.Hash]bool // its unconfirmed ancestors
	}
	var free []choice
	var have, soon wire.Sat
	if err := w.unspent(tx, tip, false, func(o wire.Outpoint, c coin, locked, pending, mature bool) error {
		switch {
		case !mature:
		case locked || pending: // the amount that returns from it is known when it confirms
			soon += c.Value
		default:
			free = append(free, choice{at: o, value: c.Value})
			have += c.Value
		}
		return nil
	}); err != nil {
		return nil, err
	}
	// Use unconfirmed coins only if the confirmed ones do not suffice.
	enough := have >= amount+rate.Fee(contract.VSize(weight+int64(len(free))*contract.KeySpendInputWeight))
	if err := w.unspent(tx, tip, true, func(o wire.Outpoint, c coin, locked, pending, _ bool) error {
		if enough {
			return nil
		}
		seen := map[wire.Hash]bool{}
		if err := w.ancestors(tx, o.Txid, seen); err != nil {
			return err
		}
		if locked || pending || len(seen) >= maxAncestors {
			soon += c.Value
			return nil
		}
		free = append(free, choice{o, c.Value, seen})
		have += c.Value
		return nil
	}); err != nil {
		return nil, err
	}
	var err error
	slices.SortFunc(free, func(a, b choice) int {
		return cmp.Or(cmp.Compare(b.value, a.value), bytes.Compare(a.at.Bytes(), b.at.Bytes()))
	})
	on := map[wire.Hash]bool{}
	fee := func(inputs int, change bool) wire.Sat {
		total := weight + int64(inputs)*contract.KeySpendInputWeight
		if change {
			total += contract.P2TROutputWeight
		}
		return rate.Fee(contract.VSize(total)) + w.shortfall(tx, on, rate)
	}
	i := 0
	for i+1 < len(free) && free[i+1].value >= amount+fee(1, true) {
		i++
	}
	var sum wire.Sat
	p := &Picked{}
	for _, c := range free[i:] {
		all := maps.Clone(on)
		if maps.Copy(all, c.on); len(all) >= maxAncestors {
			continue
		}
		on = all
		p.Inputs = append(p.Inputs, c.at)
		sum += c.value
		if sum >= amount+fee(len(p.Inputs), false) {
			break
		}
	}
	p.Fee = fee(len(p.Inputs), true)
	if rest := sum - amount - p.Fee; rest >= contract.Dust {
		p.Change = rest
		// The address is marked as used only when a transaction that pays it is
		// signed, so a payment that is given up before leaves no gap.
		p.ChangeScript, err = w.PeekScript(tx, Internal)
		return p, err
	}
	if p.Fee = fee(len(p.Inputs), false); len(p.Inputs) == 0 || sum < amount+p.Fee {
		return nil, &Short{Need: amount + fee(max(1, len(p.Inputs)), false), Have: have, Soon: have + soon}
	}
	p.Fee = sum - amount
	return p, nil
}

// shortfall returns by how much our own unconfirmed transactions together pay
// less than rate. Miners include their descendants no earlier than them.
func (w *Wallet) shortfall(tx Tx, txids map[wire.Hash]bool, rate wire.SatPerKVB) wire.Sat {
	fees, size := w.sum(tx, txids)
	return max(rate.Fee(size)-fees, 0)
}

// sum adds up the fees and sizes of our own transactions.
func (w *Wallet) sum(tx Tx, txids map[wire.Hash]bool) (fees wire.Sat, size int64) {
	for txid := range txids {
		if s, t, err := w.sent(tx, txid); err == nil && s != nil {
			fees, size = fees+s.Fee, size+vsize(t)
		}
	}
	return fees, size
}

func vsize(t *btcwire.MsgTx) int64 {
	return contract.VSize(int64(t.SerializeSizeStripped()*3 + t.SerializeSize()))
}

// Sign signs every input of t with SIGHASH_DEFAULT and stores t as sent. All
// inputs must be coins of this wallet; they are pending until the chain shows
// the outcome. Signing is deterministic: repeating it gives the same bytes. A
// fixed transaction is never bumped.
func (w *Wallet) Sign(tx Tx, t *btcwire.MsgTx, fixed bool) error {
	return w.sign(tx, t, Sent{Fixed: fixed})
}

func (w *Wallet) sign(tx Tx, t *btcwire.MsgTx, s Sent) error {
	prev := txscript.NewMultiPrevOutFetcher(nil)
	coins := make([]coin, len(t.TxIn))
	s.Change = -1
	for i, in := range t.TxIn {
		key := contract.OutpointOf(in.PreviousOutPoint).Bytes()
		ok, err := get(tx, bucketCoin, key, &coins[i])
		if err == nil && !ok {
			if ok, err = get(tx, bucketChange, key, &coins[i]); ok {
				s.Parents = append(s.Parents, wire.Hash(in.PreviousOutPoint.Hash))
			}
		}
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%w: input %d", ErrUnknownTx, i)
		}
		script, err := w.acct.script(coins[i].Path)
		if err != nil {
			return err
		}
		prev.AddPrevOut(in.PreviousOutPoint, btcwire.NewTxOut(int64(coins[i].Value), script))
		s.Fee += coins[i].Value
	}
	hashes := txscript.NewTxSigHashes(t, prev)
	for i, in := range t.TxIn {
		key, err := w.acct.key(coins[i].Path)
		if err != nil {
			return err
		}
		out := prev.FetchPrevOutput(in.PreviousOutPoint)
		sig, err := txscript.RawTxInTaprootSignature(t, hashes, i, out.Value, out.PkScript, nil, txscript.SigHashDefault, key)
		if err != nil {
			return err
		}
		in.Witness = btcwire.TxWitness{sig}
	}
	for i, o := range t.TxOut {
		s.Fee -= wire.Sat(o.Value)
		var p path
		if ok, err := get(tx, bucketScript, o.PkScript, &p); err != nil {
			return err
		} else if !ok {
			continue
		}
		if err := w.use(tx, p); err != nil {
			return err
		}
		if p.Branch == Internal {
			s.Change = i
		}
	}
	var b bytes.Buffer
	if err := t.Serialize(&b); err != nil {
		return err
	}
	s.Tx = b.Bytes()
	txid := contract.Txid(t)
	if old, _, err := w.sent(tx, txid); err != nil {
		return err
	} else if old != nil { // signed before: what has confirmed since may be undone
		s.Accepted = old.Accepted
		for _, p := range old.Parents {
			if !slices.Contains(s.Parents, p) {
				s.Parents = append(s.Parents, p)
			}
		}
	}
	for _, in := range t.TxIn {
		if err := tx.Put(bucketPending, contract.OutpointOf(in.PreviousOutPoint).Bytes(), txid[:]); err != nil {
			return err
		}
	}
	return put(tx, bucketSent, txid[:], s)
}

// Prove signs a digest with the output key of a coin of this wallet, confirmed or
// change: this proves to others that the wallet can spend it. The digest must not
// be a transaction's. It returns ErrUnknownTx if the wallet does not have the coin.
func (w *Wallet) Prove(tx Tx, at wire.Outpoint, digest wire.Hash) (sig wire.Signature, err error) {
	var c coin
	ok, err := get(tx, bucketCoin, at.Bytes(), &c)
	if err == nil && !ok {
		ok, err = get(tx, bucketChange, at.Bytes(), &c)
	}
	if err != nil {
		return sig, err
	}
	if !ok {
		return sig, fmt.Errorf("%w: %v", ErrUnknownTx, at)
	}
	key, err := w.acct.key(c.Path)
	if err != nil {
		return sig, err
	}
	s, err := schnorr.Sign(txscript.TweakTaprootPrivKey(*key, nil), digest[:])
	if err != nil {
		return sig, err
	}
	return wire.Signature(s.Serialize()), nil
}

// Forget frees the coins of a transaction that the network refused. If it was
// to replace another, they are pending in that one again.
func (w *Wallet) Forget(tx Tx, txid wire.Hash) error {
	s, t, err := w.sent(tx, txid)
	if err != nil || s == nil {
		return err
	}
	var old *Sent
	if s.Replaces != (wire.Hash{}) {
		if old, _, err = w.sent(tx, s.Replaces); err != nil {
			return err
		}
	}
	for _, in := range t.TxIn {
		key := contract.OutpointOf(in.PreviousOutPoint).Bytes()
		mark, err := tx.Get(bucketPending, key)
		if err != nil {
			return err
		}
		switch {
		case !bytes.Equal(mark, txid[:]):
		case old != nil:
			err = tx.Put(bucketPending, key, s.Replaces[:])
		default:
			err = tx.Delete(bucketPending, key)
		}
		if err != nil {
			return err
		}
	}
	if s.Change >= 0 {
		if err := tx.Delete(bucketChange, wire.Outpoint{Txid: txid, Vout: uint32(s.Change)}.Bytes()); err != nil {
			return err
		}
	}
	return tx.Delete(bucketSent, txid[:])
}

// Abandon abandons a payment that no node has accepted. It returns ErrOut if a
// node has, or if the payment is a message's, and ErrUnknownTx.
func (w *Wallet) Abandon(tx Tx, txid wire.Hash) error {
	s, _, err := w.sent(tx, txid)
	if err != nil {
		return err
	}
	confirmed, err := tx.Get(bucketHistory, txid[:])
	switch {
	case err != nil:
		return err
	case s == nil:
		return ErrUnknownTx
	case s.Accepted || confirmed != nil:
		return fmt.Errorf("%w: the network has accepted it", ErrOut)
	case s.Fixed:
		return fmt.Errorf("%w: it pays for a message", ErrOut)
	}
	return w.Forget(tx, txid)
}

// dust returns the smallest output to script that nodes relay at Bitcoin Core's
// default dust rate of 3,000 sat/kvB, from the size of the output and of an
// input that spends it: 67 vB for a witness program, 148 vB for any other.
func dust(script []byte) wire.Sat {
	size := int64(btcwire.NewTxOut(0, script).SerializeSize())
	if txscript.IsWitnessProgram(script) {
		size += 67
	} else {
		size += 148
	}
	return wire.SatPerKVB(3000).Fee(size)
}

// Send builds and signs a payment.
func (w *Wallet) Send(tx Tx, script []byte, amount wire.Sat, rate wire.SatPerKVB, tip wire.Height) (*btcwire.MsgTx, error) {
	if least := dust(script); amount < least {
		return nil, fmt.Errorf("%w: %v is dust, send at least %v", ErrAmount, amount, least)
	}
	return w.send(tx, script, amount, rate, tip)
}

// Burn builds and signs a payment, possibly of 0, to a script that nobody can
// spend.
func (w *Wallet) Burn(tx Tx, script []byte, amount wire.Sat, rate wire.SatPerKVB, tip wire.Height) (*btcwire.MsgTx, error) {
	if !txscript.IsUnspendable(script) {
		return nil, fmt.Errorf("%w: the output would be spendable", ErrAmount)
	}
	return w.send(tx, script, amount, rate, tip)
}

func (w *Wallet) send(tx Tx, script []byte, amount wire.Sat, rate wire.SatPerKVB, tip wire.Height) (*btcwire.MsgTx, error) {
	p, err := w.pick(tx, amount, contract.TxOverheadWeight+4*int64(9+len(script)), rate, tip)
	if err != nil {
		return nil, err
	}
	t := btcwire.NewMsgTx(contract.TxVersion)
	for _, in := range p.Inputs {
		t.AddTxIn(&btcwire.TxIn{PreviousOutPoint: contract.OutPoint(in), Sequence: contract.Sequence})
	}
	t.AddTxOut(btcwire.NewTxOut(int64(amount), script))
	if p.Change > 0 {
		t.AddTxOut(btcwire.NewTxOut(int64(p.Change), p.ChangeScript))
	}
	return t, w.Sign(tx, t, false)
}

// spentChange reports whether another of our own transactions spends this one's
// change, or is about to.
func (w *Wallet) spentChange(tx Tx, s *Sent, txid wire.Hash) (bool, error) {
	if s.Change < 0 {
		return false, nil
	}
	key := wire.Outpoint{Txid: txid, Vout: uint32(s.Change)}.Bytes()
	lock, err := tx.Get(bucketLock, key)
	if err != nil || lock != nil {
		return true, err
	}
	spend, err := tx.Get(bucketPending, key)
	if err != nil || spend == nil {
		return false, err
	}
	return w.alive(tx, wire.Hash(spend))
}

// replaceable returns one of our own transactions that another can replace, or
// ErrUnknownTx or ErrNotBumpable.
func (w *Wallet) replaceable(tx Tx, txid wire.Hash) (s *Sent, t *btcwire.MsgTx, err error) {
	s, t, err = w.sent(tx, txid)
	if err != nil {
		return nil, nil, err
	}
	if s == nil {
		return nil, nil, ErrUnknownTx
	}
	if raw, err := tx.Get(bucketHistory, txid[:]); err != nil {
		return nil, nil, err
	} else if raw != nil {
		return nil, nil, fmt.Errorf("%w: it is confirmed", ErrNotBumpable)
	}
	if ok, err := w.current(tx, t, txid); err != nil {
		return nil, nil, err
	} else if !ok {
		return nil, nil, fmt.Errorf("%w: it has been replaced already", ErrNotBumpable)
	}
	if ok, err := w.spentChange(tx, s, txid); err != nil {
		return nil, nil, err
	} else if ok {
		return nil, nil, fmt.Errorf("%w: another of your transactions spends its change", ErrNotBumpable)
	}
	if ok, err := w.possible(tx, s, t, txid); err != nil {
		return nil, nil, err
	} else if !ok {
		return nil, nil, fmt.Errorf("%w: another transaction spent its coins", ErrNotBumpable)
	}
	return s, t, nil
}

// Bump replaces an unconfirmed payment by one that pays rate, from its change,
// and at least increment more than before, as nodes require of a replacement
// (BIP125). A fixed transaction is not replaced; instead a child that spends its
// change pays for both, also at least increment more, and can itself be bumped.
func (w *Wallet) Bump(tx Tx, txid wire.Hash, rate, increment wire.SatPerKVB) (*btcwire.MsgTx, error) {
	s, t, err := w.replaceable(tx, txid)
	if err != nil {
		return nil, err
	}
	if s.Fixed {
		return w.child(tx, txid, s, t, rate, increment)
	}
	size := vsize(t)
	fee := max(rate.Fee(size), s.Fee+increment.Fee(size))
	if s.Change < 0 || wire.Sat(t.TxOut[s.Change].Value)-(fee-s.Fee) < contract.Dust {
		return nil, fmt.Errorf("%w: its change is too small for %v more", ErrNotBumpable, fee-s.Fee)
	}
	if err := tx.Delete(bucketChange, wire.Outpoint{Txid: txid, Vout: uint32(s.Change)}.Bytes()); err != nil {
		return nil, err
	}
	t.TxOut[s.Change].Value -= int64(fee - s.Fee)
	err = w.sign(tx, t, Sent{Replaces: txid})
	if errors.Is(err, ErrUnknownTx) {
		return nil, fmt.Errorf("%w: a reorg dropped the transaction that it spends", ErrNotBumpable)
	}
	return t, err
}

// Cancel replaces an unconfirmed transaction of the wallet, also a fixed one, by
// one that pays all its inputs back to the wallet, at rate, and at least increment
// more than before, as nodes require of a replacement (BIP125). If the other
// confirms first, nothing is cancelled.
func (w *Wallet) Cancel(tx Tx, txid wire.Hash, rate, increment wire.SatPerKVB) (*btcwire.MsgTx, error) {
	s, t, err := w.replaceable(tx, txid)
	if err != nil {
		return nil, err
	}
	total := s.Fee
	for _, o := range t.TxOut {
		total += wire.Sat(o.Value)
	}
	size := contract.VSize(contract.TxOverheadWeight + int64(len(t.TxIn))*contract.KeySpendInputWeight + contract.P2TROutputWeight)
	old := wire.SatPerKVB((int64(s.Fee)*1000 + vsize(t) - 1) / vsize(t))
	fee := max(max(rate, old+1).Fee(size), s.Fee+increment.Fee(size))
	if total-fee < contract.Dust {
		return nil, fmt.Errorf("%w: its coins are not worth %v", ErrNotBumpable, fee)
	}
	script, err := w.PeekScript(tx, Internal)
	if err != nil {
		return nil, err
	}
	back := btcwire.NewMsgTx(contract.TxVersion)
	for _, in := range t.TxIn {
		back.AddTxIn(&btcwire.TxIn{PreviousOutPoint: in.PreviousOutPoint, Sequence: contract.Sequence})
	}
	back.AddTxOut(btcwire.NewTxOut(int64(total-fee), script))
	if s.Change >= 0 {
		if err := tx.Delete(bucketChange, wire.Outpoint{Txid: txid, Vout: uint32(s.Change)}.Bytes()); err != nil {
			return nil, err
		}
	}
	err = w.sign(tx, back, Sent{Replaces: txid})
	if errors.Is(err, ErrUnknownTx) {
		return nil, fmt.Errorf("%w: a reorg dropped the transaction that it spends", ErrNotBumpable)
	}
	return back, err
}

// child spends the change of a transaction that must not be replaced, so that
// both, with their unconfirmed ancestors, pay rate, and at least increment more
// than these pay now.
func (w *Wallet) child(tx Tx, txid wire.Hash, s *Sent, parent *btcwire.MsgTx, rate, increment wire.SatPerKVB) (*btcwire.MsgTx, error) {
	if s.Change < 0 {
		return nil, fmt.Errorf("%w: agents hold signatures over it, and it has no change that a child could spend", ErrNotBumpable)
	}
	on := map[wire.Hash]bool{}
	if err := w.ancestors(tx, txid, on); err != nil {
		return nil, err
	}
	size := contract.VSize(contract.TxOverheadWeight + contract.KeySpendInputWeight + contract.P2TROutputWeight)
	fees, all := w.sum(tx, on)
	rate = max(rate, wire.SatPerKVB(int64(fees)*1000/all)+increment)
	fee := rate.Fee(size) + w.shortfall(tx, on, rate)
	rest := wire.Sat(parent.TxOut[s.Change].Value) - fee
	if rest < contract.Dust {
		return nil, fmt.Errorf("%w: its change is too small for %v", ErrNotBumpable, fee)
	}
	script, err := w.PeekScript(tx, Internal)
	if err != nil {
		return nil, err
	}
	t := btcwire.NewMsgTx(contract.TxVersion)
	t.AddTxIn(&btcwire.TxIn{PreviousOutPoint: contract.OutPoint(wire.Outpoint{Txid: txid, Vout: uint32(s.Change)}), Sequence: contract.Sequence})
	t.AddTxOut(btcwire.NewTxOut(int64(rest), script))
	if err := w.Sign(tx, t, false); errors.Is(err, ErrUnknownTx) {
		return nil, fmt.Errorf("%w: no node has accepted it yet", ErrNotBumpable)
	} else if err != nil {
		return nil, err
	}
	return t, nil
}

// Unconfirmed lists the wallet's own unconfirmed transactions that can still
// confirm, for rebroadcasting; of a bumped one, the latest. Ancestors come
// first.
func (w *Wallet) Unconfirmed(tx Tx) (list []*btcwire.MsgTx, err error) {
	depths := map[*btcwire.MsgTx]int{}
	err = tx.Scan(bucketSent, nil, 0, func(key, _ []byte) error {
		txid := wire.Hash(key)
		confirmed, err := tx.Get(bucketHistory, key)
		if err != nil || confirmed != nil {
			return err
		}
		s, t, err := w.sent(tx, txid)
		if err != nil {
			return err
		}
		if ok, err := w.current(tx, t, txid); err != nil || !ok {
			return err
		}
		if ok, err := w.possible(tx, s, t, txid); err != nil || !ok {
			return err
		}
		list = append(list, t)
		depth := map[wire.Hash]bool{}
		if err := w.ancestors(tx, txid, depth); err != nil {
			return err
		}
		depths[t] = len(depth)
		return nil
	})
	slices.SortStableFunc(list, func(a, b *btcwire.MsgTx) int { return cmp.Compare(depths[a], depths[b]) })
	return list, err
}

// History returns the confirmed transactions by height.
func (w *Wallet) History(tx Tx) (list []Record, err error) {
	err = tx.Scan(bucketHistory, nil, 0, func(_, raw []byte) error {
		var r Record
		if err := wire.Unmarshal(raw, &r); err != nil {
			return err
		}
		list = append(list, r)
		return nil
	})
	slices.SortStableFunc(list, func(a, b Record) int { return cmp.Compare(a.Height, b.Height) })
	return list, err
}

func put(tx Tx, bucket string, key []byte, v any) error {
	raw, err := wire.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Put(bucket, key, raw)
}

func get(tx Tx, bucket string, key []byte, v any) (bool, error) {
	raw, err := tx.Get(bucket, key)
	if err != nil || raw == nil {
		return false, err
	}
	return true, wire.Unmarshal(raw, v)
}
