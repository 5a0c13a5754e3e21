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

// build says from what this binary was built.
type build struct {
	Version string `json:"version"`
	// Commit is the Git commit, if the Go command recorded it. Modified reports
	// that files differed from it.
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
}

// readBuild reads what the Go command recorded in the binary.
func readBuild() build {
	b := build{Version: "devel", Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		b.Version = info.Main.Version
	}
	if release != "" {
		b.Version = release
	}
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// version returns the version of the release, or of the module if the Go command
// knows it.
func version() string { return readBuild().Version }

// String is one line for people.
func (b build) String() string {
	commit := ""
	if b.Commit != "" {
		commit = "commit " + b.Commit[:min(len(b.Commit), 12)]
		if b.Modified {
			commit += ", modified"
		}
		commit += ", "
	}
	return fmt.Sprintf("bitgram %s (%s%s)", b.Version, commit, b.Go)
}

func (a *app) printVersion() {
	b := readBuild()
	a.print.summary(b, func(w io.Writer) { fmt.Fprintln(w, b) })
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version",
		Args:  usage(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			a.printVersion()
			return nil
		},
	}
}
