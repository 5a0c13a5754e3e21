package node

import (
	"errors"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// follower keeps the wallet's coins and finds the own messages on the chain.
type follower Node

// Connect implements engine.Follower.
func (f *follower) Connect(tx engine.Tx, b *engine.Block) (found []engine.Creation, err error) {
	if err := f.wallet.Connect(tx, b.Txs, b.Ref.Height); err != nil {
		return nil, err
	}
	for _, t := range b.Txs {
		data, ok := contract.Marker(t)
		if !ok {
			continue
		}
		m, err := seal.DecodeMarker(data)
		if err != nil {
			continue // some other bitgram, or noise
		}
		at := contract.OutpointOf(t.TxIn[0].PreviousOutPoint)
		sec, ok := f.scanner.Match(m.E, seal.Outpoint(at.Bytes()), m.Tag)
		if !ok {
			continue
		}
		state, effects := deal.NewRecipient(f.self, sec, m, t, b.Ref.Height, f.margins)
		ref := recipientRef(state.Txid)
		if _, err := tx.State(ref); !errors.Is(err, engine.ErrNoContract) {
			continue // known from before a reorg
		}
		found = append(found, engine.Creation{Ref: ref, State: state, Effects: engine.EffectsOf(effects)})
	}
	return found, nil
}

// Disconnect implements engine.Follower.
func (f *follower) Disconnect(tx engine.Tx, height wire.Height) error {
	return f.wallet.Disconnect(tx, height)
}

// recipientRef names a received message by its funding: one marker each.
func recipientRef(txid wire.Hash) engine.Ref {
	return engine.Ref{Kind: deal.KindRecipient, ID: txid}
}

func senderRef(k wire.MessageKey) engine.Ref {
	return engine.Ref{Kind: deal.KindSender, ID: wire.Hash(k)}
}

func agentRef(point wire.Key) engine.Ref {
	return engine.Ref{Kind: deal.KindAgent, ID: wire.Hash(point)}
}
