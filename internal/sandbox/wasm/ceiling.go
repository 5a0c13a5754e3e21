package wasm

import (
	_ "unsafe" // for linkname

	"github.com/bitgram/bitgram/internal/sandbox/wasm/rewrite"
)

// wazero's interpreter gives up after 2,000 frames, whatever they hold, and has
// no setting for it; its compiler goes on to more than 50 MB. The depth counter
// has to be what ends a recursion in both, so the interpreter's number is
// raised above it. A wazero without this variable does not link, and
// TestDepth fails where it means something else.
//
//go:linkname interpreterCeiling github.com/tetratelabs/wazero/internal/engine/interpreter.callStackCeiling
var interpreterCeiling int

func init() { interpreterCeiling = rewrite.MaxFrames + 64 }
