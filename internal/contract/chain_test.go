package contract_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

const value wire.Sat = 20_000

// build is a claim or refund that must succeed.
func build(t testing.TB, tx *btcwire.MsgTx, fee wire.Sat, err error) *btcwire.MsgTx {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if fee <= 0 {
		t.Fatalf("fee %v", fee)
	}
	return tx
}

func (g *ground) claimTx(t testing.TB, rate wire.SatPerKVB, cs ...contract.Claim) *btcwire.MsgTx {
	t.Helper()
	tx, fee, err := contract.BuildClaim(cs, home, rate, 0)
	return build(t, tx, fee, err)
}

func (g *ground) refundTx(t testing.TB, rs ...contract.Refund) *btcwire.MsgTx {
	t.Helper()
	tx, fee, err := contract.BuildRefund(rs, home, 2000, 0)
	return build(t, tx, fee, err)
}

// TestPackageValid: every transaction of a message is accepted by a standard
// node's policy when it is needed, and mined (invariant PackageValid). The
// funding goes through policy in fund.
func TestPackageValid(t *testing.T) {
	g := regtest(t)

	t.Run("single claim", func(t *testing.T) {
		o := newFrozen(t, t.Name(), 1, g.tip(t)+500)
		at := g.fund(t, o.txOut(value))
		tx := g.claimTx(t, 1000, o.claim(t, 0, at[0], value))
		g.confirms(t, tx)
	})

	t.Run("funding in reserve only", func(t *testing.T) {
		// The smallest output that is worth a claim: its reserve plus dust.
		o := newFrozen(t, t.Name(), 1, g.tip(t)+500)
		v := contract.ClaimReserve(1000, 0, 1) + contract.Dust
		at := g.fund(t, o.txOut(v))
		tx := g.claimTx(t, 1000, o.claim(t, 0, at[0], v))
		if tx.TxOut[0].Value != int64(contract.Dust) {
			t.Fatalf("output of %d", tx.TxOut[0].Value)
		}
		g.confirms(t, tx)
	})

	t.Run("dust is the limit", func(t *testing.T) {
		o := newFrozen(t, t.Name(), 1, g.tip(t)+500)
		from := g.fund(t, btcwire.NewTxOut(5000, home))
		for _, v := range []wire.Sat{contract.Dust, contract.Dust - 1} {
			tx, err := contract.Funding(from, []*btcwire.TxOut{o.txOut(v)}, marker(), nil)
			if err != nil {
				t.Fatal(err)
			}
			signHome(t, tx, txscript.NewCannedPrevOutputFetcher(home, 5000))
			err = g.TestAccept(context.Background(), tx)
			if (err == nil) != (v >= contract.Dust) {
				t.Errorf("output of %v: %v", v, err)
			}
		}
	})

	t.Run("batch", func(t *testing.T) {
		var cs []contract.Claim
		var fos []*frozenOutput
		var outs []*btcwire.TxOut
		for i := range 7 {
			fos = append(fos, newFrozen(t, fmt.Sprint(t.Name(), i), 1+i%3, g.tip(t)+500))
			outs = append(outs, fos[i].txOut(value))
		}
		at := g.fund(t, outs...)
		for i, o := range fos {
			cs = append(cs, o.claim(t, i%len(o.Agents), at[i], value))
		}
		g.confirms(t, g.claimTx(t, 2000, cs...))
	})

	t.Run("one of many", func(t *testing.T) {
		for _, n := range []int{2, 3, 16} {
			o := newFrozen(t, fmt.Sprint(t.Name(), n), n, g.tip(t)+500)
			var outs []*btcwire.TxOut
			for range n {
				outs = append(outs, o.txOut(value))
			}
			at := g.fund(t, outs...)
			for i := range n {
				tx := g.claimTx(t, 2000, o.claim(t, i, at[i], value))
				if i%5 == 0 {
					g.confirms(t, tx)
				} else {
					g.accepts(t, tx)
				}
			}
		}
	})

	t.Run("refunds", func(t *testing.T) {
		// Several expiries in one transaction: it is final at the last.
		T := g.tip(t) + 5
		a, b := newFrozen(t, t.Name()+"a", 1, T), newFrozen(t, t.Name()+"b", 3, T-2)
		at := g.fund(t, a.txOut(value), b.txOut(value))
		tx := g.refundTx(t, a.refund(at[0], value), b.refund(at[1], value))
		if tx.LockTime != uint32(T) {
			t.Fatalf("locktime %d, expiry %d", tx.LockTime, T)
		}
		g.mineTo(t, T-1)
		g.refused(t, tx, notFinal, "a block early")
		g.mineTo(t, T)
		g.confirms(t, tx)
	})

	t.Run("replacement", func(t *testing.T) {
		ctx := context.Background()
		o := newFrozen(t, t.Name(), 1, g.tip(t)+500)
		at := g.fund(t, o.txOut(value))
		c := o.claim(t, 0, at[0], value)
		first, fee, err := contract.BuildClaim([]contract.Claim{c}, home, 1000, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Broadcast(ctx, first); err != nil {
			t.Fatal(err)
		}
		// BIP125: the old fee plus 1 sat/vB.
		size := wire.Sat(contract.VSize(weightOf(first)))
		same, _, err := contract.BuildClaim([]contract.Claim{c}, home, 1000, fee+size-1)
		if err != nil {
			t.Fatal(err)
		}
		if err := g.TestAccept(ctx, same); !errors.Is(err, chain.ErrFeeTooLow) {
			t.Errorf("a replacement that pays too little: %v", err)
		}
		second, _, err := contract.BuildClaim([]contract.Claim{c}, home, 1000, fee+size)
		if err != nil {
			t.Fatal(err)
		}
		g.confirms(t, second)
	})
}

// TestOnlyTemplateLeaves: the disclosed values determine the script to the
// byte, and consensus allows spends only through a leaf of the template
// (invariant OnlyTemplateLeaves).
func TestOnlyTemplateLeaves(t *testing.T) {
	base := func() wire.Frozen {
		f := newFrozen(t, "template", 3, 800_000).Frozen()
		f.Claims = append([]wire.ClaimLeaf(nil), f.Claims...)
		return f
	}
	script := func(f wire.Frozen) string {
		o, err := contract.NewOutput(f)
		if err != nil {
			t.Fatal(err)
		}
		return string(o.PkScript())
	}
	changes := map[string]func(*wire.Frozen){
		"blinding":      func(f *wire.Frozen) { f.Blinding = secret("another blinding") },
		"expiry":        func(f *wire.Frozen) { f.Expiry-- },
		"refund key":    func(f *wire.Frozen) { f.RefundKey = public(secret("another")) },
		"release hash":  func(f *wire.Frozen) { f.Claims[1].ReleaseHash[31] ^= 1 },
		"sender key":    func(f *wire.Frozen) { f.Claims[1].SenderKey = public(secret("another")) },
		"claim key":     func(f *wire.Frozen) { f.Claims[1].ClaimKey = public(secret("another")) },
		"swapped keys":  func(f *wire.Frozen) { c := &f.Claims[1]; c.SenderKey, c.ClaimKey = c.ClaimKey, c.SenderKey },
		"order":         func(f *wire.Frozen) { f.Claims[0], f.Claims[2] = f.Claims[2], f.Claims[0] },
		"a leaf less":   func(f *wire.Frozen) { f.Claims = f.Claims[:2] },
		"a leaf more":   func(f *wire.Frozen) { f.Claims = append(f.Claims, f.Claims[0]) },
		"a leaf doubly": func(f *wire.Frozen) { f.Claims[1] = f.Claims[0] },
	}
	seen := map[string]string{script(base()): "unchanged"}
	for name, change := range changes {
		f := base()
		change(&f)
		s := script(f)
		if other, ok := seen[s]; ok {
			t.Errorf("%s gives the same script as %s", name, other)
		}
		seen[s] = name
	}
	// An extra leaf of the sender beside the template's tree gives another
	// script.
	o := newFrozen(t, "template", 3, 800_000)
	internal, err := contract.InternalKey(o.Frozen().Blinding)
	if err != nil {
		t.Fatal(err)
	}
	var leaves []txscript.TapLeaf
	for _, c := range o.Frozen().Claims {
		leaves = append(leaves, txscript.NewBaseTapLeaf(contract.ClaimScript(c)))
	}
	leaves = append(leaves, txscript.NewBaseTapLeaf(contract.RefundScript(800_000, o.Frozen().RefundKey)))
	root := txscript.NewTapBranch(txscript.NewTapBranch(leaves[0], leaves[1]), txscript.NewTapBranch(leaves[2], leaves[3])).TapHash()
	plain, err := txscript.PayToTaprootScript(txscript.ComputeTaprootOutputKey(internal, root[:]))
	if err != nil || !bytes.Equal(plain, o.PkScript()) {
		t.Fatalf("the template's tree by hand gives another script (%v)", err)
	}
	backDoor := txscript.NewBaseTapLeaf(contract.RefundScript(1, o.Frozen().RefundKey))
	left, right := txscript.NewTapBranch(leaves[0], leaves[1]), txscript.NewTapBranch(leaves[2], leaves[3])
	for where, tree := range map[string]txscript.TapBranch{
		"on top":       txscript.NewTapBranch(backDoor, txscript.NewTapBranch(left, right)),
		"beside claim": txscript.NewTapBranch(txscript.NewTapBranch(txscript.NewTapBranch(leaves[0], backDoor), leaves[1]), right),
		"for a claim":  txscript.NewTapBranch(txscript.NewTapBranch(leaves[0], backDoor), right),
		"for a refund": txscript.NewTapBranch(left, txscript.NewTapBranch(leaves[2], backDoor)),
	} {
		root := tree.TapHash()
		s, err := txscript.PayToTaprootScript(txscript.ComputeTaprootOutputKey(internal, root[:]))
		if err != nil || bytes.Equal(s, o.PkScript()) {
			t.Errorf("a back door %s leaves the script as it was (%v)", where, err)
		}
	}

	for name, bad := range map[string]func(*wire.Frozen){
		"no claims":        func(f *wire.Frozen) { f.Claims = nil },
		"17 claims":        func(f *wire.Frozen) { f.Claims = make([]wire.ClaimLeaf, wire.MaxAgents+1) },
		"no expiry":        func(f *wire.Frozen) { f.Expiry = 0 },
		"expiry as a time": func(f *wire.Frozen) { f.Expiry = txscript.LockTimeThreshold },
		"bad refund key":   func(f *wire.Frozen) { f.RefundKey = wire.Key{31: 5} },
		"bad sender key":   func(f *wire.Frozen) { f.Claims[0].SenderKey = wire.Key{31: 5} },
		"bad claim key":    func(f *wire.Frozen) { f.Claims[2].ClaimKey = wire.Key{} },
		"no blinding":      func(f *wire.Frozen) { f.Blinding = wire.Secret{} },
		"blinding ≥ n":     func(f *wire.Frozen) { f.Blinding = wire.Secret(bytes.Repeat([]byte{0xff}, 32)) },
	} {
		f := base()
		bad(&f)
		if _, err := contract.NewOutput(f); !errors.Is(err, wire.ErrMalformed) && !errors.Is(err, wire.ErrBadKey) {
			t.Errorf("%s: %v", name, err)
		}
	}

	g := regtest(t)
	T := g.tip(t) + 1
	o = newFrozen(t, t.Name(), 3, T)
	at := g.fund(t, o.txOut(value))[0]
	g.mineTo(t, T+1)
	prev := txscript.NewCannedPrevOutputFetcher(o.PkScript(), int64(value))
	good := g.claimTx(t, 2000, o.claim(t, 1, at, value))
	g.accepts(t, good)
	refund := g.refundTx(t, o.refund(at, value))
	g.accepts(t, refund)

	// The key path: nobody has the private key of NUMS + r·G, whatever else
	// they know.
	merkle := root
	known := map[string]wire.Secret{"refund key": o.Refund, "blinding": o.Frozen().Blinding,
		"sender key": o.Agents[1].Sender, "claim key": o.Agents[1].Claim, "τ": o.Agents[1].Tau, "σ": o.Agents[1].Sigma}
	for name, s := range known {
		k, _ := s.PrivKey()
		tx := good.Copy()
		h := merkle
		sig, err := txscript.RawTxInTaprootSignature(tx, txscript.NewTxSigHashes(tx, prev), 0, int64(value), o.PkScript(), h[:], txscript.SigHashDefault, k)
		if err != nil {
			t.Fatal(err)
		}
		tx.TxIn[0].Witness = btcwire.TxWitness{sig}
		g.refused(t, tx, badScript, "key path by %s", name)
	}

	w := good.TxIn[0].Witness
	cb := w[4]
	mutate := func(name string, f func(w btcwire.TxWitness) btcwire.TxWitness) {
		tx := good.Copy()
		tx.TxIn[0].Witness = f(tx.TxIn[0].Witness)
		g.refused(t, tx, badScript, "%s", name)
	}
	flip := func(i int) func(btcwire.TxWitness) btcwire.TxWitness {
		return func(w btcwire.TxWitness) btcwire.TxWitness { w[4][i] ^= 1; return w }
	}
	mutate("parity", flip(0))
	mutate("internal key", flip(32))
	mutate("path", flip(len(cb)-1))
	mutate("leaf version", func(w btcwire.TxWitness) btcwire.TxWitness { w[4][0] ^= 2; return w })
	mutate("path cut", func(w btcwire.TxWitness) btcwire.TxWitness { w[4] = w[4][:33]; return w })
	mutate("path too long", func(w btcwire.TxWitness) btcwire.TxWitness { w[4] = append(w[4], make([]byte, 32)...); return w })
	mutate("ragged path", func(w btcwire.TxWitness) btcwire.TxWitness { w[4] = w[4][:len(w[4])-1]; return w })
	mutate("another leaf's path", func(w btcwire.TxWitness) btcwire.TxWitness { w[4] = refund.TxIn[0].Witness[2]; return w })
	mutate("a leaf that is not there", func(w btcwire.TxWitness) btcwire.TxWitness {
		return btcwire.TxWitness{{txscript.OP_TRUE}, w[4]}
	})
	mutate("a refund leaf of height 1", func(w btcwire.TxWitness) btcwire.TxWitness {
		s := contract.RefundScript(1, public(o.Refund))
		return btcwire.TxWitness{signScript(t, good, 0, prev, s, txscript.SigHashDefault, o.Refund), s, w[4]}
	})
	mutate("a branch taken for a leaf", func(w btcwire.TxWitness) btcwire.TxWitness {
		// CVE-2012-2459's cousin: the inner node's children as a script.
		l := leaves[0].TapHash()
		return btcwire.TxWitness{append(l[:], l[:]...), w[4][:65]}
	})
	mutate("an argument too many", func(w btcwire.TxWitness) btcwire.TxWitness {
		return append(btcwire.TxWitness{{1}}, w...)
	})
	mutate("no argument", func(w btcwire.TxWitness) btcwire.TxWitness { return w[3:] })
	g.confirms(t, good)
}

// TestNoEarlyRefund: the sender cannot get its money back before the block
// after T (invariant NoEarlyRefund), in either shape.
func TestNoEarlyRefund(t *testing.T) {
	g := regtest(t)
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d claims", n), func(t *testing.T) {
			T := g.tip(t) + 4
			o := newFrozen(t, t.Name(), n, T)
			at := g.fund(t, o.txOut(value))[0]
			prev := txscript.NewCannedPrevOutputFetcher(o.PkScript(), int64(value))
			good := g.refundTx(t, o.refund(at, value))
			if good.LockTime != uint32(T) || good.TxIn[0].Sequence == 0xffffffff {
				t.Fatalf("locktime %d, sequence %x", good.LockTime, good.TxIn[0].Sequence)
			}
			again := func(locktime, sequence uint32) *btcwire.MsgTx {
				tx := good.Copy()
				tx.LockTime, tx.TxIn[0].Sequence = locktime, sequence
				tx.TxIn[0].Witness[0] = signScript(t, tx, 0, prev, tx.TxIn[0].Witness[1], txscript.SigHashDefault, o.Refund)
				return tx
			}
			// A time in the past does not replace a height; nor does an earlier
			// height or a final input.
			tricks := func() {
				t.Helper()
				g.refused(t, again(uint32(T)-1, contract.Sequence), append(badScript, notFinal...), "locktime T−1 at %d", g.tip(t))
				g.refused(t, again(0, contract.Sequence), badScript, "locktime 0")
				g.refused(t, again(uint32(T), 0xffffffff), badScript, "final sequence")
				g.refused(t, again(txscript.LockTimeThreshold, contract.Sequence), badScript, "locktime as a time")
				tx := good.Copy()
				tx.LockTime, tx.TxIn[0].Sequence = 0, 0xffffffff
				g.refused(t, tx, badScript, "locktime taken out after signing")
			}
			for g.tip(t) < T {
				g.refused(t, good, notFinal, "at tip %d, T %d", g.tip(t), T)
				tricks()
				g.mine(t, 1)
			}
			tricks() // not even later
			other := good.Copy()
			other.TxIn[0].Witness[0] = signScript(t, other, 0, prev, other.TxIn[0].Witness[1], txscript.SigHashDefault, o.Agents[0].Claim)
			g.refused(t, other, badScript, "by an agent's key")
			// A claim is still valid at T; the miner decides which of the two
			// confirms.
			g.accepts(t, g.claimTx(t, 2000, o.claim(t, 0, at, value)))
			g.confirms(t, good)
		})
	}
}

