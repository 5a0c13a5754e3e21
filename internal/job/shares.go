package job

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/bitgram/bitgram/penny"
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

// Window commits the buyer to all shares of the pennies First … First+Count−1 of
// one bank. Its root is that of three levels of trees, each in the shape of RFC
// 6962: over the pennies of a sheet, over a holder's sheets, over the holders.
type Window struct {
	_     struct{} `cbor:",toarray"`
	Node  uint8    // whose pennies they are
	First uint32   // counted from 1
	Count uint32
	Root  wire.Hash
	Sig   wire.Signature // the buyer's
}

func (w *Window) digest(t *Terms) wire.Hash {
	return wire.Tagged("job-window", t.job(), u8(w.Node), u32(w.First), u32(w.Count), w.Root[:])
}

// count returns the pennies of the window that starts at first: Window of them,
// or those that are left.
func (t *Terms) count(first uint32) uint32 { return min(t.Window, t.Epochs-first+1) }

// Verify checks the window's position and signature, or returns ErrDeal.
func (w *Window) Verify(t *Terms) error { return w.verify(t, verify) }

func (w *Window) verify(t *Terms, check checker) error {
	if int(w.Node) >= len(t.Parties) || w.First < 1 || w.First > t.Epochs || (w.First-1)%t.Window != 0 || w.Count != t.count(w.First) {
		return fmt.Errorf("%w: no window of party %d from %d of %d", ErrDeal, w.Node, w.First, w.Count)
	}
	if check(t.Buyer, w.digest(t), w.Sig) != nil {
		return fmt.Errorf("%w: not the buyer's signature", ErrDeal)
	}
	return nil
}

// Last returns the highest count that the window deals.
func (w *Window) Last() uint32 { return w.First + w.Count - 1 }

// sheets returns the number of a window's sheets, and sheetSize the number of
// pennies in one of them.
func (w *Window) sheets() int { return int((w.Count + SheetSize - 1) / SheetSize) }
func (w *Window) sheetSize(i int) int {
	return int(min(SheetSize, w.Count-min(w.Count, uint32(i)*SheetSize)))
}

// Committed is one share under a window's root.
type Committed struct {
	_       struct{} `cbor:",toarray"`
	Holder  uint8
	Node    uint8  // whose penny it is
	K       uint32 // its count, from 1
	Share   Share
	Pennies []wire.Hash // path among the pennies of the sheet
	Sheets  []wire.Hash // path among the sheets of the holder
	Holders []wire.Hash // path among the holders
}

// Leaves of the three trees.
func pennyLeaf(t *Terms, holder, node uint8, k uint32, s Share) wire.Hash {
	return wire.Tagged("job-share", t.job(), u8(holder), u8(node), u32(k), s[:])
}
func sheetLeaf(sheet int, root wire.Hash) wire.Hash {
	return wire.Tagged("job-share-sheet", u32(uint32(sheet)), root[:])
}
func holderLeaf(holder uint8, root wire.Hash) wire.Hash {
	return wire.Tagged("job-share-holder", u8(holder), root[:])
}

// rank returns the index of a holder among those that have shares of node: all but
// node itself.
func rank(holder, node uint8) int {
	if holder > node {
		return int(holder) - 1
	}
	return int(holder)
}

