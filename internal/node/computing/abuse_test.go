package computing

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"testing"

	"github.com/bitgram/bitgram/wire"
)

// TestFalseOutput: an output that is not the certified one leaves nothing that counts
// after a restart, and the true one takes its place.
func TestFalseOutput(t *testing.T) {
	dir := t.TempDir()
	s := &states{dir: dir}
	sum := sha256.Sum256([]byte("truth!"))
	if err := s.extend(bytes.NewReader([]byte("a lie!")), 0, 6, sum); !errors.Is(err, errOutput) {
		t.Fatalf("accepted: %v", err)
	}
	s = &states{dir: dir}
	if err := s.extend(bytes.NewReader([]byte("truth!")), 0, 6, sum); err != nil {
		t.Fatal(err)
	}
	s = &states{dir: dir}
	if _, err := s.get(1); err != nil {
		t.Fatal(err)
	}
	if c, err := s.piece(nil, &Ask{Part: PartOutput}, -1); err != nil || string(c.Data) != "truth!" {
		t.Errorf("%q, %v", c.Data, err)
	}
}

// miser gives a byte at a time.
type miser struct {
	Host
	calls int
}

func (m *miser) JobCall(context.Context, wire.Peer, uint8, []byte) ([]byte, error) {
	m.calls++
	return wire.Marshal(&Chunk{Total: 64 << 20, Data: []byte{1}})
}

// TestMiser: a party that gives a byte at a time does not keep others from being asked.
func TestMiser(t *testing.T) {
	m := &miser{}
	p := &party{room: &Computing{host: m}, record: &record{Peers: make([]wire.Peer, 2)}}
	p.fetcher.party = p
	if _, err := p.fetcher.read(t.Context(), 1, Ask{}, 64<<20, io.Discard); !errors.Is(err, errLie) || m.calls != 1 {
		t.Errorf("%d calls, %v", m.calls, err)
	}
}
