package seal

import (
	"fmt"
	"math/bits"

	"github.com/bitgram/bitgram/wire"
)

// MaxLeaves is the largest number of leaves under one root.
const MaxLeaves = 64

func node(left, right wire.Hash) wire.Hash { return wire.Tagged("node", left[:], right[:]) }

// split returns the size of the left subtree of n > 1 leaves: the largest power
// of two below n (RFC 6962 §2.1).
func split(n int) int { return 1 << (bits.Len(uint(n-1)) - 1) }

// Root returns the Merkle root of leaves, which are hashes from wire.Leaf.Hash.
// The tree has the shape of RFC 6962 and the tagged node hash H[node](left ‖
// right). The root of one leaf is the leaf. It returns ErrLeaves if there are
// no leaves or more than MaxLeaves.
//
// A root does not commit to the number of leaves: a caller that needs it must
// compute the root from all of them.
func Root(leaves []wire.Hash) (wire.Hash, error) {
	if len(leaves) == 0 || len(leaves) > MaxLeaves {
		return wire.Hash{}, fmt.Errorf("%w: %d leaves", ErrLeaves, len(leaves))
	}
	return root(leaves), nil
}

func root(leaves []wire.Hash) wire.Hash {
	if len(leaves) == 1 {
		return leaves[0]
	}
	k := split(len(leaves))
	return node(root(leaves[:k]), root(leaves[k:]))
}

// Section returns the audit path of leaf i, from the leaf's sibling up (RFC
// 6962 §2.1.1). It is empty for a single leaf and has at most six hashes. It
// returns ErrLeaves if Root would, or if there is no leaf i.
func Section(leaves []wire.Hash, i int) ([]wire.Hash, error) {
	if len(leaves) == 0 || len(leaves) > MaxLeaves || i < 0 || i >= len(leaves) {
		return nil, fmt.Errorf("%w: leaf %d of %d", ErrLeaves, i, len(leaves))
	}
	return section(nil, leaves, i), nil
}

func section(path, leaves []wire.Hash, i int) []wire.Hash {
	if len(leaves) == 1 {
		return path
	}
	k := split(len(leaves))
	if i < k {
		return append(section(path, leaves[:k], i), root(leaves[k:]))
	}
	return append(section(path, leaves[k:], i-k), root(leaves[:k]))
}

// VerifySection reports whether path leads from leaf, at index among count
// leaves, to root. The caller must compute leaf with wire.Leaf.Hash from the
// fields, because a hash from a peer could be an inner node. The result is
// false if the path is too short or too long, index is out of range, or count
// is outside 1..MaxLeaves.
func VerifySection(leaf wire.Hash, index, count int, path []wire.Hash, root wire.Hash) bool {
	if count < 1 || count > MaxLeaves || index < 0 || index >= count {
		return false
	}
	h, fn, sn := leaf, index, count-1
	for _, p := range path {
		if sn == 0 {
			return false
		}
		if fn&1 == 1 || fn == sn {
			h = node(p, h)
			for fn&1 == 0 && fn != 0 {
				fn, sn = fn>>1, sn>>1
			}
		} else {
			h = node(h, p)
		}
		fn, sn = fn>>1, sn>>1
	}
	return sn == 0 && h == root
}
