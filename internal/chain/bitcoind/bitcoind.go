// Package bitcoind implements chain.Backend over the JSON-RPC of a full node:
// Bitcoin Core, btcd, or devchain behind corerpc. It trusts the node for the
// proof of work and the choice of the best chain. It verifies what is cheap to
// verify: the genesis block, and each block's hash, merkle root and witness
// commitment.
//
// If the node becomes unreachable, calls fail with chain.ErrUnavailable until
// it is back, and watchers continue.
package bitcoind

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/btcsuite/btcd/blockchain"
	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/wire"
)

// Config contains the node's address and credentials.
type Config struct {
	// URL of the RPC server, such as http://127.0.0.1:8332. It must not contain
	// credentials, because errors and logs show it.
	URL string
	// User and Password, or CookieFile, which is read again when the node
	// refuses the credentials, because Bitcoin Core writes a new one at each
	// start.
	User, Password string
	CookieFile     string
	// CACert is a PEM file with the CA that signed the certificate of an https
	// URL (btcd's rpc.cert); if empty, the system's roots are used.
	CACert string
	// ZMQ is the address at which the node publishes hashblock, as
	// tcp://host:port; if empty, the node is asked for it. A publication only
	// triggers a poll; regular polling continues.
	ZMQ string
	// Poll is the polling interval; 0 means 1 s on regtest, otherwise 5 s.
	Poll    time.Duration
	Network wire.Network
	Log     *slog.Logger // nil: nothing is logged
}

// ErrClosed: the client is closed.
var ErrClosed = errors.New("the client of the Bitcoin node is closed")

const (
	// regtestPoll and defaultPoll are the polling intervals.
	regtestPoll, defaultPoll = time.Second, 5 * time.Second
	// ahead is the number of headers that may be known without their blocks
	// while the node counts as synced, because those blocks are about to
	// arrive.
	ahead = 2
	// behindWait and regtestBehindWait are how long such a node counts as
	// syncing without coming closer to its headers, and maxBehind is that number
	// of times in all. After that its tip counts: a block that never comes must
	// not keep claims back until their deadlines have passed.
	behindWait, regtestBehindWait = 10 * time.Minute, time.Minute
	maxBehind                     = 6
	// maxTipAge is Bitcoin Core's own limit for initialblockdownload, for nodes
	// that do not report it.
	maxTipAge = 24 * time.Hour
	// stallAge is exceeded by fewer than one interval between blocks in 10,000.
	stallAge = 3 * time.Hour
	// maxStale limits the walk from a stale block to the active chain.
	maxStale = 1000
	// minRate is the minimum that Bitcoin Core before 29.1 and btcd relay.
	minRate wire.SatPerKVB = 1000
	// maxRate is one bitcoin for 1,000 vB; a higher estimate is an error of the
	// node.
	maxRate = 1.0
	// maxTarget is the maximum target of estimatesmartfee, in blocks.
	maxTarget = 1008
)

// Client implements chain.Backend and chain.HealthChecker.
type Client struct {
	rpc      rpc
	params   chaincfg.Params
	regtest  bool
	zmq      string
	poll     time.Duration
	log      *slog.Logger
	patience time.Duration // behindWait
	grace    time.Duration // zmqGrace
	verified atomic.Bool   // the genesis block was verified since the last failure
	pruned   atomic.Int64  // height of the last requested block that was pruned; -1: none

	life context.Context // ends with Close
	end  context.CancelFunc
	poke chan struct{} // look at the tip now

	published atomic.Bool // blocks are published by ZMQ, as far as is known
	zmqState  zmqState

	mu        sync.Mutex
	tip       chainhash.Hash // as last seen by any call
	subs      map[chan struct{}]bool
	following bool
	closed    bool
	running   sync.WaitGroup
	lag       lag
	download  download
	rate      wire.SatPerKVB // the last estimate; 0: none

	blocks blocks
	sent   sent
}

var (
	_ chain.Backend       = (*Client)(nil)
	_ chain.HealthChecker = (*Client)(nil)
	_ chain.Packager      = (*Client)(nil)
	_ chain.Adviser       = (*Client)(nil)
)

