package job

import (
	"crypto/sha256"
	"errors"
	"slices"
	"testing"

	"github.com/zeebo/blake3"

	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/wire"
)

// certify signs a body as a quorum of its roster.
func (d *deal) certify(t *testing.T, b Body) Certificate {
	t.Helper()
	c := Certificate{Body: b, Signed: Quorum{Value: b.digest(&d.terms)}}
	v := Vote{Epoch: b.Epoch, Attempt: b.Attempt, Round: LockCert, Value: c.Signed.Value}
	for _, p := range b.Roster[:d.terms.Q] {
		sig, err := sign(d.keys[p], v.digest(&d.terms))
		must(t, err)
		c.Signed.Sigs = append(c.Signed.Sigs, Signer{Party: p, Sig: sig})
	}
	return c
}

// TestVerifyEvidence: a job's result is verified offline from the job file to the
// output, of a program that ended and of one that failed; whatever is changed on the
// way is found.
func TestVerifyEvidence(t *testing.T) {
	t.Parallel()
	input, output, block := []byte("in"), []byte("out"), wire.Hash(secretOf("block"))
	file := File{Program: wire.Hash(secretOf("program")), Args: []string{"prog", "7"}, Input: wire.Hash(blake3.Sum256(input)), Time: 1,
		Memory: 1 << 20, Fuel: 1000, Epochs: 4, Output: 100, State: 100, Notices: 100}
	must(t, file.Check())
	d := standard(t, 4)
	d.set(func(x *Terms) { x.File = file.Digest() })
	params, err := d.terms.Params(&file, input, block)
	must(t, err)
	var s sandbox.Snapshot
	h := sandbox.Header{Program: sandbox.Digest(file.Program), Job: params.Digest(), Epoch: 2, Done: true, OutputSize: 3, OutputSHA256: sha256.Sum256(output)}
	evidence := func(h sandbox.Header, outcome Outcome) *Evidence {
		root := s.Set(h, make([]byte, sandbox.PageSize), []byte("state"))
		end, err := s.Prove(sandbox.Memory, 0)
		must(t, err)
		b, _ := d.terms.body(nil, 0, wire.Hash{}, &Content{Reveals: []Reveal{{Party: 0}, {Party: 1}, {Party: 2}}})
		first := d.certify(t, *b)
		b, _ = d.terms.body(&first, 0, wire.Hash{}, &Content{Reveals: []Reveal{{Party: 0}, {Party: 1}, {Party: 2}}})
		b.State, b.Outcome = wire.Hash(root), outcome
		return &Evidence{Terms: d.terms, File: file, Input: input, Block: block, Chain: []Certificate{first, d.certify(t, *b)}, End: end, Output: output}
	}
	must(t, evidence(h, Done).Verify())
	for what, change := range map[string]func(e *Evidence){
		"another program":   func(e *Evidence) { e.File.Program[0] ^= 1 },
		"other arguments":   func(e *Evidence) { e.File.Args = []string{"prog", "8"} },
		"another input":     func(e *Evidence) { e.Input = []byte("in2") },
		"another block":     func(e *Evidence) { e.Block[0] ^= 1 },
		"another output":    func(e *Evidence) { e.Output = []byte("ouT") },
		"a longer output":   func(e *Evidence) { e.Output = append(slices.Clone(e.Output), 0) },
		"no state":          func(e *Evidence) { e.End = nil },
		"a header of ours":  func(e *Evidence) { e.End.Header = slices.Clone(e.End.Header); e.End.Header[80] ^= 1 },
		"no certificate":    func(e *Evidence) { e.Chain = nil },
		"not the last":      func(e *Evidence) { e.Chain = e.Chain[:1] },
		"a false signature": func(e *Evidence) { e.Chain[1].Signed.Sigs[0].Sig[0] ^= 1 },
		"another jury": func(e *Evidence) {
			e.Terms.Parties = slices.Clone(e.Terms.Parties)
			e.Terms.Parties[4].Bank[0] ^= 1
			e.Terms.id = wire.Hash{}
		},
		"other terms": func(e *Evidence) { e.Terms.Funding[0] ^= 1; e.Terms.id = wire.Hash{} },
	} {
		e := evidence(h, Done)
		change(e)
		if err := e.Verify(); !errors.Is(err, ErrResult) && !errors.Is(err, ErrCert) && !errors.Is(err, ErrTerms) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, change := range map[string]func(h *sandbox.Header){
		"another program": func(h *sandbox.Header) { h.Program[0] ^= 1 }, "another job": func(h *sandbox.Header) { h.Job[0] ^= 1 },
		"another epoch": func(h *sandbox.Header) { h.Epoch++ }, "not done": func(h *sandbox.Header) { h.Done = false }, "another output": func(h *sandbox.Header) { h.OutputSHA256[0] ^= 1 },
	} {
		other := h
		change(&other)
		if err := evidence(other, Done).Verify(); !errors.Is(err, ErrResult) {
			t.Errorf("a certified state of %s: %v", what, err)
		}
	}
	// A failure.
	f, ok := sandbox.Fail(h.Program, h.Job, 2, sandbox.Digest{}, sandbox.ErrOutput)
	if !ok {
		t.Fatal("no failure")
	}
	e := evidence(h, Failed)
	b := e.Chain[1].Body
	b.State = wire.Hash(f.Root())
	e.Chain[1], e.Failed, e.End, e.Output = d.certify(t, b), f, nil, nil
	must(t, e.Verify())
	e.Output = output
	if e.Verify() == nil {
		t.Error("a failure with an output")
	}
	e.Output, e.Failed = nil, nil
	if e.Verify() == nil {
		t.Error("a failure that is not shown")
	}
}
