package seal

import "errors"

// The errors of this package. Functions wrap them with %w and add the place,
// never a secret. Errors of the caller's readers and writers are wrapped as
// well. A bad key is wire.ErrBadKey.
var (
	// ErrTooLarge means a body over MaxBody or a payload over MaxPayload.
	ErrTooLarge = errors.New("message too large")

	// ErrEmpty means that the input is empty.
	ErrEmpty = errors.New("empty message")

	// ErrSpent means a second Encrypt on the same Secrets.
	ErrSpent = errors.New("these secrets have already encrypted a message")

	// ErrCorrupt means that no encoder produces these bytes under this key: a
	// wrong key, or data that is altered, truncated, extended, or not in
	// canonical form.
	ErrCorrupt = errors.New("corrupt, truncated or under another key")

	// ErrVersion means that the magic is right but the version is unknown.
	ErrVersion = errors.New("unknown version")

	// ErrSignature means a signature that does not verify.
	ErrSignature = errors.New("bad signature")

	// ErrKey means that a message key belongs to another payload.
	ErrKey = errors.New("the message key is another payload's")

	// ErrMarker means that the data is not a marker.
	ErrMarker = errors.New("not a funding marker")

	// ErrLeaves means that the number of leaves is outside 1..MaxLeaves or the
	// index is out of range.
	ErrLeaves = errors.New("leaf count or index out of range")
)
