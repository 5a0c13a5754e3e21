package demo

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/node/banking"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// Limits of the demo's bank. MaxPennies is a little below the largest number of
// pennies in a chain.
const (
	bankRungs  = 126
	MaxPennies = penny.MaxSeq / bankRungs * bankRungs
	MaxWindow  = 1 << 16
	// bankWorth is the minimum value of a bank, so that closing it costs little
	// of it.
	bankWorth wire.Sat = 1_000_000
	// spare is the payer's money beyond the bank, for the funding's fee.
	spare wire.Sat = 100_000
)

// Errors of options.
var (
	ErrPennies = fmt.Errorf("the demo pays 1 to %d pennies", MaxPennies)
	ErrWindow  = fmt.Errorf("the demo has 1 to %d pennies in flight", MaxWindow)
)

// BankOptions are the options of a run.
type BankOptions struct {
	Pennies int
	Window  int // pennies that are not acknowledged
	// Progress is called with the number of pennies that the payee holds, and
	// the pennies per second.
	Progress func(done, all uint32, rate float64)
	// Out is the path for the payee's proof of payment.
	Common
}

// BankResult is the result of a run.
type BankResult struct {
	Pennies     uint32    `json:"pennies"`
	PennyMsat   wire.Msat `json:"penny_msat"`
	Paid        wire.Msat `json:"paid_msat"`
	Settled     wire.Sat  `json:"settled_sat"`   // what the close gave the payee
	CloseFee    wire.Sat  `json:"close_fee_sat"` // which the payee paid
	Lost        wire.Msat `json:"unsettled_msat"`
	Change      wire.Sat  `json:"payer_change_sat"` // in the close, delayed
	Value       wire.Sat  `json:"bank_sat"`
	Rungs       uint32    `json:"rungs"`
	PerRung     uint32    `json:"pennies_per_rung"`
	Rung        uint32    `json:"closed_rung"`
	BankID      string    `json:"bank_id"`
	FundingTxid string    `json:"funding_txid"`
	CloseTxid   string    `json:"close_txid"`
	CloseHeight uint32    `json:"close_height"`
	Deadline    uint32    `json:"deadline_height"`
	Expiry      uint32    `json:"expiry_height"`
	Window      int       `json:"window"`
	Rate        uint32    `json:"pennies_per_second"`
	Commits     int64     `json:"commits"` // of the payee, for all the pennies
	Books
	Height uint32 `json:"height"`
}

// bankStory is a payer, a payee, and the bank between them.
type bankStory struct {
	*world
	opt    BankOptions
	ladder penny.Ladder
	begins wire.Sat // the payer's initial money

	payer, payee *node.Node // payer is nil once it has vanished
	payerConfig  node.Config
	id           bank.ID
	commits      atomic.Int64 // of pennies at the payee
}

// RunBank opens a bank, streams pennies one by one, and lets the payer vanish
// and the payee close alone.
func RunBank(ctx context.Context, opt BankOptions) (res *BankResult, err error) {
	switch {
	case opt.Pennies < 1 || opt.Pennies > MaxPennies:
		return nil, fmt.Errorf("%w: %d", ErrPennies, opt.Pennies)
	case opt.Window < 1 || opt.Window > MaxWindow:
		return nil, fmt.Errorf("%w: %d", ErrWindow, opt.Window)
	}
	base, err := newWorld(opt.Common)
	if err != nil {
		return nil, err
	}
	w := &bankStory{world: base, opt: opt, ladder: ladderFor(uint32(opt.Pennies))}
	w.begins = w.ladder.Value + spare
	w.running = w.present
	defer func() { err = errors.Join(err, w.close()) }()
	if err := w.open(ctx); err != nil {
		return nil, err
	}
	return w.play(ctx)
}

// ladderFor returns a ladder with at least this many pennies, each worth a
// whole number of satoshi: one, if that gives a bank that is worth closing.
func ladderFor(pennies uint32) penny.Ladder {
	l := penny.Ladder{Rungs: bankRungs, PerRung: (pennies + bankRungs - 1) / bankRungs}
	n := wire.Sat(l.N())
	l.Value = penny.Dust + n*((bankWorth+n-1)/n)
	return l
}

func (w *bankStory) present() []*node.Node {
	if w.payer == nil {
		return []*node.Node{w.payee}
	}
	return []*node.Node{w.payer, w.payee}
}

