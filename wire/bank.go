package wire

import (
	"encoding/binary"
	"math/bits"
)

// Limits of penny banks.
const (
	// MaxRungs is how many rungs a bank has at most: with its two other leaves
	// they fill a tree of depth 10.
	MaxRungs = 1022
	// PennySize is the length of a secret in a penny bank, bytes.
	PennySize = 16
)

// BankTerms are what a penny bank's output is made of (spec/bank.md). The
// payer's side knows the chain behind Locks.
type BankTerms struct {
	_        struct{} `cbor:",toarray"`
	Blinding Secret   // the internal key is NUMS + Blinding·G
	Expiry   Height   // T: CLTV of the refund leaf
	Payer    Key
	Payee    Key
	Value    Sat
	Nonce    [24]byte
	PerRung  uint32          // pennies to a rung
	Last     [PennySize]byte // p_N, the public end of the chain
	Locks    Locks           // h_g, the HASH160 of the penny of rung g = 1, 2, …
}

// Locks are encoded as one string of bytes.
type Locks [][20]byte

// MarshalBinary implements encoding.BinaryMarshaler.
func (l Locks) MarshalBinary() ([]byte, error) {
	b := make([]byte, 0, 20*len(l))
	for _, h := range l {
		b = append(b, h[:]...)
	}
	return b, nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (l *Locks) UnmarshalBinary(b []byte) error {
	if len(b)%20 != 0 || len(b) > 20*MaxRungs {
		return malformed("locks of %d bytes", len(b))
	}
	*l = nil
	for ; len(b) > 0; b = b[20:] {
		*l = append(*l, [20]byte(b))
	}
	return nil
}

// MaxSize implements Limited.
func (*BankTerms) MaxSize() int { return 192 + 20*MaxRungs }

// Check implements Limited. What the numbers mean together is the ladder's to
// say.
func (b *BankTerms) Check() error {
	switch {
	case b.Expiry == 0 || b.Expiry > MaxHeight:
		return malformed("expiry %d", b.Expiry)
	case b.Value <= 0 || b.Value > MaxSat:
		return malformed("value %d", b.Value)
	case len(b.Locks) == 0 || len(b.Locks) > MaxRungs:
		return malformed("%d rungs", len(b.Locks))
	case b.Payer == b.Payee:
		return malformed("payer and payee have the same key")
	}
	return checkKeys(b.Payer, b.Payee)
}

// RungSigs are a payer's signatures of all rungs, encoded as one string of bytes.
type RungSigs []Signature

// MarshalBinary implements encoding.BinaryMarshaler.
func (l RungSigs) MarshalBinary() ([]byte, error) {
	b := make([]byte, 0, len(Signature{})*len(l))
	for _, s := range l {
		b = append(b, s[:]...)
	}
	return b, nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (l *RungSigs) UnmarshalBinary(b []byte) error {
	const size = len(Signature{})
	if len(b)%size != 0 || len(b) > size*MaxRungs {
		return malformed("signatures of %d bytes", len(b))
	}
	*l = nil
	for ; len(b) > 0; b = b[size:] {
		*l = append(*l, Signature(b[:size]))
	}
	return nil
}

// Limits of what banks carry.
const (
	// MaxJump is how many pennies one penny pays at most: the hashes that it
	// takes to verify it.
	MaxJump = 1 << 16
	// MaxBankConf is how many confirmations a payee asks for at most.
	MaxBankConf = 144
	// MaxHops is how many bankers and final payees a transfer goes through.
	MaxHops = 3
	// maxScript bounds the script of an output: that of a witness program.
	maxScript = 42
	// EncodedPenny is the length of a penny on the wire: seq₃ ‖ secret.
	EncodedPenny = 3 + PennySize
	// MaxPennies is how many pennies a frame carries.
	MaxPennies = 512
)

// OnePenny is a penny on the wire: its number in 3 bytes, big-endian, and its
// secret.
type OnePenny [EncodedPenny]byte

// BankRequest asks a payee on what terms it takes a bank.
type BankRequest struct {
	_       struct{} `cbor:",toarray"`
	Bank    Hash     // fresh random; names the bank, and is known to its two sides only
	Value   Sat
	Rungs   uint32
	PerRung uint32 // pennies to a rung
	Expiry  Height // T
}

// MaxSize implements Limited.
func (*BankRequest) MaxSize() int { return 96 }

// Check implements Limited.
func (r *BankRequest) Check() error {
	switch {
	case r.Value <= 0 || r.Value > MaxSat:
		return malformed("value %d", r.Value)
	case r.Rungs == 0 || r.Rungs > MaxRungs || r.PerRung == 0:
		return malformed("%d rungs of %d pennies", r.Rungs, r.PerRung)
	case r.Expiry == 0 || r.Expiry > MaxHeight:
		return malformed("expiry %d", r.Expiry)
	}
	return nil
}

// BankQuote answers BankRequest.
type BankQuote struct {
	_     struct{} `cbor:",toarray"`
	Payee Key      // in this bank's scripts
	Conf  uint32   // confirmations before it takes pennies
}

// MaxSize implements Limited.
func (*BankQuote) MaxSize() int { return 48 }

// Check implements Limited.
func (q *BankQuote) Check() error {
	if q.Conf == 0 || q.Conf > MaxBankConf {
		return malformed("%d confirmations", q.Conf)
	}
	return checkKeys(q.Payee)
}

// BankOpen brings the whole bank: what it is made of, its funding, and the
// payer's signatures of all rungs.
type BankOpen struct {
	_       struct{} `cbor:",toarray"`
	Bank    Hash
	Terms   BankTerms
	Funding []byte // serialised without witnesses
	Vout    uint32
	Sigs    RungSigs
}

// MaxSize implements Limited.
func (*BankOpen) MaxSize() int {
	return (*BankTerms)(nil).MaxSize() + MaxFunding + len(Signature{})*MaxRungs + 96
}

// Check implements Limited.
func (o *BankOpen) Check() error {
	if len(o.Funding) == 0 || len(o.Funding) > MaxFunding {
		return malformed("funding of %d bytes", len(o.Funding))
	}
	if len(o.Sigs) != len(o.Terms.Locks) {
		return malformed("%d signatures for %d rungs", len(o.Sigs), len(o.Terms.Locks))
	}
	return o.Terms.Check()
}

// BankHello begins a stream of pennies, or asks how a bank stands.
type BankHello struct {
	_    struct{} `cbor:",toarray"`
	Bank Hash
}

// MaxSize implements Limited.
func (*BankHello) MaxSize() int { return 48 }

// Check implements Limited.
func (*BankHello) Check() error { return nil }

// BankState tells what the payee holds: the lowest penny that it knows is the
// proof of it.
type BankState struct {
	_       struct{} `cbor:",toarray"`
	Known   OnePenny
	Code    Code   // OK, or why it takes no pennies
	Text    string // for people
	Reserve Sat    // of a banker: what it keeps back for closing
	Credit  Msat   // paid and not passed on, after the reserve
}

// MaxSize implements Limited.
func (*BankState) MaxSize() int { return 64 + maxText }

// Check implements Limited.
func (s *BankState) Check() error {
	if s.Reserve < 0 || s.Reserve > MaxSat {
		return malformed("reserve %d", s.Reserve)
	}
	return (&Reply{Code: s.Code, Text: s.Text}).Check()
}

// Pennies are payments, each below the one before.
type Pennies struct {
	_    struct{} `cbor:",toarray"`
	List []byte   // OnePenny after OnePenny, 1 to MaxPennies
}

// MaxSize implements Limited.
func (*Pennies) MaxSize() int { return 16 + MaxPennies*EncodedPenny }

// Check implements Limited.
func (p *Pennies) Check() error {
	if n := len(p.List); n == 0 || n%EncodedPenny != 0 || n > MaxPennies*EncodedPenny {
		return malformed("%d bytes of pennies", n)
	}
	return nil
}

// Taken acknowledges pennies: the payee holds the one of that number durably.
type Taken struct {
	_    struct{} `cbor:",toarray"`
	Seq  uint32
	Code Code   // OK, or why it takes no more
	Text string // for people
}

// MaxSize implements Limited.
func (*Taken) MaxSize() int { return 16 + maxText }

// Check implements Limited.
func (t *Taken) Check() error { return (&Reply{Code: t.Code, Text: t.Text}).Check() }

// CloseOffer answers a payer that wants to close together. From here on the payee
// takes no penny.
type CloseOffer struct {
	_      struct{} `cbor:",toarray"`
	Known  OnePenny // the last that was taken
	Payer  Sat      // to the payer
	Fee    Sat      // that the payee pays
	Script []byte   // of the payee's output
}

// MaxSize implements Limited.
func (*CloseOffer) MaxSize() int { return 64 + maxScript }

// Check implements Limited.
func (o *CloseOffer) Check() error {
	switch {
	case o.Payer < 0 || o.Payer > MaxSat || o.Fee < 0 || o.Fee > MaxSat:
		return malformed("%d to the payer, fee %d", o.Payer, o.Fee)
	case len(o.Script) == 0 || len(o.Script) > maxScript:
		return malformed("script of %d bytes", len(o.Script))
	}
	return nil
}

// CloseSign is the payer's signature of the offered close.
type CloseSign struct {
	_    struct{} `cbor:",toarray"`
	Bank Hash
	Sig  Signature
}

// MaxSize implements Limited.
func (*CloseSign) MaxSize() int { return 112 }

// Check implements Limited.
func (*CloseSign) Check() error { return nil }

// CloseDone names the transaction that the payee broadcasts.
type CloseDone struct {
	_    struct{} `cbor:",toarray"`
	Txid Hash
}

// MaxSize implements Limited.
func (*CloseDone) MaxSize() int { return 48 }

// Check implements Limited.
func (*CloseDone) Check() error { return nil }

// PairRequest asks the payee of a bank for one the other way, of which the asker
// is the payee.
type PairRequest struct {
	_       struct{} `cbor:",toarray"`
	Bank    Hash     // of which the asker is the payer
	Key     Key      // of the asker
	Addrs   []string // multiaddrs on which it listens
	Value   Sat
	Rungs   uint32
	PerRung uint32
	Expiry  Height
}

// MaxSize implements Limited.
func (*PairRequest) MaxSize() int { return 160 + MaxAddrs*(MaxAddr+4) }

// Check implements Limited.
func (r *PairRequest) Check() error {
	if err := (&BankRequest{Value: r.Value, Rungs: r.Rungs, PerRung: r.PerRung, Expiry: r.Expiry}).Check(); err != nil {
		return err
	}
	if err := (&Record{Expires: 1, Addrs: r.Addrs}).check(); err != nil {
		return err
	}
	return checkKeys(r.Key)
}

// PairOpened answers PairRequest: the bank that is being opened.
type PairOpened struct {
	_    struct{} `cbor:",toarray"`
	Bank Hash
}

// MaxSize implements Limited.
func (*PairOpened) MaxSize() int { return 48 }

// Check implements Limited.
func (*PairOpened) Check() error { return nil }

// Hop is who gets how much of a transfer's step.
type Hop struct {
	_      struct{} `cbor:",toarray"`
	Key    Key
	Amount Msat
}

// Transfer asks to pass on one step of a payment. The credit that pays for it is
// in Bank, of which the asker is the payer. What the asked keeps is Amount less
// that of the first hop; without a hop it is the final payee.
type Transfer struct {
	_      struct{} `cbor:",toarray"`
	ID     Hash     // of the payment
	Index  uint32   // of the step, from 1
	Bank   Hash
	Amount Msat
	Total  Msat // that the final payee has been paid with this step
	Hops   []Hop
}

// MaxSize implements Limited.
func (*Transfer) MaxSize() int { return 128 + MaxHops*48 }

// Check implements Limited.
func (t *Transfer) Check() error {
	if t.Index == 0 || len(t.Hops) > MaxHops-1 {
		return malformed("step %d, %d hops", t.Index, len(t.Hops))
	}
	amount := t.Amount
	for _, h := range t.Hops {
		if h.Amount > amount {
			return malformed("a hop of more than the one before")
		}
		amount = h.Amount
		if err := checkKeys(h.Key); err != nil {
			return err
		}
	}
	if amount == 0 || t.Amount > MaxSat.Msat() || t.Total < amount || t.Total > MaxSat.Msat() {
		return malformed("amount %d of %d", amount, t.Total)
	}
	return nil
}

// TransferAck is the final payee's word that it has a step.
type TransferAck struct {
	_     struct{} `cbor:",toarray"`
	Index uint32
	Total Msat
	Sig   Signature // by the final payee over TransferDigest
}

// MaxSize implements Limited.
func (*TransferAck) MaxSize() int { return 96 }

// Check implements Limited.
func (a *TransferAck) Check() error {
	if a.Total > MaxSat.Msat() {
		return malformed("total %d", a.Total)
	}
	return nil
}

// TransferDigest is what the final payee of a payment signs for a step.
func TransferDigest(id Hash, index uint32, total Msat, payee Key) Hash {
	return Tagged("transfer", id[:], binary.BigEndian.AppendUint32(nil, index), binary.BigEndian.AppendUint64(nil, uint64(total)), payee[:])
}

// RouteRequest asks a banker whether it reaches a payee.
type RouteRequest struct {
	_      struct{} `cbor:",toarray"`
	Payee  Key
	Amount Msat  // of a step
	Depth  uint8 // bankers that may still follow
}

// MaxSize implements Limited.
func (*RouteRequest) MaxSize() int { return 64 }

// Check implements Limited.
func (r *RouteRequest) Check() error {
	if r.Depth > MaxHops-2 || r.Amount == 0 || r.Amount > MaxSat.Msat() {
		return malformed("amount %d, depth %d", r.Amount, r.Depth)
	}
	return checkKeys(r.Payee)
}

// Fees are what a banker takes for each step: Base, and PPM millionths of what it
// passes on, rounded up.
type Fees struct {
	_    struct{} `cbor:",toarray"`
	Base Msat
	PPM  uint32
}

// Of is the fee of passing on an amount; at most MaxSat.
func (f Fees) Of(amount Msat) Msat {
	hi, lo := bits.Mul64(uint64(amount), uint64(f.PPM))
	lo, carry := bits.Add64(lo, 999_999, 0)
	if hi+carry >= 1_000_000 {
		return MaxSat.Msat()
	}
	q, _ := bits.Div64(hi+carry, lo, 1_000_000)
	if q > uint64(MaxSat.Msat()) || f.Base > MaxSat.Msat() {
		return MaxSat.Msat()
	}
	return min(Msat(q)+f.Base, MaxSat.Msat())
}

// RouteHop is a banker of a route, with what it takes.
type RouteHop struct {
	_    struct{} `cbor:",toarray"`
	Key  Key
	Fees Fees
}

// Route is the way to a payee: the banker that was asked, and those behind it.
type Route struct {
	_       struct{} `cbor:",toarray"`
	Bankers []RouteHop
}

// MaxSize implements Limited.
func (*Route) MaxSize() int { return 16 + MaxHops*64 }

// Check implements Limited.
func (r *Route) Check() error {
	if len(r.Bankers) == 0 || len(r.Bankers) >= MaxHops {
		return malformed("%d bankers", len(r.Bankers))
	}
	for _, h := range r.Bankers {
		if err := checkKeys(h.Key); err != nil {
			return err
		}
	}
	return nil
}
