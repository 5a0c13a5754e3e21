package rewrite

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// PrintCosts writes the table of fuel in Markdown, as spec/fuel.md has it.
func PrintCosts(w io.Writer) {
	fmt.Fprintf(w, "Version %d, for version %s of the rewriting.\n\n", CostVersion, Version)
	fmt.Fprintf(w, "| instructions | fuel |\n| --- | --- |\n")
	for _, c := range costRows() {
		fmt.Fprintf(w, "| %s | %d |\n", strings.Join(c.names, " "), c.fuel)
	}
	fmt.Fprintf(w, "\nIn addition, `memory.copy`, `memory.fill` and `memory.init` cost one for each %d bytes, and `memory.grow` %d for each page that it adds. ", 1<<BulkShift, PageCost)
	fmt.Fprintf(w, "Each load and store costs one more for each MiB of the memory, at most %d; when that rises, `memory.grow` costs as much more for each slot of the frames that are in use. The start of a program costs %d, %d for each page of memory, %d for each data segment and one for each %d bytes of it, %d for each element segment and %d for each element, %d for each global and one for each table slot.\n",
		maxFar, StartBase, PageCost, costBulk, 1<<BulkShift, costBulk, costElement, costGlobal)
	fmt.Fprintf(w, "\n## Refused\n\n| instructions | reason |\n| --- | --- |\n")
	for _, c := range refusedRows() {
		fmt.Fprintf(w, "| %s | %s |\n", strings.Join(c.names, " "), c.why)
	}
}

type costRow struct {
	fuel  uint32
	names []string
}

// all is every row of the table, in order of the opcodes.
func all() (list []opcode) {
	for _, table := range [][]opcode{core[:], misc[:], simd[:]} {
		for _, o := range table {
			if o.name != "" {
				list = append(list, o)
			}
		}
	}
	return list
}

func costRows() (rows []costRow) {
	for _, o := range all() {
		if o.refused != "" {
			continue
		}
		i := slices.IndexFunc(rows, func(r costRow) bool { return r.fuel == o.fuel })
		if i < 0 {
			i, rows = len(rows), append(rows, costRow{fuel: o.fuel})
		}
		if name := "`" + o.name + "`"; !slices.Contains(rows[i].names, name) {
			rows[i].names = append(rows[i].names, name)
		}
	}
	slices.SortFunc(rows, func(a, b costRow) int { return cmp.Compare(a.fuel, b.fuel) })
	return rows
}

type refusedRow struct {
	why   string
	names []string
}

func refusedRows() (rows []refusedRow) {
	for _, o := range append(all(), atomicRow, gcRow) {
		if o.refused == "" {
			continue
		}
		i := slices.IndexFunc(rows, func(r refusedRow) bool { return r.why == o.refused })
		if i < 0 {
			i, rows = len(rows), append(rows, refusedRow{why: o.refused})
		}
		rows[i].names = append(rows[i].names, "`"+o.name+"`")
	}
	return rows
}
