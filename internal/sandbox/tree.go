package sandbox

import (
	"bytes"
	"sync"

	"github.com/zeebo/blake3"
)

// A Merkle tree over pages of 64 KiB, the last of which may be shorter, in the
// shape of RFC 6962. Leaves and nodes use BLAKE3 in key derivation mode with
// different contexts, so that a leaf cannot be taken for a node.
var (
	leafHasher = hasher("bitgram state page")
	nodeHasher = hasher("bitgram state node")
	rootHasher = hasher("bitgram state root")

	zeroPage [PageSize]byte
	zeroLeaf = sync.OnceValue(func() Digest { return leafOf(zeroPage[:], leafHasher()) })
)

// hasher returns a function that returns a new hasher in key derivation mode. The
// first is made at its first use, because most commands need none.
func hasher(context string) func() *blake3.Hasher {
	first := sync.OnceValue(func() *blake3.Hasher { return blake3.NewDeriveKey(context) })
	return func() *blake3.Hasher { return first().Clone() }
}

func leafOf(page []byte, h *blake3.Hasher) (d Digest) {
	h.Reset()
	_, _ = h.Write(page)
	h.Sum(d[:0])
	return d
}

func nodeOf(left, right Digest, h *blake3.Hasher) (d Digest) {
	h.Reset()
	_, _ = h.Write(left[:])
	_, _ = h.Write(right[:])
	h.Sum(d[:0])
	return d
}

// Tree stores a copy of the pages and their leaves, so that only changed pages
// are hashed again.
type Tree struct {
	data   []byte
	shared bool // data belongs to the caller
	leaves []Digest
	// levels[k] contains the nodes over 2^(k+1) leaves; a single last node
	// moves up.
	levels [][]Digest
	h, n   *blake3.Hasher
}

// Update stores the pages and returns the root and the number of pages hashed.
// The root of an empty tree is zeros.
func (t *Tree) Update(data []byte) (root Digest, hashed int) {
	if t.h == nil {
		t.h, t.n = leafHasher(), nodeHasher()
	}
	if t.shared { // what it was is not there any more
		t.data, t.leaves, t.shared = nil, t.leaves[:0], false
	}
	pages := Pages(len(data))
	old := len(t.leaves)
	if old > pages {
		t.leaves = t.leaves[:pages]
	}
	changed := make([]bool, pages)
	for i := range pages {
		page := pageOf(data, i)
		if i < old {
			if was := pageOf(t.data, i); bytes.Equal(was, page) {
				continue
			} else if len(was) == len(page) {
				copy(was, page)
			}
		} else {
			t.leaves = append(t.leaves, Digest{})
		}
		changed[i] = true
		if len(page) == PageSize && bytes.Equal(page, zeroPage[:]) {
			t.leaves[i] = zeroLeaf()
			continue
		}
		t.leaves[i] = leafOf(page, t.h)
		hashed++
	}
	t.keep(data)
	return t.climb(changed, old != pages), hashed
}

// Share is Update without a copy: data belongs to the tree until the next update,
// which hashes all pages. For memory that is too large to have twice.
func (t *Tree) Share(data []byte) (root Digest) {
	*t = treeOf(data)
	t.shared = true
	return t.root()
}

// treeOf returns a tree over data, which then belongs to the tree.
func treeOf(data []byte) (t Tree) {
	t.h, t.n = leafHasher(), nodeHasher()
	t.data = data
	for i := range Pages(len(data)) {
		page, leaf := pageOf(data, i), zeroLeaf()
		if len(page) < PageSize || !bytes.Equal(page, zeroPage[:]) {
			leaf = leafOf(page, t.h)
		}
		t.leaves = append(t.leaves, leaf)
	}
	t.climb(make([]bool, len(t.leaves)), true)
	return t
}

func (t *Tree) root() Digest {
	switch {
	case len(t.leaves) == 0:
		return Digest{}
	case len(t.leaves) == 1:
		return t.leaves[0]
	}
	return t.levels[len(t.levels)-1][0]
}

// keep resizes the copy to the length of data and copies the changed bytes.
func (t *Tree) keep(data []byte) {
	n := len(t.data)
	switch {
	case n == len(data):
	case n > len(data):
		t.data = t.data[:len(data)]
	default:
		// The previous last page may have been shorter.
		from := n - n%PageSize
		t.data = append(t.data[:from], data[from:]...)
		return
	}
	if from := len(data) - len(data)%PageSize; from < len(data) {
		copy(t.data[from:], data[from:])
	}
}

// climb recomputes the nodes above changed leaves.
func (t *Tree) climb(changed []bool, resized bool) Digest {
	if len(t.leaves) == 0 {
		t.levels = nil
		return Digest{}
	}
	below := t.leaves
	for k := 0; len(below) > 1; k++ {
		n := (len(below) + 1) / 2
		if k == len(t.levels) {
			t.levels = append(t.levels, nil)
		}
		if len(t.levels[k]) != n {
			t.levels[k] = append(t.levels[k][:0], make([]Digest, n)...)
			resized = true
		}
		up := make([]bool, n)
		for i := range n {
			l, r := 2*i, 2*i+1
			up[i] = resized || changed[l] || r < len(below) && changed[r]
			if !up[i] {
				continue
			}
			if t.levels[k][i] = below[l]; r < len(below) {
				t.levels[k][i] = nodeOf(below[l], below[r], t.n)
			}
		}
		below, changed = t.levels[k], up
		if len(below) == 1 {
			t.levels = t.levels[:k+1]
		}
	}
	if len(t.leaves) == 1 {
		t.levels = nil
	}
	return below[0]
}

// path returns the siblings on the path from a page to the root.
func (t *Tree) path(page int) (path []Digest) {
	below := t.leaves
	for k := 0; len(below) > 1; k++ {
		if s := page ^ 1; s < len(below) {
			path = append(path, below[s])
		}
		below, page = t.levels[k], page/2
	}
	return path
}

// climbPath returns the root for a page with this path; ok is false if the
// path's length does not fit the page's position.
func climbPath(leaf Digest, page, pages int, path []Digest) (Digest, bool) {
	h := nodeHasher()
	d := leaf
	for n := pages; n > 1; n, page = (n+1)/2, page/2 {
		s := page ^ 1
		if s >= n {
			continue
		}
		if len(path) == 0 {
			return Digest{}, false
		}
		if s < page {
			d = nodeOf(path[0], d, h)
		} else {
			d = nodeOf(d, path[0], h)
		}
		path = path[1:]
	}
	return d, len(path) == 0
}

// Pages returns the number of pages of size bytes.
func Pages(size int) int { return (size + PageSize - 1) / PageSize }

func pageOf(data []byte, i int) []byte { return data[i*PageSize : min((i+1)*PageSize, len(data))] }