// New returns a client. It does not contact the node yet.
func New(cfg Config) (*Client, error) {
	c := &Client{zmq: cfg.ZMQ, poll: cfg.Poll, log: cfg.Log, regtest: cfg.Network == wire.Regtest,
		subs: map[chan struct{}]bool{}, poke: make(chan struct{}, 1), grace: zmqGrace}
	switch cfg.Network {
	case wire.Mainnet:
		c.params = chaincfg.MainNetParams
	case wire.Testnet4:
		c.params = chaincfg.TestNet4Params
	case wire.Signet:
		c.params = chaincfg.SigNetParams
	case wire.Regtest:
		c.params = chaincfg.RegressionNetParams
	default:
		return nil, fmt.Errorf("unknown network %q", cfg.Network)
	}
	if c.poll == 0 {
		c.poll = defaultPoll
		if c.regtest {
			c.poll = regtestPoll
		}
	}
	if c.patience = behindWait; c.regtest {
		c.patience = regtestBehindWait
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.zmq != "" {
		if _, err := zmqAddress(c.zmq); err != nil {
			return nil, err
		}
	}
	if err := c.rpc.init(cfg); err != nil {
		return nil, err
	}
	c.pruned.Store(-1)
	c.life, c.end = context.WithCancel(context.Background())
	return c, nil
}

// Close ends all calls and watchers. It may be called repeatedly.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.end()
	c.running.Wait()
	c.rpc.http.CloseIdleConnections()
	return nil
}

// call makes an RPC call that ends when the client closes.
func (c *Client) call(ctx context.Context, result any, method string, params ...any) error {
	if c.life.Err() != nil {
		return ErrClosed
	}
	within, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	defer context.AfterFunc(c.life, cancel)()
	err := c.rpc.call(within, result, method, params)
	if err == nil {
		return nil
	}
	var node *Error
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", method, ctx.Err())
	case c.life.Err() != nil:
		return ErrClosed
	case errors.As(err, &node) && node.Code == codeWarmup:
		return fmt.Errorf("%w: %v", chain.ErrSyncing, err) // to callers no answer
	case errors.As(err, &node):
		return err
	}
	// The next answer may come from another node.
	c.verified.Store(false)
	if within.Err() != nil {
		return fmt.Errorf("%w: no answer to %s within %v", chain.ErrUnavailable, method, callTimeout)
	}
	return err
}

// ask is call, after verifying that the node is on the right network.
func (c *Client) ask(ctx context.Context, result any, method string, params ...any) error {
	if !c.verified.Load() {
		var genesis hash
		if err := c.call(ctx, &genesis, "getblockhash", 0); err != nil {
			return err
		}
		if chainhash.Hash(genesis) != *c.params.GenesisHash {
			return fmt.Errorf("%w: its chain begins with %v, that of %s with %v", chain.ErrWrongNetwork,
				chainhash.Hash(genesis), c.params.Name, c.params.GenesisHash)
		}
		c.verified.Store(true)
	}
	return c.call(ctx, result, method, params...)
}

// nonsense returns the error for an invalid answer.
func nonsense(method, format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", chain.ErrUnavailable, method, fmt.Sprintf(format, args...))
}

// hash is a block hash as the RPC writes it.
type hash chainhash.Hash

func (h *hash) UnmarshalJSON(raw []byte) error {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return err
	}
	if len(s) != 2*len(h) {
		return fmt.Errorf("%d characters are not a hash", len(s))
	}
	return chainhash.Decode((*chainhash.Hash)(h), s)
}

// chainInfo contains the fields used of getblockchaininfo.
type chainInfo struct {
	Blocks               int64
	Headers              int64
	BestBlockHash        hash
	InitialBlockDownload *bool // btcd does not say
	Pruned               bool
	PruneHeight          *int64 // the first block not pruned; btcd does not report it
}

func (c *Client) info(ctx context.Context) (i chainInfo, err error) {
	const method = "getblockchaininfo"
	if err := c.ask(ctx, &i, method); err != nil {
		return i, err
	}
	if i.Blocks < 0 || i.Blocks > wire.MaxHeight {
		return i, nonsense(method, "height %d", i.Blocks)
	}
	if i.BestBlockHash == (hash{}) {
		return i, nonsense(method, "no bestblockhash")
	}
	return i, nil
}

// header contains the fields used of getblockheader.
type header struct {
	Height *int64
	Time   int64 // Unix seconds
}

// lag is how long the node has been missing blocks whose headers it knows.
type lag struct {
	first, since time.Time // when it began, and when the node last came closer
	least        int64     // fewest blocks that were missing
	told         bool
}

