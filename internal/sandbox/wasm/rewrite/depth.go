package rewrite

// The depth of calls is bounded in slots of 8 bytes that a compiler's frames may
// take, so that both engines stop at the same call, long before one of them
// runs out of its own stack.
const (
	// DepthBudget is what all frames may weigh together: 32 MiB. wazero's
	// compiler has more than 50 MB.
	DepthBudget = 1 << 22
	// minFrame bounds the number of frames: MaxFrames.
	minFrame = 256
	// MaxFrames is how deep calls can go at most.
	MaxFrames = DepthBudget / minFrame
)
