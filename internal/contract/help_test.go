package contract_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/btcsuite/btcd/blockchain"
	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/chain/devchain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// secret returns the test's secret of that name: a valid scalar with an even
// point, so a secret read back from the chain compares equal.
func secret(format string, a ...any) wire.Secret {
	h := wire.Tagged("test", fmt.Appendf(nil, format, a...))
	k, err := wire.Secret(h).PrivKey()
	if err != nil {
		panic(err)
	}
	return wire.SecretOf(k)
}

func public(s wire.Secret) wire.Key {
	k, err := s.PrivKey()
	if err != nil {
		panic(err)
	}
	return wire.XOnly(k.PubKey())
}

// agent contains all secrets of one claim leaf.
type agent struct {
	Sender, Nonce, Claim, Tau, Sigma wire.Secret
	T                                wire.Key
}

// frozenOutput is a frozen output with all its secrets.
type frozenOutput struct {
	*contract.Output
	Agents []agent
	Refund wire.Secret
}

func newFrozen(t testing.TB, name string, agents int, expiry wire.Height) *frozenOutput {
	t.Helper()
	o := &frozenOutput{Refund: secret("%s refund", name)}
	f := wire.Frozen{Blinding: secret("%s blinding", name), Expiry: expiry, RefundKey: public(o.Refund)}
	for i := range agents {
		a := agent{Sender: secret("%s sender %d", name, i), Nonce: secret("%s nonce %d", name, i),
			Claim: secret("%s claim %d", name, i), Tau: secret("%s tau %d", name, i), Sigma: secret("%s sigma %d", name, i)}
		a.T = public(a.Tau)
		o.Agents = append(o.Agents, a)
		f.Claims = append(f.Claims, wire.ClaimLeaf{ReleaseHash: sha(a.Sigma[:]), SenderKey: public(a.Sender), ClaimKey: public(a.Claim)})
	}
	var err error
	if o.Output, err = contract.NewOutput(f); err != nil {
		t.Fatal(err)
	}
	return o
}

// preSign is the sender's pre-signature for claim i, verified.
func (o *frozenOutput) preSign(t testing.TB, i int, at wire.Outpoint, value wire.Sat) (wire.PreSignature, wire.Hash) {
	t.Helper()
	d, err := o.ClaimDigest(i, at, value)
	if err != nil {
		t.Fatal(err)
	}
	a := o.Agents[i]
	ps, err := contract.PreSign(a.Sender, a.Nonce, a.T, d)
	if err != nil {
		t.Fatal(err)
	}
	if err := contract.VerifyPreSignature(ps, public(a.Sender), a.T, d); err != nil {
		t.Fatal(err)
	}
	return ps, d
}

func (o *frozenOutput) claim(t testing.TB, i int, at wire.Outpoint, value wire.Sat) contract.Claim {
	ps, _ := o.preSign(t, i, at, value)
	a := o.Agents[i]
	return contract.Claim{Output: o.Output, Index: i, At: at, Value: value, PreSig: ps, Sigma: a.Sigma, Tau: a.Tau, ClaimKey: a.Claim}
}

func (o *frozenOutput) refund(at wire.Outpoint, value wire.Sat) contract.Refund {
	return contract.Refund{Output: o.Output, At: at, Value: value, Key: o.Refund}
}

func (o *frozenOutput) txOut(value wire.Sat) *btcwire.TxOut {
	return btcwire.NewTxOut(int64(value), o.PkScript())
}

var wallet = secret("wallet")

// home is the P2TR script that everything in these tests is paid to.
var home = func() []byte {
	k, _ := wallet.PrivKey()
	s, err := txscript.PayToTaprootScript(txscript.ComputeTaprootKeyNoScript(k.PubKey()))
	if err != nil {
		panic(err)
	}
	return s
}()

// marker is a well-formed funding marker.
func marker() []byte {
	m := seal.Marker{Root: wire.Hash(secret("root")), E: public(secret("e"))}.Encode()
	return m[:]
}

// signHome signs every input of tx, which all spend outputs to home.
func signHome(t testing.TB, tx *btcwire.MsgTx, prev txscript.PrevOutputFetcher) {
	t.Helper()
	k, _ := wallet.PrivKey()
	hashes := txscript.NewTxSigHashes(tx, prev)
	for i, in := range tx.TxIn {
		out := prev.FetchPrevOutput(in.PreviousOutPoint)
		sig, err := txscript.RawTxInTaprootSignature(tx, hashes, i, out.Value, out.PkScript, nil, txscript.SigHashDefault, k)
		if err != nil {
			t.Fatal(err)
		}
		in.Witness = btcwire.TxWitness{sig}
	}
}

// ground is a regtest chain that the tests of this package share, because a
// mature coin needs a hundred blocks.
type ground struct {
	*devchain.Chain
	dir string
}

var (
	groundOnce sync.Once
	groundIs   *ground
	groundErr  error
)

func regtest(t testing.TB) *ground {
	t.Helper()
	groundOnce.Do(func() {
		dir, err := os.MkdirTemp("", "bitgram-contract")
		if err != nil {
			groundErr = err
			return
		}
		c, err := devchain.Open(dir)
		groundIs, groundErr = &ground{Chain: c, dir: dir}, err
	})
	if groundErr != nil {
		t.Fatal(groundErr)
	}
	return groundIs
}

func TestMain(m *testing.M) {
	code := m.Run()
	if groundIs != nil && groundIs.Chain != nil {
		groundIs.Close()
	}
	if groundIs != nil {
		os.RemoveAll(groundIs.dir)
	}
	os.Exit(code)
}