// lags records how many blocks are missing. It returns whether the node has come
// closer to its headers lately, and how long blocks have been missing.
func (c *Client) lags(missing int64) (closer bool, since time.Duration) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if missing <= ahead {
		c.lag = lag{}
		return false, 0
	}
	l := &c.lag
	if l.first.IsZero() {
		*l = lag{first: now, since: now, least: missing}
	}
	if missing < l.least {
		l.least, l.since = missing, now
	}
	return now.Sub(l.since) < c.patience, now.Sub(l.first)
}

// counts warns once that the tip counts although blocks are missing.
func (c *Client) counts(missing int64, since time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.lag.told {
		c.lag.told = true
		c.log.Warn("the Bitcoin node does not get blocks whose headers it knows; its last block counts as the tip", "missing", missing, "for", since.Truncate(time.Second))
	}
}

// download is how long the node has been in its initial download without lacking
// blocks that it knows of, or without getting them.
type download struct {
	since            time.Time // zero: it is not
	toldNew, toldOld bool
}

// behind returns ErrSyncing if the node is syncing.
func (c *Client) behind(ctx context.Context, i chainInfo) error {
	missing := i.Headers - i.Blocks
	closer, since := c.lags(missing)
	if closer && since < maxBehind*c.patience {
		c.downloads(false, false)
		return fmt.Errorf("%w: block %d of %d", chain.ErrSyncing, i.Blocks, i.Headers)
	}
	if !c.regtest { // an old tip is normal on regtest
		if err := c.downloading(ctx, i, closer); err != nil {
			return err
		}
	}
	if missing > ahead {
		c.counts(missing, since)
	}
	return nil
}

// downloading returns ErrSyncing if the node is in its initial download, unless its
// tip counts nevertheless. closer says that it gets blocks that it knows of.
func (c *Client) downloading(ctx context.Context, i chainInfo, closer bool) error {
	if i.InitialBlockDownload != nil && !*i.InitialBlockDownload {
		c.downloads(false, false)
		return nil
	}
	age, err := c.age(ctx, i)
	if err != nil {
		return err
	}
	old := age > maxTipAge
	if i.InitialBlockDownload == nil {
		i.InitialBlockDownload = &old
	}
	if old && closer && *i.InitialBlockDownload {
		c.downloads(false, false)
		return fmt.Errorf("%w: block %d of %d", chain.ErrSyncing, i.Blocks, i.Headers)
	}
	wait, since := c.downloads(*i.InitialBlockDownload, old)
	const check = "check the node's connections and its clock"
	switch {
	case !wait:
		return nil
	case since < c.patience:
		return fmt.Errorf("%w: block %d, and more to come", chain.ErrSyncing, i.Blocks)
	case i.Headers-i.Blocks > ahead:
		return fmt.Errorf("%w: block %d of %d is %v old, and it has got no other for %v; %s", chain.ErrSyncing,
			i.Blocks, i.Headers, age.Truncate(time.Minute), since.Truncate(time.Second), check)
	}
	return fmt.Errorf("%w: block %d is %v old and the last that it knows of, for %v; %s", chain.ErrSyncing,
		i.Blocks, age.Truncate(time.Minute), since.Truncate(time.Second), check)
}

// downloads records whether the node is in its initial download, and whether its
// tip is old. It returns whether to wait for it, and how long it has been so. A
// node with a new tip is only waited for a while: its clock may be wrong, or it
// wants more work than the chain has, and then the initial download never ends. A
// node with an old tip is always waited for: promises at an old height would be
// made too late.
func (c *Client) downloads(yes, old bool) (wait bool, since time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := &c.download
	if !yes {
		*d = download{}
		return false, 0
	}
	if d.since.IsZero() {
		d.since = time.Now()
	}
	if since = time.Since(d.since); since < c.patience {
		return true, since
	}
	told, what := &d.toldNew, "the Bitcoin node does not end its initial download; its last block is new and counts as the tip"
	if old {
		told, what = &d.toldOld, "the Bitcoin node gets no blocks in its initial download: nothing can be claimed or refunded until it does"
	}
	if !*told {
		*told = true
		c.log.Warn(what, "for", since.Truncate(time.Second))
	}
	return old, since
}

