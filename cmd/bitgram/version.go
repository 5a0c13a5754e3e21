package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is that of the build.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version",
		Args:  usage(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			v := version()
			a.print.summary(struct {
				Version string `json:"version"`
				Go      string `json:"go"`
			}{v, runtime.Version()}, func(w io.Writer) { fmt.Fprintf(w, "bitgram %s (%s)\n", v, runtime.Version()) })
			return nil
		},
	}
}
