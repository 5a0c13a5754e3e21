package bitcoind

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/chain"
)

// Advise implements chain.Adviser.
func (c *Client) Advise(ctx context.Context) (list []error) {
	for _, err := range []error{c.relaysData(ctx), c.publishes(ctx)} {
		if err != nil {
			list = append(list, err)
		}
	}
	return list
}

// relaysData returns chain.ErrNoData if the node refuses a transaction with an
// OP_RETURN output of chain.DataScript bytes. It asks about one whose input nobody
// has: Bitcoin Core tests the outputs before the inputs. It is never broadcast.
func (c *Client) relaysData(ctx context.Context) error {
	script, err := txscript.NullDataScript(make([]byte, chain.DataScript-3)) // OP_RETURN OP_PUSHDATA1 size
	if err != nil {
		return err
	}
	probe := btcwire.NewMsgTx(2)
	probe.AddTxIn(btcwire.NewTxIn(btcwire.NewOutPoint((*chainhash.Hash)(bytes.Repeat([]byte{1}, chainhash.HashSize)), 0), nil, nil))
	probe.AddTxOut(btcwire.NewTxOut(0, script))
	var b bytes.Buffer
	if err := probe.Serialize(&b); err != nil {
		return err
	}
	var says []struct {
		Reason string `json:"reject-reason"`
	}
	if err := c.ask(ctx, &says, "testmempoolaccept", []string{hex.EncodeToString(b.Bytes())}); err != nil || len(says) != 1 {
		return nil
	}
	return dataRefusal(probe, &Error{Method: "testmempoolaccept", Code: codeRejected, Message: clean(says[0].Reason)})
}

// dataRefusal returns chain.ErrNoData if the node refuses a transaction because of
// its OP_RETURN output, or nil.
func dataRefusal(tx *btcwire.MsgTx, why *Error) error {
	for _, out := range tx.TxOut {
		if len(out.PkScript) > 0 && out.PkScript[0] == txscript.OP_RETURN && why.said(saidData) {
			return fmt.Errorf("%w: %s", chain.ErrNoData, why.Message)
		}
	}
	return nil
}

// withData returns the more exact reason of a refusal, if there is one.
func withData(tx *btcwire.MsgTx, err error) error {
	if errors.Is(err, chain.ErrRejected) {
		if data := dataRefusal(tx, &Error{Message: err.Error()}); data != nil {
			return data
		}
	}
	return err
}

// zmqState is what is known of the configured publisher.
type zmqState struct {
	mu     sync.Mutex
	since  time.Time // when it was connected; zero: it is not
	err    error     // why it is not connected
	heard  time.Time // when it last published a block
	silent bool      // a block came that it did not publish
}

// zmqGrace is how much later than a poll a block may be published.
const zmqGrace = 2 * time.Second

// connects records that the publisher is connected.
func (z *zmqState) connects() {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.since, z.err = time.Now(), nil
}

// fails records why it is not.
func (z *zmqState) fails(why error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.since, z.err = time.Time{}, why
}

// hears records a publication.
func (z *zmqState) hears() {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.heard, z.silent = time.Now(), false
}

// missed is called when a block was found. since is when the last poll began that
// was answered without it; the block is published after that. The publisher is
// silent if it has been connected since before, and has not published anything soon
// after the block was found.
func (c *Client) missed(since time.Time) {
	z := &c.zmqState
	z.mu.Lock()
	watch := !z.since.IsZero() && z.since.Before(since) && !z.silent
	z.mu.Unlock()
	if !watch {
		return
	}
	c.running.Go(func() {
		if !c.sleep(c.grace) {
			return
		}
		z.mu.Lock()
		silent := !z.since.IsZero() && z.since.Before(since) && z.heard.Before(since) && !z.silent
		z.silent = z.silent || silent
		z.mu.Unlock()
		if silent && c.zmq != "" {
			c.log.Warn("the ZMQ publisher did not publish a block; blocks are noticed by polling", "addr", c.zmq, "check", "zmqpubhashblock in the node's configuration")
		}
	})
}

// publishes returns chain.ErrZMQ if a publisher is configured that publishes no
// blocks, as far as is known: it cannot be reached, was silent when a block came,
// or has published nothing yet and the node says that it publishes no blocks.
func (c *Client) publishes(ctx context.Context) error {
	if c.zmq == "" {
		return nil
	}
	z := &c.zmqState
	z.mu.Lock()
	err, silent, heard := z.err, z.silent, !z.heard.IsZero()
	z.mu.Unlock()
	switch {
	case err != nil:
		return fmt.Errorf("%w: %s: %w", chain.ErrZMQ, c.zmq, err)
	case silent:
		return fmt.Errorf("%w: %s: a block came that was not published", chain.ErrZMQ, c.zmq)
	case heard:
		return nil
	}
	var offers []struct{ Type string }
	if c.ask(ctx, &offers, "getzmqnotifications") != nil { // not in btcd
		return nil
	}
	for _, o := range offers {
		if o.Type == "pub"+zmqTopic {
			return nil
		}
	}
	return fmt.Errorf("%w: %s: the node says that it has no zmqpubhashblock", chain.ErrZMQ, c.zmq)
}
