package wire

import (
	"encoding/binary"
	"math/bits"
)

// Limits of penny banks.
const (
	// MaxRungs is the maximum number of rungs of a bank: with the two other
	// leaves they fill a tree of depth 10.
	MaxRungs = 1022
	// PennySize is the length of a penny's secret in a penny bank, in bytes.
	PennySize = 16
)

// BankTerms are the values from which a penny bank's output is computed
// (spec/bank.md §3). The payer also knows the hash chain behind Locks.
type BankTerms struct {
	_        struct{} `cbor:",toarray"`
	Blinding Secret   // the internal key is NUMS + Blinding·G
	Expiry   Height   // T: CLTV of the refund leaf
	Payer    Key
	Payee    Key
	Value    Sat
	Nonce    [24]byte
	PerRung  uint32          // pennies per rung
	Last     [PennySize]byte // p_N, the public end of the chain
	Locks    Locks           // h_g, the HASH160 of the penny of rung g = 1, 2, …
}

// Locks are encoded as one string of bytes, 20 for each lock.
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

// Check implements Limited. It checks each field alone; the ladder checks how
// the numbers fit together.
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

// RungSigs are a payer's signatures of all rungs, encoded as one string of
// bytes, 64 for each.
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

// Limits of the messages of penny banks.
const (
	// MaxJump is the maximum number of pennies that a machine accepts in one
	// step, and so of hashes to verify it.
	MaxJump = 1 << 16
	// MaxSkip is the maximum distance between a penny on the wire and the one
	// before it, and so of hashes to verify it. It bounds the work that a byte
	// of pennies can cost their payee: 64 hashes for 19 bytes, and as many again
	// when they are stored.
	MaxSkip = 64
	// MaxBankConf is the maximum number of confirmations that a payee may
	// require.
	MaxBankConf = 144
	// MaxHops is the maximum number of hops of a transfer, counting bankers and
	// the final payee.
	MaxHops = 3
	// maxScript is the maximum size in bytes of a payee's output script: that
	// of a witness program.
	maxScript = 42
	// EncodedPenny is the length of a penny on the wire: seq₃ ‖ secret.
	EncodedPenny = 3 + PennySize
	// MaxPennies is the maximum number of pennies in a frame.
	MaxPennies = 512
)

// OnePenny is a penny on the wire: its number in 3 bytes, big-endian, then its
// secret.
type OnePenny [EncodedPenny]byte

// Seq returns the penny's number.
func (p *OnePenny) Seq() uint32 { return uint32(p[0])<<16 | uint32(p[1])<<8 | uint32(p[2]) }

