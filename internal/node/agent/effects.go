package agent

import (
	"context"
	"fmt"

	"github.com/bitgram/bitgram/internal/batch"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node/disk"
	"github.com/bitgram/bitgram/internal/node/share"
	"github.com/bitgram/bitgram/wire"
)

// maxClaims keeps a claim transaction well under the 400,000 weight units that
// nodes relay.
const maxClaims = 250

// claiming says how claims share transactions. A deal in one-of-many claims
// alone, so that a sibling that wins its output does not affect others.
func claiming(cfg *Config) *share.Sharing[deal.Agent, contract.Claim] {
	return &share.Sharing[deal.Agent, contract.Claim]{Engine: cfg.Engine, Coins: cfg.Coins, Log: cfg.Log,
		Kind: deal.KindAgent, Limit: maxClaims, Bucket: "agent/claimable",
		Sent: func(a *deal.Agent) *contract.Sent { return a.Claim },
		Solo: func(a *deal.Agent) bool { return a.Quote.Shape != wire.PerAgent },
		Spent: func(a *deal.Agent) *contract.Fact {
			if a.Spend == nil {
				return nil
			}
			return &a.Spend.Fact
		},
		Worth: func(a *deal.Agent) (wire.Sat, int64) {
			return a.Value, contract.ClaimInputWeight(a.Index, len(a.Package.Frozen.Claims))
		},
		Open:   (*deal.Agent).Claimable,
		Ready:  func(a *deal.Agent) bool { return a.Claimable() && a.Tip >= a.NextTry },
		Build:  contract.BuildClaim,
		Built:  func(s contract.Sent, b bool) engine.Event { return deal.ClaimBuilt{Sent: s, Broadcast: b} },
		Failed: func(why error) engine.Event { return deal.ClaimFailed{Why: why.Error(), Pause: share.Paused(why)} },
		Told: func(a share.Answer) engine.Event {
			return deal.Broadcasted{Err: a.Err, Txid: a.Txid, TooLow: a.TooLow, Own: a.Own}
		},
	}
}

// claimOf is a deal's input of a claim.
func claimOf(m *share.Member[deal.Agent]) (contract.Claim, batch.Member, error) {
	s := &m.State
	out, err := contract.NewOutput(s.Package.Frozen)
	if err != nil {
		return contract.Claim{}, batch.Member{}, err
	}
	b := batch.Member{At: s.At, Value: s.Value, Weight: contract.ClaimInputWeight(s.Index, len(s.Package.Frozen.Claims))}
	b.From, b.To = share.Window(s.Quote.Expiry, s.Margins.Bump, 0)
	return contract.Claim{Output: out, Index: s.Index, At: s.At, Value: s.Value, PreSig: s.Package.PreSig,
		Sigma: *s.Sigma, Tau: s.Tau, ClaimKey: s.ClaimKey}, b, nil
}

// executor carries out the effects of the agent's machine.
type executor struct{ *Agent }

// Commit implements engine.Executor. No effect of an agent needs only the
// store.
func (executor) Commit(engine.Tx, engine.Ref, engine.Effect) ([]engine.Delivery, bool, error) {
	return nil, false, nil
}

// Do implements engine.Executor.
func (x executor) Do(ctx context.Context, ref engine.Ref, e engine.Effect) (func(engine.Tx) ([]engine.Delivery, error), error) {
	switch e := e.(type) {
	case deal.ClaimDue:
		return func(tx engine.Tx) ([]engine.Delivery, error) { return x.claims.Due(tx, ref, claimOf) }, nil
	case deal.DropPayload:
		return func(tx engine.Tx) ([]engine.Delivery, error) { return nil, unlist(tx, ref, e) }, disk.Remove(x.cfg.Files.Path(dirCopies, ref.ID, ""))
	case deal.Broadcast:
		return x.claims.Broadcast(ctx, x.cfg.Coins, ref, e.Tx)
	}
	return nil, fmt.Errorf("no way to carry out %T", e)
}

// unlist removes a dropped copy from the index.
func unlist(tx engine.Tx, ref engine.Ref, drop deal.DropPayload) error {
	if err := tx.Delete(bucketCopies, ref.ID[:]); err != nil {
		return err
	}
	return tx.Delete(bucketFind, append(drop.Find[:], ref.ID[:]...))
}
