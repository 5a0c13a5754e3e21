package bitcoind

import (
	"context"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
)

const (
	// lookTimeout limits one poll of the tip.
	lookTimeout = 15 * time.Second
	// breath is the minimum time between two polls triggered by a publisher.
	breath = 20 * time.Millisecond
	// slowPoll is the polling interval beside a ZMQ publisher that works.
	slowPoll = 30 * time.Second
)

// Watch implements chain.Backend. The first watcher starts the polling, which
// continues until Close.
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

// saw notifies the watchers if tip differs from the last one seen, and reports
// whether it does.
func (c *Client) saw(tip chainhash.Hash) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if tip == c.tip {
		return false
	}
	c.tip = tip
	c.tell()
	return true
}

// tell notifies the watchers. c.mu is held.
func (c *Client) tell() {
	for ch := range c.subs {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// follow polls the tip until Close, even if the node fails. Watchers are
// notified when the node fails and when it recovers.
func (c *Client) follow() {
	t := time.NewTicker(c.poll)
	defer t.Stop()
	down, poked := false, false
	var seen hash        // the last tip
	var looked time.Time // when the last poll that found it began

	for {
		ctx, cancel := context.WithTimeout(c.life, lookTimeout)
		var tip hash
		began := time.Now()
		err := c.ask(ctx, &tip, "getbestblockhash")
		cancel()
		switch {
		case c.life.Err() != nil:
			return
		case err != nil && !down:
			c.log.Warn("cannot poll the Bitcoin node", "err", err)
		case err == nil && down:
			c.log.Info("the Bitcoin node is back")
		}
		if err == nil {
			c.saw(chainhash.Hash(tip))
			if seen != (hash{}) && tip != seen {
				if !poked {
					c.published.Store(false) // this block was not published
				}
				c.missed(looked)
			}
			seen, looked = tip, began
		}
		poked = false
		last := time.Now()
		if down != (err != nil) {
			down = !down
			c.mu.Lock()
			c.tell()
			c.mu.Unlock()
		}
		for wait := true; wait; {
			select {
			case <-t.C:
				wait = err == nil && c.published.Load() && time.Since(last) < slowPoll
			case <-c.poke:
				c.sleep(breath)
				wait, poked = false, true
			case <-c.life.Done():
				return
			}
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
