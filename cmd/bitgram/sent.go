package main

import "github.com/spf13/cobra"

func (a *app) sentCommand() *cobra.Command { return a.listCommand("sent", "List sent messages") }
