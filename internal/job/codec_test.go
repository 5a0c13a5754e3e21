package job

import (
	"bytes"
	"reflect"
	"slices"
	"testing"

	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/testing/tier"
	"github.com/bitgram/bitgram/wire"
)

// The engine can run the machine.
var _ = engine.MachineOf[Node](KindNode, Machines)

// largest are the largest messages and proofs of the largest job.
func largest() (list []Message, proofs []Proof) {
	const big = 1 << 31
	path := func(n int) []wire.Hash { return make([]wire.Hash, n) }
	quorum := Quorum{View: big, Sigs: make([]Signer, MaxParties)}
	content := Content{Set: make([]Commit, MaxParties), Reveals: make([]Reveal, MaxParties)}
	for i := range MaxParties {
		quorum.Sigs[i].Party = uint8(i)
		content.Set[i] = Commit{Epoch: big, Attempt: big, Party: uint8(i), Seen: 255}
		content.Reveals[i] = Reveal{Epoch: big, Attempt: big, Party: uint8(i), Outcome: Failed}
	}
	content.Frozen, content.First, content.FirstFrozen, content.FirstReveals = quorum, content.Set, quorum, content.Reveals
	change := Change{Epoch: big, Attempt: big, View: big, Lock: quorum}
	changes := slices.Repeat([]Change{change}, MaxParties)
	full := change
	full.Content = content
	body := Body{Epoch: big, Attempt: big, Paid: slices.Repeat([]uint32{big}, MaxParties), Missed: slices.Repeat([]uint8{255}, MaxParties),
		Roster: make([]uint8, MaxParties), Next: make([]uint8, MaxParties), Bench: make([]uint8, MaxParties)}
	vote := Vote{Epoch: big, Attempt: big, View: big}
	window := Window{First: big, Count: big}
	share := Committed{K: big, Pennies: path(maxPennyPath), Sheets: path(maxSheetPath), Holders: path(maxHolderPath)}
	give := Give{Window: window, Share: share}
	cert := Certificate{Body: body, Signed: quorum}
	opening := Opening{Commit: content.Set[0], Reveal: content.Reveals[0]}
	proposal := vote
	proposal.Round = VoteCert
	return []Message{&content.Set[0], &vote, &Proposal{Vote: proposal, Content: content, Changes: changes}, &full, &Opened{Set: content.Set, Frozen: quorum, Reveal: content.Reveals[0]},
			&cert, &Verdict{Epoch: big, Attempt: MaxAttempts - 1}, &Status{Epoch: big, Attempt: big, Got: big}, &give},
		[]Proof{&BadShare{Give: give}, &FalseDeal{Window: window, Shares: slices.Repeat([]Committed{share}, MaxThreshold)}, &TwoWindows{A: window, B: window}, &TwoVotes{A: vote, B: vote},
			&TwoCommits{A: content.Set[0], B: content.Set[0]}, &TwoOpenings{A: opening, B: opening}, &FalseState{Rosters: slices.Repeat([]Certificate{cert}, maxRosters), Certificate: cert, Opening: opening}}
}

