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
func TestPenniesRefused(t *testing.T) {
	id := wire.Secret{31: 7}
	h, err := New(Config{Identity: id, Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Banks: slowBanks{}})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	c, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	priv, err := id.PrivKey()
	if err != nil {
		t.Fatal(err)
	}
	err = c.Pennies(t.Context(), wire.Peer{Key: wire.XOnly(priv.PubKey()), Addrs: h.Addrs()}, wire.Hash{1}, func(s *PennyStream) error {
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