// Holds reports whether the window's root commits to a share.
func (w *Window) Holds(t *Terms, c *Committed) bool {
	p := len(t.Parties)
	if int(c.Holder) >= p || c.Node != w.Node || c.Holder == c.Node || c.K < w.First || c.K-w.First >= w.Count {
		return false
	}
	at := int(c.K - w.First)
	sheet := at / SheetSize
	a, ok := climb(pennyLeaf(t, c.Holder, c.Node, c.K, c.Share), at%SheetSize, w.sheetSize(sheet), c.Pennies)
	if !ok {
		return false
	}
	b, ok := climb(sheetLeaf(sheet, a), sheet, w.sheets(), c.Sheets)
	if !ok {
		return false
	}
	top, ok := climb(holderLeaf(c.Holder, b), rank(c.Holder, c.Node), p-1, c.Holders)
	return ok && top == w.Root
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

// half returns the size of the left subtree of n > 1 leaves (RFC 6962 §2.1).
func half(n int) int { return 1 << (bits.Len(uint(n-1)) - 1) }

// root returns the root of at least one leaf. seal.Root is the same for at most 64.
func root(leaves []wire.Hash) wire.Hash {
	if len(leaves) == 1 {
		return leaves[0]
	}
	k := half(len(leaves))
	l, r := root(leaves[:k]), root(leaves[k:])
	return wire.Tagged("node", l[:], r[:])
}

// section returns the path of leaf i.
func section(leaves []wire.Hash, i int) []wire.Hash {
	if len(leaves) == 1 {
		return nil
	}
	k := half(len(leaves))
	if i < k {
		return append(section(leaves[:k], i), root(leaves[k:]))
	}
	return append(section(leaves[k:], i-k), root(leaves[:k]))
}

// Shares are shares of consecutive pennies, encoded as one string of bytes.
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
	if len(b)%size != 0 || len(b) > size*SheetSize {
		return fmt.Errorf("%w: shares of %d bytes", wire.ErrMalformed, len(b))
	}
	*l = nil
	for ; len(b) > 0; b = b[size:] {
		*l = append(*l, Share(b[:size]))
	}
	return nil
}

// Dealt is a sheet: up to SheetSize of the shares that a window deals to one
// holder. Sheets are stored as they are; the holder's machine is told only that all
// of a window are stored.
type Dealt struct {
	_       struct{} `cbor:",toarray"`
	Window  Window
	Holder  uint8
	Sheet   uint32      // its index
	Shares  Shares      // of the pennies from Window.First + Sheet × SheetSize
	Sheets  []wire.Hash // path of the sheet
	Holders []wire.Hash // path of the holder
}

// Sizes of paths: of a tree over a sheet's pennies, a window's sheets, and parties.
const (
	maxPennyPath  = 8
	maxSheetPath  = 8
	maxHolderPath = 3
	maxPath       = (maxPennyPath + maxSheetPath + maxHolderPath) * 34
)

// MaxSize implements wire.Limited.
func (*Dealt) MaxSize() int { return 256 + SheetSize*32 + (maxSheetPath+maxHolderPath)*34 }

