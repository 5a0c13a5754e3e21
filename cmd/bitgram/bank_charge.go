package main

import (
	"cmp"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) bankCharge() *cobra.Command {
	var key string
	c := a.simple("charge BANK SATOSHI", "Use what a payer has paid, before you give something for it", cobra.ExactArgs(2), func(c *cobra.Command, client *api.Client, args []string) error {
		amount, err := msat(args[1])
		if err != nil {
			return err
		}
		key = cmp.Or(key, newKey())
		b, err := client.ChargeBank(c.Context(), args[0], amount, key)
		return a.oneBank(b, keyed(c.Context(), err, errKeyed, key))
	})
	c.Long = "Uses part of a bank's credit as its payee. Pennies that a payer has paid from a bank are its credit for payments\n" +
		"over this node, as long as nothing has used them. If this node is a banker and you sell something for pennies,\n" +
		"charge its price before you give it: otherwise the payer could spend the same pennies on a payment. If there is\n" +
		"less credit, the command fails and nothing is used. What comes in by a payment to your address is used already."
	c.Example = "  bitgram bank charge 3fa9 250 --key order-117"
	c.Flags().StringVar(&key, "key", "", "idempotency key: a repeated command with the same key charges once")
	return c
}