func (w *bankStory) close() error {
	var errs []error
	for _, n := range []*node.Node{w.payer, w.payee} {
		if n != nil {
			errs = append(errs, n.Close())
		}
	}
	return errors.Join(append(errs, w.world.close())...)
}

// open starts both parties and funds the payer.
func (w *bankStory) open(ctx context.Context) (err error) {
	w.payerConfig = w.config("payer", w.observePayer)
	payee := w.config("payee", w.observePayee)
	payee.Banking = &banking.Policy{Policy: bank.Policy{MinValue: 1000, MaxRungs: penny.MaxRungs, MaxBanks: 10}}
	payee.Listen = []string{"/ip4/127.0.0.1/tcp/0"}
	if w.payee, err = node.Open(payee); err != nil {
		return err
	}
	w.payee.Start()
	if w.payer, err = node.Open(w.payerConfig); err != nil {
		return err
	}
	w.payer.Start()
	if err := w.fund(ctx, w.payer, w.begins); err != nil {
		return err
	}
	if err := w.mine(ctx); err != nil {
		return err
	}
	w.tell("chain", "a regtest chain of its own, %d blocks high; a payee listens on loopback, a payer holds %v", w.height(ctx), w.begins)
	return nil
}

// The states of both sides.

func (w *bankStory) payerState(ctx context.Context) (s bank.Payer, err error) {
	err = w.payer.Banks.Payers(ctx, func(p bank.Payer) error {
		s = p
		return nil
	})
	return s, err
}

func (w *bankStory) payeeState(ctx context.Context) (s bank.Payee, err error) {
	err = w.payee.Banks.Payees(ctx, func(y bank.Payee) error {
		s = y
		return nil
	})
	return s, err
}

func (w *bankStory) play(ctx context.Context) (*BankResult, error) {
	if err := w.openBank(ctx); err != nil {
		return nil, err
	}
	res := &BankResult{BankID: w.id.String(), Window: w.opt.Window}
	if err := w.stream(ctx, res); err != nil {
		return nil, err
	}
	if err := w.vanish(ctx); err != nil {
		return nil, err
	}
	y, err := w.settleAlone(ctx)
	if err != nil {
		return nil, err
	}
	if err := w.account(ctx, y, res); err != nil {
		return nil, err
	}
	if err := w.prove(ctx, y, res); err != nil {
		return nil, err
	}
	return res, w.export()
}

// openBank opens the bank and mines until both sides have it open.
func (w *bankStory) openBank(ctx context.Context) (err error) {
	m := bank.MarginsFor(wire.Regtest)
	l := w.ladder
	w.tell("payer", "opens a bank with %s", w.payee.Address())
	w.tell("payer", "%v in it, %d rungs of %d pennies; a penny is worth %v", l.Value, l.Rungs, l.PerRung, l.Paid(1))
	if w.id, err = w.payer.Banks.OpenBank(ctx, banking.Terms{Peer: bank.Peer{Key: w.payee.Key(), Addrs: w.payee.Addrs()}, Value: l.Value, Rungs: l.Rungs, PerRung: l.PerRung,
		Blocks: m.MinLife + 2*m.ConfLarge, MaxFee: spare}); err != nil {
		return err
	}
	if err := w.settle(ctx); err != nil {
		return err
	}
	return w.mineUntil(ctx, 2*int(m.ConfLarge), func() (bool, error) {
		p, err := w.payerState(ctx)
		if err != nil || p.Phase == bank.PayerFailed {
			return false, errors.Join(err, errors.New(p.Failure))
		}
		y, err := w.payeeState(ctx)
		return p.State() == bank.StateOpen && y.State() == bank.StateOpen, err
	})
}

// stream pays all pennies, each a message of its own in the window.
func (w *bankStory) stream(ctx context.Context, res *BankResult) error {
	w.tell("payer", "streams %d pennies one by one, %d on their way at once", w.opt.Pennies, w.opt.Window)
	began := time.Now()
	opt := banking.Streaming{Each: true, Window: uint32(w.opt.Window)}
	if w.opt.Progress != nil {
		opt.Progress = func(done, all uint32) { w.opt.Progress(done, all, float64(done)/time.Since(began).Seconds()) }
	}
	p, err := w.payer.Banks.PayPennies(ctx, w.id, uint32(w.opt.Pennies), opt)
	if err != nil {
		return err
	}
	took := time.Since(began)
	// The executor's own attempt at the same order finds nothing left to send.
	if err := w.settle(ctx); err != nil {
		return err
	}
	res.Pennies, res.Rate, res.Commits = p.Acked, uint32(float64(p.Acked)/took.Seconds()), w.commits.Load()
	w.tell("payee", "has %d pennies, %d a second: each was checked by one hash, and durable before it was acknowledged (in %d commits)",
		p.Acked, res.Rate, res.Commits)
	return nil
}

