package corerpc

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/blockchain"
	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/mempool"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/wire"
)

// Node is the chain to serve, such as devchain. Its difficulty must be
// constant.
type Node interface {
	chain.Backend
	chain.OutputReader
	// Mempool lists the unconfirmed transactions.
	Mempool() []*btcwire.MsgTx
	// TestAccept returns what Broadcast would return, without broadcasting.
	TestAccept(ctx context.Context, tx *btcwire.MsgTx) error
	// Mine mines n blocks whose coinbases pay to script.
	Mine(ctx context.Context, n int, script []byte) ([]chain.BlockRef, error)
}

const (
	// version is the Bitcoin Core version whose answers these follow.
	version     = 290000
	subversion  = "/bitgram:devchain/"
	maxMine     = 1000 // blocks a call
	maxTest     = 25   // transactions a call, as in Core
	maxTarget   = 1008 // blocks
	medianSpan  = 11   // blocks
	verboseTxid = 1
	verboseTx   = 2
)

// method describes an RPC method: its parameters, of which the first required
// are mandatory, and its function.
type method struct {
	params   string
	required int
	run      func(s *Server, ctx context.Context, args []json.RawMessage) (any, error)
}

var methods = map[string]method{
	"estimatesmartfee":    {"conf_target estimate_mode", 1, (*Server).estimateSmartFee},
	"generatetoaddress":   {"nblocks address maxtries", 2, (*Server).generateToAddress},
	"getbestblockhash":    {"", 0, (*Server).getBestBlockHash},
	"getblock":            {"blockhash verbosity", 1, (*Server).getBlock},
	"getblockchaininfo":   {"", 0, (*Server).getBlockchainInfo},
	"getblockcount":       {"", 0, (*Server).getBlockCount},
	"getblockhash":        {"height", 1, (*Server).getBlockHash},
	"getblockheader":      {"blockhash verbose", 1, (*Server).getBlockHeader},
	"getmempoolentry":     {"txid", 1, (*Server).getMempoolEntry},
	"getmempoolinfo":      {"", 0, (*Server).getMempoolInfo},
	"getnetworkinfo":      {"", 0, (*Server).getNetworkInfo},
	"getrawmempool":       {"verbose", 0, (*Server).getRawMempool},
	"gettxout":            {"txid n include_mempool", 2, (*Server).getTxOut},
	"getzmqnotifications": {"", 0, (*Server).getZMQNotifications},
	"sendrawtransaction":  {"hexstring maxfeerate maxburnamount", 1, (*Server).sendRawTransaction},
	"submitpackage":       {"package", 1, (*Server).submitPackage},
	"testmempoolaccept":   {"rawtxs maxfeerate", 1, (*Server).testMempoolAccept},
	"uptime":              {"", 0, (*Server).uptime},
	"waitfornewblock":     {"timeout", 0, (*Server).waitForNewBlock},
}

func init() { methods["help"] = method{"command", 0, (*Server).help} } // which reads methods

func (m method) usage() string { return "usage: " + strings.TrimSpace(m.params) }

// arguments arranges params, a list or an object with names, in the method's
// order.
func (m method) arguments(params json.RawMessage) ([]json.RawMessage, *failure) {
	names := strings.Fields(m.params)
	var args []json.RawMessage
	var named map[string]json.RawMessage
	switch {
	case params == nil || json.Unmarshal(params, &args) == nil:
	case json.Unmarshal(params, &named) == nil:
		args = make([]json.RawMessage, len(names))
		for name, value := range named {
			i := slices.Index(names, name)
			if i < 0 {
				return nil, fail(codeParameter, "Unknown named parameter %s", name)
			}
			args[i] = value
		}
	default:
		return nil, fail(codeInvalidRequest, "Params must be an array or object")
	}
	if len(args) > len(names) || len(args) < m.required {
		return nil, fail(codeMisc, "%s", m.usage())
	}
	for _, a := range args[:m.required] {
		if a == nil || string(a) == "null" {
			return nil, fail(codeMisc, "%s", m.usage())
		}
	}
	return args, nil
}

