// Package bankbench measures penny banks on the current machine, for 'bitgram
// bank bench' and a section of 'make bench'. Ratios come from alternating runs,
// so they are valid even if absolute numbers are not.
package bankbench

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// Figure is a measured figure.
type Figure struct {
	Name  string  `json:"name"` // for scripts; it does not change
	What  string  `json:"what"` // for people
	Value float64 `json:"value"`
	Unit  string  `json:"unit"` // "ns", "µs", "ms", "/s", "vB", "bytes", "" for a ratio or a count
	// Min and Max are the required bounds, if not 0.
	Min float64 `json:"min,omitempty"`
	Max float64 `json:"max,omitempty"`
	// Note is the absolute number behind a ratio, or other details.
	Note string `json:"note,omitempty"`
}

// OK reports whether the figure is within its bounds.
func (f *Figure) OK() bool { return f.Value >= f.Min && (f.Max == 0 || f.Value <= f.Max) }

// Measured returns the figure as text.
func (f *Figure) Measured() string {
	text := number(f.Value, f.Unit)
	if f.Note != "" {
		text += " (" + f.Note + ")"
	}
	return text
}

// Wanted returns the bound as text, or "".
func (f *Figure) Wanted() string {
	switch {
	case f.Min > 0:
		return "≥ " + number(f.Min, f.Unit)
	case f.Max > 0 && f.Max < 1:
		return "none"
	case f.Max > 0:
		return "≤ " + number(f.Max, f.Unit)
	}
	return ""
}

func number(v float64, unit string) string {
	switch unit {
	case "":
		if v == float64(int64(v)) && v >= 10 || v == 0 {
			return fmt.Sprintf("%.0f", v)
		}
		return fmt.Sprintf("%.2f", v)
	case "/s":
		return thousands(v) + "/s"
	case "bytes":
		return fmt.Sprintf("%.1f KiB", v/1024)
	case "vB":
		return fmt.Sprintf("%g vB", v)
	}
	if unit == "ms" && v < 10 || unit == "µs" {
		return fmt.Sprintf("%.1f %s", v, unit)
	}
	return fmt.Sprintf("%.0f %s", v, unit)
}

// thousands writes a whole number with commas.
func thousands(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Options of a run.
type Options struct {
	Quick bool   // fewer and shorter runs
	Dir   string // for the parties' files, whose disk is measured; empty for the default
	// Found is called with each figure as it is measured, Working with the
	// current activity.
	Found   func(Figure)
	Working func(text string)
}

// Run measures everything.
func Run(ctx context.Context, opt Options) ([]Figure, error) {
	b := &bench{opt: opt}
	for _, f := range []func(context.Context) error{b.hashes, b.sizes, b.network, b.relayed, b.thousand} {
		if err := f(ctx); err != nil {
			return b.figures, err
		}
	}
	return b.figures, nil
}

type bench struct {
	opt     Options
	figures []Figure
}

func (b *bench) found(f Figure) {
	b.figures = append(b.figures, f)
	if b.opt.Found != nil {
		b.opt.Found(f)
	}
}

func (b *bench) working(format string, a ...any) {
	if b.opt.Working != nil {
		b.opt.Working(fmt.Sprintf(format, a...))
	}
}

// pick returns quick for a quick run, and full otherwise.
func (b *bench) pick(quick, full int) int {
	if b.opt.Quick {
		return quick
	}
	return full
}

func median[T cmp.Ordered](list []T) T {
	s := slices.Sorted(slices.Values(list))
	return s[len(s)/2]
}
