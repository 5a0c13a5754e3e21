package main

import (
	"github.com/spf13/cobra"
)

func (a *app) cancelCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cancel ID",
		Short: "Take a message back before it is paid for",
		Long:  "Takes back a message whose payment is not signed yet. A signed payment cannot be taken back; if nobody\npicks the message up, it is refunded.",
		Args:  usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.dial()
			if err != nil {
				return err
			}
			return a.oneMessage(client.Cancel(c.Context(), args[0]))
		},
	}
}