// age returns how long ago the tip was mined, by its header.
func (c *Client) age(ctx context.Context, i chainInfo) (time.Duration, error) {
	const method = "getblockheader"
	var h header
	if err := c.ask(ctx, &h, method, chainhash.Hash(i.BestBlockHash).String(), true); err != nil {
		return 0, err
	}
	if h.Time <= 0 {
		return 0, nonsense(method, "block %d without a time", i.Blocks)
	}
	return time.Since(time.Unix(h.Time, 0)), nil
}

// Health implements chain.HealthChecker.
func (c *Client) Health(ctx context.Context) error {
	c.verified.Store(false)
	i, err := c.info(ctx)
	if err != nil {
		return err
	}
	if err := c.behind(ctx, i); err != nil {
		return err
	}
	if h := c.pruned.Load(); h >= 0 && i.Pruned && (i.PruneHeight == nil || *i.PruneHeight > h) {
		return fmt.Errorf("%w: block %d, which is needed", chain.ErrPruned, h)
	}
	if missing := i.Headers - i.Blocks; missing > ahead {
		_, since := c.lags(missing)
		return fmt.Errorf("%w: block %d of %d, for %v", chain.ErrBehind, i.Blocks, i.Headers, since.Truncate(time.Second))
	}
	if !c.regtest && i.InitialBlockDownload != nil && *i.InitialBlockDownload {
		_, since := c.downloads(true, false)
		return fmt.Errorf("%w: block %d, in its initial download for %v", chain.ErrBehind, i.Blocks, since.Truncate(time.Second))
	}
	if c.regtest {
		return nil
	}
	age, err := c.age(ctx, i)
	if err != nil {
		return err
	}
	if age > stallAge {
		return fmt.Errorf("%w: block %d is %v old", chain.ErrStalled, i.Blocks, age.Truncate(time.Minute))
	}
	return nil
}

// Params implements chain.Backend.
func (c *Client) Params() *chaincfg.Params { return &c.params }

// Tip implements chain.Backend. It returns chain.ErrSyncing until the node has
// caught up.
func (c *Client) Tip(ctx context.Context) (chain.BlockRef, error) {
	i, err := c.info(ctx)
	if err != nil {
		return chain.BlockRef{}, err
	}
	if err := c.behind(ctx, i); err != nil {
		return chain.BlockRef{}, err
	}
	c.saw(chainhash.Hash(i.BestBlockHash))
	return chain.BlockRef{Hash: chainhash.Hash(i.BestBlockHash), Height: wire.Height(i.Blocks)}, nil
}

// HashAt implements chain.Backend.
func (c *Client) HashAt(ctx context.Context, h wire.Height) (chainhash.Hash, error) {
	if err := ctx.Err(); err != nil {
		return chainhash.Hash{}, err
	}
	if h > wire.MaxHeight { // nodes parse a signed 32-bit number
		return chainhash.Hash{}, fmt.Errorf("%w: height %d", chain.ErrNotFound, h)
	}
	var at hash
	err := c.ask(ctx, &at, "getblockhash", h)
	var node *Error
	if errors.As(err, &node) && (node.Code == codeParameter || node.Code == codeMisc) && node.said(saidOutOfRange) {
		return chainhash.Hash{}, fmt.Errorf("%w: height %d", chain.ErrNotFound, h)
	}
	return chainhash.Hash(at), err
}

// Block implements chain.Backend. It returns chain.ErrPruned if the node once
// had the block.
//
// The wallet and the index of names each read every block, at nearly the same
// time; the last blocks are kept, so that the node is asked for each once.
func (c *Client) Block(ctx context.Context, at chainhash.Hash) (*btcwire.MsgBlock, wire.Height, error) {
	return c.blocks.get(ctx, at, func() (*btcwire.MsgBlock, []byte, wire.Height, error) { return c.fetch(ctx, at) })
}

// fetch asks the node for a block. It returns its encoding too.
func (c *Client) fetch(ctx context.Context, at chainhash.Hash) (*btcwire.MsgBlock, []byte, wire.Height, error) {
	height, err := c.heightOf(ctx, at)
	if err != nil {
		return nil, nil, 0, err
	}
	var text string
	if err := c.ask(ctx, &text, "getblock", at.String(), 0); err != nil {
		return nil, nil, 0, c.missing(ctx, at, height, err)
	}
	b, raw, err := decodeBlock(text, at)
	if err != nil {
		return nil, nil, 0, nonsense("getblock", "block %v: %v", at, err)
	}
	c.pruned.CompareAndSwap(int64(height), -1)
	return b, raw, height, nil
}

