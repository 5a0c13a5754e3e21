package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/wire"
)

func (a *app) verifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify FILE|-",
		Short: "Check a proof of delivery, offline",
		Args:  usage(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			in := a.in
			if args[0] != "-" {
				f, _, err := openInput(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			var p deal.Proof
			const most = 8 << 20
			if err := json.NewDecoder(io.LimitReader(in, most)).Decode(&p); err != nil {
				return fmt.Errorf("%w: %w", deal.ErrBadReceipt, err)
			}
			txid, err := p.Verify()
			if err != nil {
				return err
			}
			shown := wireTxid(txid)
			a.print.summary(struct {
				Valid     bool         `json:"valid"`
				MessageID string       `json:"message_id"`
				Recipient string       `json:"recipient"`
				Agent     string       `json:"agent"`
				Network   wire.Network `json:"network"`
				Funding   string       `json:"funding_txid"`
			}{true, p.MessageID, p.Recipient, p.Agent, p.Network, shown}, func(w io.Writer) {
				fmt.Fprintf(w, "%s\nsigned that it received message %s\nfrom agent %s,\npaid by %s on %s (check on that network that the transaction is confirmed).\n",
					p.Recipient, p.MessageID, p.Agent, shown, p.Network)
			})
			return nil
		},
	}
}

// wireTxid returns a txid in display order, as people write it.
func wireTxid(h wire.Hash) string { return chainhash.Hash(h).String() }
