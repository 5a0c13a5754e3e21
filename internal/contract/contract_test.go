package contract_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/btcsuite/btcd/blockchain"
	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/chain/devchain"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/wire"
)

// bench is a chain with a purse on it, from which frozen outputs are funded.
type bench struct {
	t     testing.TB
	rng   *rand.Rand
	chain *devchain.Chain
	purse wire.Secret
	spk   []byte
	miner []byte
}

func newBench(t testing.TB) *bench {
	c, err := devchain.Open(t.TempDir())
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	b := &bench{t: t, rng: rand.New(rand.NewPCG(1, 2)), chain: c, miner: append([]byte{0x51, 0x20}, bytes.Repeat([]byte{2}, 32)...)}
	b.purse = b.secret()
	priv, err := b.purse.PrivKey()
	must(t, err)
	b.spk, err = txscript.PayToTaprootScript(txscript.ComputeTaprootKeyNoScript(priv.PubKey()))
	must(t, err)
	return b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (b *bench) secret() (s wire.Secret) {
	for i := 0; i < len(s); i += 8 {
		binary.BigEndian.PutUint64(s[i:], b.rng.Uint64())
	}
	k, err := s.PrivKey()
	must(b.t, err)
	return wire.SecretOf(k)
}

func (b *bench) key(s wire.Secret) wire.Key {
	k, err := s.PrivKey()
	must(b.t, err)
	return wire.XOnly(k.PubKey())
}

func (b *bench) tip() wire.Height {
	ref, err := b.chain.Tip(b.t.Context())
	must(b.t, err)
	return ref.Height
}

func (b *bench) mine(n int) {
	_, err := b.chain.Mine(b.t.Context(), n, b.miner)
	must(b.t, err)
}

// party is one agent's secrets in a frozen output.
type party struct{ tau, claim, sender, nonce, sigma wire.Secret }

type frozen struct {
	*bench
	out     *contract.Output
	parties []party
	refund  wire.Secret
	at      wire.Outpoint
	value   wire.Sat
}

// freeze makes an output with n claim leaves.
func (b *bench) freeze(n int, expiry wire.Height) *frozen {
	f := &frozen{bench: b, refund: b.secret(), value: 2000}
	w := wire.Frozen{Blinding: b.secret(), Expiry: expiry, RefundKey: b.key(f.refund)}
	for range n {
		p := party{b.secret(), b.secret(), b.secret(), b.secret(), b.secret()}
		f.parties = append(f.parties, p)
		w.Claims = append(w.Claims, wire.ClaimLeaf{ReleaseHash: sha(p.sigma), SenderKey: b.key(p.sender), ClaimKey: b.key(p.claim)})
	}
	var err error
	f.out, err = contract.NewOutput(w)
	must(b.t, err)
	return f
}

// fund puts outputs on the chain in one funding transaction and returns it.
func (b *bench) fund(inputs int, change bool, list ...*frozen) *btcwire.MsgTx {
	b.t.Helper()
	var outs []*btcwire.TxOut
	total := wire.Sat(0)
	for _, f := range list {
		outs = append(outs, btcwire.NewTxOut(int64(f.value), f.out.PkScript()))
		total += f.value
	}
	fee := wire.SatPerKVB(2000).Fee(contract.VSize(contract.FundingWeight(inputs, len(list), change)))
	rest := wire.Sat(0)
	if change {
		rest = 5000
	}
	var coins []wire.Outpoint
	prev := txscript.NewMultiPrevOutFetcher(nil)
	per := (total + fee + rest + wire.Sat(inputs) - 1) / wire.Sat(inputs)
	for range inputs {
		at, err := b.chain.Faucet(b.t.Context(), b.spk, per)
		must(b.t, err)
		coins = append(coins, at)
		prev.AddPrevOut(contract.OutPoint(at), btcwire.NewTxOut(int64(per), b.spk))
	}
	b.mine(1)
	var back *btcwire.TxOut
	if change {
		back = btcwire.NewTxOut(int64(rest), b.spk)
	}
	marker := append([]byte("bg\x01"), make([]byte, contract.MarkerSize-3)...)
	tx, err := contract.Funding(coins, outs, marker, back)
	must(b.t, err)
	priv, err := b.purse.PrivKey()
	must(b.t, err)
	hashes := txscript.NewTxSigHashes(tx, prev)
	for i := range tx.TxIn {
		sig, err := txscript.RawTxInTaprootSignature(tx, hashes, i, int64(per), b.spk, nil, txscript.SigHashDefault, priv)
		must(b.t, err)
		tx.TxIn[i].Witness = btcwire.TxWitness{sig}
	}
	for i, f := range list {
		f.at = wire.Outpoint{Txid: contract.Txid(tx), Vout: uint32(i)}
	}
	return tx
}

func (f *frozen) presign(i int) wire.PreSignature {
	p := f.parties[i]
	d, err := f.out.ClaimDigest(i, f.at, f.value)
	must(f.t, err)
	ps, err := contract.PreSign(p.sender, p.nonce, f.key(p.tau), d)
	must(f.t, err)
	must(f.t, contract.VerifyPreSignature(ps, f.key(p.sender), f.key(p.tau), d))
	return ps
}

func (f *frozen) claim(i int) contract.Claim {
	p := f.parties[i]
	return contract.Claim{Output: f.out, Index: i, At: f.at, Value: f.value, PreSig: f.presign(i), Sigma: p.sigma, Tau: p.tau, ClaimKey: p.claim}
}

func (f *frozen) takeBack() contract.Refund {
	return contract.Refund{Output: f.out, At: f.at, Value: f.value, Key: f.refund}
}

func weight(tx *btcwire.MsgTx) int64 { return blockchain.GetTransactionWeight(btcutil.NewTx(tx)) }

// accepted wants a transaction to pass policy now.
func (b *bench) accepted(what string, tx *btcwire.MsgTx) {
	b.t.Helper()
	if err := b.chain.TestAccept(b.t.Context(), tx); err != nil {
		b.t.Errorf("%s: %v", what, err)
	}
}

// refused wants consensus itself to refuse a transaction, past all policy.
func (b *bench) refused(what string, tx *btcwire.MsgTx) {
	b.t.Helper()
	if err := b.chain.TestAccept(b.t.Context(), tx); err == nil {
		b.t.Errorf("%s: policy takes it", what)
	}
	if _, err := b.chain.MineWith(b.t.Context(), b.miner, tx); !errors.Is(err, chain.ErrRejected) {
		b.t.Errorf("%s: consensus says %v", what, err)
	}
}

func TestWeights(t *testing.T) {
	b := newBench(t)
	for inputs := 1; inputs <= 3; inputs++ {
		for outs := 1; outs <= 3; outs++ {
			for _, change := range []bool{false, true} {
				var list []*frozen
				for range outs {
					list = append(list, b.freeze(1, 500))
				}
				tx := b.fund(inputs, change, list...)
				if got, want := weight(tx), contract.FundingWeight(inputs, outs, change); got != want {
					t.Errorf("funding %d/%d/%v: %d weight units, constants say %d", inputs, outs, change, got, want)
				}
			}
		}
	}
	for n := 1; n <= wire.MaxAgents; n++ {
		f := b.freeze(n, 500)
		for i := range n {
			tx, _, err := contract.BuildClaim([]contract.Claim{f.claim(i)}, b.spk, 1000, 0)
			must(t, err)
			want := contract.TxOverheadWeight + contract.ClaimInputWeight(i, n) + contract.P2TROutputWeight
			if got := weight(tx); got != want {
				t.Errorf("claim %d of %d: %d weight units, constants say %d", i, n, got, want)
			}
		}
	}
	for _, expiry := range []wire.Height{1, 16, 17, 127, 128, 32767, 32768, 8388607, 8388608, wire.MaxHeight} {
		for _, n := range []int{1, 3} {
			f := b.freeze(n, expiry)
			tx, _, err := contract.BuildRefund([]contract.Refund{f.takeBack()}, b.spk, 1000, 0)
			must(t, err)
			want := contract.TxOverheadWeight + contract.RefundInputWeight(expiry, n) + contract.P2TROutputWeight
			if got := weight(tx); got != want {
				t.Errorf("refund at %d of %d: %d weight units, constants say %d", expiry, n, got, want)
			}
		}
	}
	var batch []contract.Claim
	for range 100 {
		batch = append(batch, b.freeze(1, 500).claim(0))
	}
	tx, fee, err := contract.BuildClaim(batch, b.spk, 1000, 0)
	must(t, err)
	if per := float64(contract.VSize(weight(tx))) / 100; per > 135 {
		t.Errorf("a claim in a batch of 100 takes %.1f vB", per)
	}
	if want := wire.SatPerKVB(1000).Fee(contract.VSize(weight(tx))); fee != want {
		t.Errorf("fee %v, wanted %v", fee, want)
	}
	if v := contract.VSize(contract.FundingWeight(1, 3, true)); v > 335 {
		t.Errorf("funding for three agents takes %d vB", v)
	}
}

// TestPackageValid: everything that may have to go on the chain passes a
// node's policy at the moment when it may be needed.
func TestPackageValid(t *testing.T) {
	b := newBench(t)
	expiry := wire.Height(250)
	singles := []*frozen{b.freeze(1, expiry), b.freeze(1, expiry), b.freeze(1, expiry)}
	many := b.freeze(5, expiry)
	tx := b.fund(2, true, singles[0], singles[1], singles[2], many)
	b.accepted("funding", tx)
	must(t, b.chain.Broadcast(t.Context(), tx))
	b.mine(1)

	single, fee, err := contract.BuildClaim([]contract.Claim{singles[0].claim(0)}, b.spk, 2000, 0)
	must(t, err)
	b.accepted("claim", single)
	batch, _, err := contract.BuildClaim([]contract.Claim{singles[0].claim(0), singles[1].claim(0), many.claim(3)}, b.spk, 2000, 0)
	must(t, err)
	b.accepted("claim of three", batch)
	for i := range many.parties {
		tx, _, err := contract.BuildClaim([]contract.Claim{many.claim(i)}, b.spk, 2000, 0)
		must(t, err)
		b.accepted(fmt.Sprintf("one of many, agent %d", i), tx)
	}
	must(t, b.chain.Broadcast(t.Context(), single))
	dearer, _, err := contract.BuildClaim([]contract.Claim{singles[0].claim(0)}, b.spk, 2000, fee+fee/4+200)
	must(t, err)
	b.accepted("replacement of a claim", dearer)
	must(t, b.chain.Broadcast(t.Context(), dearer))
	b.mine(1)

	refund, _, err := contract.BuildRefund([]contract.Refund{singles[1].takeBack(), singles[2].takeBack(), many.takeBack()}, b.spk, 2000, 0)
	must(t, err)
	b.mine(int(expiry - b.tip()))
	b.accepted("refund of three", refund)
	must(t, b.chain.Broadcast(t.Context(), refund))
	// Until the refund confirms, a claim with a higher fee still gets in.
	late, _, err := contract.BuildClaim([]contract.Claim{singles[1].claim(0)}, b.spk, 2000, 1500)
	must(t, err)
	b.accepted("late claim against a refund in the mempool", late)
	b.mine(1)

	// What would leave dust is not built.
	poor := b.freeze(1, expiry)
	poor.value = 400
	for rate, ok := range map[wire.SatPerKVB]bool{0: true, 1000: false} {
		_, _, err := contract.BuildClaim([]contract.Claim{poor.claim(0)}, b.spk, rate, 0)
		if ok != (err == nil) || (!ok && !errors.Is(err, contract.ErrUneconomic)) {
			t.Errorf("claim of 400 sat at %d: %v", rate, err)
		}
		_, _, err = contract.BuildRefund([]contract.Refund{poor.takeBack()}, b.spk, rate, 0)
		if ok != (err == nil) || (!ok && !errors.Is(err, contract.ErrUneconomic)) {
			t.Errorf("refund of 400 sat at %d: %v", rate, err)
		}
	}
}

// TestNoEarlyRefund: before T neither policy nor consensus lets the sender
// have its money back, in either shape.
func TestNoEarlyRefund(t *testing.T) {
	b := newBench(t)
	expiry := wire.Height(125)
	one, many := b.freeze(1, expiry), b.freeze(3, expiry)
	must(t, b.chain.Broadcast(t.Context(), b.fund(1, true, one, many)))
	b.mine(1)
	for _, f := range []*frozen{one, many} {
		good, _, err := contract.BuildRefund([]contract.Refund{f.takeBack()}, b.spk, 2000, 0)
		must(t, err)
		b.refused("before T", good)
		for _, lock := range []uint32{0, uint32(b.tip()), uint32(expiry) - 1} {
			tx := b.resign(f, func(tx *btcwire.MsgTx) { tx.LockTime = lock })
			b.refused(fmt.Sprintf("locktime %d", lock), tx)
		}
		b.refused("final sequence", b.resign(f, func(tx *btcwire.MsgTx) { tx.TxIn[0].Sequence = 0xffffffff }))
	}
	b.mine(int(expiry-b.tip()) - 1) // the next block is T: a locktime of T is final only after it
	good, _, err := contract.BuildRefund([]contract.Refund{one.takeBack(), many.takeBack()}, b.spk, 2000, 0)
	must(t, err)
	b.refused("in block T", good)
	b.mine(1)
	b.accepted("after block T", good)
	b.refused("after block T, final sequence", b.resign(one, func(tx *btcwire.MsgTx) { tx.TxIn[0].Sequence = 0xffffffff }))
}

// resign is the refund of f, changed and signed anew by the sender.
func (b *bench) resign(f *frozen, change func(*btcwire.MsgTx)) *btcwire.MsgTx {
	tx, _, err := contract.BuildRefund([]contract.Refund{f.takeBack()}, b.spk, 2000, 0)
	must(b.t, err)
	change(tx)
	w := tx.TxIn[0].Witness
	prev := txscript.NewCannedPrevOutputFetcher(f.out.PkScript(), int64(f.value))
	d, err := txscript.CalcTapscriptSignaturehash(txscript.NewTxSigHashes(tx, prev), txscript.SigHashDefault, tx, 0, prev, txscript.NewBaseTapLeaf(w[1]))
	must(b.t, err)
	sig, err := wire.Sign(f.refund, wire.Hash(d))
	must(b.t, err)
	tx.TxIn[0].Witness = btcwire.TxWitness{sig[:], w[1], w[2]}
	return tx
}

// TestClaimImpliesTau: what consensus accepts gives τ away; what does not is
// not accepted.
func TestClaimImpliesTau(t *testing.T) {
	b := newBench(t)
	const n = 40 // both parities of R come up
	var list []*frozen
	for range n {
		list = append(list, b.freeze(1, 500))
	}
	must(t, b.chain.Broadcast(t.Context(), b.fund(1, false, list...)))
	b.mine(1)
	parity := map[byte]int{}
	var claims []contract.Claim
	for _, f := range list {
		c := f.claim(0)
		parity[c.PreSig[0]]++
		claims = append(claims, c)
	}
	if parity[2] == 0 || parity[3] == 0 {
		t.Fatalf("parities %v", parity)
	}
	tx, _, err := contract.BuildClaim(claims, b.spk, 2000, 0)
	must(t, err)
	for i := range list {
		for name, change := range map[string]func(w btcwire.TxWitness){
			"pre-signature alone": func(w btcwire.TxWitness) { copy(w[1], claims[i].PreSig[1:]) },
			"other σ":             func(w btcwire.TxWitness) { w[2] = append([]byte{1}, w[2][1:]...) },
			"σ of 33 bytes":       func(w btcwire.TxWitness) { w[2] = append([]byte{0}, w[2]...) },
			"no σ":                func(w btcwire.TxWitness) { w[2] = nil },
			"hash type ALL":       func(w btcwire.TxWitness) { w[1][64] = 1 },
			"no hash type":        func(w btcwire.TxWitness) { w[1] = w[1][:64] },
			"agent's signature":   func(w btcwire.TxWitness) { w[0][5] ^= 1 },
			"control block":       func(w btcwire.TxWitness) { w[4][40] ^= 1 },
			"another's script":    func(w btcwire.TxWitness) { w[3] = tx.TxIn[(i+1)%n].Witness[3] },
		} {
			if i > 3 {
				break // the same for all; a few stand for them
			}
			bad := tx.Copy()
			change(bad.TxIn[i].Witness)
			b.refused(name, bad)
		}
		s, err := list[i].out.ReadSpend(tx.TxIn[i].Witness)
		must(t, err)
		p := list[i].parties[0]
		tau, err := contract.ExtractTau(claims[i].PreSig, s.SenderSig, b.key(p.tau))
		must(t, err)
		if tau != p.tau || s.Sigma != p.sigma || s.Claim != 0 {
			t.Errorf("input %d gives another τ or σ", i)
		}
	}
	b.accepted("the claim as built", tx)
	// A wrong τ completes nothing.
	wrong := claims[0]
	wrong.Tau = b.secret()
	bad, _, err := contract.BuildClaim([]contract.Claim{wrong}, b.spk, 2000, 0)
	must(t, err)
	b.refused("wrong τ", bad)
	// A pre-signature for another outpoint or value fits no other.
	moved := list[1].claim(0)
	moved.PreSig = claims[0].PreSig
	bad, _, err = contract.BuildClaim([]contract.Claim{moved}, b.spk, 2000, 0)
	must(t, err)
	b.refused("another output's pre-signature", bad)
	must(t, b.chain.Broadcast(t.Context(), tx))
	b.mine(1)
}

// TestSiblingIsolation: with an output per agent, everything that one agent
// and the whole world may know does not move another's.
func TestSiblingIsolation(t *testing.T) {
	b := newBench(t)
	mine, theirs := b.freeze(1, 500), b.freeze(1, 500)
	must(t, b.chain.Broadcast(t.Context(), b.fund(1, true, mine, theirs)))
	b.mine(1)
	good := theirs.claim(0)
	for name, change := range map[string]func(c *contract.Claim){
		"own claim key, all else theirs": func(c *contract.Claim) { c.ClaimKey = mine.parties[0].claim },
		"own τ, all else theirs":         func(c *contract.Claim) { c.Tau = mine.parties[0].tau },
		"own σ":                          func(c *contract.Claim) { c.Sigma = mine.parties[0].sigma },
		"own pre-signature and τ": func(c *contract.Claim) {
			c.PreSig, c.Tau = mine.presign(0), mine.parties[0].tau
		},
	} {
		c := good
		change(&c)
		tx, _, err := contract.BuildClaim([]contract.Claim{c}, b.spk, 2000, 0)
		must(t, err)
		b.refused(name, tx)
	}
	// Nor does an own leaf open their output.
	c := mine.claim(0)
	tx, _, err := contract.BuildClaim([]contract.Claim{c}, b.spk, 2000, 0)
	must(t, err)
	tx.TxIn[0].PreviousOutPoint = contract.OutPoint(theirs.at)
	b.refused("own witness on their output", tx)
	tx, _, err = contract.BuildClaim([]contract.Claim{good}, b.spk, 2000, 0)
	must(t, err)
	b.accepted("their own claim", tx)
}

// TestOnlyTemplateLeaves: any other leaf, key, order or height is another
// output, and nobody has the key for the key path.
func TestOnlyTemplateLeaves(t *testing.T) {
	b := newBench(t)
	base := b.freeze(3, 500).out.Frozen()
	seen := map[string]string{}
	add := func(name string, f wire.Frozen) {
		o, err := contract.NewOutput(f)
		must(t, err)
		if other, ok := seen[string(o.PkScript())]; ok {
			t.Errorf("%s is the same output as %s", name, other)
		}
		seen[string(o.PkScript())] = name
	}
	clone := func() wire.Frozen {
		f := base
		f.Claims = append([]wire.ClaimLeaf(nil), base.Claims...)
		return f
	}
	add("base", base)
	f := clone()
	f.Blinding = b.secret()
	add("other blinding", f)
	f = clone()
	f.Expiry++
	add("other expiry", f)
	f = clone()
	f.RefundKey = b.key(b.secret())
	add("other refund key", f)
	f = clone()
	f.Claims = f.Claims[:2]
	add("one leaf less", f)
	f = clone()
	f.Claims = append(f.Claims, b.freeze(1, 500).out.Frozen().Claims[0])
	add("one leaf more", f)
	f = clone()
	f.Claims[1].ReleaseHash[0] ^= 1
	add("other release hash", f)
	f = clone()
	f.Claims[2].SenderKey = b.key(b.secret())
	add("other sender key", f)
	f = clone()
	f.Claims[0].ClaimKey = b.key(b.secret())
	add("other claim key", f)
	// The order of leaves shows: BIP341 sorts siblings, so the first two of
	// four are one pair whatever their order, but not the first and the third.
	f = clone()
	f.Claims[0], f.Claims[2] = f.Claims[2], f.Claims[0]
	add("other order", f)

	// Every secret that anybody has, tried on the key path.
	g := b.freeze(1, 500)
	must(t, b.chain.Broadcast(t.Context(), b.fund(1, true, g)))
	b.mine(1)
	p := g.parties[0]
	for _, s := range []wire.Secret{p.tau, p.claim, p.sender, p.sigma, g.refund, g.out.Frozen().Blinding, b.purse} {
		tx := btcwire.NewMsgTx(2)
		tx.AddTxIn(&btcwire.TxIn{PreviousOutPoint: contract.OutPoint(g.at), Sequence: contract.Sequence})
		tx.AddTxOut(btcwire.NewTxOut(int64(g.value)-500, b.spk))
		prev := txscript.NewCannedPrevOutputFetcher(g.out.PkScript(), int64(g.value))
		d, err := txscript.CalcTaprootSignatureHash(txscript.NewTxSigHashes(tx, prev), txscript.SigHashDefault, tx, 0, prev)
		must(t, err)
		sig, err := wire.Sign(s, wire.Hash(d))
		must(t, err)
		tx.TxIn[0].Witness = btcwire.TxWitness{sig[:]}
		b.refused("key path", tx)
	}
}

// TestNonceOnce: no two digests, points or keys ever share a nonce, and the
// same inputs give the same bytes at both ends.
func TestNonceOnce(t *testing.T) {
	b := newBench(t)
	key, nonce := b.secret(), b.secret()
	T := b.key(b.secret())
	seen := map[[32]byte]string{}
	for i := range 300 {
		k, n, p := key, nonce, T
		what := "digest"
		switch i % 4 {
		case 1:
			k, what = b.secret(), "key"
		case 2:
			n, what = b.secret(), "nonce key"
		case 3:
			p, what = b.key(b.secret()), "point"
		}
		d := wire.Tagged("test", binary.BigEndian.AppendUint32(nil, uint32(i)))
		a, err := contract.PreSign(k, n, p, d)
		must(t, err)
		again, err := contract.PreSign(k, n, p, d)
		must(t, err)
		if a != again {
			t.Fatal("the same inputs give another pre-signature")
		}
		r := [32]byte(a[1:33])
		if other, ok := seen[r]; ok {
			t.Fatalf("another %s and another %s share R", what, other)
		}
		seen[r] = what
		// The nonce point itself, R−T, is fresh too: with one nonce under two
		// points R would differ and the key would still be given away.
		kG := noncePoint(t, a, p)
		if other, ok := seen[kG]; ok {
			t.Fatalf("another %s and another %s share k", what, other)
		}
		seen[kG] = what
	}
}

// noncePoint is the x coordinate of kG = ±(R − T) for a pre-signature.
func noncePoint(t *testing.T, ps wire.PreSignature, T wire.Key) [32]byte {
	R, err := wire.Key(ps[1:33]).Point()
	must(t, err)
	p, err := T.Point()
	must(t, err)
	var r, tt, k btcec.JacobianPoint
	R.AsJacobian(&r)
	p.AsJacobian(&tt)
	if ps[0] == 2 {
		tt.Y.Negate(1).Normalize() // even R is kG + T; odd R, lifted to even, is −kG − T: its k is negated as well
	}
	btcec.AddNonConst(&r, &tt, &k)
	k.ToAffine()
	return *k.X.Bytes()
}

func TestAdaptorRefusesEveryFlip(t *testing.T) {
	b := newBench(t)
	key, nonce, tau := b.secret(), b.secret(), b.secret()
	T, P := b.key(tau), b.key(key)
	for round := range 8 {
		d := wire.Tagged("test", []byte{byte(round)})
		ps, err := contract.PreSign(key, nonce, T, d)
		must(t, err)
		for i := range ps {
			bad := ps
			bad[i] ^= 1
			if contract.VerifyPreSignature(bad, P, T, d) == nil {
				t.Errorf("byte %d flipped: accepted", i)
			}
		}
		if contract.VerifyPreSignature(ps, P, b.key(b.secret()), d) == nil {
			t.Error("wrong T accepted")
		}
		if contract.VerifyPreSignature(ps, T, T, d) == nil {
			t.Error("wrong key accepted")
		}
		sig, err := contract.Complete(ps, tau)
		must(t, err)
		must(t, P.Verify(d, sig))
		got, err := contract.ExtractTau(ps, sig, T)
		must(t, err)
		if got != tau {
			t.Error("another τ")
		}
		full, err := wire.Sign(key, d)
		must(t, err)
		if _, err := contract.ExtractTau(ps, full, T); !errors.Is(err, contract.ErrForeignSignature) {
			t.Errorf("a full signature: %v", err)
		}
	}
}

func TestReadSpend(t *testing.T) {
	b := newBench(t)
	f := b.freeze(2, 500)
	claim, _, err := contract.BuildClaim([]contract.Claim{f.claim(1)}, b.spk, 1000, 0)
	must(t, err)
	refund, _, err := contract.BuildRefund([]contract.Refund{f.takeBack()}, b.spk, 1000, 0)
	must(t, err)
	s, err := f.out.ReadSpend(claim.TxIn[0].Witness)
	if err != nil || s.Claim != 1 {
		t.Errorf("claim: %+v %v", s, err)
	}
	s, err = f.out.ReadSpend(append(claim.TxIn[0].Witness, []byte{txscript.TaprootAnnexTag, 1}))
	if err != nil || s.Claim != 1 {
		t.Errorf("claim with an annex: %+v %v", s, err)
	}
	s, err = f.out.ReadSpend(refund.TxIn[0].Witness)
	if err != nil || s.Claim != -1 {
		t.Errorf("refund: %+v %v", s, err)
	}
	for _, w := range []btcwire.TxWitness{nil, {{}}, {{}, {}, {}}, {make([]byte, 64)}, claim.TxIn[0].Witness[1:]} {
		if _, err := f.out.ReadSpend(w); !errors.Is(err, contract.ErrNotOurs) {
			t.Errorf("foreign witness %x: %v", w, err)
		}
	}
}

func FuzzDecodeTx(f *testing.F) {
	b := newBench(f)
	one := b.freeze(1, 500)
	f.Add(contract.EncodeTx(b.fund(1, true, one)))
	f.Add(contract.EncodeTx(b.fund(2, false, one)))
	f.Add([]byte{2, 0, 0, 0, 0, 1})
	f.Add([]byte{2, 0, 0, 0, 0xfe, 0, 0, 10, 0, 1, 2, 3}) // 655,360 inputs
	f.Fuzz(func(t *testing.T, raw []byte) {
		tx, err := contract.DecodeTx(raw)
		if err != nil {
			if !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("%v does not wrap ErrMalformed", err)
			}
			return
		}
		if !bytes.Equal(contract.EncodeTx(tx), raw) {
			t.Error("another encoding is accepted")
		}
		contract.Marker(tx)
	})
}