func (g *ground) tip(t testing.TB) wire.Height {
	t.Helper()
	ref, err := g.Tip(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return ref.Height
}

// mine mines n blocks, and to empties the mempool into the first.
func (g *ground) mine(t testing.TB, n int) {
	t.Helper()
	if _, err := g.Mine(context.Background(), n, home); err != nil {
		t.Fatal(err)
	}
}

// mineTo mines until the tip is at h.
func (g *ground) mineTo(t testing.TB, h wire.Height) {
	t.Helper()
	if tip := g.tip(t); tip < h {
		g.mine(t, int(h-tip))
	}
}

// fund confirms a funding transaction with outs, as the sender builds it, and
// returns their outpoints.
func (g *ground) fund(t testing.TB, outs ...*btcwire.TxOut) (at []wire.Outpoint) {
	t.Helper()
	ctx := context.Background()
	var total wire.Sat
	for _, o := range outs {
		total += wire.Sat(o.Value)
	}
	weight := contract.FundingWeight(1, len(outs), true)
	coin := total + 10_000 + wire.Sat(contract.VSize(weight))
	from, err := g.Faucet(ctx, home, coin)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := contract.Funding([]wire.Outpoint{from}, outs, marker(), btcwire.NewTxOut(10_000, home))
	if err != nil {
		t.Fatal(err)
	}
	signHome(t, tx, txscript.NewCannedPrevOutputFetcher(home, int64(coin)))
	if err := g.Broadcast(ctx, tx); err != nil {
		t.Fatal("funding:", err)
	}
	g.mine(t, 1)
	for i := range outs {
		at = append(at, wire.Outpoint{Txid: contract.Txid(tx), Vout: uint32(i)})
	}
	return at
}

// accepts fails if policy refuses tx.
func (g *ground) accepts(t testing.TB, tx *btcwire.MsgTx) {
	t.Helper()
	if err := g.TestAccept(context.Background(), tx); err != nil {
		t.Fatal("policy refuses:", err)
	}
}

// confirms broadcasts tx and sees it in a block.
func (g *ground) confirms(t testing.TB, tx *btcwire.MsgTx) {
	t.Helper()
	ctx := context.Background()
	g.accepts(t, tx)
	if err := g.Broadcast(ctx, tx); err != nil {
		t.Fatal(err)
	}
	refs, err := g.Mine(ctx, 1, home)
	if err != nil {
		t.Fatal(err)
	}
	b, _, err := g.Block(ctx, refs[0].Hash)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(b.Transactions, func(x *btcwire.MsgTx) bool { return x.TxHash() == tx.TxHash() }) {
		t.Fatal("not mined")
	}
}

// The reasons for which consensus may refuse a transaction. A refusal for any
// other reason is a mistake in the test.
var (
	badScript = []blockchain.ErrorCode{blockchain.ErrScriptValidation, blockchain.ErrScriptMalformed}
	notFinal  = []blockchain.ErrorCode{blockchain.ErrUnfinalizedTx}
)

// refused fails unless both policy and consensus refuse tx, consensus for one
// of the reasons in why.
func (g *ground) refused(t testing.TB, tx *btcwire.MsgTx, why []blockchain.ErrorCode, format string, a ...any) {
	t.Helper()
	ctx := context.Background()
	what := fmt.Sprintf(format, a...)
	if err := g.TestAccept(ctx, tx); !errors.Is(err, chain.ErrRejected) {
		t.Errorf("%s: policy: %v", what, err)
	}
	_, err := g.MineWith(ctx, home, tx)
	var rule blockchain.RuleError
	if !errors.As(err, &rule) || !slices.Contains(why, rule.ErrorCode) {
		t.Errorf("%s: consensus: %v", what, err)
	}
}

// consensusFlags are the script rules of a block on today's networks.
const consensusFlags = txscript.ScriptBip16 | txscript.ScriptVerifyDERSignatures | txscript.ScriptVerifyCheckLockTimeVerify |
	txscript.ScriptVerifyCheckSequenceVerify | txscript.ScriptVerifyWitness | txscript.ScriptStrictMultiSig | txscript.ScriptVerifyTaproot

// execute runs the consensus scripts of input n alone, as a block does, for the
// cases that are too many for blocks.
func execute(tx *btcwire.MsgTx, n int, prev txscript.PrevOutputFetcher) error {
	out := prev.FetchPrevOutput(tx.TxIn[n].PreviousOutPoint)
	e, err := txscript.NewEngine(out.PkScript, tx, n, consensusFlags, nil, txscript.NewTxSigHashes(tx, prev), out.Value, prev)
	if err != nil {
		return err
	}
	return e.Execute()
}

// signScript is key's signature of input n by leaf script.
func signScript(t testing.TB, tx *btcwire.MsgTx, n int, prev txscript.PrevOutputFetcher, script []byte, hashType txscript.SigHashType, key wire.Secret) []byte {
	t.Helper()
	k, err := key.PrivKey()
	if err != nil {
		t.Fatal(err)
	}
	out := prev.FetchPrevOutput(tx.TxIn[n].PreviousOutPoint)
	sig, err := txscript.RawTxInTapscriptSignature(tx, txscript.NewTxSigHashes(tx, prev), n, out.Value, out.PkScript,
		txscript.NewBaseTapLeaf(script), hashType, k)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func weightOf(tx *btcwire.MsgTx) int64 { return blockchain.GetTransactionWeight(btcutil.NewTx(tx)) }

// outpoint is a made-up outpoint.
func outpoint(n int) wire.Outpoint {
	return wire.Outpoint{Txid: wire.Hash(secret("outpoint %d", n)), Vout: uint32(n)}
}

func clone(b []byte) []byte { return bytes.Clone(b) }
