package web

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/danielgtaylor/huma/v2"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/node/coins"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/wire"
)

func (s *Server) walletRoutes(to huma.API) {
	on(s, to, "GET", "/wallet", "Balance of the wallet", func(ctx context.Context, n *node.Node, _ *none) (api.Balance, error) {
		b, err := balance(ctx, n)
		b.Warning = behind(ctx, n)
		return b, err
	})
	on(s, to, "POST", "/wallet/address", "Create a new bitcoin address", func(ctx context.Context, n *node.Node, _ *none) (a api.Receiving, err error) {
		a.Address, _, a.Again, err = n.Coins.Receive(ctx)
		return a, err
	})
	on(s, to, "GET", "/wallet/history", "List the wallet's transactions", func(ctx context.Context, n *node.Node, _ *none) (list struct {
		Transactions []api.Transaction `json:"transactions"`
	}, err error) {
		list.Transactions = []api.Transaction{}
		records, err := n.Coins.History(ctx)
		for _, r := range records {
			list.Transactions = append(list.Transactions, api.Transaction{Txid: displayed(r.Txid), Height: uint32(r.Height), Kept: r.Kept, In: r.In, Out: r.Out})
		}
		return list, err
	})
	on(s, to, "POST", "/wallet/send", "Pay a bitcoin address", func(ctx context.Context, n *node.Node, in *struct {
		To     string `query:"to" required:"true" doc:"bitcoin address of the recipient"`
		Amount int64  `query:"amount_sat" required:"true" minimum:"1"`
		Rate   int64  `query:"rate_sat_per_kvb" minimum:"0" maximum:"10000000" doc:"fee rate; 0 for the node's estimate"`
		Max    int64  `query:"max_fee_sat" minimum:"0" doc:"maximum fee, and permission to pay it; 0 for the default ceiling"`
	}) (api.Payment, error) {
		t, err := n.Coins.Pay(ctx, in.To, wire.Sat(in.Amount), wallet.Fee{Rate: wire.SatPerKVB(in.Rate), Max: wire.Sat(in.Max)})
		if err != nil {
			return api.Payment{}, err
		}
		return api.Payment{Txid: t.TxHash().String()}, nil
	})
	on(s, to, "POST", "/wallet/abandon", "Take back a payment that no node has accepted", func(ctx context.Context, n *node.Node, in *struct {
		Txid string `query:"txid" required:"true"`
	}) (api.Payment, error) {
		h, err := txidOf(in.Txid)
		if err != nil {
			return api.Payment{}, err
		}
		return api.Payment{Txid: in.Txid}, n.Coins.Abandon(ctx, h)
	})
	on(s, to, "POST", "/wallet/bump", "Raise the fee of an unconfirmed payment by replacing it, or of a message's funding with a child transaction", func(ctx context.Context, n *node.Node, in *struct {
		Txid string `query:"txid" required:"true"`
		Rate int64  `query:"rate_sat_per_kvb" minimum:"0" maximum:"10000000" doc:"fee rate; 0 for the node's estimate"`
		Max  int64  `query:"max_fee_sat" minimum:"0" doc:"maximum fee, and permission to pay it; 0 for the default ceiling"`
	}) (api.Payment, error) {
		h, err := txidOf(in.Txid)
		if err != nil {
			return api.Payment{}, err
		}
		t, err := n.Coins.Bump(ctx, h, wallet.Fee{Rate: wire.SatPerKVB(in.Rate), Max: wire.Sat(in.Max)})
		if err != nil {
			return api.Payment{}, err
		}
		return api.Payment{Txid: t.TxHash().String()}, nil
	})
	huma.Register(to, huma.Operation{OperationID: "post-wallet-backup", Method: "POST", Path: "/v1/wallet/backup", MaxBodyBytes: 4096,
		Summary:   "Write an encrypted backup of the home: seed, contracts and their secrets",
		Responses: map[string]*huma.Response{"200": {Description: "the backup", Content: map[string]*huma.MediaType{"application/octet-stream": {}}}},
	}, func(_ context.Context, _ *none) (*huma.StreamResponse, error) {
		n, err := s.get()
		if err != nil {
			return nil, s.answer(err)
		}
		return &huma.StreamResponse{Body: func(c huma.Context) {
			c.SetHeader("Content-Type", "application/octet-stream")
			// The end of the stream is authenticated: a truncated backup cannot
			// pass for a whole one.
			if err := s.cfg.Backup(c.Context(), c.BodyWriter(), n.Snapshot); err != nil {
				s.cfg.Log.Error("backup failed", "err", err)
				panic(http.ErrAbortHandler) // aborts the answer, so that the client sees an error
			}
		}}, nil
	})
}

// behindTime is how long a request waits for the blocks that are being read.
const behindTime = time.Second

// behind returns a warning if the chain is not read to its tip.
func behind(ctx context.Context, n *node.Node) *api.Warning {
	wait, cancel := context.WithTimeout(ctx, behindTime)
	defer cancel()
	if n.Engine().WaitSynced(wait) == nil {
		return nil
	}
	err := fmt.Errorf("%w: at block %d", coins.ErrSyncing, n.Engine().Position().Height)
	if trouble := n.Engine().Trouble(); trouble != nil {
		err = trouble
	}
	return &api.Warning{Code: CodeOf(err), Message: err.Error()}
}

func txidOf(s string) (wire.Hash, error) {
	h, err := chainhash.NewHashFromStr(s)
	if err != nil || len(s) != 2*len(h) {
		return wire.Hash{}, fmt.Errorf("%w: txid %q: must be 64 hex digits", ErrRequest, s)
	}
	return wire.Hash(*h), nil
}
