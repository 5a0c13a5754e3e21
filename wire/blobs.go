package wire

// MaxBlob is the maximum size of a blob, in bytes.
const MaxBlob = 4 << 30

// BlobHello begins every request about a blob. It says who asks: the proof is a
// signature of the channel's two ends, so only the owner of the key can use it,
// and only on this channel. Quotas, unfinished uploads and permissions belong to
// this key and not to the peer ID, which some peers draw again at every start.
type BlobHello struct {
	_     struct{} `cbor:",toarray"`
	Owner Key
	Proof Signature // by Owner over BlobHelloDigest
}

// MaxSize implements Limited.
func (*BlobHello) MaxSize() int { return 112 }

// Check implements Limited.
func (h *BlobHello) Check() error { return checkKeys(h.Owner) }

// BlobHelloDigest returns the digest that the owner of a key signs to make
// requests about blobs over a channel between two peers, whose binary peer IDs
// are given.
func BlobHelloDigest(owner Key, client, server []byte) Hash {
	return Tagged("blob-hello", owner[:], prefixed(client), prefixed(server))
}

// BlobPut offers a blob. The answer is BlobHave.
type BlobPut struct {
	_      struct{} `cbor:",toarray"`
	Digest Hash     // BLAKE3 of the blob
	Size   uint64   // at most MaxBlob
}

// MaxSize implements Limited.
func (*BlobPut) MaxSize() int { return 64 }

// Check implements Limited.
func (p *BlobPut) Check() error {
	if p.Size > MaxBlob {
		return malformed("a blob of %d bytes", p.Size)
	}
	return nil
}

// BlobHave says how many bytes of this uploader's blob the server has. The upload
// continues there.
type BlobHave struct {
	_     struct{} `cbor:",toarray"`
	Bytes uint64
}

// MaxSize implements Limited.
func (*BlobHave) MaxSize() int { return 16 }

// Check implements Limited.
func (h *BlobHave) Check() error {
	if h.Bytes > MaxBlob {
		return malformed("a blob of %d bytes", h.Bytes)
	}
	return nil
}

// BlobGet requests bytes of a blob. The answer is BlobPart.
type BlobGet struct {
	_      struct{} `cbor:",toarray"`
	Digest Hash
	From   uint64 // the first byte
	Most   uint64 // how many bytes at most
}

// MaxSize implements Limited.
func (*BlobGet) MaxSize() int { return 64 }

// Check implements Limited.
func (g *BlobGet) Check() error {
	if g.From > MaxBlob || g.Most > MaxBlob {
		return malformed("%d bytes of a blob, from %d on", g.Most, g.From)
	}
	return nil
}

// BlobPart says how many bytes of a blob follow, and how large it is.
type BlobPart struct {
	_     struct{} `cbor:",toarray"`
	Size  uint64   // of the whole blob
	Bytes uint64   // that follow
}

// MaxSize implements Limited.
func (*BlobPart) MaxSize() int { return 32 }

// Check implements Limited.
func (p *BlobPart) Check() error {
	if p.Size > MaxBlob || p.Bytes > p.Size {
		return malformed("%d bytes of a blob of %d", p.Bytes, p.Size)
	}
	return nil
}
