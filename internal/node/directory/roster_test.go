package directory

import (
	"encoding/binary"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/store"
	"github.com/bitgram/bitgram/wire"
)

// open opens the directory of an agent, and the store below it.
func open(t *testing.T, dir string) (*Directory, func()) {
	t.Helper()
	st, err := store.Open(filepath.Join(dir, "db"))
	must(t, err)
	d, err := New(t.Context(), Config{Network: wire.Regtest, Store: st, Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	return d, func() { must(t, st.Close()) }
}

func someAgents(n int, rate func(i int) wire.Psat) (list []p2p.Found) {
	for i := range n {
		var s wire.Secret
		binary.BigEndian.PutUint32(s[:], uint32(i+1))
		priv, err := s.PrivKey()
		if err != nil {
			panic(err)
		}
		list = append(list, p2p.Found{Ad: wire.Advertisement{Agent: wire.XOnly(priv.PubKey()), Services: wire.Delivery, Rate: rate(i),
			Limits: wire.Limits{Size: 1 << 20, Blocks: 100}, Record: wire.Record{Expires: time.Now().Unix() + 3600, Addrs: []string{"/ip4/1.2.3.4/tcp/1"}}},
			Addrs: []string{"/ip4/1.2.3.4/tcp/1"}, Prefix: "ip4/1.2"})
	}
	return list
}

// TestRoster: it is bounded, forgets who was met longest ago, and survives a
// restart.
func TestRoster(t *testing.T) {
	dir := t.TempDir()
	d, done := open(t, dir)
	agents := someAgents(maxRoster+50, func(int) wire.Psat { return 1 })
	now := time.Now()
	for i, f := range agents {
		d.roster.note([]p2p.Found{f}, now.Add(time.Duration(i)*time.Second))
	}
	if got := len(d.roster.all()); got != maxRoster {
		t.Errorf("%d remembered", got)
	}
	for _, f := range agents[:50] {
		if d.roster.list[f.Ad.Agent] != nil {
			t.Error("an old one is remembered, a new one forgotten")
		}
	}
	must(t, d.Save(t.Context()))
	done()
	d, done = open(t, dir)
	defer done()
	if got := len(d.roster.all()); got != maxRoster {
		t.Errorf("%d remembered after a restart", got)
	}
	if got := len(d.remembered()); got != maxRemembered {
		t.Errorf("%d remembered seeds after a restart", got)
	}
}

// TestSequence: sequence numbers grow, after a restart and after the clock went
// back too.
func TestSequence(t *testing.T) {
	host, err := p2p.New(p2p.Config{Identity: wire.Secret{1}, Listen: []string{"/ip4/127.0.0.1/tcp/0"}, DHT: &p2p.DHT{Network: wire.Regtest}})
	must(t, err)
	defer host.Close()
	dir := t.TempDir()
	d, done := open(t, dir)
	must(t, d.Listen(t.Context(), host))
	last := uint64(0)
	next := func() {
		t.Helper()
		r, err := d.record(t.Context())
		must(t, err)
		if r.Seq <= last {
			t.Errorf("%d after %d", r.Seq, last)
		}
		last = r.Seq
	}
	next()
	next()
	future := uint64(time.Now().Add(time.Hour).UnixMilli())
	must(t, d.cfg.Store.Update(t.Context(), func(tx engine.Tx) error {
		return tx.Put(bucketSeq, []byte{0}, binary.BigEndian.AppendUint64(nil, future))
	}))
	last = future
	done()
	d, done = open(t, dir)
	defer done()
	must(t, d.Listen(t.Context(), host))
	next()
}