// BankRequest asks a payee for the terms of a bank.
type BankRequest struct {
	_       struct{} `cbor:",toarray"`
	Bank    Hash     // fresh random; identifies the bank. It is a name, not a secret
	Value   Sat
	Rungs   uint32
	PerRung uint32 // pennies per rung
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
	Payee Key      // the payee's key in this bank's scripts
	Conf  uint32   // confirmations before it accepts pennies
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

// BankOpen carries the whole bank: its terms, its funding, and the payer's
// signatures of all rungs.
type BankOpen struct {
	_       struct{} `cbor:",toarray"`
	Bank    Hash
	Terms   BankTerms
	Funding []byte // serialised without witnesses
	Vout    uint32
	Sigs    RungSigs
	// Coin proves that the payer owns the coin that the funding's first input
	// spends, a P2TR output: it is a signature by its output key over
	// BankCoinDigest. Zeros mean that there is none.
	Coin Signature
}

// BankCoinDigest returns the digest by which the owner of a coin proves to a
// payee that it can fund a bank: its tag keeps it apart from any transaction's.
func BankCoinDigest(bank Hash, payee Key, coin, funding Outpoint) Hash {
	return Tagged("bank-coin", bank[:], payee[:], coin.Bytes(), funding.Bytes())
}

// MaxSize implements Limited.
func (*BankOpen) MaxSize() int {
	return (*BankTerms)(nil).MaxSize() + MaxFunding + len(Signature{})*(MaxRungs+1) + 98
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

// BankHello begins every request about a bank. It proves that the requester is
// the bank's payer: the proof is a signature of the channel's two ends, so only
// the payer can use it, and only on this channel. A bank's id alone gives access
// to nothing.
type BankHello struct {
	_     struct{} `cbor:",toarray"`
	Bank  Hash
	Proof Signature // by the payer's key in the bank, over BankHelloDigest
}

// MaxSize implements Limited.
func (*BankHello) MaxSize() int { return 112 }

// Check implements Limited.
func (*BankHello) Check() error { return nil }

// BankHelloDigest returns the digest that a bank's payer signs to make requests
// about the bank over a channel between two peers, whose binary peer IDs are
// given.
func BankHelloDigest(bank Hash, payerPeer, payeePeer []byte) Hash {
	return Tagged("bank-hello", bank[:], prefixed(payerPeer), prefixed(payeePeer))
}

// BankState is what the payee holds. Its lowest penny proves the count.
type BankState struct {
	_       struct{} `cbor:",toarray"`
	Known   OnePenny
	Code    Code   // OK, or why it accepts no pennies
	Text    string // informative
	Reserve Sat    // of a banker: kept for the cost of closing
	Credit  Msat   // paid and not forwarded, after the reserve
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

// Pennies are payments, in descending order of number. Each is at most MaxSkip
// below the one before it.
type Pennies struct {
	_    struct{} `cbor:",toarray"`
	List []byte   // OnePenny values, 1 to MaxPennies of them
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

// Taken acknowledges pennies: the payee has stored the penny with this number,
// and so all before it.
type Taken struct {
	_    struct{} `cbor:",toarray"`
	Seq  uint32
	Code Code   // OK, or why it accepts no more pennies
	Text string // informative
}

// MaxSize implements Limited.
func (*Taken) MaxSize() int { return 16 + maxText }

// Check implements Limited.
func (t *Taken) Check() error { return (&Reply{Code: t.Code, Text: t.Text}).Check() }

// PayerFrame is a frame of a payer on a stream of pennies, which has a lane for
// each of its banks. Exactly one of Hello and Pennies may have an element: it
// opens the lane, or pays on it. A frame with neither closes the lane.
type PayerFrame struct {
	_       struct{} `cbor:",toarray"`
	Lane    uint32   // chosen by the payer, and not used again on the stream
	Hello   []BankHello
	Pennies []Pennies
}

// MaxSize implements Limited.
func (*PayerFrame) MaxSize() int { return 32 + MaxPennies*EncodedPenny }

// Check implements Limited.
func (f *PayerFrame) Check() error {
	if len(f.Hello)+len(f.Pennies) > 1 {
		return malformed("%d greetings and %d lists of pennies in a frame", len(f.Hello), len(f.Pennies))
	}
	for i := range f.Hello {
		if err := f.Hello[i].Check(); err != nil {
			return err
		}
	}
	for i := range f.Pennies {
		if err := f.Pennies[i].Check(); err != nil {
			return err
		}
	}
	return nil
}

// PayeeFrame is a frame of a payee on a stream of pennies. Exactly one of State,
// which answers a BankHello, and Taken has an element.
type PayeeFrame struct {
	_     struct{} `cbor:",toarray"`
	Lane  uint32
	State []BankState
	Taken []Taken
}

// MaxSize implements Limited.
func (*PayeeFrame) MaxSize() int { return 80 + maxText }

// Check implements Limited.
func (f *PayeeFrame) Check() error {
	if len(f.State)+len(f.Taken) != 1 {
		return malformed("%d states and %d acknowledgements in a frame", len(f.State), len(f.Taken))
	}
	for i := range f.State {
		if err := f.State[i].Check(); err != nil {
			return err
		}
	}
	for i := range f.Taken {
		if err := f.Taken[i].Check(); err != nil {
			return err
		}
	}
	return nil
}

// CloseOffer answers a payer that asks for a cooperative close. From then on
// the payee accepts no penny.
type CloseOffer struct {
	_      struct{} `cbor:",toarray"`
	Known  OnePenny // the last penny accepted
	Payer  Sat      // amount to the payer
	Fee    Sat      // paid by the payee
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

// CloseAsk asks for a cooperative close.
type CloseAsk struct {
	_ struct{} `cbor:",toarray"`
	// Unused is what the payer has paid as credit for payments, and not used. A
	// banker gives back what it has not used either, at most this.
	Unused Msat
}

// MaxSize implements Limited.
func (*CloseAsk) MaxSize() int { return 16 }

// Check implements Limited.
func (a *CloseAsk) Check() error {
	if a.Unused > MaxSat.Msat() {
		return malformed("%v unused", a.Unused)
	}
	return nil
}

// CloseSign carries the payer's signature of the offered close.
type CloseSign struct {
	_    struct{} `cbor:",toarray"`
	Bank Hash
	Sig  Signature
}

// MaxSize implements Limited.
func (*CloseSign) MaxSize() int { return 112 }

// Check implements Limited.
func (*CloseSign) Check() error { return nil }

// CloseDone returns the txid of the close that the payee broadcasts.
type CloseDone struct {
	_    struct{} `cbor:",toarray"`
	Txid Hash
}

// MaxSize implements Limited.
func (*CloseDone) MaxSize() int { return 48 }

// Check implements Limited.
func (*CloseDone) Check() error { return nil }

// PairRequest asks the payee of a bank to open a bank in the other direction,
// with the requester as its payee.
type PairRequest struct {
	_       struct{} `cbor:",toarray"`
	Bank    Hash     // in which the requester is the payer
	Key     Key      // the requester's
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

// PairOpened answers PairRequest with the id of the bank that is being opened.
type PairOpened struct {
	_    struct{} `cbor:",toarray"`
	Bank Hash
}

// MaxSize implements Limited.
func (*PairOpened) MaxSize() int { return 48 }

// Check implements Limited.
func (*PairOpened) Check() error { return nil }

// Hop is one hop of a transfer's step: a key and the amount that it gets.
type Hop struct {
	_      struct{} `cbor:",toarray"`
	Key    Key
	Amount Msat
}

// Transfer asks a peer to forward one step of a payment. It is paid with the
// credit of Bank, in which the requester is the payer. The peer keeps Amount
// less the first hop's amount. A peer without further hops is the final payee.
type Transfer struct {
	_      struct{} `cbor:",toarray"`
	ID     Hash     // of the payment
	Index  uint32   // of the step, from 1
	Bank   Hash
	Amount Msat
	Total  Msat // paid to the final payee so far, including this step
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

// TransferAck is the final payee's signed acknowledgement of a step.
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

// TransferDigest returns the digest that the final payee of a payment signs for
// a step.
func TransferDigest(id Hash, index uint32, total Msat, payee Key) Hash {
	return Tagged("transfer", id[:], binary.BigEndian.AppendUint32(nil, index), binary.BigEndian.AppendUint64(nil, uint64(total)), payee[:])
}

// Limits of what a payment says to its payee, in bytes.
const (
	MaxReference = 32
	MaxMemo      = 200
	maxNote      = 288 // of NoteText, sealed
)

// Note follows each Transfer. It proves to the final payee that the payment's
// payer ordered the step. With the first step it also contains what the payment is
// for, sealed to the final payee. Bankers forward it unread.
type Note struct {
	_     struct{} `cbor:",toarray"`
	E     Key      // ephemeral
	Box   []byte   // with the first step: NoteText, sealed to the payee with E for this payment
	Proof Hash     // NoteText's for the step; any value if the payment has no NoteText
}

// MaxSize implements Limited.
func (*Note) MaxSize() int { return 96 + maxNote }

// Check implements Limited.
func (n *Note) Check() error {
	if len(n.Box) > maxNote {
		return malformed("a note of %d bytes", len(n.Box))
	}
	if len(n.Box) == 0 {
		return nil
	}
	return checkKeys(n.E)
}

// NoteText is what a payment is for, as its payer says. The payment's id commits
// to it.
type NoteText struct {
	_         struct{} `cbor:",toarray"`
	Salt      Secret   // random, so the id tells nothing
	Reference string
	Memo      string
}

// MaxSize implements Limited.
func (*NoteText) MaxSize() int { return maxNote - 16 }

// Check implements Limited.
func (t *NoteText) Check() error {
	if len(t.Reference) > MaxReference || len(t.Memo) > MaxMemo {
		return malformed("a reference of %d bytes, a memo of %d", len(t.Reference), len(t.Memo))
	}
	return nil
}

// Proof returns the proof that the payer of a payment ordered a step, after which
// the final payee has this total. Only payer and payee know the salt.
func (t *NoteText) Proof(payment Hash, index uint32, total Msat) Hash {
	return Tagged("payment-step", t.Salt[:], payment[:], binary.BigEndian.AppendUint32(nil, index), binary.BigEndian.AppendUint64(nil, uint64(total)))
}

// PaymentID returns the id of a payment on a network with this text.
func PaymentID(n Network, t *NoteText) Hash {
	return Tagged("payment", prefixed([]byte(n)), t.Salt[:], prefixed([]byte(t.Reference)), prefixed([]byte(t.Memo)))
}

// RouteRequest asks a banker whether it can reach a payee.
type RouteRequest struct {
	_      struct{} `cbor:",toarray"`
	Payee  Key
	Amount Msat  // of a step
	Depth  uint8 // how many more bankers may follow
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

// Fees are a banker's fees for each step: Base, plus PPM millionths of the
// amount that it forwards, rounded up.
type Fees struct {
	_    struct{} `cbor:",toarray"`
	Base Msat
	PPM  uint32
}

// Of returns the fee for forwarding amount. It is at most MaxSat.
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

// RouteHop is a banker of a route, with its fees.
type RouteHop struct {
	_    struct{} `cbor:",toarray"`
	Key  Key
	Fees Fees
}

// Route is a route to a payee: the banker that was asked, and those after it.
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
