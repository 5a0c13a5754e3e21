package coins

import (
	"context"
	"time"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/wire"
)

// rateWait limits how long a payment waits for the rate of the moment.
const rateWait = 5 * time.Second

// FeeRate returns the node's estimate at the moment. If the node does not answer
// in time, it returns the estimate as of the last block.
func (c *Coins) FeeRate(ctx context.Context) wire.SatPerKVB {
	within, cancel := context.WithTimeout(ctx, rateWait)
	defer cancel()
	rate, err := chain.Estimate(within, c.chain)
	if err != nil {
		c.log.Debug("no fee rate of the moment", "err", err)
		return c.engine.FeeRate()
	}
	c.mu.Lock()
	c.rate, c.rateAt = rate, c.engine.Position()
	c.mu.Unlock()
	return rate
}

// lastRate returns the latest known estimate, inside a transaction: the one that
// FeeRate returned since the last block, or the one as of that block.
func (c *Coins) lastRate() wire.SatPerKVB {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rate > 0 && c.rateAt == c.engine.Position() {
		return c.rate
	}
	return c.engine.FeeRate()
}

// increment returns what a replacement must add for its own size, as the node
// states it, or what any release of Bitcoin Core asks.
func (c *Coins) increment(ctx context.Context) wire.SatPerKVB {
	within, cancel := context.WithTimeout(ctx, rateWait)
	defer cancel()
	fees, err := c.chain.Fees(within)
	if err != nil || fees.Increment <= 0 {
		return defaultIncrement
	}
	return fees.Increment
}

// least returns the minimum rate that the node accepts now, or 0 if that is not
// known.
func (c *Coins) least(ctx context.Context) wire.SatPerKVB {
	within, cancel := context.WithTimeout(ctx, rateWait)
	defer cancel()
	fees, err := c.chain.Fees(within)
	if err != nil {
		return 0
	}
	return fees.Least()
}

const defaultIncrement wire.SatPerKVB = 1000
