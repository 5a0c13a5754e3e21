package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/sandbox/process"
	"github.com/bitgram/bitgram/internal/sandbox/wasm"
)

const sandboxName = "sandbox"

// sandboxCommand is the child in which another process of this binary runs a
// program. It is of no use to anybody else.
func (a *app) sandboxCommand() *cobra.Command {
	var config wasm.Config
	c := &cobra.Command{
		Use:    sandboxName,
		Short:  "Run a program for another process of this binary",
		Hidden: true,
		Args:   usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := process.Harden(); err != nil { // the parent shows this if the child is lost
				fmt.Fprintln(a.err, "the program runs without a filter of system calls:", err)
			}
			e, err := wasm.New(c.Context(), config)
			if err != nil {
				return err
			}
			return errors.Join(process.Serve(a.in, a.out, e), e.Close())
		},
	}
	c.Flags().StringVar(&config.CacheDir, "cache", "", "directory for compiled code")
	c.Flags().BoolVar(&config.Interpreter, "interpreter", false, "interpret the program instead of compiling it")
	return c
}
