// Package conform holds one test suite for each interface that has, or will
// have, more than one implementation: whoever implements it runs the suite
// from its own tests. For tests only.
package conform
