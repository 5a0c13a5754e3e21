package agent

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node/share"
	"github.com/bitgram/bitgram/internal/store"
	"github.com/bitgram/bitgram/wire"
)

// TestClaimGroup: a claim takes as many others along as a transaction may have,
// and none that is in another transaction, claims alone, can't be claimed or
// can't be read.
func TestClaimGroup(t *testing.T) {
	st, err := store.Open(filepath.Join(t.TempDir(), "db"))
	must(t, err)
	defer st.Close()
	a := &Agent{cfg: Config{Log: slog.New(slog.DiscardHandler)}}
	a.claims = claiming(&a.cfg)
	sigma, batch := wire.Secret{1}, &contract.Sent{Txid: wire.Hash{7}}
	deals := map[byte][]deal.Agent{}
	save := func(kind byte, d deal.Agent) {
		d.Quote.Point = wire.Key{kind, byte(len(deals[kind])), byte(len(deals[kind]) >> 8)}
		d.Package, d.Sigma = &wire.Package{}, &sigma
		d.Quote.Expiry = 1000
		must(t, st.Update(t.Context(), func(tx engine.Tx) error {
			if err := a.claims.Account(tx, engine.Change{Ref: refOf(d.Quote.Point), State: d}); err != nil {
				return err
			}
			raw, err := wire.Marshal(d)
			if kind == 'u' {
				raw = raw[:10]
			}
			if err != nil {
				return err
			}
			return tx.Save(refOf(d.Quote.Point), raw, contract.Interest{})
		}))
		deals[kind] = append(deals[kind], d)
	}
	confirmed := &contract.Fact{Height: 5}
	for range 3 {
		save('f', deal.Agent{Confirmed: confirmed})                                                         // free
		save('b', deal.Agent{Confirmed: confirmed, Claim: batch})                                           // in a batch
		save('o', deal.Agent{Confirmed: confirmed, Claim: &contract.Sent{Txid: wire.Hash{8}}})              // in another
		save('a', deal.Agent{Confirmed: confirmed, Quote: wire.Quote{Shape: wire.OneOfMany}})               // alone
		save('n', deal.Agent{})                                                                             // not funded
		save('s', deal.Agent{Confirmed: confirmed, Spend: &deal.SpendFact{Fact: contract.Fact{Height: 6}}}) // spent
	}
	save('u', deal.Agent{Confirmed: confirmed})
	group := func(d deal.Agent) (got map[byte]int) {
		must(t, st.View(t.Context(), func(tx engine.Tx) error {
			list, err := a.claims.Group(tx, share.Member[deal.Agent]{Ref: refOf(d.Quote.Point), State: d})
			got = map[byte]int{}
			for _, r := range list {
				got[r.State.Quote.Point[0]]++
			}
			return err
		}))
		return got
	}
	for kind, want := range map[byte]int{'f': 3, 'a': 1} {
		if got := group(deals[kind][0]); len(got) != 1 || got[kind] != want {
			t.Errorf("%c claims with %v", kind, got)
		}
	}
	for range maxClaims {
		save('f', deal.Agent{Confirmed: confirmed})
	}
	if got := group(deals['f'][len(deals['f'])-1]); got['f'] > maxClaims || got['f'] < maxClaims-2 {
		t.Errorf("%v claims in one transaction", got)
	}
}
