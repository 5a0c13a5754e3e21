package main

import "fmt"

// plural returns a count with its noun: "1 agent", "2 agents".
func plural[N ~int | ~int64 | ~uint32 | ~uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// pennies returns a count of pennies.
func pennies(n uint32) string {
	if n == 1 {
		return "1 penny"
	}
	return fmt.Sprintf("%d pennies", n)
}
