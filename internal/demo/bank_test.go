package demo

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// TestBank: the ledger balances, what was paid is what was settled, what lies
// between the rungs and the fee; and the proof holds for who has nothing else.
func TestBank(t *testing.T) {
	out := filepath.Join(t.TempDir(), "proof.json")
	for _, pennies := range tier.Pick([]int{1}, []int{1, 5000}, []int{1, 5000}) {
		r, err := RunBank(t.Context(), BankOptions{Pennies: pennies, Window: 100, Common: Common{Out: out}})
		if err != nil {
			t.Fatalf("%d pennies: %v", pennies, err)
		}
		if !r.Balanced || r.Pennies != uint32(pennies) || r.Paid != wire.Msat(pennies)*r.PennyMsat {
			t.Errorf("%+v", r)
		}
		if r.Paid != (r.Settled+r.CloseFee).Msat()+r.Lost || r.Lost >= r.PennyMsat*wire.Msat(r.PerRung) {
			t.Errorf("%d pennies: %v paid, %v settled, %v of fee, %v lost", pennies, r.Paid, r.Settled, r.CloseFee, r.Lost)
		}
		if r.CloseHeight > r.Deadline || r.Value != r.Change+r.Settled+r.CloseFee {
			t.Errorf("%+v", r)
		}
		var sum wire.Sat
		for _, p := range r.Ledger {
			sum += p.Change
		}
		if sum != 0 {
			t.Errorf("%v are left over in %+v", sum, r.Ledger)
		}
		verifyProof(t, out)
	}
}

func verifyProof(t *testing.T, path string) {
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var p BankProof
	if err := json.Unmarshal(raw, &p); err != nil {
		t.Fatal(err)
	}
	c := penny.Chain{Size: wire.PennySize}
	if _, err := hex.Decode(c.Nonce[:], []byte(p.Nonce)); err != nil {
		t.Fatal(err)
	}
	read := func(s *shownPenny) (y penny.Penny) {
		y.Seq = s.Seq
		if _, err := hex.Decode(y.Secret[:], []byte(s.Secret)); err != nil {
			t.Fatal(err)
		}
		return y
	}
	public, last, rung := read(&p.Public), read(&p.Last), read(p.AtRung)
	if last.Seq+p.Pennies != public.Seq || c.Verify(public, last) != nil {
		t.Error("the last penny does not lead to the public one")
	}
	if rung != c.Forward(last, rung.Seq) {
		t.Error("nor to the rung's")
	}
	lock := contract.Lock(rung.Secret[:c.Size])
	if hex.EncodeToString(lock[:]) != p.RungLock {
		t.Error("the rung's penny does not open its lock")
	}
	tx, err := hex.DecodeString(p.CloseTx)
	if err != nil || !bytes.Contains(tx, rung.Secret[:c.Size]) || !bytes.Contains(tx, lock[:]) {
		t.Error("the close shows another penny")
	}
}

func TestBankOptions(t *testing.T) {
	for _, c := range []struct {
		pennies, window int
		want            error
	}{{0, 1, ErrPennies}, {-1, 1, ErrPennies}, {MaxPennies + 1, 1, ErrPennies}, {1, 0, ErrWindow}, {1, MaxWindow + 1, ErrWindow}} {
		if _, err := RunBank(t.Context(), BankOptions{Pennies: c.pennies, Window: c.window}); !errors.Is(err, c.want) {
			t.Errorf("%d pennies, window %d: %v", c.pennies, c.window, err)
		}
	}
	for _, n := range []uint32{1, 125, 126, 127, 999_999, 1_000_000, MaxPennies} {
		l := ladderFor(n)
		if err := l.Check(); err != nil || l.N() < n || l.Rung(n) == 0 || l.Paid(1)%1000 != 0 || l.Value < bankWorth {
			t.Errorf("%d pennies: %+v, %v", n, l, err)
		}
	}
}

// TestBankers: an honest payment arrives whole; a thief gets one step.
func TestBankers(t *testing.T) {
	tier.NotShort(t)
	for _, thief := range []bool{false, true} {
		r, err := RunBankers(t.Context(), thief, Common{})
		if err != nil {
			t.Fatal(err)
		}
		steps := payment / stepSize
		if thief {
			steps = lastGood
		}
		if !r.Balanced || r.Paid != steps*stepSize || (r.Lost > 0) != thief {
			t.Errorf("thief %v: %+v", thief, r)
		}
		if fees := stepSize/100 + 2*bankerFees.Base; r.Lost > stepSize+fees || r.Settled > r.Paid.Whole() {
			t.Errorf("thief %v: %v lost, %v settled", thief, r.Lost, r.Settled)
		}
	}
}