// TestClaimImpliesTau: every valid claim that completes the pre-signature
// reveals τ; and without τ, σ and the agent's signature there is no such claim
// (invariant ClaimImpliesTau).
func TestClaimImpliesTau(t *testing.T) {
	g := regtest(t)
	const rounds = 24
	T := g.tip(t) + 1000
	var fos []*frozenOutput
	var outs []*btcwire.TxOut
	for i := range rounds {
		fos = append(fos, newFrozen(t, fmt.Sprint(t.Name(), i), 1+i%2*2, T))
		outs = append(outs, fos[i].txOut(value))
	}
	at := g.fund(t, outs...)
	var parities [2]int
	var claims []contract.Claim
	for i, o := range fos {
		n := i % len(o.Agents)
		a := o.Agents[n]
		ps, digest := o.preSign(t, n, at[i], value)
		parities[ps[0]-2]++
		prev := txscript.NewCannedPrevOutputFetcher(o.PkScript(), int64(value))
		c := o.claim(t, n, at[i], value)
		claims = append(claims, c)
		good := g.claimTx(t, 2000, c)
		if err := execute(good, 0, prev); err != nil {
			t.Fatal("the claim itself:", err)
		}
		// In blocks for the first of each shape, with the script engine for
		// all.
		bad := func(tx *btcwire.MsgTx, what string) {
			t.Helper()
			if err := execute(tx, 0, prev); err == nil {
				t.Errorf("%s passes", what)
			}
			if i < 2 {
				g.refused(t, tx, badScript, "%s", what)
			}
		}
		built := func(what string, f func(*contract.Claim)) {
			t.Helper()
			c := c
			f(&c)
			tx, _, err := contract.BuildClaim([]contract.Claim{c}, home, 2000, 0)
			if err != nil {
				t.Fatal(what, err)
			}
			bad(tx, what)
		}
		witness := func(what string, f func(w btcwire.TxWitness)) {
			t.Helper()
			tx := good.Copy()
			f(tx.TxIn[0].Witness)
			bad(tx, what)
		}
		built("wrong τ", func(c *contract.Claim) { c.Tau = secret("wrong") })
		built("wrong σ", func(c *contract.Claim) { c.Sigma[0] ^= 1 })
		built("wrong agent key", func(c *contract.Claim) { c.ClaimKey = secret("wrong") })
		built("the sender's key for the agent's", func(c *contract.Claim) { c.ClaimKey = a.Sender })
		built("another outpoint", func(c *contract.Claim) {
			other := c.At
			other.Vout++
			c.PreSig, _ = o.preSign(t, n, other, value)
		})
		built("another value", func(c *contract.Claim) { c.PreSig, _ = o.preSign(t, n, c.At, value+1) })
		built("a pre-signature of another T", func(c *contract.Claim) {
			c.PreSig, _ = contract.PreSign(a.Sender, a.Nonce, public(secret("wrong")), digest)
		})
		built("the other parity", func(c *contract.Claim) { c.PreSig[0] ^= 1 })
		witness("the pre-signature alone", func(w btcwire.TxWitness) {
			w[1] = append(clone(ps[1:]), byte(contract.SenderHashType))
		})
		witness("−τ", func(w btcwire.TxWitness) {
			flipped := ps
			flipped[0] ^= 1
			sig, err := contract.Complete(flipped, a.Tau)
			if err != nil {
				t.Fatal(err)
			}
			w[1] = append(clone(sig[:]), byte(contract.SenderHashType))
		})
		for _, ht := range []txscript.SigHashType{0x01, 0x02, 0x03, 0x81, 0x83, 0x00, 0x80} {
			witness(fmt.Sprintf("hash type %x", ht), func(w btcwire.TxWitness) { w[1] = append(clone(w[1][:64]), byte(ht)) })
		}
		witness("no hash type", func(w btcwire.TxWitness) { w[1] = w[1][:64] })
		witness("empty sender signature", func(w btcwire.TxWitness) { w[1] = nil })
		witness("empty agent signature", func(w btcwire.TxWitness) { w[0] = nil })
		witness("signatures swapped", func(w btcwire.TxWitness) { w[0], w[1] = w[1], w[0] })
		witness("σ of 31 bytes", func(w btcwire.TxWitness) { w[2] = w[2][:31] })
		witness("σ of 33 bytes", func(w btcwire.TxWitness) { w[2] = append(clone(w[2]), 0) })
		witness("no σ", func(w btcwire.TxWitness) { w[2] = nil })
		{ // a locktime, version or sequence that no claim has
			for what, f := range map[string]func(*btcwire.MsgTx){
				"locktime": func(tx *btcwire.MsgTx) { tx.LockTime = 1 },
				"version":  func(tx *btcwire.MsgTx) { tx.Version = 1 },
				"sequence": func(tx *btcwire.MsgTx) { tx.TxIn[0].Sequence-- },
			} {
				tx := good.Copy()
				f(tx)
				tx.TxIn[0].Witness[0] = signScript(t, tx, 0, prev, tx.TxIn[0].Witness[3], txscript.SigHashDefault, a.Claim)
				bad(tx, what)
			}
			// The agent's DEFAULT signature commits to the outputs: nobody can
			// redirect a claim in the mempool.
			tx := good.Copy()
			tx.TxOut[0].Value--
			bad(tx, "outputs changed by a third party")
		}
	}
	if parities[0] == 0 || parities[1] == 0 {
		t.Fatalf("only one parity of R in %d rounds", rounds)
	}

	// All in one transaction, as an agent batches, then read from the block
	// alone.
	tx := g.claimTx(t, 2000, claims...)
	g.confirms(t, tx)
	for i, o := range fos {
		n := i % len(o.Agents)
		a := o.Agents[n]
		in := contract.Spends(tx, at[i])
		s, err := o.ReadSpend(tx.TxIn[in].Witness)
		if err != nil || s.Claim != n || s.Sigma != a.Sigma {
			t.Fatalf("read spend %d: claim %d, %v", i, s.Claim, err)
		}
		ps, digest := o.preSign(t, n, at[i], value)
		tau, err := contract.ExtractTau(ps, s.SenderSig, a.T)
		if err != nil || tau != a.Tau {
			t.Fatalf("round %d: extracting τ: %v", i, err)
		}
		if err := public(a.Sender).Verify(digest, s.SenderSig); err != nil {
			t.Error("the digest of consensus is not the one that was pre-signed")
		}
	}

	// A sender that signs without the pre-signature is detected.
	o := newFrozen(t, t.Name()+" bypass", 1, T)
	a := o.Agents[0]
	where := g.fund(t, o.txOut(value))[0]
	ps, digest := o.preSign(t, 0, where, value)
	full, err := wire.Sign(a.Sender, digest)
	if err != nil {
		t.Fatal(err)
	}
	tx = g.claimTx(t, 2000, o.claim(t, 0, where, value))
	tx.TxIn[0].Witness[1] = append(full[:], byte(contract.SenderHashType))
	g.confirms(t, tx)
	s, err := o.ReadSpend(tx.TxIn[0].Witness)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := contract.ExtractTau(ps, s.SenderSig, a.T); !errors.Is(err, contract.ErrForeignSignature) {
		t.Errorf("a full signature: %v", err)
	}
}

