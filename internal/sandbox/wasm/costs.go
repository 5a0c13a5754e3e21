package wasm

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
)

// PrintHost writes the host functions with types and costs, for spec/fuel.md.
func PrintHost(w io.Writer) {
	for _, module := range []string{bitgramModule, wasiModule} {
		fmt.Fprintf(w, "\n### `%s`\n\n| function | type | fuel |\n| --- | --- | --- |\n", module)
		funcs := hostModules[module]
		for _, name := range slices.SortedFunc(maps.Keys(funcs), cmp.Compare[string]) {
			fmt.Fprintf(w, "| `%s` | `%s` | %d |\n", name, funcs[name].sig, funcs[name].fuel)
		}
	}
	fmt.Fprintf(w, "\nIn addition, each byte costs: %d for output, %d for a state, %d for random numbers, %d for an event, one for an argument or variable, each of which costs %d besides. Input, a restored state and standard error cost one for each %d bytes. ",
		outputCost, stateCost, randomCost, noticeBytesX, stringCost, 1<<copyShift)
	fmt.Fprintf(w, "`sync` costs %d for each page of the memory, each buffer of `fd_read` or `fd_write` %d, each subscription of `poll_oneoff` %d.\n", syncPageCost, callCost/8, callCost/2)
}
