package seal_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// TestNote: only the recipient reads a note, only for its payment, and only as it
// was sealed.
func TestNote(t *testing.T) {
	r, e := wire.Secret{31: 7}, wire.Secret{31: 9}
	priv, err := r.PrivKey()
	if err != nil {
		t.Fatal(err)
	}
	R, payment := wire.XOnly(priv.PubKey()), wire.Hash{1}
	for _, text := range []string{"", "for tea"} {
		E, box, err := seal.SealNote(e, R, payment, []byte(text))
		if err != nil || len(box) != len(text)+seal.NoteOverhead {
			t.Fatal(len(box), err)
		}
		was := bytes.Clone(box)
		if got, err := seal.OpenNote(r, E, payment, box); err != nil || string(got) != text || !bytes.Equal(was, box) {
			t.Errorf("%q, %v", got, err)
		}
		altered := bytes.Clone(box)
		altered[0]++
		for what, open := range map[string]func() ([]byte, error){
			"another recipient": func() ([]byte, error) { return seal.OpenNote(wire.Secret{31: 8}, E, payment, box) },
			"another payment":   func() ([]byte, error) { return seal.OpenNote(r, E, wire.Hash{2}, box) },
			"another E":         func() ([]byte, error) { return seal.OpenNote(r, R, payment, box) },
			"no point":          func() ([]byte, error) { return seal.OpenNote(r, wire.Key{}, payment, box) },
			"altered":           func() ([]byte, error) { return seal.OpenNote(r, E, payment, altered) },
			"short":             func() ([]byte, error) { return seal.OpenNote(r, E, payment, box[:3]) },
		} {
			if got, err := open(); !errors.Is(err, seal.ErrCorrupt) {
				t.Errorf("%s opens a note: %q, %v", what, got, err)
			}
		}
	}
	if _, _, err := seal.SealNote(e, wire.Key{}, payment, nil); err == nil {
		t.Error("a recipient that is no key")
	}
}
