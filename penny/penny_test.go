package penny

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"os"
	"testing"

	"pgregory.net/rapid"

	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestVectors compares with pence of the linked specification, as another
// implementation computed them.
func TestVectors(t *testing.T) {
	raw, err := os.ReadFile("../spec/vectors/pence_classic.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		N                         uint32
		Nonce, P0, PN, Digest, ID string
		Pennies                   []string
	}
	if err := json.Unmarshal(raw, &list); err != nil || len(list) < 7 {
		t.Fatalf("%d vectors, %v", len(list), err)
	}
	for _, v := range list {
		p := Pence{Chain: Chain{Nonce(unhex(t, v.Nonce)), ClassicSize}, N: v.N}
		copy(p.P0[:], unhex(t, v.P0))
		s := p.Sum()
		got := []string{hex.EncodeToString(s.Last.Secret[:ClassicSize]), hex.EncodeToString(s.Digest[:]), s.ID.String()}
		if want := []string{v.PN, v.Digest, v.ID}; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("N=%d: %v, wanted %v", v.N, got, want)
		}
		if sha256.Sum256(s.Preimage) != s.Digest || p.Last() != s.Last {
			t.Errorf("N=%d: the preimage, or the last penny", v.N)
		}
		u := NewPurse(p)
		next := uint32(0)
		if steps := p.Steps(func(at Penny, _ [32]byte) bool { next++; return at == u.At(next-1) }); steps.ID != s.ID || next != p.N+1 {
			t.Errorf("N=%d: %d steps", v.N, next)
		}
		if stopped := p.Steps(func(Penny, [32]byte) bool { return false }); stopped.ID != (ID{}) {
			t.Errorf("N=%d: the ID of nothing", v.N)
		}
		for j, text := range v.Pennies {
			if got := u.At(uint32(j)); !bytes.Equal(got.Secret[:ClassicSize], unhex(t, text)) || got.Seq != uint32(j) {
				t.Errorf("N=%d: penny %d is %x", v.N, j, got.Secret[:ClassicSize])
			}
		}
		last := p.Encode(nil, s.Last)
		if len(last) != 8 || len(p.Global(s.ID, s.Last)) != 28 {
			t.Errorf("N=%d: %d bytes", v.N, len(last))
		}
	}
}

func drawPence(t *rapid.T) Pence {
	p := Pence{N: rapid.Uint32Range(0, 400).Draw(t, "n")}
	p.Size = rapid.SampledFrom([]int{1, 3, ClassicSize, MinSize, 20, MaxSize}).Draw(t, "size")
	copy(p.Nonce[:], rapid.SliceOfN(rapid.Byte(), NonceSize, NonceSize).Draw(t, "nonce"))
	copy(p.P0[:], rapid.SliceOfN(rapid.Byte(), p.Size, p.Size).Draw(t, "p0"))
	return p
}

// slow computes penny j literally by the definition.
func slow(p Pence, j uint32) Secret {
	s := p.P0
	for i := uint32(1); i <= j; i++ {
		sum := sha256.Sum256(bytes.Join([][]byte{p.Nonce[:], {byte(i >> 16), byte(i >> 8), byte(i)}, s[:p.Size]}, nil))
		s = Secret{}
		copy(s[:p.Size], sum[:])
	}
	return s
}

// TestChain checks that a purse returns the pennies of the definition in any
// order, and that each penny verifies against every higher one and against
// nothing else.
func TestChain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPence(t)
		u := NewPurse(p)
		for range 20 {
			j := rapid.Uint32Range(0, p.N).Draw(t, "j")
			low := u.At(j)
			if want := (Penny{j, slow(p, j)}); low != want {
				t.Fatalf("penny %d: %v", j, low)
			}
			back, err := p.Decode(p.Encode(nil, low))
			if err != nil || back != low {
				t.Fatal(back, err)
			}
			high := u.At(rapid.Uint32Range(j, p.N).Draw(t, "high"))
			if err := p.Verify(high, low); high.Seq == j && !errors.Is(err, ErrSpent) || high.Seq > j && err != nil {
				t.Fatal(err)
			}
			if err := p.Verify(low, high); !errors.Is(err, ErrSpent) {
				t.Fatal(err)
			}
			bad := low
			bad.Secret[rapid.IntRange(0, p.Size-1).Draw(t, "at")] ^= byte(rapid.IntRange(1, 255).Draw(t, "bit"))
			if err := p.Verify(high, bad); err == nil && p.Size > 3 {
				t.Fatal("a false penny")
			}
		}
	})
}