// vanish closes the payer's node permanently.
func (w *bankStory) vanish(ctx context.Context) error {
	n := w.payer
	w.payer = nil
	if err := n.Close(); err != nil {
		return err
	}
	y, err := w.payeeState(ctx)
	if err != nil {
		return err
	}
	g := y.Rung()
	w.tell("payer", "vanishes, and signs nothing more")
	w.tell("payee", "needs no signature: penny %d opens rung %d of %d, worth %v; %v of pennies above it are what it risks", y.Known.Seq, g, y.Ladder.Rungs,
		y.Ladder.Share(g), y.Ladder.Paid(y.Count())-y.Ladder.Share(g).Msat())
	return nil
}

// settleAlone mines until the payee has closed the bank alone and the close is
// final.
func (w *bankStory) settleAlone(ctx context.Context) (y bank.Payee, err error) {
	m := bank.MarginsFor(wire.Regtest)
	err = w.mineUntil(ctx, int(m.MinLife+2*m.ConfLarge+m.Final), func() (bool, error) {
		y, err = w.payeeState(ctx)
		return y.Buried(), err
	})
	if err == nil && (y.State() != bank.StateClosed || y.Spend.Rung != y.Rung()) {
		err = fmt.Errorf("the bank is %s at rung %d, not closed at %d: this is a bug", y.State(), y.Spend.Rung, y.Rung())
	}
	return y, err
}

// account closes the books. The payer's home is read but not run: the payer
// stays absent, and only it can spend its change in the close.
func (w *bankStory) account(ctx context.Context, y bank.Payee, res *BankResult) error {
	change := wire.Outpoint{Txid: y.Spend.Txid, Vout: y.Spend.Vin}
	l := y.Ladder
	b, err := w.readChain(ctx, y.At.Txid, y.Spend.Txid)
	if err != nil {
		return err
	}
	out := b.unspent[change]
	if out == nil || wire.Sat(out.Value) != l.Change(y.Spend.Rung) {
		return fmt.Errorf("the payer's change is not in output %d of %s: this is a bug", change.Vout, txid(change.Txid))
	}
	res.Change = wire.Sat(out.Value)
	files, err := node.Open(w.payerConfig)
	if err != nil {
		return err
	}
	_, err = b.wallet(ctx, "payer", files, w.begins)
	if err = errors.Join(err, files.Close()); err != nil {
		return err
	}
	b.line("payer's change", 0, res.Change)
	if res.Settled, err = b.wallet(ctx, "payee", w.payee, 0); err != nil {
		return err
	}
	b.balance()
	res.Books, res.Height = *b, uint32(w.height(ctx))
	res.Paid, res.PennyMsat, res.Value, res.Rungs, res.PerRung, res.Rung = l.Paid(y.Count()), l.Paid(1), l.Value, l.Rungs, l.PerRung, y.Spend.Rung
	res.Lost, res.CloseFee = res.Paid-l.Share(res.Rung).Msat(), l.Share(res.Rung)-res.Settled
	res.FundingTxid, res.CloseTxid = txid(y.At.Txid), txid(y.Spend.Txid)
	res.CloseHeight, res.Expiry = uint32(y.Spend.Height), uint32(y.Expiry)
	res.Deadline = res.Expiry - y.Margins.Close
	return nil
}

// BankProof proves what the payee was paid: hashed forward with the nonce, its
// penny leads to the public one in as many steps as pennies were paid, and to
// the rung's penny on the way.
type BankProof struct {
	BankID   string      `json:"bank_id"`
	Funding  string      `json:"funding"` // outpoint
	Value    wire.Sat    `json:"bank_sat"`
	Rungs    uint32      `json:"rungs"`
	PerRung  uint32      `json:"pennies_per_rung"`
	Nonce    string      `json:"nonce"`
	Public   shownPenny  `json:"public_penny"`
	Last     shownPenny  `json:"last_penny"`
	Pennies  uint32      `json:"pennies"`
	Paid     wire.Msat   `json:"paid_msat"`
	Rung     uint32      `json:"closed_rung"`
	AtRung   *shownPenny `json:"rung_penny"`
	RungLock string      `json:"rung_lock"` // HASH160 of that penny's secret, in the rung's script
	CloseTx  string      `json:"close_tx"`
}

