package wasm

import (
	"testing"
	_ "unsafe" // for linkname
)

//go:linkname kindName github.com/tetratelabs/wazero/internal/engine/wazevo/backend/isa/amd64.instructionKind.String
func kindName(kind byte) string

// TestConditionalMove: the numbers are those of the two instructions, and the tables
// say of the move of integers that it reads both operands and makes no new value.
func TestConditionalMove(t *testing.T) {
	if kindName(cmove) != "cmove" || kindName(xmmCMov) != "xmmCMov" {
		t.Fatalf("instructions %d and %d are %s and %s", cmove, xmmCMov, kindName(cmove), kindName(xmmCMov))
	}
	const none, both = 1, 3 // defKindNone, useKindOp1Op2Reg
	if useKinds[xmmCMov] != both || defKinds[xmmCMov] != none {
		t.Errorf("a conditional move has uses %d and definitions %d", useKinds[xmmCMov], defKinds[xmmCMov])
	}
}