// missing returns the reason why a block with a known header is not available.
func (c *Client) missing(ctx context.Context, at chainhash.Hash, height wire.Height, err error) error {
	var node *Error
	if !errors.As(err, &node) || (node.Code != codeAddressOrKey && node.Code != codeMisc) {
		return err
	}
	pruned := node.said(saidPruned)
	if node.Code == codeAddressOrKey { // btcd forgets what it pruned
		i, err := c.info(ctx)
		if err != nil {
			return err
		}
		pruned = i.Pruned
	}
	if !pruned {
		return fmt.Errorf("%w: %v: %s", chain.ErrNotFound, at, node.Message)
	}
	c.pruned.Store(int64(height))
	return fmt.Errorf("%w: %d:%v", chain.ErrPruned, height, at)
}

// Header implements chain.HeaderReader.
func (c *Client) Header(ctx context.Context, at chainhash.Hash) (*btcwire.BlockHeader, error) {
	const method = "getblockheader"
	var text string
	if err := c.ask(ctx, &text, method, at.String(), false); err != nil {
		var node *Error
		if errors.As(err, &node) && node.Code == codeAddressOrKey {
			return nil, fmt.Errorf("%w: %v", chain.ErrNotFound, at)
		}
		return nil, err
	}
	raw, err := hex.DecodeString(text)
	if err != nil {
		return nil, nonsense(method, "%v", err)
	}
	var b btcwire.BlockHeader
	if err := b.Deserialize(bytes.NewReader(raw)); err != nil || b.BlockHash() != at {
		return nil, nonsense(method, "not the header of %v", at)
	}
	return &b, nil
}

// Output implements chain.OutputReader.
func (c *Client) Output(ctx context.Context, at wire.Outpoint) (*btcwire.TxOut, error) {
	const method = "gettxout"
	var out *struct {
		Value        float64
		ScriptPubKey struct{ Hex string }
	}
	if err := c.ask(ctx, &out, method, chainhash.Hash(at.Txid).String(), at.Vout, true); err != nil {
		return nil, err
	}
	if out == nil {
		return nil, chain.ErrNoOutput
	}
	script, err := hex.DecodeString(out.ScriptPubKey.Hex)
	if err != nil {
		return nil, nonsense(method, "%v", err)
	}
	value, err := btcutil.NewAmount(out.Value)
	if err != nil {
		return nil, nonsense(method, "%v", err)
	}
	return btcwire.NewTxOut(int64(value), script), nil
}

// First implements chain.Pruner. btcd does not report its first block.
func (c *Client) First(ctx context.Context) (wire.Height, error) {
	i, err := c.info(ctx)
	if err != nil || !i.Pruned || i.PruneHeight == nil || *i.PruneHeight < 0 || *i.PruneHeight > wire.MaxHeight {
		return 0, err
	}
	return wire.Height(*i.PruneHeight), nil
}

// heightOf returns a block's height, on any branch. btcd reports it on the
// active chain only, so from a stale block walk back to the active chain.
func (c *Client) heightOf(ctx context.Context, at chainhash.Hash) (wire.Height, error) {
	const method = "getblockheader"
	from := at
	for depth := range int64(maxStale) {
		var h header
		err := c.ask(ctx, &h, method, at.String(), true)
		if err == nil {
			if h.Height == nil || *h.Height < 0 || *h.Height > wire.MaxHeight-depth {
				return 0, nonsense(method, "block %v without a height", at)
			}
			return wire.Height(*h.Height + depth), nil
		}
		var node *Error
		if errors.As(err, &node) && node.Code == codeAddressOrKey {
			return 0, fmt.Errorf("%w: %v", chain.ErrNotFound, at)
		}
		if !errors.As(err, &node) || node.Code != codeInternal {
			return 0, err
		}
		b, err := c.Header(ctx, at)
		if err != nil {
			return 0, err
		}
		at = b.PrevBlock
	}
	return 0, nonsense(method, "block %v is %d blocks off the active chain", from, maxStale)
}

