package job

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/zeebo/blake3"

	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/wire"
)

// File is the job file: what runs, on which input, within which limits. The terms
// contain its digest.
type File struct {
	_       struct{}  `cbor:",toarray"`
	Program wire.Hash // BLAKE3 of the module
	Args    []string
	Env     []string
	Input   wire.Hash // BLAKE3 of the input
	Time    uint32    // start of the program's clock, in seconds since 1970
	Memory, Fuel, Epochs,
	Output, State, Notices uint64 // limits of sandbox.Limits
}

// maxFileArgs is the maximum size of arguments and variables in a job file.
const maxFileArgs = 64 << 10

// MaxSize implements wire.Limited.
func (*File) MaxSize() int { return 256 + 2*maxFileArgs }

// Check implements wire.Limited.
func (f *File) Check() error {
	p := f.params(nil, wire.Hash{})
	if err := p.Check(); err != nil {
		return bad("%v", err)
	}
	return nil
}

// Digest returns H[job-file](encoding).
func (f *File) Digest() wire.Hash {
	b, err := wire.Marshal(f)
	if err != nil {
		panic(err) // fails only for types that cannot be encoded; ours can
	}
	return wire.Tagged("job-file", b)
}

// params are the inputs of the runtime.
func (f *File) params(input []byte, seed wire.Hash) *sandbox.Job {
	return &sandbox.Job{Args: f.Args, Env: f.Env, Input: input, Seed: seed, Time: f.Time,
		Limits: sandbox.Limits{Memory: f.Memory, Fuel: f.Fuel, Epochs: f.Epochs, Output: f.Output, State: f.State, Notices: f.Notices, ArgBytes: maxFileArgs}}
}

// Seed returns the seed of the program's random numbers, H[job-seed](id ‖ hash of the
// block that contains the funding). When the job starts, this block has Depth
// confirmations, so a change of the chain's tip parts no nodes.
func (t *Terms) Seed(block wire.Hash) wire.Hash { return wire.Tagged("job-seed", t.job(), block[:]) }

// Params returns the inputs with which every node runs the program. It returns
// ErrTerms if the file is not the one of the terms, or the input not the file's.
func (t *Terms) Params(f *File, input []byte, block wire.Hash) (*sandbox.Job, error) {
	if f.Digest() != t.File {
		return nil, fmt.Errorf("%w: another job file", ErrTerms)
	}
	if wire.Hash(blake3.Sum256(input)) != f.Input {
		return nil, fmt.Errorf("%w: another input", ErrTerms)
	}
	return f.params(input, t.Seed(block)), nil
}

// ErrResult means that a result is not the certified one.
var ErrResult = errors.New("not the certified result")

// Evidence is what a finished job leaves: everything from the terms to the output.
type Evidence struct {
	Terms  Terms
	File   File
	Input  []byte
	Block  wire.Hash        // that contains the funding; its place in the chain is the caller's to check
	Chain  []Certificate    // as VerifyChain needs them; the last is the job's end
	End    *sandbox.Proof   // any page of the last state, with the state's header
	Failed *sandbox.Failure // instead of End, if the program failed
	Output []byte           // all of it; of a failure nothing is certified
}

// Verify verifies a job's result offline: the certificates follow from the terms, the
// terms name the job file, the last certificate's state contains program, inputs and
// seed, and the digest of the output. The chain must end with a final outcome. Errors
// wrap ErrResult, ErrCert or ErrTerms.
func (r *Evidence) Verify() error {
	if err := VerifyChain(&r.Terms, r.Chain); err != nil {
		return err
	}
	params, err := r.Terms.Params(&r.File, r.Input, r.Block)
	if err != nil {
		return err
	}
	if len(r.Chain) == 0 {
		return fmt.Errorf("%w: no certificate", ErrResult)
	}
	last := &r.Chain[len(r.Chain)-1].Body
	program, job := sandbox.Digest(r.File.Program), params.Digest()
	switch last.Outcome {
	case Failed:
		f := r.Failed
		if f == nil || f.Program != program || f.Job != job || f.Epoch != uint64(last.Epoch) || f.Root() != sandbox.Digest(last.State) || len(r.Output) > 0 {
			return fmt.Errorf("%w: the failure is another", ErrResult)
		}
		return nil
	case Done:
	default:
		return fmt.Errorf("%w: epoch %d is not the last", ErrResult, last.Epoch)
	}
	if r.End == nil || !r.End.Verify(sandbox.Digest(last.State)) {
		return fmt.Errorf("%w: the state is another", ErrResult)
	}
	h, err := sandbox.DecodeHeader(r.End.Header)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrResult, err)
	}
	sum := sha256.Sum256(r.Output)
	switch {
	case h.Program != program || h.Job != job:
		return fmt.Errorf("%w: the state is of another program, or other inputs", ErrResult)
	case h.Epoch != uint64(last.Epoch) || !h.Done:
		return fmt.Errorf("%w: the state of epoch %d, done %v", ErrResult, h.Epoch, h.Done)
	case h.OutputSize != uint64(len(r.Output)) || !bytes.Equal(h.OutputSHA256[:], sum[:]):
		return fmt.Errorf("%w: the output is another", ErrResult)
	}
	return nil
}