// arg decodes the i-th argument, or returns the default if it is missing.
func arg[T any](args []json.RawMessage, i int, otherwise T) (v T, err error) {
	if i >= len(args) || args[i] == nil || string(args[i]) == "null" {
		return otherwise, nil
	}
	if json.Unmarshal(args[i], &v) != nil {
		return v, fail(codeType, "parameter %d is not of the expected type", i+1)
	}
	return v, nil
}

func hashArg(args []json.RawMessage, i int) (h chainhash.Hash, err error) {
	text, err := arg(args, i, "")
	if err != nil {
		return h, err
	}
	if len(text) != 2*len(h) {
		return h, fail(codeParameter, "blockhash must be of length %d (not %d)", 2*len(h), len(text))
	}
	if chainhash.Decode(&h, text) != nil {
		return h, fail(codeParameter, "blockhash must be hexadecimal string")
	}
	return h, nil
}

// btc is an amount written in bitcoin with all its digits.
type btc int64

func (b btc) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "%d.%08d", b/btcutil.SatoshiPerBitcoin, b%btcutil.SatoshiPerBitcoin), nil
}

func (s *Server) help(_ context.Context, args []json.RawMessage) (any, error) {
	name, err := arg(args, 0, "")
	if err != nil {
		return nil, err
	}
	if m, ok := methods[name]; ok {
		return strings.TrimSpace(name + " " + m.params), nil
	} else if name != "" {
		return "help: unknown command: " + name, nil
	}
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(methods)) {
		lines = append(lines, strings.TrimSpace(name+" "+methods[name].params))
	}
	return strings.Join(lines, "\n"), nil
}

func (s *Server) uptime(context.Context, []json.RawMessage) (any, error) {
	return int64(time.Since(s.start).Seconds()), nil
}

// getZMQNotifications returns an empty list: there is no publisher.
func (s *Server) getZMQNotifications(context.Context, []json.RawMessage) (any, error) {
	return []string{}, nil
}

// chainName is the network's name as Core spells it.
func chainName(p *chaincfg.Params) string {
	switch p.Net {
	case btcwire.MainNet:
		return "main"
	case btcwire.TestNet:
		return "regtest"
	}
	return p.Name
}

func (s *Server) getBlockchainInfo(ctx context.Context, _ []json.RawMessage) (any, error) {
	tip, err := s.node.Tip(ctx)
	if err != nil {
		return nil, err
	}
	h, _, err := s.header(ctx, tip.Hash)
	if err != nil {
		return nil, err
	}
	return struct {
		Chain                string   `json:"chain"`
		Blocks               int64    `json:"blocks"`
		Headers              int64    `json:"headers"`
		BestBlockHash        string   `json:"bestblockhash"`
		Bits                 string   `json:"bits"`
		Difficulty           float64  `json:"difficulty"`
		Time                 int64    `json:"time"`
		MedianTime           int64    `json:"mediantime"`
		VerificationProgress float64  `json:"verificationprogress"`
		InitialBlockDownload bool     `json:"initialblockdownload"`
		ChainWork            string   `json:"chainwork"`
		Pruned               bool     `json:"pruned"`
		Warnings             []string `json:"warnings"`
	}{chainName(s.node.Params()), h.Height, h.Height, h.Hash, h.Bits, h.Difficulty, h.Time, h.MedianTime, 1, false, h.ChainWork, false, []string{}}, nil
}

func (s *Server) getBestBlockHash(ctx context.Context, _ []json.RawMessage) (any, error) {
	tip, err := s.node.Tip(ctx)
	return tip.Hash.String(), err
}

func (s *Server) getBlockCount(ctx context.Context, _ []json.RawMessage) (any, error) {
	tip, err := s.node.Tip(ctx)
	return tip.Height, err
}

func (s *Server) getBlockHash(ctx context.Context, args []json.RawMessage) (any, error) {
	height, err := arg(args, 0, int64(0))
	if err != nil {
		return nil, err
	}
	if height < 0 || height > wire.MaxHeight {
		return nil, fail(codeParameter, "Block height out of range")
	}
	h, err := s.node.HashAt(ctx, wire.Height(height))
	if errors.Is(err, chain.ErrNotFound) {
		return nil, fail(codeParameter, "Block height out of range")
	}
	return h.String(), err
}

