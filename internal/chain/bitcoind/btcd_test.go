package bitcoind

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/testing/conform"
	"github.com/bitgram/bitgram/internal/testing/ports"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

// btcdProgram is btcd, built at the version that go.mod names as a tool.
var btcdProgram = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "tool", "-n", "btcd").Output()
	return strings.TrimSpace(string(out)), err
})

// btcd is a process on regtest with no peers, which hears on loopback only.
// Its blocks pay to conform's key.
type btcd struct {
	t      *testing.T
	client *Client
	spent  wire.Height // up to there, coinbases are spent
}

const btcdUser, btcdPassword = "me", "hunter2"

func startBtcd(t *testing.T, secure bool) (b *btcd, cfg Config) {
	t.Helper()
	program, err := btcdProgram()
	conform.Must(t, err)
	dir := t.TempDir()
	own := func(name string) string { return filepath.Join(dir, name) }
	conform.Must(t, os.WriteFile(own("conf"), nil, 0o600))
	at := fmt.Sprintf("127.0.0.1:%d", ports.Free(t))
	args := []string{"--regtest", "--nolisten", "--nodnsseed", "--nocfilters", "--rejectnonstd", "--debuglevel=error",
		"--configfile", own("conf"), "--datadir", own("data"), "--logdir", own("log"), "--rpccert", own("rpc.cert"), "--rpckey", own("rpc.key"),
		"--rpclisten", at, "--rpcuser", btcdUser, "--rpcpass", btcdPassword, "--miningaddr", minerAddress(t)}
	cfg = Config{URL: "http://" + at, User: btcdUser, Password: btcdPassword}
	if secure {
		cfg.URL, cfg.CACert = "https://"+at, own("rpc.cert")
	} else {
		args = append(args, "--notls")
	}
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "HOME="+dir)
	startProcess(t, cmd, func() bool {
		conn, err := net.Dial("tcp", at)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	b = &btcd{t: t, client: newClient(t, cfg)}
	conform.Must(t, b.client.Health(t.Context()))
	return b, cfg
}

// startProcess starts a node, which is killed when the test ends, and waits until it is up.
func startProcess(t *testing.T, cmd *exec.Cmd, up func() bool) {
	t.Helper()
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	conform.Must(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	for deadline := time.After(5 * time.Minute); !up(); {
		select {
		case <-ended:
			t.Fatalf("the node ended: %s", said.String())
		case <-deadline:
			t.Fatal("the node does not answer")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// minerAddress is of conform's key, to which all blocks pay.
func minerAddress(t *testing.T) string {
	t.Helper()
	to, err := address.NewAddressTaproot(schnorr.SerializePubKey(txscript.ComputeTaprootKeyNoScript(conform.Key.PubKey())), &chaincfg.RegressionNetParams)
	conform.Must(t, err)
	return to.EncodeAddress()
}

func (b *btcd) mine(n int) {
	b.t.Helper()
	var hashes []string
	conform.Must(b.t, b.client.call(b.t.Context(), &hashes, "generate", n))
}

// fund pays from the oldest coinbase that is not spent.
func (b *btcd) fund(script []byte, amount wire.Sat) wire.Outpoint {
	b.t.Helper()
	ctx := b.t.Context()
	b.spent++
	ref, err := b.client.Tip(ctx)
	conform.Must(b.t, err)
	if mature := wire.Height(b.client.params.CoinbaseMaturity) + b.spent; ref.Height < mature {
		b.mine(int(mature-ref.Height) + 10) // and for ten more
	}
	hash, err := b.client.HashAt(ctx, b.spent)
	conform.Must(b.t, err)
	block, _, err := b.client.Block(ctx, hash)
	conform.Must(b.t, err)
	coinbase := block.Transactions[0]
	tx := btcwire.NewMsgTx(2)
	tx.AddTxIn(&btcwire.TxIn{PreviousOutPoint: btcwire.OutPoint{Hash: coinbase.TxHash()}, Sequence: 0xffffffff})
	value := wire.Sat(coinbase.TxOut[0].Value)
	tx.AddTxOut(btcwire.NewTxOut(int64(amount), script))
	tx.AddTxOut(btcwire.NewTxOut(int64(value-amount-1000), conform.KeyScript(b.t)))
	conform.SignInput(b.t, tx, value)
	conform.Must(b.t, b.client.Broadcast(ctx, tx))
	return wire.Outpoint{Txid: wire.Hash(tx.TxHash())}
}

// reorg takes the last depth blocks for invalid and mines one more. What they
// held is in the mempool meanwhile.
func (b *btcd) reorg(depth int) {
	b.t.Helper()
	b.invalidate(depth)
	b.mine(depth + 1)
}

func (b *btcd) invalidate(depth int) {
	b.t.Helper()
	ctx := b.t.Context()
	ref, err := b.client.Tip(ctx)
	conform.Must(b.t, err)
	first, err := b.client.HashAt(ctx, ref.Height+1-wire.Height(depth))
	conform.Must(b.t, err)
	conform.Must(b.t, b.client.call(ctx, nil, "invalidateblock", first.String()))
}

func TestConformanceBtcd(t *testing.T) {
	tier.NotShort(t)
	parts := tier.Pick(nil, []string{"Reorg"}, nil) // a process for each
	conform.Backend(t, func(t *testing.T) *conform.ChainHarness {
		b, _ := startBtcd(t, false)
		return &conform.ChainHarness{
			Backend: b.client,
			Mine:    b.mine,
			Fund:    b.fund,
			Reorg:   b.reorg,
			Close:   func() { b.client.Close() },
		}
	}, parts...)
}

// TestBtcdSecure: TLS with the certificate that btcd makes for itself, and
// what it says to strangers.
func TestBtcdSecure(t *testing.T) {
	tier.NotShort(t)
	b, cfg := startBtcd(t, true)
	b.mine(1)
	if ref, err := b.client.Tip(t.Context()); err != nil || ref.Height != 1 {
		t.Errorf("tip %v, %v", ref, err)
	}
	unknown, wrong := cfg, cfg
	unknown.CACert = ""
	conform.WantErr(t, newClient(t, unknown).Health(t.Context()), chain.ErrUnavailable)
	wrong.Password = "hunter3"
	conform.WantErr(t, newClient(t, wrong).Health(t.Context()), chain.ErrCredentials)
	plain := cfg
	plain.URL = strings.Replace(cfg.URL, "https", "http", 1)
	conform.WantErr(t, newClient(t, plain).Health(t.Context()), chain.ErrUnavailable)
	other := cfg
	other.Network = wire.Signet
	conform.WantErr(t, newClient(t, other).Health(t.Context()), chain.ErrWrongNetwork)
	_, _, err := b.client.Block(t.Context(), chainhash.Hash{1})
	conform.WantErr(t, err, chain.ErrNotFound)
}
