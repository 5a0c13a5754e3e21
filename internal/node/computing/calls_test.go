package computing

import (
	"testing"

	"github.com/bitgram/bitgram/internal/job"
	"github.com/bitgram/bitgram/wire"
)

// TestSizes: whatever is sent fits what carries it.
func TestSizes(t *testing.T) {
	if n := new(job.Letter).MaxSize(); n > wire.MaxJobLetter {
		t.Errorf("letters of up to %d bytes", n)
	}
	const signed = 128 // of a Signed, without its body
	for _, m := range []wire.Limited{new(Offer), new(Ask), new(job.Verdict)} {
		if n := m.MaxSize(); n+signed > wire.MaxJobBody {
			t.Errorf("%T of up to %d bytes", m, n)
		}
	}
	for _, m := range []wire.Limited{new(Signed), new(Sheets), new(Chunk), new(Status), new(Proofs)} {
		if n := m.MaxSize(); n > wire.MaxJobBody {
			t.Errorf("%T of up to %d bytes", m, n)
		}
	}
}

// fuzz decodes what a stranger sends: what is accepted passes its check, and has one
// encoding.
func fuzz[T any, M interface {
	*T
	wire.Limited
}](f *testing.F, seed M) {
	raw, err := wire.Marshal(seed)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode[T, M](b)
		if err != nil {
			return
		}
		if err := m.Check(); err != nil {
			t.Fatal(err)
		}
		if again, err := wire.Marshal(m); err != nil || string(again) != string(b) {
			t.Fatal("another encoding")
		}
	})
}

func FuzzSigned(f *testing.F) { fuzz(f, &Signed{Body: []byte{1}}) }
func FuzzOffer(f *testing.F)  { fuzz(f, &Offer{File: []byte{1}, Peers: []wire.Peer{{}}}) }
func FuzzSheets(f *testing.F) { fuzz(f, &Sheets{List: []job.Dealt{{Shares: job.Shares{{}}}}}) }
func FuzzAsk(f *testing.F)    { fuzz(f, &Ask{Part: PartEnd}) }
func FuzzChunk(f *testing.F)  { fuzz(f, &Chunk{Data: []byte{1}}) }
func FuzzStatus(f *testing.F) { fuzz(f, &Status{Dealt: []uint32{1}, Certs: []job.Certificate{{}}}) }
func FuzzProofs(f *testing.F) { fuzz(f, &Proofs{List: []job.Letter{{}}}) }
func FuzzEnd(f *testing.F)    { fuzz(f, &End{Failed: []FailureOf{{}}}) }
