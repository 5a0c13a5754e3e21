package soak

import (
	"context"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

// penniesKilled kills payee and payer in the middle of streams of pennies: what
// was acknowledged is there, what was ordered arrives, nothing is paid twice, and
// both sides close at the very penny.
func penniesKilled(t *testing.T) {
	t.Parallel()
	w := newTown(t, 4, 300*time.Millisecond, 1, "alice")
	agent, alice := w.agents[0], w.users[0]
	agent.args = append(agent.args, "--bank")
	w.up()
	w.fund(alice, 1, 1_000_000)
	const value, pennies = wire.Sat(500_000), 1_000_000
	ctx := t.Context()
	bankOf := func(p *party, id string, done func(api.Bank) bool) (b api.Bank) {
		t.Helper()
		for end := time.Now().Add(busy * time.Minute); ; time.Sleep(50 * time.Millisecond) {
			c, err := p.dial()
			if err == nil {
				if b, err = c.Bank(ctx, id); err == nil && done(b) {
					return b
				}
			}
			if time.Now().After(end) {
				t.Fatalf("%s's bank: %+v, %v", p.name, b, err)
			}
		}
	}
	c, err := alice.dial()
	must(t, err)
	b, err := c.OpenBank(ctx, api.Opening{Peer: agent.keys.Address + "@" + agent.listen(), Value: value, Rungs: 126, Pennies: pennies, Days: 200, MaxFee: 10_000})
	must(t, err)
	id := b.ID
	b = bankOf(alice, id, func(b api.Bank) bool { return b.State == bank.StateOpen })
	bankOf(agent, id, func(b api.Bank) bool { return b.State == bank.StateOpen })
	ordered := uint32(0)
	for round := range tier.Pick(0, 2, 6) {
		victim := agent
		if round%2 == 1 {
			victim = alice
		}
		paying, stop := context.WithCancel(ctx)
		acked := make(chan uint32, 1)
		go func() {
			last := uint32(0)
			for paying.Err() == nil {
				c, err := alice.dial()
				if err != nil {
					break
				}
				b, err := c.PayPennies(paying, id, api.PennyPaying{Pennies: 500, Each: true})
				if err != nil {
					break // somebody was killed
				}
				last = b.Acked
			}
			acked <- last
		}()
		time.Sleep(time.Duration(200+w.rand.IntN(500)) * time.Millisecond)
		victim.kill()
		stop()
		least := <-acked
		victim.start()
		held := bankOf(agent, id, func(api.Bank) bool { return true })
		if held.Paid < least {
			t.Errorf("round %d: %d pennies were acknowledged, and the payee holds %d", round, least, held.Paid)
		}
		// What was ordered goes on by itself.
		b = bankOf(alice, id, func(b api.Bank) bool { return b.Acked == b.Paid })
		held = bankOf(agent, id, func(b api.Bank) bool { return b.Paid >= least })
		if held.Paid != b.Paid || b.Paid < ordered {
			t.Errorf("round %d: the payer counts %d, the payee %d", round, b.Paid, held.Paid)
		}
		t.Logf("round %d: %s killed at %d acknowledged; %d of %d pennies paid", round, victim.name, least, b.Paid, b.Pennies)
		ordered = b.Paid
	}
	c, err = alice.dial()
	must(t, err)
	_, err = c.CloseBank(ctx, id)
	must(t, err)
	end := bankOf(alice, id, func(b api.Bank) bool { return b.State == bank.StateClosed })
	if want := value - b.PaidMsat.Whole(); end.Stopped.Payer != want {
		t.Errorf("the payer gets %v back, not %v", end.Stopped.Payer, want)
	}
	for _, p := range w.parties() {
		p.stop(5 * time.Second)
	}
}