// TestDecode checks that only one length is accepted.
func TestDecode(t *testing.T) {
	for _, size := range []int{ClassicSize, MinSize, MaxSize} {
		c := Chain{Size: size}
		for n := range 64 {
			if _, err := c.Decode(make([]byte, n)); (err == nil) != (n == size+3) || err != nil && !errors.Is(err, ErrMalformed) {
				t.Errorf("%d of %d bytes: %v", n, size+3, err)
			}
		}
	}
	for _, size := range []int{-1, 0, 6, 15, 33} {
		if (Chain{Size: size}).Check() == nil {
			t.Errorf("secrets of %d bytes", size)
		}
	}
}

// TestSet checks that an honest set passes for any pick, and that a false one
// among the opened pence is identified.
func TestSet(t *testing.T) {
	c := Chain{Nonce{7}, ClassicSize}
	var p0 [SetSize]Secret
	for i := range p0 {
		p0[i] = Secret{byte(i), 1}
	}
	o := NewOffer(c, 50, &p0)
	for _, pick := range []int{0, 42, 99} {
		opened := Open(&p0, pick)
		if opened[pick] != (Secret{}) {
			t.Error("the picked pence is told")
		}
		if err := o.CheckOpened(pick, opened); err != nil {
			t.Error(err)
		}
	}
	wantFalse := func(o Offer, i int) {
		t.Helper()
		var f *FalseSetError
		if err := o.CheckOpened(42, Open(&p0, 42)); !errors.As(err, &f) || f.Index != i {
			t.Errorf("%v, wanted %d", err, i)
		}
	}
	bad := *o
	bad.IDs[7][0]++
	wantFalse(bad, 7)
	bad = *o
	bad.Last[8][0]++
	wantFalse(bad, 8)
	bad = *o
	bad.N++
	wantFalse(bad, 0)
	bad = *o
	bad.IDs[42] = bad.IDs[3]
	wantFalse(bad, 42)
	for _, pick := range []int{-1, SetSize} {
		if o.CheckOpened(pick, &p0) == nil {
			t.Errorf("pick %d", pick)
		}
	}
}

// TestValue checks the linked specification's example, 65 Ghash per satoshi and
// 17 satoshi for a penny of 40 bits before the margin, and the value at today's
// difficulty.
func TestValue(t *testing.T) {
	// Difficulty 40,007,470,271.271 at 25 bitcoin.
	target := Target(40_007_470_271.271)
	if d := Difficulty(target); d < 40_007_470_271.2 || d > 40_007_470_271.3 {
		t.Errorf("difficulty %f", d)
	}
	h := HashesPerSat(target, 25*100_000_000)
	if f, _ := h.Float64(); f < 64e9 || f > 69e9*1.01 {
		t.Errorf("%.3g hashes to the satoshi", f)
	}
	// As the reference's test has it: 8494954859132248544 hashes to the bitcoin.
	target = Target(4.944639068824144e10)
	if f, _ := HashesPerSat(target, 25*100_000_000).Float64(); f < 0.999999*84949548591 || f > 1.000001*84949548591 {
		t.Errorf("%.10g hashes to the satoshi", f)
	}
	v := MaxValue(40, h)
	if f, _ := v.Float64(); f*margin < 15.5 || f*margin > 17.5 {
		t.Errorf("%.3g sat", f*margin)
	}
	for _, d := range []float64{0, -1, math.NaN(), math.Inf(1), math.Inf(-1), 1e-300, 1e300} {
		if Target(d) != nil {
			t.Errorf("a target of difficulty %v", d)
		}
	}
	if Difficulty(nil) != 0 || Difficulty(new(big.Int)) != 0 || Difficulty(one) != 1 {
		t.Error("difficulties")
	}
	for _, h := range []*big.Rat{HashesPerSat(nil, 1), HashesPerSat(target, 0), HashesPerSat(big.NewInt(-1), 1)} {
		if MaxValue(40, h).Sign() != 0 {
			t.Error("a value without work")
		}
	}
}

// TestThaw checks that missing pennies are found by brute force, that some
// found secrets lead to the same penny but are different, and that the ID shows
// which are right.
func TestThaw(t *testing.T) {
	for i := range tier.Pick(2, 8, 8) {
		p := Pence{Chain: Chain{Nonce{byte(i)}, 2}, N: 9, P0: Secret{byte(i), 99}}
		sum := p.Sum()
		var hashes uint64
		right, found := 0, 0
		for _, w := range NewWork(p.Chain, sum.Last, 0).Split(3) {
			for done := false; !done; {
				var f Penny
				var ok bool
				if f, ok, done = w.Search(1 << 12); ok {
					found++
					if got := (&Pence{p.Chain, p.N, f.Secret}).Sum(); got.ID == sum.ID && f.Secret == p.P0 {
						right++
					} else if got.Last != sum.Last {
						t.Errorf("%x does not lead to the penny", f.Secret)
					}
				}
			}
			hashes += w.Hashes()
		}
		if right != 1 {
			t.Errorf("chain %d: %d of %d that were found are right", i, right, found)
		}
		if want := ThawWork(16, p.N); want.Cmp(new(big.Int).SetUint64(hashes)) != 0 {
			t.Errorf("%d hashes, wanted %v", hashes, want)
		}
	}
	for _, w := range []*Work{NewWork(Chain{Size: MinSize}, Penny{Seq: 9}, 0), NewWork(Chain{Size: 2}, Penny{Seq: 9}, 9), NewWork(Chain{}, Penny{Seq: 9}, 0)} {
		if _, ok, done := w.Search(1000); ok || !done || w.Hashes() != 0 {
			t.Error("work where there is none")
		}
	}
}

