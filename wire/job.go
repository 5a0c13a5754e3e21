package wire

import "fmt"

// Sizes of what nodes and buyers send one another about jobs.
const (
	// MaxJobBody is the maximum size of the body of a request about a job, or of
	// its answer.
	MaxJobBody = 192 << 10
	// MaxJobLetter is the maximum size of a letter between the parties of a job.
	MaxJobLetter = 16 << 10
)

// JobCall is a request about a job. The kind says what the body is; package p2p
// knows neither.
type JobCall struct {
	_    struct{} `cbor:",toarray"`
	Kind uint8
	Body []byte
}

// JobAnswer answers a JobCall.
type JobAnswer struct {
	_    struct{} `cbor:",toarray"`
	Body []byte
}

// JobLetter is a letter between two parties of a job. All jobs of a pair of nodes
// share one stream.
type JobLetter struct {
	_    struct{} `cbor:",toarray"`
	Job  Hash
	Body []byte
}

// MaxSize implements Limited.
func (*JobCall) MaxSize() int   { return 16 + MaxJobBody }
func (*JobAnswer) MaxSize() int { return 16 + MaxJobBody }
func (*JobLetter) MaxSize() int { return 48 + MaxJobLetter }

func jobBody(b []byte, most int) error {
	if len(b) > most {
		return malformed("a body of %d bytes, at most %d", len(b), most)
	}
	return nil
}

// Check implements Limited.
func (c *JobCall) Check() error   { return jobBody(c.Body, MaxJobBody) }
func (a *JobAnswer) Check() error { return jobBody(a.Body, MaxJobBody) }
func (l *JobLetter) Check() error { return jobBody(l.Body, MaxJobLetter) }

// UnmarshalPeer decodes what a peer sent in the body of another message, with the
// limits of ReadFrame. Errors wrap ErrMalformed or ErrTooBig.
func UnmarshalPeer(b []byte, m Limited) error {
	if len(b) > m.MaxSize() {
		return fmt.Errorf("%w: %d bytes of at most %d", ErrTooBig, len(b), m.MaxSize())
	}
	if err := unmarshal(frameMode, b, m); err != nil {
		return err
	}
	return m.Check()
}
