package wire_test

import (
	"errors"
	"testing"

	"github.com/bitgram/bitgram/wire"
)

func signed(secret byte, digest wire.Hash) wire.Signature {
	sig, err := wire.Sign(wire.Secret{31: secret + 1}, digest)
	if err != nil {
		panic(err)
	}
	return sig
}

// TestAdvertisementVerify requires the agent's own signature, for this network,
// neither expired nor valid for too long.
func TestAdvertisementVerify(t *testing.T) {
	const now = 1_800_000_000
	make := func(expires int64) *wire.Advertisement {
		a := minAdvertisement()
		a.Record.Expires = expires
		a.Sig = signed(1, a.Digest(wire.Regtest))
		return a
	}
	for expires, ok := range map[int64]bool{now: false, now - 1: false, now + 1: true, now + wire.MaxRecordLife: true, now + wire.MaxRecordLife + 1: false, 1<<63 - 1: false} {
		if err := make(expires).Verify(wire.Regtest, now); (err == nil) != ok || err != nil && !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("expires at now%+d: %v", expires-now, err)
		}
	}
	good := make(now + 60)
	if good.Verify(wire.Mainnet, now) == nil {
		t.Error("an advertisement of another network")
	}
	for name, f := range map[string]func(*wire.Advertisement){
		"agent":    func(a *wire.Advertisement) { a.Agent = key(2) },
		"services": func(a *wire.Advertisement) { a.Services++ },
		"rate":     func(a *wire.Advertisement) { a.Rate++ },
		"size":     func(a *wire.Advertisement) { a.Limits.Size++ },
		"blocks":   func(a *wire.Advertisement) { a.Limits.Blocks++ },
		"seq":      func(a *wire.Advertisement) { a.Record.Seq++ },
		"expiry":   func(a *wire.Advertisement) { a.Record.Expires++ },
		"address":  func(a *wire.Advertisement) { a.Record.Addrs = []string{"b"} },
		"sig":      func(a *wire.Advertisement) { a.Sig[40] ^= 1 },
	} {
		a := *good
		f(&a)
		if err := a.Verify(wire.Regtest, now); !errors.Is(err, wire.ErrBadSignature) {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

// TestHoldingVerify requires the owner's grant and the agent's signature.
func TestHoldingVerify(t *testing.T) {
	const now = 1_800_000_000
	make := func() *wire.Holding {
		h := &wire.Holding{Grant: wire.Grant{Owner: key(1), Agent: key(2)}, Record: wire.Record{Seq: 1, Expires: now + 60, Addrs: []string{"a"}}}
		h.Grant.Sig = signed(1, h.Grant.Digest())
		h.Sig = signed(2, h.Digest(wire.Regtest))
		return h
	}
	if err := make().Verify(wire.Regtest, now); err != nil {
		t.Error(err)
	}
	for name, f := range map[string]func(*wire.Holding){
		"network": func(h *wire.Holding) { h.Sig = signed(2, h.Digest(wire.Signet)) },
		"expiry":  func(h *wire.Holding) { h.Record.Expires = now; h.Sig = signed(2, h.Digest(wire.Regtest)) },
		"seq":     func(h *wire.Holding) { h.Record.Seq++ },
		// Another agent without a grant, and a grant by another owner.
		"agent": func(h *wire.Holding) { h.Grant.Agent = key(3); h.Sig = signed(3, h.Digest(wire.Regtest)) },
		"owner": func(h *wire.Holding) {
			h.Grant.Sig = signed(4, h.Grant.Digest())
			h.Sig = signed(2, h.Digest(wire.Regtest))
		},
	} {
		h := make()
		f(h)
		if err := h.Verify(wire.Regtest, now); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("another %s: %v", name, err)
		}
	}
}
