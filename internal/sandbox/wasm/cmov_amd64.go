package wasm

import _ "unsafe" // for linkname

// wazero v1.12.0's compiler says of its conditional move of floats and vectors that it
// makes its target from its source alone. But it keeps the target if the condition is
// false. So the register allocator may give the target's register to a source that it
// fetches from the stack, and the result is what another register happens to hold. This
// corrects the two tables, to what they say of the conditional move of integers. A
// wazero without these tables does not link, and TestConditionalMove fails if their
// meaning changes.
//
//go:linkname useKinds github.com/tetratelabs/wazero/internal/engine/wazevo/backend/isa/amd64.useKinds
var useKinds [instructionKinds]byte

//go:linkname defKinds github.com/tetratelabs/wazero/internal/engine/wazevo/backend/isa/amd64.defKinds
var defKinds [instructionKinds]byte

// Numbers of wazero's instructions, and how many there are.
const (
	cmove            = 20
	xmmCMov          = 51
	instructionKinds = 52 // at least
)

func init() {
	useKinds[xmmCMov], defKinds[xmmCMov] = useKinds[cmove], defKinds[cmove]
}