// TestSizes: the largest message and proof of every kind fits, its size is not stated
// much larger, and it is read back as it was, from a letter and from an effect.
func TestSizes(t *testing.T) {
	t.Parallel()
	list, proofList := largest()
	if len(list) != len(messages) || len(proofList) != len(proofs) {
		t.Fatal("not all kinds")
	}
	check := func(m wire.Limited, l *Letter, back any, err error) {
		t.Helper()
		b, err2 := wire.Marshal(m)
		must(t, err2)
		must(t, err)
		must(t, m.Check())
		must(t, l.Check())
		t.Logf("%T: %d bytes of at most %d", m, len(b), m.MaxSize())
		if len(b) > m.MaxSize() || m.MaxSize() > 3*len(b)+64 {
			t.Errorf("%T: %d bytes, %d allowed", m, len(b), m.MaxSize())
		}
		if !same(m, back) {
			t.Errorf("%T: read back as another", m)
		}
	}
	for _, m := range list {
		l, err := NewLetter(m)
		must(t, err)
		back, err := l.Message()
		check(m, l, back, err)
		for _, e := range []Effect{Broadcast{m}, Send{To: 3, Msg: m}} {
			name, b, err := Effects.Encode(e)
			must(t, err)
			again, err := Effects.Decode(name, b)
			if err != nil || !same(again, e) {
				t.Errorf("%T: %v", m, err)
			}
		}
	}
	for _, p := range proofList {
		l, err := NewProofLetter(p)
		must(t, err)
		back, err := l.Proof()
		check(p, &Letter{}, back, err)
		name, b, err := Effects.Encode(Publish{p})
		must(t, err)
		again, err := Effects.Decode(name, b)
		if err != nil || !same(again, Publish{p}) {
			t.Errorf("%T: %v", p, err)
		}
	}
	for _, e := range []Effect{Run{1, 2}, Cancel{}, Fetch{Epoch: 3}, GiveShare{1, 2, true}, Earned{K: 3}, KeepCert{*list[5].(*Certificate)}, SendCerts{1, 2}, Pause{1, 2}, Judge{Epoch: 1}} {
		name, b, err := Effects.Encode(e)
		must(t, err)
		again, err := Effects.Decode(name, b)
		if err != nil || !same(again, e) {
			t.Errorf("%T: %v", e, err)
		}
	}
}

// same reports whether two values have one type and one encoding.
func same(a, b any) bool {
	x, err := wire.Marshal(a)
	y, err2 := wire.Marshal(b)
	return err == nil && err2 == nil && bytes.Equal(x, y) && reflect.TypeOf(a) == reflect.TypeOf(b)
}

func fuzz[T wire.Limited](f *testing.F, kinds []func() T, seeds []T) {
	for i, m := range seeds {
		b, err := wire.Marshal(m)
		must(f, err)
		f.Add(uint8(i), b)
	}
	d := standard(f, 4)
	f.Fuzz(func(t *testing.T, kind uint8, body []byte) {
		m, err := open(kinds, &Letter{Kind: kind, Body: body})
		if err != nil {
			return
		}
		if b, err := wire.Marshal(m); err != nil || !bytes.Equal(b, body) {
			t.Error("another encoding", err)
		}
		if p, ok := any(m).(Proof); ok {
			if _, err := p.Against(&d.terms); err == nil {
				t.Error("it proves something")
			}
		}
	})
}

func FuzzMessage(f *testing.F) { list, _ := largest(); fuzz(f, messages, list) }
func FuzzProof(f *testing.F)   { _, list := largest(); fuzz(f, proofs, list) }
func FuzzTerms(f *testing.F) {
	d := standard(f, 4)
	fuzz(f, []func() *Terms{func() *Terms { return new(Terms) }}, []*Terms{&d.terms})
}
func FuzzDealt(f *testing.F) {
	d := standard(f, 4)
	fuzz(f, []func() *Dealt{func() *Dealt { return new(Dealt) }}, []*Dealt{&d.window(f, 0, 1)[1][0]})
}

// TestHomeReads: a machine's state is read back as it was, in the middle of a job.
func TestHomeReads(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1, standard(t, 6))
	l.start()
	l.play(300, func() bool {
		for _, p := range l.peers {
			if l.rng.IntN(tier.Pick(40, 10, 2)) > 0 {
				continue
			}
			b, err := wire.Marshal(&p.node)
			must(t, err)
			var n Node
			must(t, wire.Unmarshal(b, &n))
			p.node = n // and goes on
		}
		return l.finished()
	})
	if !l.finished() {
		t.Fatal(l)
	}
}

func FuzzFile(f *testing.F) {
	fuzz(f, []func() *File{func() *File { return new(File) }}, []*File{{Args: []string{"a"}, Memory: 1 << 20, Fuel: 1, Epochs: 1}})
}
