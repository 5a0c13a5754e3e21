package computing

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/bitgram/bitgram/internal/job"
	"github.com/bitgram/bitgram/internal/node/disk"
	"github.com/bitgram/bitgram/wire"
)

// jobFiles are a home's files, and the directory of a job in it.
func jobFiles(t *testing.T) (*disk.Files, string) {
	t.Helper()
	home := t.TempDir()
	files, err := disk.Open(home, dirJobs)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(home, dirJobs, "job")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return files, dir
}

// TestFalseOutput: an output that is not the certified one leaves nothing that counts
// after a restart, and the true one takes its place.
func TestFalseOutput(t *testing.T) {
	files, dir := jobFiles(t)
	s := &states{dir: dir}
	sum := sha256.Sum256([]byte("truth!"))
	if err := s.extend(bytes.NewReader([]byte("a lie!")), 0, 6, sum); !errors.Is(err, errOutput) {
		t.Fatalf("accepted: %v", err)
	}
	s = &states{dir: dir}
	if err := s.extend(bytes.NewReader([]byte("truth!")), 0, 6, sum); err != nil {
		t.Fatal(err)
	}
	if err := s.write(files, &epoch{Epoch: 1, Turn: fetched, Total: 6}, nil, func(io.Writer) error { return nil }); err != nil {
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

// TestOutputIsDurable: after a power failure, output that was not made durable counts for
// nothing until it comes from its epoch's file again.
func TestOutputIsDurable(t *testing.T) {
	files, dir := jobFiles(t)
	s := &states{dir: dir}
	n := &job.Node{}
	root := func(e uint32) wire.Hash { return wire.Hash{byte(e)} }
	for e := uint32(1); e <= 6; e++ {
		if err := s.write(files, &epoch{Epoch: e, Before: root(e - 1), Root: root(e), Total: uint64(e)}, []byte{'0' + byte(e)}, func(io.Writer) error { return nil }); err != nil {
			t.Fatal(err)
		}
		n.Last, n.Base = &job.Certificate{Body: job.Body{Epoch: e, State: root(e)}}, e
		if err := s.follow(n); err != nil {
			t.Fatal(err)
		}
	}
	// What the disk kept of the bytes that were not synced: not them.
	path := filepath.Join(dir, outputName)
	raw, err := os.ReadFile(path)
	if err != nil || string(raw) != "123456" {
		t.Fatalf("%q, %v", raw, err)
	}
	if err := os.WriteFile(path, append(raw[:3], make([]byte, 9)...), 0o600); err != nil {
		t.Fatal(err)
	}
	s = &states{dir: dir}
	if _, err := s.get(6); err != nil {
		t.Fatal(err)
	}
	if size := s.outputSize(); size != 3 {
		t.Errorf("%d bytes count", size)
	}
	if err := s.follow(n); err != nil {
		t.Fatal(err)
	}
	if c, err := s.piece(n, &Ask{Part: PartOutput}, -1); err != nil || string(c.Data) != "123456" {
		t.Errorf("%q, %v", c.Data, err)
	}
}
