package delivery

import (
	"errors"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// Connect implements engine.Follower: it finds the user's messages in a block.
func (d *Delivery) Connect(tx engine.Tx, b *engine.Block) (found []engine.Creation, err error) {
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
		sec, ok := d.scanner.Match(m.E, seal.Outpoint(at.Bytes()), m.Tag)
		if !ok {
			continue
		}
		state, effects := deal.NewRecipient(d.cfg.Self, sec, m, t, b.Ref.Height, d.cfg.Margins)
		ref := recipientRef(state.Txid)
		if _, err := tx.State(ref); !errors.Is(err, engine.ErrNoContract) {
			continue // known from before a reorg
		}
		found = append(found, engine.Creation{Ref: ref, State: state, Effects: engine.EffectsOf(effects)})
	}
	return found, nil
}

// Disconnect implements engine.Follower. The engine tells the contracts of it.
func (d *Delivery) Disconnect(engine.Tx, wire.Height) error { return nil }