// header is getblockheader's object, and the first half of getblock's.
type header struct {
	Hash          string  `json:"hash"`
	Confirmations int64   `json:"confirmations"` // -1: not on the active chain
	Height        int64   `json:"height"`
	Version       int32   `json:"version"`
	VersionHex    string  `json:"versionHex"`
	MerkleRoot    string  `json:"merkleroot"`
	Time          int64   `json:"time"`       // Unix seconds
	MedianTime    int64   `json:"mediantime"` // Unix seconds
	Nonce         uint32  `json:"nonce"`
	Bits          string  `json:"bits"`
	Difficulty    float64 `json:"difficulty"`
	ChainWork     string  `json:"chainwork"`
	NTx           int     `json:"nTx"`
	Previous      string  `json:"previousblockhash,omitempty"`
	Next          string  `json:"nextblockhash,omitempty"`
}

// block is Node's Block with Core's error.
func (s *Server) block(ctx context.Context, at chainhash.Hash) (*btcwire.MsgBlock, wire.Height, error) {
	b, height, err := s.node.Block(ctx, at)
	if errors.Is(err, chain.ErrNotFound) {
		return nil, 0, fail(codeAddressOrKey, "Block not found")
	}
	return b, height, err
}

func (s *Server) header(ctx context.Context, at chainhash.Hash) (*header, *btcwire.MsgBlock, error) {
	b, height, err := s.block(ctx, at)
	if err != nil {
		return nil, nil, err
	}
	tip, err := s.node.Tip(ctx)
	if err != nil {
		return nil, nil, err
	}
	work := blockchain.CalcWork(b.Header.Bits)
	work.Mul(work, big.NewInt(int64(height)+1))
	h := &header{Hash: at.String(), Confirmations: -1, Height: int64(height),
		Version: b.Header.Version, VersionHex: fmt.Sprintf("%08x", uint32(b.Header.Version)), MerkleRoot: b.Header.MerkleRoot.String(),
		Time: b.Header.Timestamp.Unix(), Nonce: b.Header.Nonce, Bits: fmt.Sprintf("%08x", b.Header.Bits),
		Difficulty: difficulty(b.Header.Bits), ChainWork: fmt.Sprintf("%064x", work), NTx: len(b.Transactions)}
	if height > 0 {
		h.Previous = b.Header.PrevBlock.String()
	}
	if active, err := s.node.HashAt(ctx, height); err == nil && active == at && height <= tip.Height {
		h.Confirmations = int64(tip.Height-height) + 1
		if next, err := s.node.HashAt(ctx, height+1); err == nil {
			h.Next = next.String()
		}
	}
	if h.MedianTime, err = s.medianTime(ctx, b); err != nil {
		return nil, nil, err
	}
	return h, b, nil
}