// TestForge checks that forging all pennies of a bank costs about as many
// hashes as forging one. So the linked specification's value, which grows with
// their number, is too high, and MaxValue does not depend on the number.
func TestForge(t *testing.T) {
	const bits, tries = 16, 30
	for _, c := range []struct {
		pennies  uint32
		min, max float64
	}{{1, 0.2, 0.6}, {100, 1, 3}} {
		total := 0.0
		for i := range tries {
			p := Pence{Chain: Chain{Nonce{byte(i), 1}, bits / 8}, N: c.pennies}
			p0 := sha256.Sum256([]byte{byte(i)})
			copy(p.P0[:bits/8], p0[:])
			last := p.Last()
			w := NewWork(p.Chain, last, 0)
			for {
				found, ok, done := w.Search(1 << 12)
				if ok {
					if err := p.Verify(last, found); err != nil {
						t.Fatal(err)
					}
					break
				}
				if done {
					t.Fatal("nothing was found")
				}
			}
			total += float64(w.Hashes())
		}
		work, _ := ForgeWork(bits).Float64()
		mean := total / tries / work
		if mean < c.min || mean > c.max {
			t.Errorf("%d pennies take %.2f times 2^%d hashes", c.pennies, mean, bits)
		}
	}
}

// TestLadder checks that the payer's amount falls by nearly equal steps from
// rung to rung, from everything to dust, for values whose product exceeds 64
// bits.
func TestLadder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := Ladder{Rungs: rapid.Uint32Range(1, MaxRungs).Draw(t, "rungs")}
		l.PerRung = rapid.Uint32Range(1, MaxSeq/l.Rungs).Draw(t, "per")
		l.Value = wire.Sat(rapid.Int64Range(int64(Dust)+int64(l.Rungs), int64(wire.MaxSat)).Draw(t, "value"))
		if err := l.Check(); err != nil {
			t.Fatal(err)
		}
		if l.Change(0) != l.Value || l.Change(l.Rungs) != Dust || l.Share(l.Rungs) != l.Value-Dust {
			t.Fatal(l)
		}
		step := (l.Value - Dust) / wire.Sat(l.Rungs)
		for g := uint32(1); g <= l.Rungs; g++ {
			if d := l.Change(g-1) - l.Change(g); d < step || d > step+1 {
				t.Fatalf("rung %d takes %v, not %v", g, d, step)
			}
			exact := new(big.Int).Mul(big.NewInt(int64(l.Value-Dust)), big.NewInt(int64(l.Rungs-g)))
			if exact.Quo(exact, big.NewInt(int64(l.Rungs))); exact.Int64() != int64(l.Change(g)-Dust) {
				t.Fatalf("rung %d leaves %v", g, l.Change(g))
			}
			if p := l.Seq(g); l.Rung(l.N()-p) != g || l.Rung(l.N()-p-1) != g-1 {
				t.Fatalf("rung %d is penny %d", g, p)
			}
		}
		if l.Paid(l.N()) != wire.Msat(1000*(l.Value-Dust)) || l.Paid(0) != 0 {
			t.Fatal(l.Paid(l.N()))
		}
	})
	for _, l := range []Ladder{{}, {1000, 0, 1}, {1000, 1, 0}, {1000, MaxRungs + 1, 1}, {431, 102, 1}, {wire.MaxSat + 1, 1, 1}, {1e6, 1000, 16778}, {1e6, 1 << 16, 1 << 16}, {-5, 1, 1}} {
		if err := l.Check(); !errors.Is(err, ErrLadder) {
			t.Errorf("%+v: %v", l, err)
		}
	}
}

