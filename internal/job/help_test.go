package job

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"
	"testing"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/penny"
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
	d.terms = Terms{File: wire.Hash(secretOf("%s job", name)), Buyer: keyOf(t, d.buyer), N: uint8(n), Q: uint8(q), T: uint8(th),
		Depth: 3, Stop: 1000,
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
	d.terms.Funding = contract.Txid(d.funding())
	must(t, d.terms.Check())
	d.terms.id = d.terms.ID()
	return d
}

// secret of a party's penny by its count.
func (d *deal) secret(node uint8, k uint32) (s [wire.PennySize]byte) {
	p := d.purses[node].At(d.terms.Parties[node].Pennies - k).Secret
	copy(s[:], p[:])
	return s
}

// window is what each party is dealt of a bank's pennies.
func (d *deal) window(t testing.TB, node uint8, first uint32) [][]Dealt {
	t.Helper()
	list, err := Deal(&d.terms, d.buyer, secretOf("seed"), node, first, func(k uint32) [wire.PennySize]byte { return d.secret(node, k) })
	must(t, err)
	return list
}

// windowOf is the window of what is dealt.
func windowOf(list [][]Dealt) Window {
	if len(list[0]) == 0 {
		return list[1][0].Window
	}
	return list[0][0].Window
}

// funding is the transaction with the banks, in a block that has one confirmation.
func (d *deal) funding() contract.Tx {
	tx := btcwire.NewMsgTx(2)
	tx.LockTime = binary.BigEndian.Uint32(d.terms.File[:])
	return tx
}

// begun are the events that start a job.
func (d *deal) begun() []Event {
	return []Event{Connected{contract.Block{Height: 100, Txs: []contract.Tx{d.funding()}}}, Connected{contract.Block{Height: 102}}}
}

// known is a party's penny of a count.
func (d *deal) known(node uint8, k uint32) penny.Penny {
	if k == 0 {
		return d.terms.first(node)
	}
	return d.terms.penny(k, node, d.secret(node, k))
}

// shares of a penny, of all holders.
func (d *deal) shares(t testing.TB, list [][]Dealt, k uint32) (all []Committed) {
	t.Helper()
	w := windowOf(list)
	for _, j := range d.terms.others(w.Node) {
		c, err := list[j][(k-w.First)/SheetSize].Share(&d.terms, k)
		must(t, err)
		all = append(all, *c)
	}
	return all
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

// opening are the events up to the first epoch: the first windows, and the start.
func (d *deal) opening(t testing.TB) (list []Event) {
	for i := range d.terms.Parties {
		list = append(list, DealtTo{windowOf(d.window(t, uint8(i), 1))})
	}
	return append(list, d.begun()...)
}

// set changes the terms.
func (d *deal) set(change func(t *Terms)) {
	change(&d.terms)
	d.terms.id = wire.Hash{}
	d.terms.id = d.terms.ID()
}

// close is a transaction that spends a party's bank.
func (d *deal) close(party uint8) contract.Tx {
	tx := btcwire.NewMsgTx(2)
	tx.AddTxIn(&btcwire.TxIn{PreviousOutPoint: contract.OutPoint(d.terms.Bank(party))})
	return tx
}