// A few bytes that announce much make no room for it.
func TestDecodeTxAllocatesLittle(t *testing.T) {
	for _, raw := range [][]byte{{2, 0, 0, 0, 0xfe, 0, 0, 10, 0, 1, 2, 3}, append(append([]byte{2, 0, 0, 0, 1}, make([]byte, 41)...), 0xfe, 0, 0, 10, 0)} {
		if bytes := testing.Benchmark(func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				if _, err := contract.DecodeTx(raw); !errors.Is(err, wire.ErrMalformed) {
					b.Fatal(err)
				}
			}
		}).AllocedBytesPerOp(); bytes > 4096 {
			t.Errorf("%x: %d bytes", raw, bytes)
		}
	}
}

func FuzzReadSpend(f *testing.F) {
	b := newBench(f)
	o := b.freeze(2, 500)
	claim, _, err := contract.BuildClaim([]contract.Claim{o.claim(0)}, b.spk, 1000, 0)
	must(f, err)
	w := claim.TxIn[0].Witness
	f.Add(w[0], w[1], w[2], w[3], w[4])
	f.Add(w[1], w[1], w[2], w[3], []byte{0x50})
	f.Fuzz(func(t *testing.T, a, b, c, d, e []byte) {
		for _, w := range []btcwire.TxWitness{{a}, {a, b}, {a, b, c}, {a, b, c, d}, {a, b, c, d, e}} {
			if s, err := o.out.ReadSpend(w); err != nil && !errors.Is(err, contract.ErrNotOurs) || err == nil && (s.Claim < -1 || s.Claim > 1) {
				t.Errorf("%+v %v", s, err)
			}
		}
	})
}

func sha(s wire.Secret) wire.Hash { return sha256.Sum256(s[:]) }
