package wasm

import (
	_ "unsafe" // for linkname

	"github.com/bitgram/bitgram/internal/sandbox/wasm/rewrite"
)

// wazero's interpreter gives up after 2,000 frames, whatever their size, and
// has no setting for it; its compiler allows more than 50 MB. The depth counter
// must be what ends a recursion in both, so this raises the interpreter's limit
// above it. A wazero without this variable does not link, and TestDepth fails
// if its meaning changes.
//
//go:linkname interpreterCeiling github.com/tetratelabs/wazero/internal/engine/interpreter.callStackCeiling
var interpreterCeiling int

func init() { interpreterCeiling = rewrite.MaxFrames + 64 }
