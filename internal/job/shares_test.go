package job

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"pgregory.net/rapid"

	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// TestAnySharesPay: any T right shares of a penny make it, whoever's they are, and
// fewer make nothing; so for every bank and penny of a window, and for the smallest
// and larger jobs.
func TestAnySharesPay(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ n, q, t, r int }{{2, 2, 2, 1}, {4, 3, 2, 1}, {4, 3, 3, 1}, {5, 4, 3, 2}} {
		d := newDeal(t, "any", c.n, c.q, c.t, c.r, 6, 4)
		for i := range d.terms.Parties {
			node := uint8(i)
			for first := uint32(1); first <= 6; first += 4 {
				list := d.window(t, node, first)
				w := windowOf(list)
				for _, j := range d.terms.others(node) {
					must(t, list[j][0].Verify(&d.terms))
				}
				for k := first; k <= w.Last(); k++ {
					all := d.shares(t, list, k)
					pick := make([]int, c.t)
					for i := range pick {
						pick[i] = i
					}
					for {
						var some []Committed
						for _, n := range pick {
							if !w.Holds(&d.terms, &all[n]) {
								t.Fatal("not committed to")
							}
							some = append(some, all[n])
						}
						if s, bad, err := Combine(&d.terms, some, d.known(node, k-1)); err != nil || bad != nil || s != d.secret(node, k) {
							t.Fatalf("party %d, penny %d, shares %v: %v", i, k, pick, err)
						}
						if _, _, err := Combine(&d.terms, some[1:], d.known(node, k-1)); !errors.Is(err, ErrCombine) {
							t.Fatalf("%d shares: %v", c.t-1, err)
						}
						if !next(pick, len(all)) {
							break
						}
					}
				}
			}
		}
	}
}

// TestFewSharesSayNothing: T−1 shares are as right for every other secret: for each
// there is a polynomial of degree T−1 that goes through them, so that who holds them
// knows no more than who holds none.
func TestFewSharesSayNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		th := uint8(rapid.IntRange(2, 4).Draw(r, "t"))
		holders := []uint8{0, 1, 2, 3, 4, 5, 6}
		secret := [wire.PennySize]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(r, "secret"))
		other := [wire.PennySize]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(r, "other"))
		seed := rapid.Uint64().Draw(r, "seed")
		coef := func(d uint8) (c btcec.ModNScalar) {
			h := secretOf("%d %d", seed, d)
			c.SetBytes((*[32]byte)(&h))
			return c
		}
		shares := split(secret, th, coef, holders)
		if s, ok := interpolate(holders[:th], shares[:th]); !ok || s != secret {
			r.Fatal("the shares don't make the secret")
		}
		// The one polynomial through (0, other) and T−1 of the shares: what the next
		// holder would have, by Lagrange; with it the shares make the other secret.
		x := at(holders[th-1])
		var y btcec.ModNScalar
		points := append([]uint8{255}, holders[:th-1]...) // 255+1 stands for x = 0 below
		values := []btcec.ModNScalar{}
		var padded [32]byte
		copy(padded[16:], other[:])
		v, _ := scalarOf(padded)
		values = append(values, v)
		for _, s := range shares[:th-1] {
			v, _ := scalarOf(s)
			values = append(values, v)
		}
		xOf := func(h uint8) (s btcec.ModNScalar) {
			if h == 255 {
				return s
			}
			return at(h)
		}
		for i := range points {
			term := values[i]
			for j := range points {
				if i != j {
					num, xj, den := x, xOf(points[j]), xOf(points[i])
					xj.Negate()
					num.Add(&xj)
					den.Add(&xj)
					term.Mul(&num).Mul(den.InverseNonConst())
				}
			}
			y.Add(&term)
		}
		forged := append(slices.Clone(shares[:th-1]), Share(y.Bytes()))
		if s, ok := interpolate(holders[:th], forged); !ok || s != other {
			r.Fatal("T−1 shares rule out a secret")
		}
	})
}

