// Package conform contains one test suite for each interface that has, or will
// have, more than one implementation. Each implementation runs the suite from
// its own tests. For tests only.
package conform