// Check implements wire.Limited. Verify verifies the content.
func (d *Dealt) Check() error {
	if len(d.Shares) > SheetSize || len(d.Sheets) > maxSheetPath || len(d.Holders) > maxHolderPath || d.Holder >= MaxParties {
		return fmt.Errorf("%w: %w: a sheet of %d shares", wire.ErrMalformed, ErrDeal, len(d.Shares))
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

// leaves returns the leaves of the sheet's pennies.
func (d *Dealt) leaves(t *Terms) []wire.Hash {
	list := make([]wire.Hash, len(d.Shares))
	for n, s := range d.Shares {
		list[n] = pennyLeaf(t, d.Holder, d.Window.Node, d.Window.First+d.Sheet*SheetSize+uint32(n), s)
	}
	return list
}

// Verify verifies a sheet, or returns ErrDeal. A holder must have verified all
// sheets of a window before it runs an epoch that the window pays for. Whether the
// shares yield the right secrets shows at their first use.
func (d *Dealt) Verify(t *Terms) error {
	w := &d.Window
	if err := w.Verify(t); err != nil {
		return err
	}
	if int(d.Holder) >= len(t.Parties) || d.Holder == w.Node || int64(d.Sheet) >= int64(w.sheets()) || len(d.Shares) != w.sheetSize(int(d.Sheet)) {
		return fmt.Errorf("%w: sheet %d of %d shares for party %d", ErrDeal, d.Sheet, len(d.Shares), d.Holder)
	}
	for _, s := range d.Shares {
		if _, ok := scalarOf(s); !ok {
			return fmt.Errorf("%w: a share is not a scalar", ErrDeal)
		}
	}
	mine, ok := climb(sheetLeaf(int(d.Sheet), root(d.leaves(t))), int(d.Sheet), w.sheets(), d.Sheets)
	if ok {
		mine, ok = climb(holderLeaf(d.Holder, mine), rank(d.Holder, w.Node), len(t.Parties)-1, d.Holders)
	}
	if !ok || mine != w.Root {
		return fmt.Errorf("%w: not under the window's root", ErrDeal)
	}
	return nil
}

// Share returns one dealt share with its section, or ErrShare if it is not in
// d, which must be verified.
func (d *Dealt) Share(t *Terms, k uint32) (*Committed, error) {
	from := d.Window.First + d.Sheet*SheetSize
	if k < from || k-from >= uint32(len(d.Shares)) {
		return nil, fmt.Errorf("%w: none of penny %d of party %d", ErrShare, k, d.Window.Node)
	}
	n := int(k - from)
	return &Committed{Holder: d.Holder, Node: d.Window.Node, K: k, Share: d.Shares[n], Pennies: section(d.leaves(t), n),
		Sheets: slices.Clone(d.Sheets), Holders: slices.Clone(d.Holders)}, nil
}

// Deal is the buyer's side: it returns the sheets that each party is dealt by the
// window of node's bank that starts at first; node itself gets none. secret returns
// the bank's pennies by count. The coefficients derive from seed, so a buyer that
// keeps it deals the same shares again after a crash. Errors wrap ErrDeal or
// ErrTerms.
func Deal(t *Terms, buyer, seed wire.Secret, node uint8, first uint32, secret func(k uint32) [wire.PennySize]byte) ([][]Dealt, error) {
	if err := t.Check(); err != nil {
		return nil, err
	}
	if int(node) >= len(t.Parties) || first < 1 || first > t.Epochs {
		return nil, fmt.Errorf("%w: no window of party %d from %d", ErrDeal, node, first)
	}
	w := Window{Node: node, First: first, Count: t.count(first)}
	holders := t.others(node)
	list := make([][]Dealt, len(t.Parties))
	for _, j := range holders {
		for i := range w.sheets() {
			list[j] = append(list[j], Dealt{Holder: j, Sheet: uint32(i), Window: w})
		}
	}
	for k := first; k <= w.Last(); k++ {
		sheet := (k - first) / SheetSize
		coef := func(d uint8) (c btcec.ModNScalar) {
			h := wire.Tagged("job-share-coefficient", t.job(), seed[:], u8(node), u32(k), u8(d))
			c.SetBytes((*[32]byte)(&h)) // reduced: the bias is 2^-128
			return c
		}
		for n, share := range split(secret(k), t.T, coef, holders) {
			d := &list[holders[n]][sheet]
			d.Shares = append(d.Shares, share)
		}
	}
	return list, sealDeal(t, buyer, list)
}

// sealDeal computes the paths and the root of what is dealt, and signs it.
func sealDeal(t *Terms, buyer wire.Secret, list [][]Dealt) error {
	var tops []wire.Hash
	for j := range list {
		if len(list[j]) == 0 {
			continue
		}
		leaves := make([]wire.Hash, len(list[j]))
		for i := range leaves {
			leaves[i] = sheetLeaf(i, root(list[j][i].leaves(t)))
		}
		for i := range leaves {
			list[j][i].Sheets = section(leaves, i)
		}
		tops = append(tops, holderLeaf(uint8(j), root(leaves)))
	}
	var w *Window
	for j := range list {
		for i := range list[j] {
			d := &list[j][i]
			if w == nil {
				w = &d.Window
				w.Root = root(tops)
				var err error
				if w.Sig, err = sign(buyer, w.digest(t)); err != nil {
					return err
				}
			}
			d.Window, d.Holders = *w, section(tops, rank(uint8(j), w.Node))
		}
	}
	return w.Verify(t)
}

// MayDeal reports whether the buyer may deal the window of a bank that starts at
// first. paid is the bank's counter in the last certificate that the buyer has
// inspected, and seated whether its party is on the next roster. At most two
// windows lie beyond the counter, and at most one and a half if the party is not
// seated, one before it ever was. This bounds what a coalition can take from the
// bank (invariant CoalitionBound).
func MayDeal(t *Terms, first, paid uint32, seated bool) bool {
	ahead := uint64(t.Window)
	if !seated {
		ahead /= 2
	}
	return uint64(first) <= uint64(paid)+ahead+1
}

// Give carries a share to the node whose penny it is for. It is signed only if the
// node asks for that, after one that was wrong; a signed bad share convicts the holder.
type Give struct {
	_      struct{} `cbor:",toarray"`
	Window Window
	Share  Committed
	Sig    wire.Signature // the holder's, or zeros
}

// MaxSize implements wire.Limited.
func (*Give) MaxSize() int { return 384 + maxPath }

// Check implements wire.Limited.
func (g *Give) Check() error {
	return g.Share.check()
}

func (c *Committed) check() error {
	if len(c.Pennies) > maxPennyPath || len(c.Sheets) > maxSheetPath || len(c.Holders) > maxHolderPath {
		return fmt.Errorf("%w: %w: a long path", wire.ErrMalformed, ErrShare)
	}
	return nil
}

func (g *Give) digest(t *Terms) wire.Hash {
	c := *g
	c.Sig = wire.Signature{}
	return digestOf("job-give", t, &c)
}

// Give returns the message that GiveShare asks for. d is the sheet with the share, key
// that of its holder.
func (e GiveShare) Give(t *Terms, d *Dealt, key wire.Secret) (*Give, error) {
	if e.Signed {
		return NewGive(t, d, key, e.K)
	}
	c, err := d.Share(t, e.K)
	if err != nil {
		return nil, err
	}
	return &Give{Window: d.Window, Share: *c}, nil
}

// NewGive signs a dealt share for the node whose penny it is for.
func NewGive(t *Terms, d *Dealt, key wire.Secret, k uint32) (*Give, error) {
	g, err := GiveShare{K: k}.Give(t, d, key)
	if err != nil {
		return nil, err
	}
	g.Sig, err = sign(key, g.digest(t))
	return g, err
}

// Signed verifies the giver's signature, or returns ErrMessage. Only a signed
// Give is a proof.
func (g *Give) Signed(t *Terms) error { return g.signed(t, verify) }

func (g *Give) signed(t *Terms, check checker) error {
	if err := g.Check(); err != nil {
		return err
	}
	if int(g.Share.Holder) >= len(t.Parties) || check(t.Parties[g.Share.Holder].Key, g.digest(t), g.Sig) != nil {
		return fmt.Errorf("%w: not the giver's signature", ErrMessage)
	}
	return nil
}

// Right verifies a share against the window that it names. If it returns ErrShare, the
// giver is at fault.
func (g *Give) Right(t *Terms) error { return g.right(t, false, verify) }

// right is Right, without the window's signature if that is known.
func (g *Give) right(t *Terms, known bool, check checker) error {
	if !known {
		if err := g.Window.verify(t, check); err != nil {
			return fmt.Errorf("%w: %w", ErrShare, err)
		}
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

// checker verifies a signature, like verify.
type checker = func(wire.Key, wire.Hash, wire.Signature) error

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
	wire.Limited
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

// MaxSize implements wire.Limited.
func (*BadShare) MaxSize() int   { return 8 + new(Give).MaxSize() }
func (*FalseDeal) MaxSize() int  { return 256 + MaxThreshold*(128+maxPath) }
func (*TwoWindows) MaxSize() int { return 512 }

// Check implements wire.Limited.
func (p *BadShare) Check() error { return p.Give.Check() }

// Check implements wire.Limited.
func (p *FalseDeal) Check() error {
	if len(p.Shares) > MaxThreshold {
		return bad("%d shares", len(p.Shares))
	}
	for i := range p.Shares {
		if err := p.Shares[i].check(); err != nil {
			return err
		}
	}
	return nil
}

// Check implements wire.Limited.
func (*TwoWindows) Check() error { return nil }

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
		if c.check() != nil || !p.Window.Holds(t, c) || c.Node != p.Shares[0].Node || c.K != p.Shares[0].K || slices.Contains(holders, c.Holder) {
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
	if p.A.Node != p.B.Node || p.A.First != p.B.First || p.A.Root == p.B.Root {
		return Culprit{}, fmt.Errorf("%w: they agree", ErrNoProof)
	}
	return Culprit{Buyer: true}, nil
}
