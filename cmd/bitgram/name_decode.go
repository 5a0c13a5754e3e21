package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/blockname"
	"github.com/bitgram/bitgram/internal/api"
)

func (a *app) nameDecode() *cobra.Command {
	return &cobra.Command{
		Use:   "decode TEXT",
		Short: "Decode a hint, offline",
		Args:  usage(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			h, err := blockname.Parse([]byte(args[0]))
			if err != nil {
				return err
			}
			v := api.HintOf(h)
			a.print.summary(v, func(w io.Writer) { fmt.Fprintf(w, "%s  %s  %s\n", v.Kind, v.Name, where(&v)) })
			return nil
		},
	}
}