// decodeBlock decodes a block and verifies that it is the one with that hash,
// complete and with its original witnesses.
func decodeBlock(text string, want chainhash.Hash) (*btcwire.MsgBlock, []byte, error) {
	raw, err := hex.DecodeString(text)
	if err != nil {
		return nil, nil, err
	}
	r := bytes.NewReader(raw)
	b := new(btcwire.MsgBlock)
	if err := b.Deserialize(r); err != nil {
		return nil, nil, err
	}
	if r.Len() > 0 {
		return nil, nil, fmt.Errorf("%d bytes after its end", r.Len())
	}
	if got := b.BlockHash(); got != want {
		return nil, nil, fmt.Errorf("it is block %v", got)
	}
	if len(b.Transactions) == 0 {
		return nil, nil, errors.New("no transactions")
	}
	txs := make([]*btcutil.Tx, len(b.Transactions))
	seen := make(map[chainhash.Hash]bool, len(txs))
	for i, tx := range b.Transactions {
		txs[i] = btcutil.NewTx(tx)
		// Transactions repeated at the end do not change the root
		// (CVE-2012-2459).
		if seen[*txs[i].Hash()] {
			return nil, nil, errors.New("a transaction twice")
		}
		seen[*txs[i].Hash()] = true
	}
	if blockchain.CalcMerkleRoot(txs, false) != b.Header.MerkleRoot {
		return nil, nil, errors.New("another merkle root")
	}
	if err := blockchain.ValidateWitnessCommitment(btcutil.NewBlock(b)); err != nil {
		return nil, nil, err
	}
	return b, raw, nil
}

// Broadcast implements chain.Backend. A transaction that the node has accepted
// before is sent again only if its mempool lacks it, or after resendTime. The
// node's own limits on fees (maxfeerate) and burns (maxburnamount) are disabled,
// because the caller has decided on the costs. A node that does not know the
// second, Bitcoin Core before v25 or btcd, has no such limit.
func (c *Client) Broadcast(ctx context.Context, tx *btcwire.MsgTx) error {
	id := tx.WitnessHash()
	if c.sent.lately(id) && c.holds(ctx, tx) {
		return nil
	}
	err := withData(tx, c.send(ctx, tx))
	if err == nil {
		c.sent.add(id)
	}
	return err
}

func (c *Client) send(ctx context.Context, tx *btcwire.MsgTx) error {
	var b bytes.Buffer
	if err := tx.Serialize(&b); err != nil {
		return err
	}
	var txid string
	text := hex.EncodeToString(b.Bytes())
	if burn := burned(tx); burn > 0 {
		err := c.ask(ctx, &txid, "sendrawtransaction", text, 0, burn.ToBTC())
		var node *Error
		if !errors.As(err, &node) || node.Code != codeMisc && node.Code != codeParams {
			return refusal(err)
		}
		again := c.ask(ctx, &txid, "sendrawtransaction", text, 0)
		var second *Error
		if errors.As(again, &second) && second.said(saidBurn) {
			return err // it knows the limit: the first answer was a passing failure
		}
		return refusal(again)
	}
	return refusal(c.ask(ctx, &txid, "sendrawtransaction", text, 0))
}

// holds reports whether the node says that its mempool has the transaction. btcd
// is asked for the first output.
func (c *Client) holds(ctx context.Context, tx *btcwire.MsgTx) bool {
	txid := tx.TxHash().String()
	err := c.ask(ctx, nil, "getmempoolentry", txid)
	var node *Error
	if err == nil || !errors.As(err, &node) || node.Code == codeAddressOrKey {
		return err == nil
	}
	var out *json.RawMessage
	return c.ask(ctx, &out, "gettxout", txid, 0, true) == nil && out != nil
}

// BroadcastPackage implements chain.Packager with submitpackage, which Bitcoin
// Core has since v26.
func (c *Client) BroadcastPackage(ctx context.Context, txs []*btcwire.MsgTx) error {
	var texts []string
	for _, tx := range txs {
		var b bytes.Buffer
		if err := tx.Serialize(&b); err != nil {
			return err
		}
		texts = append(texts, hex.EncodeToString(b.Bytes()))
	}
	var says struct {
		Message string                            `json:"package_msg"`
		Results map[string]struct{ Error string } `json:"tx-results"`
	}
	err := c.ask(ctx, &says, "submitpackage", texts)
	var node *Error
	if errors.As(err, &node) && node.Code == codeNoMethod {
		return fmt.Errorf("%w: %v", chain.ErrUnsupported, err)
	}
	if err != nil {
		return refusal(err)
	}
	if says.Message == "success" {
		return nil
	}
	why := says.Message
	for _, tx := range txs { // the first that is refused is the reason
		if r := says.Results[tx.WitnessHash().String()]; r.Error != "" && r.Error != "package-not-validated" {
			why = r.Error
			break
		}
	}
	return withData(txs[len(txs)-1], refusal(&Error{Method: "submitpackage", Code: codeRejected, Message: clean(why)}))
}

