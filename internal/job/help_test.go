package job

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"testing"

	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func secretOf(format string, a ...any) wire.Secret {
	return wire.Secret(sha256.Sum256(fmt.Appendf(nil, format, a...)))
}

func keyOf(t testing.TB, s wire.Secret) wire.Key {
	t.Helper()
	p, err := s.PrivKey()
	must(t, err)
	return wire.XOnly(p.PubKey())
}

// deal is a job with all its secrets.
type deal struct {
	terms  Terms
	buyer  wire.Secret
	keys   []wire.Secret
	purses []*penny.Purse
}

func newDeal(t testing.TB, name string, n, q, th, r int, epochs, window uint32) *deal {
	t.Helper()
	d := &deal{buyer: secretOf("%s buyer", name)}
	d.terms = Terms{Job: wire.Hash(secretOf("%s job", name)), Buyer: keyOf(t, d.buyer), N: uint8(n), Q: uint8(q), T: uint8(th),
		Ahead: 2, Patience: 2, Epochs: epochs, Window: window}
	for i := range n + r {
		key := secretOf("%s key %d", name, i)
		pence := penny.Pence{Chain: penny.Chain{Size: wire.PennySize}, N: epochs + uint32(i)}
		nonce, p0 := secretOf("%s nonce %d", name, i), secretOf("%s p0 %d", name, i)
		copy(pence.Nonce[:], nonce[:])
		copy(pence.P0[:wire.PennySize], p0[:])
		p := Party{Key: keyOf(t, key), Nonce: pence.Nonce, Pennies: pence.N}
		last := pence.Last()
		copy(p.Last[:], last.Secret[:])
		d.terms.Parties = append(d.terms.Parties, p)
		d.keys = append(d.keys, key)
		d.purses = append(d.purses, penny.NewPurse(pence))
	}
	must(t, d.terms.Check())
	return d
}

// secret of a party's penny by its count.
func (d *deal) secret(node uint8, k uint32) (s [wire.PennySize]byte) {
	p := d.purses[node].At(d.terms.Parties[node].Pennies - k).Secret
	copy(s[:], p[:])
	return s
}

func (d *deal) window(t testing.TB, first uint32) []Dealt {
	t.Helper()
	list, err := Deal(&d.terms, d.buyer, secretOf("seed"), first, d.secret)
	must(t, err)
	return list
}

// known is a party's penny of a count.
func (d *deal) known(node uint8, k uint32) penny.Penny {
	if k == 0 {
		return d.terms.first(node)
	}
	return d.terms.penny(k, node, d.secret(node, k))
}

// shares of a penny, of all holders.
func (d *deal) shares(t testing.TB, list []Dealt, node uint8, k uint32) (all []Committed) {
	t.Helper()
	for _, j := range d.terms.others(node) {
		c, err := list[j].Share(&d.terms, node, k)
		must(t, err)
		all = append(all, *c)
	}
	return all
}

// tops are the leaves of the highest tree of what is dealt.
func (d *deal) tops(t testing.TB, list []Dealt) (tops []wire.Hash) {
	t.Helper()
	for j := range list {
		nodes, err := list[j].nodes(&d.terms)
		must(t, err)
		tops = append(tops, holderLeaf(uint8(j), rootOf(t, nodes)))
	}
	return tops
}

func rootOf(t testing.TB, leaves []wire.Hash) wire.Hash {
	t.Helper()
	h, err := seal.Root(leaves)
	must(t, err)
	return h
}

func sectionOf(t testing.TB, leaves []wire.Hash, i int) []wire.Hash {
	t.Helper()
	p, err := seal.Section(leaves, i)
	must(t, err)
	return p
}

// What is signed and verified is remembered, so that many machines that check one
// signature take the time of one. One that was made here needs no check: schnorr.Sign
// has verified it before it returned it.
func init() {
	type signed struct {
		key    wire.Secret
		digest wire.Hash
	}
	type checked struct {
		key    wire.Key
		digest wire.Hash
		sig    wire.Signature
	}
	var mu sync.Mutex
	keys, signs, checks := map[wire.Secret]wire.Key{}, map[signed]wire.Signature{}, map[checked]error{}
	sign = func(key wire.Secret, digest wire.Hash) (wire.Signature, error) {
		k := signed{key, digest}
		mu.Lock()
		s, ok := signs[k]
		pub, known := keys[key]
		mu.Unlock()
		if ok {
			return s, nil
		}
		s, err := wire.Sign(key, digest)
		if err != nil {
			return s, err
		}
		if !known {
			priv, err := key.PrivKey()
			if err != nil {
				return s, err
			}
			pub = wire.XOnly(priv.PubKey())
		}
		mu.Lock()
		keys[key], signs[k], checks[checked{pub, digest, s}] = pub, s, nil
		mu.Unlock()
		return s, nil
	}
	verify = func(key wire.Key, digest wire.Hash, sig wire.Signature) error {
		k := checked{key, digest, sig}
		mu.Lock()
		err, ok := checks[k]
		mu.Unlock()
		if !ok {
			err = key.Verify(digest, sig)
			mu.Lock()
			if len(checks) > 1<<20 {
				clear(checks)
				clear(signs)
			}
			checks[k] = err
			mu.Unlock()
		}
		return err
	}
}
