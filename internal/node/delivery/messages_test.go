package delivery

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/store"
	"github.com/bitgram/bitgram/wire"
)

// TestFind: an ID that was sent and received is found as what was asked for, and
// of two received ones the one that was read: whoever repeats a key hides nothing.
func TestFind(t *testing.T) {
	st, err := store.Open(filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	n := &Delivery{cfg: Config{Store: st}}
	mine, other := wire.MessageKey{0xaa, 1}, wire.MessageKey{0xaa, 1, 2}
	sender := func(k wire.MessageKey) any { return deal.Sender{Terms: deal.Terms{Key: k}} }
	received := func(k wire.MessageKey, p deal.RecipientPhase) any { return deal.Recipient{Key: k, Phase: p} }
	if err := st.Update(t.Context(), func(tx engine.Tx) error {
		for i, s := range []any{received(mine, deal.RecipientFound), received(mine, deal.RecipientRead), sender(mine), received(mine, deal.RecipientLost), received(other, deal.RecipientRead)} {
			kind := engine.Kind(deal.KindRecipient)
			if i == 2 {
				kind = deal.KindSender
			}
			raw, err := wire.Marshal(s)
			if err != nil {
				return err
			}
			if err := tx.Save(engine.Ref{Kind: kind, ID: wire.Hash{byte(i)}}, raw, contract.Interest{}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		id    string
		kinds []engine.Kind
		want  byte
		err   error
	}{
		{mine.ID().String(), []engine.Kind{deal.KindSender, deal.KindRecipient}, 2, nil},
		{mine.ID().String(), []engine.Kind{deal.KindRecipient, deal.KindSender}, 1, nil},
		{mine.ID().String(), []engine.Kind{deal.KindSender}, 2, nil},
		{other.ID().String()[:6], []engine.Kind{deal.KindSender, deal.KindRecipient}, 4, nil},
		{"AA01", []engine.Kind{deal.KindSender, deal.KindRecipient}, 0, engine.ErrAmbiguous},
		{other.ID().String(), []engine.Kind{deal.KindSender}, 0, ErrNoMessage},
		{"aa0", []engine.Kind{deal.KindSender}, 0, ErrNoMessage},
		{"abcd", []engine.Kind{deal.KindSender, deal.KindRecipient}, 0, ErrNoMessage},
	} {
		ref, _, err := n.Find(t.Context(), c.id, c.kinds...)
		if !errors.Is(err, c.err) || err == nil && ref.ID[0] != c.want {
			t.Errorf("%s as %v: contract %d, %v", c.id, c.kinds, ref.ID[0], err)
		}
	}
}