// burned returns the largest value of an unspendable output.
func burned(tx *btcwire.MsgTx) (most btcutil.Amount) {
	for _, out := range tx.TxOut {
		if txscript.IsUnspendable(out.PkScript) {
			most = max(most, btcutil.Amount(out.Value))
		}
	}
	return most
}

// rate converts a rate in BTC per 1,000 vB; ok is false if it is invalid.
func rate(btc *float64) (r wire.SatPerKVB, ok bool) {
	if btc == nil || !(*btc > 0 && *btc <= maxRate) {
		return 0, false
	}
	a, err := btcutil.NewAmount(*btc)
	return wire.SatPerKVB(a), err == nil
}

// FeeRate implements chain.Backend. It returns the node's estimate or, if there
// is none, as on regtest, the relay minimum. It is at least minRate, because a
// node that accepts less may be alone with the transaction. If the node does not
// answer in time, the last estimate counts: blocks must be followed without one.
func (c *Client) FeeRate(ctx context.Context, target int) (wire.SatPerKVB, error) {
	rate, err := c.estimate(ctx, target)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.rate = rate
	} else if last := max(c.rate, rate); last > 0 && ctx.Err() == nil && errors.Is(err, chain.ErrUnavailable) {
		c.log.Warn("the Bitcoin node gives no fee rate; the last one counts", "err", err, "sat_per_kvb", int64(last))
		return last, nil
	}
	return rate, err
}

// estimate asks for a rate. If only the estimate fails, it returns the error with
// the relay minimum.

func (c *Client) estimate(ctx context.Context, target int) (wire.SatPerKVB, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, feeTimeout, errSlow)
	defer cancel()
	slow := func(err error) error {
		if context.Cause(ctx) == errSlow {
			return fmt.Errorf("%w: %v: no answer within %v", chain.ErrUnavailable, err, feeTimeout)
		}
		return err
	}
	fees, err := c.Fees(ctx)
	if err != nil {
		return 0, slow(err)
	}
	least := max(minRate, fees.Least())
	if c.regtest {
		return least, nil
	}
	target = min(max(target, 1), maxTarget)
	var smart struct{ FeeRate *float64 }
	var node *Error
	if err = c.ask(ctx, &smart, "estimatesmartfee", target); errors.As(err, &node) { // not in btcd
		err = c.ask(ctx, &smart.FeeRate, "estimatefee", target)
	}
	if err != nil && !errors.As(err, &node) {
		return least, slow(err)
	}
	if r, ok := rate(smart.FeeRate); ok {
		return max(r, least), nil
	}
	return least, nil
}

// feeTimeout limits the calls for a fee rate.
const feeTimeout = 10 * time.Second

var errSlow = errors.New("the node is slow")

// Fees implements chain.Backend. Nodes state their policy in different answers:
// all of it in getmempoolinfo (Bitcoin Core since v24), some of it in
// getnetworkinfo, btcd only its relay minimum in getinfo.
func (c *Client) Fees(ctx context.Context) (f chain.Fees, err error) {
	for _, method := range []string{"getmempoolinfo", "getnetworkinfo", "getinfo"} {
		var says struct{ MempoolMinFee, MinRelayTxFee, RelayFee, IncrementalRelayFee, IncrementalFee *float64 }
		var node *Error
		if err := c.ask(ctx, &says, method); err != nil && !errors.As(err, &node) {
			return chain.Fees{}, err
		}
		for _, one := range []struct {
			btc *float64
			to  *wire.SatPerKVB
		}{{says.MinRelayTxFee, &f.Relay}, {says.RelayFee, &f.Relay}, {says.MempoolMinFee, &f.Mempool},
			{says.IncrementalRelayFee, &f.Increment}, {says.IncrementalFee, &f.Increment}} {
			if r, ok := rate(one.btc); ok && *one.to == 0 {
				*one.to = r
			}
		}
		if f.Least() > 0 && f.Increment > 0 {
			break
		}
	}
	return f, nil
}
