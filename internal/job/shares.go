package job

import (
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// A penny's secret s of 16 bytes is dealt with Shamir's scheme over the scalars
// of secp256k1: f(0) = s, f of degree t−1, and party j holds f(j+1). The
// arithmetic is btcec's. A combined secret is right if and only if it hashes
// forward to the bank's public penny.

// Share is f(j+1), a scalar of 32 bytes.
type Share = wire.Secret

// scalarOf parses a scalar; ok is false if it is n or more.
func scalarOf(b [32]byte) (s btcec.ModNScalar, ok bool) {
	return s, s.SetBytes(&b) == 0
}

// at returns a party's x coordinate.
func at(party uint8) (x btcec.ModNScalar) {
	x.SetInt(uint32(party) + 1)
	return x
}

// split deals secret to the holders. The coefficients above the lowest are
// coef(1), …, coef(t−1), which must be uniform and secret.
func split(secret [wire.PennySize]byte, t uint8, coef func(d uint8) btcec.ModNScalar, holders []uint8) []Share {
	var padded [32]byte
	copy(padded[32-wire.PennySize:], secret[:])
	low, _ := scalarOf(padded)
	list := make([]btcec.ModNScalar, t)
	list[0] = low
	for d := uint8(1); d < t; d++ {
		list[d] = coef(d)
	}
	shares := make([]Share, len(holders))
	for i, h := range holders {
		var y btcec.ModNScalar
		x := at(h)
		for d := int(t) - 1; d >= 0; d-- {
			y.Mul(&x).Add(&list[d])
		}
		shares[i] = Share(y.Bytes())
	}
	return shares
}

// interpolate returns f(0) of the points; holders are distinct. ok is false if
// a share is not a scalar or f(0) is not a penny's secret.
func interpolate(holders []uint8, shares []Share) (secret [wire.PennySize]byte, ok bool) {
	var sum btcec.ModNScalar
	for i, s := range shares {
		term, ok := scalarOf(s)
		if !ok {
			return secret, false
		}
		for j := range holders {
			if j == i {
				continue
			}
			// x_j / (x_j − x_i)
			num, den, xi := at(holders[j]), at(holders[j]), at(holders[i])
			den.Add(xi.Negate())
			term.Mul(&num).Mul(den.InverseNonConst())
		}
		sum.Add(&term)
	}
	b := sum.Bytes()
	for _, x := range b[:32-wire.PennySize] {
		if x != 0 {
			return secret, false
		}
	}
	copy(secret[:], b[32-wire.PennySize:])
	return secret, true
}

// Window commits the buyer to all shares of the pennies First … First+Count−1
// of every bank. Its root is that of three levels of trees, each in the shape
// of RFC 6962: over the pennies that one party holds of another, over the other
// parties, over the holders.
type Window struct {
	_     struct{} `cbor:",toarray"`
	First uint32   // counted from 1
	Count uint32
	Root  wire.Hash
	Sig   wire.Signature // the buyer's
}

func (w *Window) digest(t *Terms) wire.Hash {
	return wire.Tagged("job-window", t.Job[:], u32(w.First), u32(w.Count), w.Root[:])
}

// Verify checks the window's position and signature, or returns ErrDeal.
func (w *Window) Verify(t *Terms) error {
	if w.Count != t.Window || w.First%t.Window != 1%t.Window || w.First < 1 || w.First > t.Epochs {
		return fmt.Errorf("%w: no window from %d of %d", ErrDeal, w.First, w.Count)
	}
	if verify(t.Buyer, w.digest(t), w.Sig) != nil {
		return fmt.Errorf("%w: not the buyer's signature", ErrDeal)
	}
	return nil
}

// Last returns the highest count that the window deals.
func (w *Window) Last() uint32 { return w.First + w.Count - 1 }

// Committed is one share under a window's root.
type Committed struct {
	_       struct{} `cbor:",toarray"`
	Holder  uint8
	Node    uint8  // whose penny it is
	K       uint32 // its count, from 1
	Share   Share
	Pennies []wire.Hash // path among the pennies of Node that Holder has shares of
	Nodes   []wire.Hash // path among the nodes that Holder has shares of
	Holders []wire.Hash // and among the holders
}

// Leaves of the three trees.
func pennyLeaf(t *Terms, holder, node uint8, k uint32, s Share) wire.Hash {
	return wire.Tagged("job-share", t.Job[:], u8(holder), u8(node), u32(k), s[:])
}
func nodeLeaf(node uint8, root wire.Hash) wire.Hash {
	return wire.Tagged("job-share-node", u8(node), root[:])
}
func holderLeaf(holder uint8, root wire.Hash) wire.Hash {
	return wire.Tagged("job-share-holder", u8(holder), root[:])
}

// rank returns the index of node among those of which holder has shares: all
// but itself.
func rank(holder, node uint8) int {
	if node > holder {
		return int(node) - 1
	}
	return int(node)
}

// Holds reports whether the window's root commits to a share.
func (w *Window) Holds(t *Terms, c *Committed) bool {
	p := len(t.Parties)
	if int(c.Holder) >= p || int(c.Node) >= p || c.Holder == c.Node || c.K < w.First || c.K-w.First >= w.Count {
		return false
	}
	a, ok := climb(pennyLeaf(t, c.Holder, c.Node, c.K, c.Share), int(c.K-w.First), int(w.Count), c.Pennies)
	if !ok {
		return false
	}
	b, ok := climb(nodeLeaf(c.Node, a), rank(c.Holder, c.Node), p-1, c.Nodes)
	return ok && seal.VerifySection(holderLeaf(c.Holder, b), int(c.Holder), p, c.Holders, w.Root)
}

// climb computes the root to which a section leads.
func climb(leaf wire.Hash, index, count int, path []wire.Hash) (h wire.Hash, ok bool) {
	h, fn, sn := leaf, index, count-1
	for _, p := range path {
		if sn == 0 {
			return h, false
		}
		if fn&1 == 1 || fn == sn {
			h = wire.Tagged("node", p[:], h[:])
			for fn&1 == 0 && fn != 0 {
				fn, sn = fn>>1, sn>>1
			}
		} else {
			h = wire.Tagged("node", h[:], p[:])
		}
		fn, sn = fn>>1, sn>>1
	}
	return h, sn == 0
}

// Shares are the shares of one party's pennies, in order, encoded as one string
// of bytes.
type Shares []Share

// MarshalBinary implements encoding.BinaryMarshaler.
func (l Shares) MarshalBinary() ([]byte, error) {
	b := make([]byte, 0, len(Share{})*len(l))
	for _, s := range l {
		b = append(b, s[:]...)
	}
	return b, nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (l *Shares) UnmarshalBinary(b []byte) error {
	const size = len(Share{})
	if len(b)%size != 0 || len(b) > size*MaxWindow {
		return fmt.Errorf("%w: shares of %d bytes", wire.ErrMalformed, len(b))
	}
	*l = nil
	for ; len(b) > 0; b = b[size:] {
		*l = append(*l, Share(b[:size]))
	}
	return nil
}

// Dealt contains the shares that a window deals to one party. It is stored as
// it is; the node's machine is told only that it is stored.
type Dealt struct {
	_       struct{} `cbor:",toarray"`
	Window  Window
	Holder  uint8
	Shares  []Shares    // of each other party in order
	Holders []wire.Hash // path of Holder's root
}

// MaxSize implements wire.Limited.
func (*Dealt) MaxSize() int { return 1024 + MaxParties*(MaxWindow*34+4) }

// Check implements wire.Limited. Verify verifies the content.
func (d *Dealt) Check() error {
	if len(d.Shares) > MaxParties || len(d.Holders) > 6 {
		return fmt.Errorf("%w: %w: shares of %d parties", wire.ErrMalformed, ErrDeal, len(d.Shares))
	}
	for _, list := range d.Shares {
		if len(list) > MaxWindow {
			return fmt.Errorf("%w: %w: %d shares", wire.ErrMalformed, ErrDeal, len(list))
		}
	}
	return nil
}

// others are all parties but one.
func (t *Terms) others(me uint8) (list []uint8) {
	for i := range t.Parties {
		if uint8(i) != me {
			list = append(list, uint8(i))
		}
	}
	return list
}

// leaves returns the leaves of the pennies that the holder has of the i-th of
// the others.
func (d *Dealt) leaves(t *Terms, i int) []wire.Hash {
	node := t.others(d.Holder)[i]
	list := make([]wire.Hash, len(d.Shares[i]))
	for n, s := range d.Shares[i] {
		list[n] = pennyLeaf(t, d.Holder, node, d.Window.First+uint32(n), s)
	}
	return list
}

// nodes returns the leaves of the middle tree.
func (d *Dealt) nodes(t *Terms) ([]wire.Hash, error) {
	var list []wire.Hash
	for i, node := range t.others(d.Holder) {
		root, err := seal.Root(d.leaves(t, i))
		if err != nil {
			return nil, err
		}
		list = append(list, nodeLeaf(node, root))
	}
	return list, nil
}

// Verify verifies everything that a holder is dealt, or returns ErrDeal. A
// holder must call it before it runs an epoch that these shares pay for.
// Whether they yield the right secrets shows at their first use.
func (d *Dealt) Verify(t *Terms) error {
	if err := d.Window.Verify(t); err != nil {
		return err
	}
	if int(d.Holder) >= len(t.Parties) || len(d.Shares) != len(t.Parties)-1 {
		return fmt.Errorf("%w: shares of %d parties", ErrDeal, len(d.Shares))
	}
	for _, list := range d.Shares {
		if len(list) != int(d.Window.Count) {
			return fmt.Errorf("%w: %d shares, of %d", ErrDeal, len(list), d.Window.Count)
		}
		for _, s := range list {
			if _, ok := scalarOf(s); !ok {
				return fmt.Errorf("%w: a share is not a scalar", ErrDeal)
			}
		}
	}
	nodes, err := d.nodes(t)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDeal, err)
	}
	root, err := seal.Root(nodes)
	if err != nil || !seal.VerifySection(holderLeaf(d.Holder, root), int(d.Holder), len(t.Parties), d.Holders, d.Window.Root) {
		return fmt.Errorf("%w: not under the window's root", ErrDeal)
	}
	return nil
}