// medianTime is the median of the times of b and its ten predecessors.
func (s *Server) medianTime(ctx context.Context, b *btcwire.MsgBlock) (int64, error) {
	var times []int64
	for {
		times = append(times, b.Header.Timestamp.Unix())
		if len(times) == medianSpan || b.Header.PrevBlock == (chainhash.Hash{}) {
			break
		}
		var err error
		if b, _, err = s.block(ctx, b.Header.PrevBlock); err != nil {
			return 0, err
		}
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}

// difficulty returns the difficulty relative to the beginning of mainnet.
func difficulty(bits uint32) float64 {
	one := new(big.Float).SetInt(blockchain.CompactToBig(0x1d00ffff))
	d, _ := one.Quo(one, new(big.Float).SetInt(blockchain.CompactToBig(bits))).Float64()
	return d
}

func (s *Server) getBlockHeader(ctx context.Context, args []json.RawMessage) (any, error) {
	at, err := hashArg(args, 0)
	if err != nil {
		return nil, err
	}
	verbose, err := arg(args, 1, true)
	if err != nil {
		return nil, err
	}
	if verbose {
		h, _, err := s.header(ctx, at)
		return h, err
	}
	b, _, err := s.block(ctx, at)
	if err != nil {
		return nil, err
	}
	var raw bytes.Buffer
	err = b.Header.Serialize(&raw)
	return hex.EncodeToString(raw.Bytes()), err
}

func (s *Server) getBlock(ctx context.Context, args []json.RawMessage) (any, error) {
	at, err := hashArg(args, 0)
	if err != nil {
		return nil, err
	}
	verbosity, err := arg(args, 1, verboseTxid)
	if err != nil { // once it was a bool
		verbose, err := arg(args, 1, true)
		if err != nil {
			return nil, err
		}
		if verbosity = 0; verbose {
			verbosity = verboseTxid
		}
	}
	if verbosity <= 0 {
		b, _, err := s.block(ctx, at)
		if err != nil {
			return nil, err
		}
		var raw bytes.Buffer
		err = b.Serialize(&raw)
		return hex.EncodeToString(raw.Bytes()), err
	}
	h, b, err := s.header(ctx, at)
	if err != nil {
		return nil, err
	}
	var txs []any
	for _, tx := range b.Transactions {
		if verbosity >= verboseTx {
			d, err := decoded(tx, s.node.Params())
			if err != nil {
				return nil, err
			}
			txs = append(txs, d)
		} else {
			txs = append(txs, tx.TxHash().String())
		}
	}
	return struct {
		*header
		StrippedSize int   `json:"strippedsize"`
		Size         int   `json:"size"`
		Weight       int64 `json:"weight"`
		Tx           []any `json:"tx"`
	}{h, b.SerializeSizeStripped(), b.SerializeSize(), blockchain.GetBlockWeight(btcutil.NewBlock(b)), txs}, nil
}

type script struct {
	Asm     string `json:"asm"`
	Hex     string `json:"hex"`
	Address string `json:"address,omitempty"`
	Type    string `json:"type,omitempty"`
}

type input struct {
	Coinbase  string   `json:"coinbase,omitempty"`
	Txid      string   `json:"txid,omitempty"`
	Vout      *uint32  `json:"vout,omitempty"`
	ScriptSig *script  `json:"scriptSig,omitempty"`
	Witness   []string `json:"txinwitness,omitempty"`
	Sequence  uint32   `json:"sequence"`
}

type output struct {
	Value        btc    `json:"value"`
	N            int    `json:"n"`
	ScriptPubKey script `json:"scriptPubKey"`
}

type transaction struct {
	Txid     string   `json:"txid"`
	Hash     string   `json:"hash"` // wtxid
	Version  int32    `json:"version"`
	Size     int      `json:"size"`
	VSize    int64    `json:"vsize"`
	Weight   int64    `json:"weight"`
	LockTime uint32   `json:"locktime"`
	Vin      []input  `json:"vin"`
	Vout     []output `json:"vout"`
	Hex      string   `json:"hex"`
}

// decoded returns tx as getblock shows it at verbosity 2.
func decoded(tx *btcwire.MsgTx, p *chaincfg.Params) (*transaction, error) {
	var raw bytes.Buffer
	if err := tx.Serialize(&raw); err != nil {
		return nil, err
	}
	t := btcutil.NewTx(tx)
	d := &transaction{Txid: tx.TxHash().String(), Hash: tx.WitnessHash().String(), Version: tx.Version, Size: raw.Len(),
		VSize: mempool.GetTxVirtualSize(t), Weight: blockchain.GetTransactionWeight(t), LockTime: tx.LockTime, Hex: hex.EncodeToString(raw.Bytes())}
	for _, in := range tx.TxIn {
		i := input{Sequence: in.Sequence}
		if blockchain.IsCoinBaseTx(tx) {
			i.Coinbase = hex.EncodeToString(in.SignatureScript)
		} else {
			asm, _ := txscript.DisasmString(in.SignatureScript) // says [error] itself
			i.Txid, i.Vout = in.PreviousOutPoint.Hash.String(), &in.PreviousOutPoint.Index
			i.ScriptSig = &script{Asm: asm, Hex: hex.EncodeToString(in.SignatureScript)}
		}
		for _, w := range in.Witness {
			i.Witness = append(i.Witness, hex.EncodeToString(w))
		}
		d.Vin = append(d.Vin, i)
	}
	for n, out := range tx.TxOut {
		asm, _ := txscript.DisasmString(out.PkScript)
		class, addrs, _, _ := txscript.ExtractPkScriptAddrs(out.PkScript, p)
		s := script{Asm: asm, Hex: hex.EncodeToString(out.PkScript), Type: class.String()}
		if len(addrs) == 1 && class != txscript.PubKeyTy {
			s.Address = addrs[0].EncodeAddress()
		}
		d.Vout = append(d.Vout, output{btc(out.Value), n, s})
	}
	return d, nil
}

func (s *Server) getRawMempool(_ context.Context, args []json.RawMessage) (any, error) {
	verbose, err := arg(args, 0, false)
	if err != nil {
		return nil, err
	}
	if verbose {
		return nil, fail(codeParameter, "only txids are served: verbose must be false")
	}
	txids := []string{}
	for _, tx := range s.node.Mempool() {
		txids = append(txids, tx.TxHash().String())
	}
	return txids, nil
}

// txidArg returns a call's first argument.
func txidArg(args []json.RawMessage) (*chainhash.Hash, error) {
	text, err := arg(args, 0, "")
	if err != nil {
		return nil, err
	}
	txid, err := chainhash.NewHashFromStr(text)
	if err != nil {
		return nil, fail(codeParameter, "txid must be of length 64 and hexadecimal")
	}
	return txid, nil
}

// getMempoolEntry returns the sizes of an unconfirmed transaction.
func (s *Server) getMempoolEntry(_ context.Context, args []json.RawMessage) (any, error) {
	txid, err := txidArg(args)
	if err != nil {
		return nil, err
	}
	for _, tx := range s.node.Mempool() {
		if tx.TxHash() == *txid {
			t := btcutil.NewTx(tx)
			return struct {
				VSize  int64  `json:"vsize"`
				Weight int64  `json:"weight"`
				Wtxid  string `json:"wtxid"`
			}{mempool.GetTxVirtualSize(t), blockchain.GetTransactionWeight(t), tx.WitnessHash().String()}, nil
		}
	}
	return nil, fail(codeAddressOrKey, "Transaction not in mempool")
}

func (s *Server) getMempoolInfo(ctx context.Context, _ []json.RawMessage) (any, error) {
	fees, err := s.node.Fees(ctx)
	if err != nil {
		return nil, err
	}
	txs := s.node.Mempool()
	var size int64
	for _, tx := range txs {
		size += mempool.GetTxVirtualSize(btcutil.NewTx(tx))
	}
	return struct {
		Loaded              bool  `json:"loaded"`
		Size                int   `json:"size"`
		Bytes               int64 `json:"bytes"` // vB
		MempoolMinFee       btc   `json:"mempoolminfee"`
		MinRelayTxFee       btc   `json:"minrelaytxfee"`
		IncrementalRelayFee btc   `json:"incrementalrelayfee"`
	}{true, len(txs), size, btc(fees.Least()), btc(fees.Relay), btc(fees.Increment)}, nil
}

// getTxOut returns an unspent output, or null. It always includes the mempool.
func (s *Server) getTxOut(ctx context.Context, args []json.RawMessage) (any, error) {
	txid, err := txidArg(args)
	if err != nil {
		return nil, err
	}
	n, err := arg(args, 1, int64(0))
	if err != nil {
		return nil, err
	}
	if n < 0 || n > math.MaxUint32 {
		return nil, fail(codeParameter, "n is out of range")
	}
	out, err := s.node.Output(ctx, wire.Outpoint{Txid: wire.Hash(*txid), Vout: uint32(n)})
	if errors.Is(err, chain.ErrNoOutput) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	type script struct {
		Hex string `json:"hex"`
	}
	return struct {
		Value        btc    `json:"value"`
		ScriptPubKey script `json:"scriptPubKey"`
	}{btc(out.Value), script{hex.EncodeToString(out.PkScript)}}, nil
}

func (s *Server) getNetworkInfo(ctx context.Context, _ []json.RawMessage) (any, error) {
	fees, err := s.node.Fees(ctx)
	if err != nil {
		return nil, err
	}
	return struct {
		Version         int      `json:"version"`
		Subversion      string   `json:"subversion"`
		ProtocolVersion uint32   `json:"protocolversion"`
		LocalRelay      bool     `json:"localrelay"`
		TimeOffset      int      `json:"timeoffset"`
		NetworkActive   bool     `json:"networkactive"`
		Connections     int      `json:"connections"`
		RelayFee        btc      `json:"relayfee"`
		IncrementalFee  btc      `json:"incrementalfee"`
		Warnings        []string `json:"warnings"`
	}{version, subversion, btcwire.ProtocolVersion, true, 0, false, 0, btc(fees.Relay), btc(fees.Increment), []string{}}, nil
}

func decodeTx(text string) (*btcwire.MsgTx, error) {
	raw, err := hex.DecodeString(text)
	if err != nil {
		return nil, fail(codeDecode, "TX decode failed. Make sure the tx has at least one input.")
	}
	r := bytes.NewReader(raw)
	tx := new(btcwire.MsgTx)
	if err := tx.Deserialize(r); err != nil || r.Len() > 0 || len(tx.TxIn) == 0 {
		return nil, fail(codeDecode, "TX decode failed. Make sure the tx has at least one input.")
	}
	return tx, nil
}

// refusal returns Core's code and reason for Node's refusal of tx, or nil if
// err is not a refusal.
func (s *Server) refusal(tx *btcwire.MsgTx, err error) *failure {
	detail := strings.TrimPrefix(err.Error(), chain.ErrRejected.Error()+": ")
	switch {
	case errors.Is(err, chain.ErrNoData):
		return fail(codeRejected, "scriptpubkey")
	case errors.Is(err, chain.ErrReplacement):
		return fail(codeRejected, "insufficient fee, rejecting replacement %v, %s", tx.TxHash(), detail)
	case errors.Is(err, chain.ErrFeeTooLow):
		return fail(codeRejected, "min relay fee not met, %s", detail)
	case errors.Is(err, chain.ErrConflict):
		return fail(codeTransaction, "bad-txns-inputs-missingorspent, %s", detail)
	case errors.Is(err, chain.ErrRejected):
		return fail(codeRejected, "%s", detail)
	}
	return nil
}

// inMempool reports whether the transaction is unconfirmed.
func (s *Server) inMempool(txid chainhash.Hash) bool {
	return slices.ContainsFunc(s.node.Mempool(), func(tx *btcwire.MsgTx) bool { return tx.TxHash() == txid })
}

// sendRawTransaction has no limit on fees. As in Bitcoin Core since v25, an
// unspendable output may hold at most maxburnamount, 0 by default.
func (s *Server) sendRawTransaction(ctx context.Context, args []json.RawMessage) (any, error) {
	text, err := arg(args, 0, "")
	if err != nil {
		return nil, err
	}
	tx, err := decodeTx(text)
	if err != nil {
		return nil, err
	}
	most, err := arg(args, 2, float64(0))
	if err != nil {
		return nil, err
	}
	limit, err := btcutil.NewAmount(most)
	if err != nil {
		return nil, fail(codeType, "Invalid amount")
	}
	for _, out := range tx.TxOut {
		if txscript.IsUnspendable(out.PkScript) && btcutil.Amount(out.Value) > limit {
			return nil, fail(codeTransaction, "Unspendable output exceeds maximum configured by user (maxburnamount)")
		}
	}
	// Node accepts a transaction that is already in a block; Core reports an
	// error.
	known := s.node.TestAccept(ctx, tx)
	if err := s.node.Broadcast(ctx, tx); err != nil {
		if f := s.refusal(tx, err); f != nil {
			return nil, f
		}
		return nil, err
	}
	if errors.Is(known, chain.ErrConflict) && !s.inMempool(tx.TxHash()) {
		return nil, fail(codeKnown, "Transaction outputs already in utxo set")
	}
	return tx.TxHash().String(), nil
}

// submitPackage accepts a transaction with its parents, or refuses all of them.
func (s *Server) submitPackage(ctx context.Context, args []json.RawMessage) (any, error) {
	p, ok := s.node.(chain.Packager)
	if !ok {
		return nil, fail(codeNoMethod, "Method not found")
	}
	texts, err := arg(args, 0, []string(nil))
	if err != nil {
		return nil, err
	}
	if len(texts) == 0 || len(texts) > maxTest {
		return nil, fail(codeParameter, "Array must contain between 1 and %d transactions.", maxTest)
	}
	type result struct {
		Txid  string `json:"txid"`
		Error string `json:"error,omitempty"`
	}
	answer := struct {
		Message string            `json:"package_msg"`
		Results map[string]result `json:"tx-results"` // by wtxid
	}{"success", map[string]result{}}
	var txs []*btcwire.MsgTx
	for _, text := range texts {
		tx, err := decodeTx(text)
		if err != nil {
			return nil, err
		}
		txs = append(txs, tx)
	}
	err = p.BroadcastPackage(ctx, txs)
	why := ""
	if err != nil {
		f := s.refusal(txs[len(txs)-1], err)
		if f == nil {
			return nil, err
		}
		answer.Message, why = "transaction failed", f.Message
	}
	for _, tx := range txs {
		answer.Results[tx.WitnessHash().String()] = result{tx.TxHash().String(), why}
	}
	return answer, nil
}

// testMempoolAccept tests each transaction separately.
func (s *Server) testMempoolAccept(ctx context.Context, args []json.RawMessage) (any, error) {
	texts, err := arg(args, 0, []string(nil))
	if err != nil {
		return nil, err
	}
	if len(texts) == 0 || len(texts) > maxTest {
		return nil, fail(codeParameter, "Array must contain between 1 and %d transactions.", maxTest)
	}
	type verdict struct {
		Txid    string `json:"txid"`
		Wtxid   string `json:"wtxid"`
		Allowed bool   `json:"allowed"`
		VSize   int64  `json:"vsize,omitempty"`
		Reason  string `json:"reject-reason,omitempty"`
	}
	var list []verdict
	for _, text := range texts {
		tx, err := decodeTx(text)
		if err != nil {
			return nil, err
		}
		v := verdict{Txid: tx.TxHash().String(), Wtxid: tx.WitnessHash().String()}
		if err := s.node.TestAccept(ctx, tx); err == nil {
			v.Allowed, v.VSize = true, mempool.GetTxVirtualSize(btcutil.NewTx(tx))
		} else if f := s.refusal(tx, err); f != nil {
			v.Reason = f.Message
		} else {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

func (s *Server) estimateSmartFee(ctx context.Context, args []json.RawMessage) (any, error) {
	target, err := arg(args, 0, 0)
	if err != nil {
		return nil, err
	}
	if target < 1 || target > maxTarget {
		return nil, fail(codeParameter, "Invalid conf_target, must be between 1 and %d", maxTarget)
	}
	rate, err := s.node.FeeRate(ctx, target)
	return struct {
		FeeRate btc `json:"feerate"` // for 1,000 vB
		Blocks  int `json:"blocks"`
	}{btc(rate), target}, err
}

func (s *Server) generateToAddress(ctx context.Context, args []json.RawMessage) (any, error) {
	n, err := arg(args, 0, 0)
	if err != nil {
		return nil, err
	}
	text, err := arg(args, 1, "")
	if err != nil {
		return nil, err
	}
	if n < 0 || n > maxMine {
		return nil, fail(codeParameter, "between 0 and %d blocks a call", maxMine)
	}
	to, err := address.DecodeAddress(text, s.node.Params())
	if err != nil || !to.IsForNet(s.node.Params()) {
		return nil, fail(codeAddressOrKey, "Error: Invalid address")
	}
	pk, err := txscript.PayToAddrScript(to)
	if err != nil {
		return nil, fail(codeAddressOrKey, "Error: Invalid address")
	}
	refs, err := s.node.Mine(ctx, n, pk)
	if err != nil {
		return nil, err
	}
	hashes := []string{}
	for _, r := range refs {
		hashes = append(hashes, r.Hash.String())
	}
	return hashes, nil
}

// waitForNewBlock waits for another tip, for timeout milliseconds but at most
// maxWait, and returns the tip.
func (s *Server) waitForNewBlock(ctx context.Context, args []json.RawMessage) (any, error) {
	ms, err := arg(args, 0, int64(0))
	if err != nil {
		return nil, err
	}
	if ms < 0 {
		return nil, fail(codeMisc, "Negative timeout")
	}
	wait := maxWait
	if ms > 0 && ms < maxWait.Milliseconds() {
		wait = time.Duration(ms) * time.Millisecond
	}
	within, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	news := s.node.Watch(within)
	before, err := s.node.Tip(ctx)
	now := before
	for open := true; err == nil && open && now == before; now, err = s.node.Tip(ctx) {
		_, open = <-news
	}
	return struct {
		Hash   string      `json:"hash"`
		Height wire.Height `json:"height"`
	}{now.Hash.String(), now.Height}, err
}
