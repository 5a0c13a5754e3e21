package wire

// Ranges of what a job needs. They are part of the protocol.
const (
	minComputeMemory = 1 << 16
	maxComputeMemory = 2 << 30
	maxComputeFuel   = 1 << 62
	maxComputeState  = 1 << 31
	maxComputeEpochs = 1<<24 - 1 // a bank has a penny for each
)

// ComputeLimits are the most that a node accepts of one job.
type ComputeLimits struct {
	_      struct{} `cbor:",toarray"`
	Memory uint64   // of the program, bytes
	Fuel   uint64   // per epoch
	Disk   uint64   // ComputeRequest.Disk, bytes
	Epochs uint32
	Blocks uint32 // of the job's life
}

func (l *ComputeLimits) check() error {
	switch {
	case l.Memory < minComputeMemory || l.Memory > maxComputeMemory:
		return malformed("%d bytes of memory", l.Memory)
	case l.Fuel < 1 || l.Fuel > maxComputeFuel:
		return malformed("fuel of %d", l.Fuel)
	case l.Disk < 1:
		return malformed("no disk")
	case l.Epochs < 1 || l.Epochs > maxComputeEpochs:
		return malformed("%d epochs", l.Epochs)
	case l.Blocks < 1 || l.Blocks > MaxStoreBlocks:
		return malformed("a life of %d blocks", l.Blocks)
	}
	return nil
}

// ComputeOffer is a node's signed statement of its price and limits for computing.
// It follows the advertisement of a provider with the service Compute. It is not a
// part of it, because every field of an advertisement is known to all versions.
type ComputeOffer struct {
	_       struct{} `cbor:",toarray"`
	Agent   Key
	Rate    Psat // per 10⁹ units of fuel
	Limits  ComputeLimits
	Expires int64     // Unix time, seconds
	Sig     Signature // by Agent over Digest
}

// MaxSize implements Limited.
func (*ComputeOffer) MaxSize() int { return 192 }

// Check implements Limited.
func (o *ComputeOffer) Check() error {
	if o.Rate > MaxRate {
		return malformed("rate %d", o.Rate)
	}
	if o.Expires <= 0 {
		return malformed("expires at %d", o.Expires)
	}
	if err := o.Limits.check(); err != nil {
		return err
	}
	return checkKeys(o.Agent)
}

// Digest returns the digest that Agent signs; see Advertisement.Digest.
func (o *ComputeOffer) Digest(n Network) Hash {
	c := *o
	c.Sig = Signature{}
	return digestOn(n, "compute-offer", &c)
}

// Verify checks the signature and validity of o at Unix time now.
func (o *ComputeOffer) Verify(n Network, now int64) error {
	r := Record{Expires: o.Expires}
	if err := r.Current(now); err != nil {
		return err
	}
	return o.Agent.Verify(o.Digest(n), o.Sig)
}

// ComputeRequest asks a node for the price of taking part in a job.
type ComputeRequest struct {
	_       struct{} `cbor:",toarray"`
	Bank    Hash     // id of the bank that is to pay the node; its key in the job derives from it
	Memory  uint64   // limit of the program, bytes
	Fuel    uint64   // limit per epoch
	Program uint64   // size, bytes
	Input   uint64   // size, bytes
	Output  uint64   // limit, bytes
	State   uint64   // limit of what is handed to sync, bytes
	Epochs  uint32   // at most
	Blocks  uint32   // life of the job
}

// MaxSize implements Limited.
func (*ComputeRequest) MaxSize() int { return 112 }

// Check implements Limited.
func (r *ComputeRequest) Check() error {
	switch {
	case r.Program < 1 || r.Program > MaxBlob || r.Input > MaxBlob || r.Output > MaxBlob:
		return malformed("program, input and output of %d, %d and %d bytes", r.Program, r.Input, r.Output)
	case r.State > maxComputeState:
		return malformed("a state of %d bytes", r.State)
	}
	l := ComputeLimits{Memory: r.Memory, Fuel: r.Fuel, Disk: 1, Epochs: r.Epochs, Blocks: r.Blocks}
	return l.check()
}

// Disk returns the bytes that a node stores for the job at most: program, input,
// output, and two checkpoints of memory and state.
func (r *ComputeRequest) Disk() uint64 {
	return r.Program + r.Input + r.Output + 2*(r.Memory+r.State) // none exceeds 2³² after Check
}

// Digest returns H[compute-request](encoding).
func (r *ComputeRequest) Digest() Hash { return DigestOf("compute-request", r) }

// ComputeQuote is a node's signed price for a ComputeRequest. The node stores
// nothing for it.
type ComputeQuote struct {
	_          struct{} `cbor:",toarray"`
	Agent      Key      // the node's identity
	Party      Key      // its key in the job
	Request    Hash     // ComputeRequest.Digest
	Price      Msat     // per epoch
	ValidUntil Height
	Sig        Signature // by Agent over Digest
}

// MaxSize implements Limited.
func (*ComputeQuote) MaxSize() int { return 208 }

// Check implements Limited.
func (q *ComputeQuote) Check() error {
	if q.Price > MaxSat.Msat() {
		return malformed("a price of %d msat", uint64(q.Price))
	}
	if q.ValidUntil < 1 || q.ValidUntil > MaxHeight {
		return malformed("valid until %d", q.ValidUntil)
	}
	return checkKeys(q.Agent, q.Party)
}

// Digest returns the digest that Agent signs: of the encoding with a zero Sig.
func (q *ComputeQuote) Digest() Hash {
	c := *q
	c.Sig = Signature{}
	return DigestOf("compute-quote", &c)
}

// Verify returns nil if q is an agent's quote for a request.
func (q *ComputeQuote) Verify(agent Key, r *ComputeRequest) error {
	if q.Agent != agent || q.Request != r.Digest() {
		return malformed("a quote of another node, or for another request")
	}
	return agent.Verify(q.Digest(), q.Sig)
}