// Share returns one dealt share with its section, or ErrShare if it is not in
// d, which must be verified.
func (d *Dealt) Share(t *Terms, node uint8, k uint32) (*Committed, error) {
	if int(node) >= len(t.Parties) || node == d.Holder || k < d.Window.First || k > d.Window.Last() {
		return nil, fmt.Errorf("%w: none of penny %d of party %d", ErrShare, k, node)
	}
	i, n := rank(d.Holder, node), int(k-d.Window.First)
	c := &Committed{Holder: d.Holder, Node: node, K: k, Share: d.Shares[i][n], Holders: slices.Clone(d.Holders)}
	var err error
	if c.Pennies, err = seal.Section(d.leaves(t, i), n); err != nil {
		return nil, err
	}
	nodes, err := d.nodes(t)
	if err == nil {
		c.Nodes, err = seal.Section(nodes, i)
	}
	return c, err
}

// Deal is the buyer's side: it returns what each party is dealt by the window
// that starts at first. secret returns each bank's pennies by count. The
// coefficients derive from seed, so a buyer that keeps it deals the same shares
// again after a crash. Pennies beyond a bank's end are zeros. Errors wrap
// ErrDeal or ErrTerms.
func Deal(t *Terms, buyer, seed wire.Secret, first uint32, secret func(node uint8, k uint32) [wire.PennySize]byte) ([]Dealt, error) {
	if err := t.Check(); err != nil {
		return nil, err
	}
	w := Window{First: first, Count: t.Window}
	list := make([]Dealt, len(t.Parties))
	for j := range list {
		list[j].Holder = uint8(j)
		list[j].Shares = make([]Shares, len(t.Parties)-1)
	}
	for i := range t.Parties {
		node := uint8(i)
		holders := t.others(node)
		for k := first; k-first < w.Count; k++ {
			var s [wire.PennySize]byte
			if k <= t.Parties[i].Pennies {
				s = secret(node, k)
			}
			coef := func(d uint8) (c btcec.ModNScalar) {
				h := wire.Tagged("job-share-coefficient", t.Job[:], seed[:], u8(node), u32(k), u8(d))
				c.SetBytes((*[32]byte)(&h)) // reduced: the bias is 2^-128
				return c
			}
			for n, share := range split(s, t.T, coef, holders) {
				j := holders[n]
				list[j].Shares[rank(j, node)] = append(list[j].Shares[rank(j, node)], share)
			}
		}
	}
	tops := make([]wire.Hash, len(list))
	for j := range list {
		list[j].Window = w
		nodes, err := list[j].nodes(t)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDeal, err)
		}
		root, err := seal.Root(nodes)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDeal, err)
		}
		tops[j] = holderLeaf(uint8(j), root)
	}
	var err error
	if w.Root, err = seal.Root(tops); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDeal, err)
	}
	if w.Sig, err = sign(buyer, w.digest(t)); err != nil {
		return nil, err
	}
	for j := range list {
		list[j].Window = w
		if list[j].Holders, err = seal.Section(tops, j); err != nil {
			return nil, err
		}
	}
	return list, w.Verify(t)
}

