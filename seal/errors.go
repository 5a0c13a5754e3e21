package seal

import "errors"

// The errors of this package. Functions wrap them with %w and add where it
// happened, never a secret. Errors of the caller's readers and writers are
// passed on wrapped. A bad key is wire.ErrBadKey.
var (
	// ErrTooLarge means a body over MaxBody or a payload over MaxPayload.
	ErrTooLarge = errors.New("message too large")

	// ErrEmpty means that there was nothing to encrypt or to seal.
	ErrEmpty = errors.New("empty message")

	// ErrSpent means a second Encrypt on the same Secrets.
	ErrSpent = errors.New("these secrets have already encrypted a message")

	// ErrCorrupt means bytes that no encoder makes under this key: wrong key,
	// altered, truncated, extended, or not the one canonical form.
	ErrCorrupt = errors.New("corrupt, truncated or under another key")

	// ErrVersion means the right magic with a version that is not ours.
	ErrVersion = errors.New("unknown version")

	// ErrSignature means a signature that does not verify.
	ErrSignature = errors.New("bad signature")

	// ErrKey means a message key that is not the payload's.
	ErrKey = errors.New("the message key is another payload's")

	// ErrMarker means data that is no funding marker.
	ErrMarker = errors.New("not a funding marker")

	// ErrLeaves means a number of leaves outside 1..MaxLeaves or an index
	// outside the leaves.
	ErrLeaves = errors.New("leaf count or index out of range")
)
