package node

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/store"
	"github.com/bitgram/bitgram/wire"
)

// TestClaimGroup: a claim takes as many others along as a transaction may have,
// and none that is in another transaction, claims alone, can't be claimed or
// can't be read; one deal of a batch looks after it in a block.
func TestClaimGroup(t *testing.T) {
	st, err := store.Open(filepath.Join(t.TempDir(), "db"))
	must(t, err)
	defer st.Close()
	a := &agent{store: st, log: slog.New(slog.DiscardHandler)}
	sigma, batch := wire.Secret{1}, &contract.Sent{Txid: wire.Hash{7}}
	deals := map[byte][]deal.Agent{}
	save := func(kind byte, d deal.Agent) {
		d.Quote.Point = wire.Key{kind, byte(len(deals[kind])), byte(len(deals[kind]) >> 8)}
		d.Package, d.Sigma = &wire.Package{}, &sigma
		d.Quote.Expiry = 1000
		must(t, st.Update(t.Context(), func(tx engine.Tx) error {
			if err := account(tx, engine.Change{State: d}); err != nil {
				return err
			}
			raw, err := wire.Marshal(d)
			if kind == 'u' {
				raw = raw[:10]
			}
			if err != nil {
				return err
			}
			return tx.Save(agentRef(d.Quote.Point), raw, contract.Interest{})
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
			list, err := claiming.group((*executor)(a), tx, member[deal.Agent]{agentRef(d.Quote.Point), d})
			got = map[byte]int{}
			for _, r := range list {
				got[r.state.Quote.Point[0]]++
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

	one, two := agentRef(deals['b'][0].Quote.Point), agentRef(deals['b'][1].Quote.Point)
	for i, c := range []struct {
		ref    engine.Ref
		urgent bool
		tip    wire.Height
		want   bool
	}{{one, false, 10, true}, {two, false, 10, false}, {one, false, 10, true}, {two, true, 10, true}, {one, true, 10, false}, {two, false, 11, true}, {one, false, 10, true}} {
		if got := a.firstOf(batch.Txid, c.urgent, c.ref, c.tip); got != c.want {
			t.Errorf("%d: first of its batch: %v", i, got)
		}
	}
}