// MayDeal reports whether the buyer may deal the window that starts at first,
// if it has inspected the job up to epoch seen. At most two windows lie beyond
// seen, which limits what a coalition can take from each of its banks.
func MayDeal(t *Terms, first, seen uint32) bool {
	return uint64(first) <= uint64(seen)+uint64(t.Window)+1
}

// Give carries a share to the node whose penny it is for. The holder signs all
// of it, so a bad share convicts it.
type Give struct {
	_      struct{} `cbor:",toarray"`
	Window Window
	Share  Committed
	Sig    wire.Signature // the holder's
}

// MaxSize implements wire.Limited.
func (*Give) MaxSize() int { return 512 + 3*6*34 }

// Check implements wire.Limited.
func (g *Give) Check() error {
	if len(g.Share.Pennies) > 6 || len(g.Share.Nodes) > 6 || len(g.Share.Holders) > 6 {
		return fmt.Errorf("%w: %w: a long path", wire.ErrMalformed, ErrShare)
	}
	return nil
}

func (g *Give) digest(t *Terms) wire.Hash {
	c := *g
	c.Sig = wire.Signature{}
	return digestOf("job-give", t.Job, &c)
}

// NewGive signs a dealt share for the node whose penny it is for.
func NewGive(t *Terms, d *Dealt, key wire.Secret, node uint8, k uint32) (*Give, error) {
	c, err := d.Share(t, node, k)
	if err != nil {
		return nil, err
	}
	g := &Give{Window: d.Window, Share: *c}
	g.Sig, err = sign(key, g.digest(t))
	return g, err
}

