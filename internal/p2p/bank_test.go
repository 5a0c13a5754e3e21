package p2p

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/bitgram/bitgram/wire"
)

// slowTill refuses while the next penny is being checked.
type slowTill struct{}

func (slowTill) State() *wire.BankState { return &wire.BankState{} }

func (slowTill) Check(list []byte) error {
	if list[2] == 2 {
		time.Sleep(300 * time.Millisecond)
	}
	return nil
}

func (slowTill) Keep(context.Context) (uint32, error) {
	time.Sleep(100 * time.Millisecond)
	return 0, wire.Refuse(wire.Closed, "a penny does not open its rung's lock")
}

type slowBanks struct{ Banks }

func (slowBanks) Till(context.Context, wire.Hash) (Till, error) { return slowTill{}, nil }

// TestPenniesRefused: a refusal reaches the payer at once, whatever the payee reads
// meanwhile.
func TestPenniesRefused(t *testing.T) { inWorld(t, penniesRefused) }

func penniesRefused(t world) {
	id := wire.Secret{31: 7}
	h, c := newHost(t, Config{Identity: id, Listen: []string{overTCP}, Banks: slowBanks{}}), newHost(t, Config{})
	err := c.Pennies(t.Context(), wire.Peer{Key: keyOf(id), Addrs: h.Addrs()}, wire.Hash{1}, func(s *PennyStream) error {
		for i := byte(1); i <= 2; i++ {
			p := make([]byte, wire.EncodedPenny)
			p[2] = i
			if err := s.Send(&wire.Pennies{List: p}); err != nil {
				return err
			}
		}
		_, err := s.Receive()
		return err
	})
	var refused *Refused
	if !errors.As(err, &refused) || refused.Code != wire.Closed {
		t.Error(err)
	}
}
