package rewrite

// The depth of calls is limited in slots of 8 bytes, an upper estimate of a
// compiler's frames, so that both engines stop at the same call, long before
// either runs out of its own stack.
const (
	// DepthBudget is the total weight of all frames: 32 MiB. wazero's compiler
	// allows more than 50 MB.
	DepthBudget = 1 << 22
	// minFrame limits the number of frames to MaxFrames.
	minFrame = 256
	// MaxFrames is the maximum depth of calls.
	MaxFrames = DepthBudget / minFrame
)