// Signed verifies the giver's signature, or returns ErrMessage. Only a signed
// Give is a proof.
func (g *Give) Signed(t *Terms) error {
	if err := g.Check(); err != nil {
		return err
	}
	if int(g.Share.Holder) >= len(t.Parties) || verify(t.Parties[g.Share.Holder].Key, g.digest(t), g.Sig) != nil {
		return fmt.Errorf("%w: not the giver's signature", ErrMessage)
	}
	return nil
}

// Right verifies a signed share against the window that it names. If it returns
// ErrShare, the giver is at fault.
func (g *Give) Right(t *Terms) error {
	if err := g.Window.Verify(t); err != nil {
		return fmt.Errorf("%w: %w", ErrShare, err)
	}
	if _, ok := scalarOf(g.Share.Share); !ok || !g.Window.Holds(t, &g.Share) {
		return fmt.Errorf("%w: not what was dealt", ErrShare)
	}
	return nil
}

// Combine computes the k-th penny of a node from shares of it that are all
// committed in one window and right, trying T of them at a time. known is a
// penny of a lower count. If some T do not yield the penny, they are returned
// as bad: a false deal. It returns ErrCombine if none do.
func Combine(t *Terms, shares []Committed, known penny.Penny) (secret [wire.PennySize]byte, bad []Committed, err error) {
	if len(shares) < int(t.T) || len(shares) > MaxParties {
		return secret, nil, fmt.Errorf("%w: %d of %d", ErrCombine, len(shares), t.T)
	}
	found := false
	pick := make([]int, t.T)
	for i := range pick {
		pick[i] = i
	}
	for {
		holders, values := make([]uint8, t.T), make([]Share, t.T)
		for i, n := range pick {
			holders[i], values[i] = shares[n].Holder, shares[n].Share
		}
		s, ok := interpolate(holders, values)
		if ok && t.pays(shares[0].Node, shares[0].K, s, known) {
			secret, found = s, true
		} else if bad == nil {
			for _, n := range pick {
				bad = append(bad, shares[n])
			}
		}
		if found {
			return secret, bad, nil
		}
		if !next(pick, len(shares)) {
			return secret, bad, ErrCombine
		}
	}
}