// TestVerifyAllocates checks that a jump costs hashes and no memory.
func TestVerifyAllocates(t *testing.T) {
	p := Pence{Chain: Chain{Size: MinSize}, N: 1000}
	last := p.Last()
	if n := testing.AllocsPerRun(20, func() {
		if err := p.Verify(last, Penny{Secret: p.P0}); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(5, make([]byte, 8))
	f.Add(16, make([]byte, 19))
	f.Fuzz(func(t *testing.T, size int, raw []byte) {
		c := Chain{Size: size}
		if c.Check() != nil {
			return
		}
		p, err := c.Decode(raw)
		if err == nil && !bytes.Equal(c.Encode(nil, p), raw) {
			t.Errorf("%v", p)
		}
	})
}

// BenchmarkVerify also measures one SHA-256 of the same length.
func BenchmarkVerify(b *testing.B) {
	p := Pence{Chain: Chain{Size: MinSize}, N: 1000}
	u := NewPurse(p)
	b.Run("sha256", func(b *testing.B) {
		buf := make([]byte, NonceSize+seqSize+MinSize)
		for b.Loop() {
			sum := sha256.Sum256(buf)
			buf[0] = sum[0]
		}
	})
	b.Run("penny", func(b *testing.B) {
		high, low := u.At(500), u.At(499)
		b.ReportAllocs()
		for b.Loop() {
			if err := p.Verify(high, low); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("jump-1000", func(b *testing.B) {
		high, low := u.At(1000), u.At(0)
		b.ReportAllocs()
		for b.Loop() {
			if err := p.Verify(high, low); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestCounts compares CountFor and RungFor with a walk up the ladder, including
// values whose product exceeds 64 bits and amounts above the ladder's total.
func TestCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := Ladder{Rungs: rapid.Uint32Range(1, 60).Draw(t, "rungs"), PerRung: rapid.Uint32Range(1, 60).Draw(t, "per")}
		l.Value = wire.Sat(rapid.OneOf(rapid.Int64Range(int64(Dust)+int64(l.Rungs), 20_000), rapid.Int64Range(20_000, int64(wire.MaxSat))).Draw(t, "value"))
		top := uint64(l.Paid(l.N()))
		amount := wire.Msat(rapid.OneOf(rapid.Uint64Range(0, top+2), rapid.Just(top), rapid.Just(top+1), rapid.Uint64()).Draw(t, "amount"))
		if rapid.Bool().Draw(t, "at a step") {
			amount = l.Paid(rapid.Uint32Range(0, l.N()).Draw(t, "count")) + wire.Msat(rapid.Uint64Range(0, 1).Draw(t, "more"))
		}
		count, ok := l.CountFor(amount)
		want := uint32(0)
		for want <= l.N() && l.Paid(want) < amount {
			want++
		}
		if ok != (want <= l.N()) || ok && count != want {
			t.Fatalf("%+v: %d pennies for %v, %v, not %d", l, count, amount, ok, want)
		}
		g, ok := l.RungFor(amount)
		for want = 0; want <= l.Rungs && l.Share(want).Msat() < amount; {
			want++
		}
		if ok != (want <= l.Rungs) || ok && g != want {
			t.Fatalf("%+v: rung %d for %v, %v, not %d", l, g, amount, ok, want)
		}
		if p := l.Paid(l.N() + 1); p != l.Paid(l.N()) || l.Paid(1<<32-1) != p {
			t.Fatal("more than all is worth more")
		}
		// A rung is worth its pennies, rounded up to a satoshi.
		for g := uint32(0); g <= l.Rungs; g++ {
			if paid, share := l.Paid(g*l.PerRung), l.Share(g); share.Msat() < paid || share.Msat() > paid+1000 {
				t.Fatalf("%+v: rung %d is %v, its pennies %v", l, g, share, paid)
			}
		}
	})
	big := Ladder{Value: wire.MaxSat, Rungs: MaxRungs, PerRung: MaxSeq / MaxRungs}
	if n, ok := big.CountFor((wire.MaxSat - Dust).Msat()); !ok || n != big.N() {
		t.Errorf("all of the largest: %d, %v", n, ok)
	}
	if _, ok := big.CountFor((wire.MaxSat - Dust).Msat() + 1); ok {
		t.Error("more than all")
	}
}

// TestPurseWith checks that the pennies returned during the walk are the
// chain's.
func TestPurseWith(t *testing.T) {
	for _, n := range []uint32{1, 2, 3, 10, 99, 100, 101, 1000} {
		p := Pence{Chain: Chain{Size: MinSize}, N: n}
		p.P0[0] = 7
		for _, seqs := range [][]uint32{nil, {0}, {n}, {0, n}, {n / 3, n / 2, n}, {n - 1, n}} {
			u, list := NewPurseWith(p, seqs)
			if len(list) != len(seqs) {
				t.Fatalf("%d pennies of %v", len(list), seqs)
			}
			for i, seq := range seqs {
				if want := p.Forward(Penny{Secret: p.P0}, seq); list[i] != want || u.At(seq) != want {
					t.Errorf("N = %d: not penny %d", n, seq)
				}
			}
		}
	}
}