// TestBadShareAttributable: a bad share convicts its giver and a false deal the
// buyer, each by a proof that anybody checks with the terms alone; neither convicts
// anybody else, and what is right convicts nobody (protocol §9, 9).
func TestBadShareAttributable(t *testing.T) {
	t.Parallel()
	d := newDeal(t, "bad", 4, 3, 2, 1, 8, 4)
	list := d.window(t, 0, 1)
	give := func(j uint8, k uint32) *Give {
		g, err := NewGive(&d.terms, &list[j][0], d.keys[j], k)
		must(t, err)
		return g
	}
	good := give(1, 3)
	must(t, good.Signed(&d.terms))
	must(t, good.Right(&d.terms))
	none := func(what string, p Proof) {
		t.Helper()
		if c, err := p.Against(&d.terms); !errors.Is(err, ErrNoProof) {
			t.Errorf("%s: against %v, %v", what, c, err)
		}
	}
	none("a right share", &BadShare{Give: *good})
	for what, change := range map[string]func(*Give){
		"another value":       func(g *Give) { g.Share.Share[5] ^= 1 },
		"no scalar":           func(g *Give) { g.Share.Share = Share(slices.Repeat([]byte{255}, 32)) },
		"another penny":       func(g *Give) { g.Share.K++ },
		"another's":           func(g *Give) { g.Share.Node = 2 },
		"one's own":           func(g *Give) { g.Share.Node = 1 },
		"nobody's":            func(g *Give) { g.Share.Node = 200 },
		"outside the window":  func(g *Give) { g.Share.K = 9 },
		"penny 0":             func(g *Give) { g.Share.K = 0 },
		"a short path":        func(g *Give) { g.Share.Pennies = g.Share.Pennies[1:] },
		"a long path":         func(g *Give) { g.Share.Sheets = append(slices.Clone(g.Share.Sheets), wire.Hash{}) },
		"another bank's":      func(g *Give) { g.Window.Node = 3 },
		"a false path":        func(g *Give) { g.Share.Holders = slices.Clone(g.Share.Holders); g.Share.Holders[0][0] ^= 1 },
		"a root of one's own": func(g *Give) { g.Window.Root[0] ^= 1 },
		"an endless window":   func(g *Give) { g.Window.Count = 1 << 31 },
	} {
		bad := *good
		change(&bad)
		none(what+", that the giver did not sign", &BadShare{Give: bad})
		bad.Sig, _ = sign(d.keys[1], bad.digest(&d.terms))
		if c, err := (&BadShare{Give: bad}).Against(&d.terms); err != nil || c != (Culprit{Party: 1}) {
			t.Errorf("%s: against %v, %v", what, c, err)
		}
		if bad.Window.Verify(&d.terms) == nil {
			none(what+", as a false deal", &FalseDeal{Window: bad.Window, Shares: []Committed{bad.Share, give(2, 3).Share}})
		}
	}
	// A right deal convicts nobody, whichever shares are shown.
	all := d.shares(t, list, 3)
	none("a right deal", &FalseDeal{Window: windowOf(list), Shares: all[:2]})
	none("one share twice", &FalseDeal{Window: windowOf(list), Shares: []Committed{all[0], all[0]}})
	none("too few", &FalseDeal{Window: windowOf(list), Shares: all[:1]})
	none("shares of two pennies", &FalseDeal{Window: windowOf(list), Shares: []Committed{all[0], d.shares(t, list, 2)[1]}})
	none("shares of two parties", &FalseDeal{Window: windowOf(list), Shares: []Committed{all[0], d.shares(t, d.window(t, 3, 1), 3)[1]}})

	// The buyer deals another secret for one penny: every share is as it was dealt,
	// and names no giver; any two of them name the buyer.
	false1, err := Deal(&d.terms, d.buyer, secretOf("seed"), 0, 1, func(k uint32) [wire.PennySize]byte {
		s := d.secret(0, k)
		if k == 3 {
			s[7] ^= 1
		}
		return s
	})
	must(t, err)
	for j := range false1[1:] {
		must(t, false1[j+1][0].Verify(&d.terms))
	}
	shares := d.shares(t, false1, 3)
	_, bad, err := Combine(&d.terms, shares, d.known(0, 2))
	if !errors.Is(err, ErrCombine) || len(bad) != 2 {
		t.Fatal(bad, err)
	}
	if c, err := (&FalseDeal{Window: windowOf(false1), Shares: bad}).Against(&d.terms); err != nil || !c.Buyer {
		t.Errorf("against %v, %v", c, err)
	}
	g, err := NewGive(&d.terms, &false1[1][0], d.keys[1], 3)
	must(t, err)
	none("a giver of what the buyer falsely dealt", &BadShare{Give: *g})
	// Its two roots are a proof as well.
	if c, err := (&TwoWindows{A: windowOf(list), B: windowOf(false1)}).Against(&d.terms); err != nil || !c.Buyer {
		t.Errorf("against %v, %v", c, err)
	}
	none("one root", &TwoWindows{A: windowOf(list), B: windowOf(list)})
	none("two banks", &TwoWindows{A: windowOf(list), B: windowOf(d.window(t, 1, 1))})
	none("two windows", &TwoWindows{A: windowOf(list), B: windowOf(d.window(t, 0, 5))})

	// One share of the five is false, under a root that commits to it: whoever takes
	// part in a wrong pair is not at fault, and the node is paid all the same.
	for j := range d.terms.Parties[1:] {
		holder := uint8(j + 1)
		spoiled := d.spoil(t, holder, 0, 3)
		shares := d.shares(t, spoiled, 3)
		s, bad, err := Combine(&d.terms, shares, d.known(0, 2))
		if err != nil || s != d.secret(0, 3) {
			t.Fatalf("holder %d: %v", holder, err)
		}
		if bad != nil {
			if c, err := (&FalseDeal{Window: windowOf(spoiled), Shares: bad}).Against(&d.terms); err != nil || !c.Buyer {
				t.Errorf("against %v, %v", c, err)
			}
		}
	}
}