// next advances to the next choice of indices below n, in order; it returns
// false after the last.
func next(pick []int, n int) bool {
	for i := len(pick) - 1; i >= 0; i-- {
		if pick[i] < n-len(pick)+i {
			pick[i]++
			for j := i + 1; j < len(pick); j++ {
				pick[j] = pick[j-1] + 1
			}
			return true
		}
	}
	return false
}

// sign and verify are wire's; tests that explore many states cache their
// results.
var (
	sign   = wire.Sign
	verify = wire.Key.Verify
)

// Culprit is the party that a proof convicts.
type Culprit struct {
	Buyer bool
	Party uint8 // if it is not the buyer
}

func (c Culprit) String() string {
	if c.Buyer {
		return "the buyer"
	}
	return fmt.Sprintf("party %d", c.Party)
}

// Proof is a proof that anyone can verify with the job's terms alone. The set
// of types is closed.
type Proof interface {
	// Against returns the culprit, or ErrNoProof if the proof is not valid.
	Against(t *Terms) (Culprit, error)
}

// BadShare proves that a party signed and gave a share that it was not dealt.
type BadShare struct {
	_    struct{} `cbor:",toarray"`
	Give Give
}

// FalseDeal proves that the buyer committed to shares that do not yield the
// penny.
type FalseDeal struct {
	_      struct{} `cbor:",toarray"`
	Window Window
	Shares []Committed // T of them
}

// TwoWindows proves that the buyer committed to two roots of the same pennies.
type TwoWindows struct {
	_    struct{} `cbor:",toarray"`
	A, B Window
}

// Against implements Proof.
func (p *BadShare) Against(t *Terms) (Culprit, error) {
	if err := p.Give.Signed(t); err != nil {
		return Culprit{}, fmt.Errorf("%w: %w", ErrNoProof, err)
	}
	if p.Give.Right(t) == nil {
		return Culprit{}, fmt.Errorf("%w: the share is right", ErrNoProof)
	}
	return Culprit{Party: p.Give.Share.Holder}, nil
}

// Against implements Proof.
func (p *FalseDeal) Against(t *Terms) (Culprit, error) {
	if err := p.Window.Verify(t); err != nil {
		return Culprit{}, fmt.Errorf("%w: %w", ErrNoProof, err)
	}
	if len(p.Shares) != int(t.T) {
		return Culprit{}, fmt.Errorf("%w: %d shares", ErrNoProof, len(p.Shares))
	}
	var holders []uint8
	var values []Share
	for i := range p.Shares {
		c := &p.Shares[i]
		if !p.Window.Holds(t, c) || c.Node != p.Shares[0].Node || c.K != p.Shares[0].K || slices.Contains(holders, c.Holder) {
			return Culprit{}, fmt.Errorf("%w: share %d", ErrNoProof, i)
		}
		holders, values = append(holders, c.Holder), append(values, c.Share)
	}
	node, k := p.Shares[0].Node, p.Shares[0].K
	if k > t.Parties[node].Pennies {
		return Culprit{}, fmt.Errorf("%w: there is no penny %d", ErrNoProof, k)
	}
	if s, ok := interpolate(holders, values); ok && t.pays(node, k, s, t.first(node)) {
		return Culprit{}, fmt.Errorf("%w: the shares yield the penny", ErrNoProof)
	}
	return Culprit{Buyer: true}, nil
}

// Against implements Proof.
func (p *TwoWindows) Against(t *Terms) (Culprit, error) {
	if err := errors.Join(p.A.Verify(t), p.B.Verify(t)); err != nil {
		return Culprit{}, fmt.Errorf("%w: %w", ErrNoProof, err)
	}
	if p.A.First != p.B.First || p.A.Root == p.B.Root {
		return Culprit{}, fmt.Errorf("%w: they agree", ErrNoProof)
	}
	return Culprit{Buyer: true}, nil
}
