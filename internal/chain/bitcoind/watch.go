package bitcoind

import (
	"context"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
)

const (
	// lookTimeout bounds one look at the tip.
	lookTimeout = 15 * time.Second
	// breath is the least time between two looks that a publisher asks for.
	breath = 20 * time.Millisecond
)

// Watch implements chain.Backend. The first watcher starts the polling, which
// goes on, whatever the node does, until Close.
func (c *Client) Watch(ctx context.Context) <-chan struct{} {
	ch := make(chan struct{}, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		close(ch)
		return ch
	}
	c.subs[ch] = true
	if !c.following {
		c.following = true
		c.running.Go(c.follow)
		c.running.Go(c.listen)
	}
	c.running.Go(func() {
		select {
		case <-ctx.Done():
		case <-c.life.Done():
		}
		c.mu.Lock()
		delete(c.subs, ch)
		close(ch)
		c.mu.Unlock()
	})
	return ch
}

// saw tells whoever watches where tip is another one than that last seen.
func (c *Client) saw(tip chainhash.Hash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if tip != c.tip {
		c.tip = tip
		c.tell()
	}
}

// tell has whoever watches look at the node. c.mu is held.
func (c *Client) tell() {
	for ch := range c.subs {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// follow looks at the tip until Close. A node that fails is looked at again; who
// watches is told that it is gone, and that it is back.
func (c *Client) follow() {
	t := time.NewTicker(c.poll)
	defer t.Stop()
	down := false
	for {
		ctx, cancel := context.WithTimeout(c.life, lookTimeout)
		var tip hash
		err := c.ask(ctx, &tip, "getbestblockhash")
		cancel()
		switch {
		case c.life.Err() != nil:
			return
		case err != nil && !down:
			c.log.Warn("no news from the Bitcoin node", "err", err)
		case err == nil && down:
			c.log.Info("the Bitcoin node is back")
		}
		if err == nil {
			c.saw(chainhash.Hash(tip))
		}
		if down != (err != nil) {
			down = !down
			c.mu.Lock()
			c.tell()
			c.mu.Unlock()
		}
		select {
		case <-t.C:
		case <-c.poke:
			c.sleep(breath)
		case <-c.life.Done():
			return
		}
	}
}

// sleep reports whether d passed before Close.
func (c *Client) sleep(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-c.life.Done():
		return false
	}
}