type shownPenny struct {
	Seq    uint32 `json:"seq"`
	Secret string `json:"secret"`
}

// find returns a confirmed transaction.
func (w *bankStory) find(ctx context.Context, f contract.Fact) (contract.Tx, error) {
	hash, err := w.chain.HashAt(ctx, f.Height)
	if err != nil {
		return nil, err
	}
	block, _, err := w.chain.Block(ctx, hash)
	if err != nil {
		return nil, err
	}
	for _, tx := range block.Transactions {
		if contract.Txid(tx) == f.Txid {
			return tx, nil
		}
	}
	return nil, fmt.Errorf("transaction %s is not in block %d", txid(f.Txid), f.Height)
}

// prove writes a BankProof to the requested path.
func (w *bankStory) prove(ctx context.Context, y bank.Payee, res *BankResult) error {
	if w.opt.Out == "" {
		return nil
	}
	closing, err := w.find(ctx, y.Spend.Fact)
	if err != nil {
		return err
	}
	c := y.Chain()
	show := func(p penny.Penny) shownPenny { return shownPenny{p.Seq, hex.EncodeToString(p.Secret[:c.Size])} }
	rung := c.Forward(y.Known, y.Ladder.Seq(y.Spend.Rung))
	at := show(rung)
	lock := contract.Lock(rung.Secret[:c.Size])
	proof := BankProof{BankID: res.BankID, Funding: fmt.Sprintf("%s:%d", txid(y.At.Txid), y.At.Vout), Value: y.Ladder.Value, Rungs: y.Ladder.Rungs, PerRung: y.Ladder.PerRung,
		Nonce: y.Nonce.String(), Public: show(c.Forward(y.Known, y.Ladder.N())), Last: show(y.Known), Pennies: y.Count(), Paid: res.Paid,
		Rung: res.Rung, AtRung: &at, RungLock: hex.EncodeToString(lock[:]), CloseTx: hex.EncodeToString(contract.NewSent(closing, 0, 0).Tx)}
	return writeFile(w.opt.Out, func(f io.Writer) error {
		e := json.NewEncoder(f)
		e.SetIndent("", "  ")
		return e.Encode(&proof)
	})
}

func (w *bankStory) observePayer(c engine.Change) {
	p, ok := c.State.(bank.Payer)
	if !ok {
		return
	}
	switch c.Event.(type) {
	case bank.Prepared:
		w.tell("payer", "signs all %d rungs, each over its own change: nothing is signed again", p.Ladder.Rungs)
	case bank.Broadcasted:
		if before, _ := c.Before.(bank.Payer); p.Phase == bank.PayerPublished && before.Phase != p.Phase {
			w.tell("payer", "broadcasts the funding %s", txid(p.At.Txid))
		}
	}
}

func (w *bankStory) observePayee(c engine.Change) {
	y, ok := c.State.(bank.Payee)
	if !ok {
		return
	}
	before, _ := c.Before.(bank.Payee)
	switch ev := c.Event.(type) {
	case nil:
		w.tell("payee", "checks the output, the ladder and %d signatures, and keeps the bank", y.Ladder.Rungs)
	case bank.Paid:
		w.commits.Add(1)
	case bank.CloseBuilt:
		if before.Alone == nil {
			w.tell("payee", "block %d: T = %d is near; closes alone at rung %d in %s", y.Tip, y.Expiry, y.Rung(), txid(ev.Sent.Txid))
		}
	case bank.Connected:
		switch {
		case y.State() == bank.StateOpen && before.State() != bank.StateOpen:
			w.tell("payee", "block %d: the bank has its %d confirmations", ev.Height, y.Conf)
		case y.Spend != nil && before.Spend == nil:
			w.tell("payee", "block %d: settled, %d blocks before it would be late; the payer's change, %v, waits for nobody but the payer",
				ev.Height, int64(y.Expiry)-int64(y.Margins.Close)-int64(ev.Height), y.Spend.Change)
		}
	}
}