// spoil is a window of which the buyer dealt one holder a false share.
func (d *deal) spoil(t testing.TB, holder, node uint8, k uint32) [][]Dealt {
	t.Helper()
	list := d.window(t, node, 1)
	d.recommit(t, list, func() { list[holder][0].Shares[k-1][9] ^= 1 })
	return list
}

// recommit changes what is dealt and signs its new root.
func (d *deal) recommit(t testing.TB, list [][]Dealt, change func()) {
	t.Helper()
	change()
	must(t, sealDeal(&d.terms, d.buyer, list))
	for j := range list {
		for i := range list[j] {
			must(t, list[j][i].Verify(&d.terms))
		}
	}
}

// TestDealVerified: a holder takes nothing that is not wholly under the root that
// the buyer signed; and the same seed deals the same again.
func TestDealVerified(t *testing.T) {
	t.Parallel()
	d := newDeal(t, "deal", 4, 3, 2, 1, 8, 4)
	if !reflect.DeepEqual(d.window(t, 1, 5), d.window(t, 1, 5)) {
		t.Error("the same seed deals otherwise")
	}
	for what, change := range map[string]func(*Dealt){
		"a share":         func(x *Dealt) { x.Shares[2][1] ^= 1 },
		"no scalar":       func(x *Dealt) { x.Shares[2] = Share(slices.Repeat([]byte{255}, 32)) },
		"too few":         func(x *Dealt) { x.Shares = x.Shares[1:] },
		"too many":        func(x *Dealt) { x.Shares = append(x.Shares, Share{}) },
		"none":            func(x *Dealt) { x.Shares = nil },
		"another sheet":   func(x *Dealt) { x.Sheet = 1 },
		"another holder":  func(x *Dealt) { x.Holder++ },
		"its own":         func(x *Dealt) { x.Holder = 1 },
		"no holder":       func(x *Dealt) { x.Holder = 99 },
		"another bank":    func(x *Dealt) { x.Window.Node = 0 },
		"no bank":         func(x *Dealt) { x.Window.Node = 99 },
		"a path":          func(x *Dealt) { x.Holders = x.Holders[1:] },
		"first":           func(x *Dealt) { x.Window.First = 5 },
		"between windows": func(x *Dealt) { x.Window.First = 2 },
		"none at all":     func(x *Dealt) { x.Window.First = 0 },
		"beyond the end":  func(x *Dealt) { x.Window.First = 9 },
		"count":           func(x *Dealt) { x.Window.Count = 3 },
		"the signature":   func(x *Dealt) { x.Window.Sig[1] ^= 1 },
	} {
		x := d.window(t, 1, 1)[2][0]
		change(&x)
		if err := x.Verify(&d.terms); !errors.Is(err, ErrDeal) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// The largest job: messages keep their sizes, and every share of a sheet that is
	// not full, and of one that is, is under the root.
	full := newDeal(t, "full", 7, 5, 4, 1, MaxWindow, MaxWindow)
	full.set(func(x *Terms) { x.Window = tier.Pick[uint32](300, 3000, MaxWindow) })
	sheets := full.window(t, 0, 1)[3]
	for _, k := range []uint32{1, 256, 257, full.terms.Window} {
		x := &sheets[(k-1)/SheetSize]
		must(t, x.Verify(&full.terms))
		b, err := wire.Marshal(x)
		must(t, err)
		g, err := NewGive(&full.terms, x, full.keys[3], k)
		must(t, err)
		c, err := wire.Marshal(g)
		must(t, err)
		if len(b) > x.MaxSize() || len(c) > g.MaxSize() {
			t.Errorf("a sheet of %d bytes, %d allowed; a share of %d, %d allowed", len(b), x.MaxSize(), len(c), g.MaxSize())
		}
		t.Logf("penny %d: a sheet of %d bytes, a share of %d", k, len(b), len(c))
		var frame bytes.Buffer
		must(t, wire.WriteFrame(&frame, x))
		var again Dealt
		must(t, wire.ReadFrame(&frame, &again))
		must(t, again.Verify(&full.terms))
		var back Give
		must(t, wire.Unmarshal(c, &back))
		must(t, back.Signed(&full.terms))
		must(t, back.Right(&full.terms))
	}
}

// TestMayDeal: at most two windows lie beyond a bank's counter; of a standby's that
// was never paid, one; and what is dealt lasts at least half a window longer.
func TestMayDeal(t *testing.T) {
	t.Parallel()
	tm := &Terms{Window: 4, Epochs: 1 << 20}
	for paid := range uint32(20) {
		for _, seated := range []bool{true, false} {
			last := uint32(0)
			for first := uint32(1); MayDeal(tm, first, paid, seated); first += tm.Window {
				last = first + tm.Window - 1
			}
			most, least := paid+2*tm.Window, paid+tm.Window
			if !seated {
				most, least = paid+tm.Window*3/2, paid+tm.Window/2
			}
			if last > most || last < least || !seated && paid == 0 && last != tm.Window {
				t.Errorf("paid %d, seated %v: dealt to %d", paid, seated, last)
			}
		}
	}
	if !MayDeal(tm, 1<<32-3, 1<<32-1, true) {
		t.Error("overflow")
	}
}

// TestTerms: jobs that cannot be.
func TestTerms(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(*Terms){
		"no parties":            func(x *Terms) { x.Parties = nil },
		"too many":              func(x *Terms) { x.Parties = make([]Party, MaxParties+1) },
		"no depth":              func(x *Terms) { x.Depth = 0 },
		"no stop":               func(x *Terms) { x.Stop = 0 },
		"one node":              func(x *Terms) { x.N = 1 },
		"more nodes than there": func(x *Terms) { x.N = 6 },
		"quorums of one common": func(x *Terms) { x.Q = 2 },
		"a quorum above all":    func(x *Terms) { x.Q = 5 },
		"one share":             func(x *Terms) { x.T = 1 },
		"more shares than held": func(x *Terms) { x.T = 5 },
		"nothing ahead":         func(x *Terms) { x.Ahead = 0 },
		"far ahead":             func(x *Terms) { x.Ahead = MaxAhead + 1 },
		"no patience":           func(x *Terms) { x.Patience = 0 },
		"no epochs":             func(x *Terms) { x.Epochs = 0 },
		"more than pennies":     func(x *Terms) { x.Epochs = 9 },
		"no window":             func(x *Terms) { x.Window = 0 },
		"a large window":        func(x *Terms) { x.Window = MaxWindow + 1 },
		"one key twice":         func(x *Terms) { x.Parties[1].Key = x.Parties[0].Key },
		"the buyer as node":     func(x *Terms) { x.Parties[1].Key = x.Buyer },
		"no key":                func(x *Terms) { x.Parties[1].Key = wire.Key{} },
		"no buyer":              func(x *Terms) { x.Buyer = wire.Key{} },
		"too many pennies":      func(x *Terms) { x.Parties[1].Pennies = penny.MaxSeq + 1 },
	} {
		x := newDeal(t, "terms", 4, 3, 2, 1, 8, 4).terms
		change(&x)
		if err := x.Check(); !errors.Is(err, ErrTerms) {
			t.Errorf("%s: %v", what, err)
		}
	}
	x := newDeal(t, "size", 7, 5, 4, 1, 64, 64).terms
	b, err := wire.Marshal(&x)
	must(t, err)
	if len(b) > x.MaxSize() {
		t.Errorf("%d bytes, %d allowed", len(b), x.MaxSize())
	}
}
