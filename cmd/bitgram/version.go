package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// release is the version of a released binary; "make release" sets it.
var release string

// version is that of the release, or of the module if Go knows it.
func version() string {
	if release != "" {
		return release
	}
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
		RunE:  a.showVersion,
	}
}

func (a *app) showVersion(*cobra.Command, []string) error {
	v := version()
	a.print.summary(struct {
		Version string `json:"version"`
		Go      string `json:"go"`
	}{v, runtime.Version()}, func(w io.Writer) { fmt.Fprintf(w, "bitgram %s (%s)\n", v, runtime.Version()) })
	return nil
}