// TestSiblingIsolation: with one output per agent, an agent that knows all σ,
// all pre-signatures and its own secrets cannot spend a sibling's output
// (invariant SiblingIsolation). Every witness that can be built from its
// knowledge is executed.
func TestSiblingIsolation(t *testing.T) {
	g := regtest(t)
	T := g.tip(t) + 1000
	var fos []*frozenOutput
	var outs []*btcwire.TxOut
	for i := range 3 {
		fos = append(fos, newFrozen(t, fmt.Sprint(t.Name(), i), 1, T))
		outs = append(outs, fos[i].txOut(value))
	}
	at := g.fund(t, outs...)
	thief, mine := fos[0], fos[0].Agents[0]
	own := g.claimTx(t, 2000, thief.claim(t, 0, at[0], value))

	// Its knowledge: scripts and control blocks of all (they are disclosed),
	// every σ, and the completions of the pre-signatures with its own τ.
	var scripts, controls, sigmas, senders [][]byte
	for j, o := range fos {
		tx := g.claimTx(t, 2000, o.claim(t, 0, at[j], value))
		scripts = append(scripts, tx.TxIn[0].Witness[3], g.refundTx(t, o.refund(at[j], value)).TxIn[0].Witness[1])
		controls = append(controls, tx.TxIn[0].Witness[4], g.refundTx(t, o.refund(at[j], value)).TxIn[0].Witness[2])
		sigmas = append(sigmas, clone(o.Agents[0].Sigma[:]))
		ps, _ := o.preSign(t, 0, at[j], value)
		ht := byte(contract.SenderHashType)
		senders = append(senders, append(clone(ps[1:]), ht))
		for _, s := range []wire.Secret{mine.Tau, mine.Claim, mine.Sigma, o.Agents[0].Sigma} {
			sig, err := contract.Complete(ps, s)
			if err != nil {
				t.Fatal(err)
			}
			senders = append(senders, append(clone(sig[:]), ht))
		}
	}
	for victim := 1; victim < 3; victim++ {
		o := fos[victim]
		prev := txscript.NewMultiPrevOutFetcher(nil)
		prev.AddPrevOut(contract.OutPoint(at[0]), thief.txOut(value))
		prev.AddPrevOut(contract.OutPoint(at[victim]), o.txOut(value))
		tx := own.Copy()
		tx.TxIn = append(tx.TxIn, &btcwire.TxIn{PreviousOutPoint: contract.OutPoint(at[victim]), Sequence: contract.Sequence})
		tx.TxOut[0].Value += 10_000
		tx.TxIn[0].Witness[0] = signScript(t, tx, 0, prev, tx.TxIn[0].Witness[3], txscript.SigHashDefault, mine.Claim)
		if err := execute(tx, 0, prev); err != nil {
			t.Fatal("its own input:", err)
		}
		tried := 0
		for si, script := range scripts {
			// Its own signatures, over the leaf that it shows.
			var agents [][]byte
			for _, k := range []wire.Secret{mine.Claim, mine.Tau, mine.Sigma, o.Agents[0].Sigma} {
				for _, ht := range []txscript.SigHashType{txscript.SigHashDefault, contract.SenderHashType} {
					agents = append(agents, signScript(t, tx, 1, prev, script, ht, k))
				}
			}
			control := controls[2*victim+si%2]
			for _, cb := range [][]byte{control, controls[si]} {
				for _, agentSig := range agents {
					for _, senderSig := range append(senders, agents[0], agents[1]) {
						for _, sigma := range sigmas {
							tx.TxIn[1].Witness = btcwire.TxWitness{agentSig, senderSig, sigma, script, cb}
							if err := execute(tx, 1, prev); err == nil {
								t.Fatalf("output %d taken with leaf %d", victim, si)
							}
							tried++
						}
					}
					tx.TxIn[1].Witness = btcwire.TxWitness{agentSig, script, cb}
					if err := execute(tx, 1, prev); err == nil {
						t.Fatalf("output %d refunded by an agent", victim)
					}
				}
			}
		}
		if tried < 1000 {
			t.Errorf("only %d witnesses tried", tried)
		}
		// The most likely attack, in a block: the victim's leaf and σ with the
		// attacker's signature and τ.
		ps, _ := o.preSign(t, 0, at[victim], value)
		sig, _ := contract.Complete(ps, mine.Tau)
		tx.TxIn[1].Witness = btcwire.TxWitness{signScript(t, tx, 1, prev, scripts[2*victim], txscript.SigHashDefault, mine.Claim),
			append(clone(sig[:]), byte(contract.SenderHashType)), sigmas[victim], scripts[2*victim], controls[2*victim]}
		g.refused(t, tx, badScript, "output %d in a batch with its own", victim)
	}
	// Its own claim, visible to all, does not help against the others.
	ps, _ := fos[1].preSign(t, 0, at[1], value)
	if _, err := contract.ExtractTau(ps, wire.Signature(own.TxIn[0].Witness[1][:64]), fos[1].Agents[0].T); err == nil {
		t.Error("one claim gives another's τ")
	}
	if _, err := schnorr.ParseSignature(own.TxIn[0].Witness[0]); err != nil {
		t.Error(err)
	}
	g.confirms(t, own)
}
