package wire

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
