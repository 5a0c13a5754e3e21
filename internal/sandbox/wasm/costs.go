package wasm

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
)

// PrintHost writes what programs can import, with types and costs, as
// spec/fuel.md has it.
func PrintHost(w io.Writer) {
	for _, module := range []string{bitgramModule, wasiModule} {
		fmt.Fprintf(w, "\n### `%s`\n\n| function | type | fuel |\n| --- | --- | --- |\n", module)
		funcs := hostModules[module]
		for _, name := range slices.SortedFunc(maps.Keys(funcs), cmp.Compare[string]) {
			fmt.Fprintf(w, "| `%s` | `%s` | %d |\n", name, funcs[name].sig, funcs[name].fuel)
		}
	}
	fmt.Fprintf(w, "\nFor each byte besides: %d of output, %d of a state, %d of random numbers, %d of an event, one of an argument or variable; one for each %d bytes of input, of a restored state and of standard error. ",
		outputCost, stateCost, randomCost, noticeBytesX, 1<<copyShift)
	fmt.Fprintf(w, "`sync` costs %d more for each page of the memory, a buffer of `fd_read` or `fd_write` %d, a subscription of `poll_oneoff` %d.\n", syncPageCost, callCost/8, callCost/4)
}
