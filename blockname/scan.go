package blockname

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strings"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/wire"
)

// ErrBlock means that the bytes are not exactly one serialised block.
var ErrBlock = errors.New("not a serialised block")

// maxBlock is the largest block in bytes (BIP141).
const maxBlock = 4_000_000

// The opcodes in front of data.
const (
	opData75    = 0x4b // this and below: the number of bytes that follow
	opPushData1 = 0x4c
	opPushData2 = 0x4d
	opPushData4 = 0x4e
	opReturn    = 0x6a
)

// FromScript returns the data of an output script that consists of OP_RETURN
// and exactly one push of bytes, with any push opcode. data shares pkScript's
// memory.
func FromScript(pkScript []byte) (data []byte, ok bool) {
	if len(pkScript) < 2 || pkScript[0] != opReturn {
		return nil, false
	}
	size, rest := uint64(pkScript[1]), pkScript[2:]
	if size > opData75 {
		n := 0
		switch size {
		case opPushData1:
			n = 1
		case opPushData2:
			n = 2
		case opPushData4:
			n = 4
		default:
			return nil, false
		}
		if len(rest) < n {
			return nil, false
		}
		size = 0
		for i := range n {
			size |= uint64(rest[i]) << (8 * i)
		}
		rest = rest[n:]
	}
	return rest, uint64(len(rest)) == size
}

// Found is a hint in a block. The hints of a block share the memory of their
// strings.
type Found struct {
	Hint  Hint
	Value wire.Sat      // burned by its output
	Out   wire.Outpoint // the output
}

// Block contains the hints of a block.
type Block struct {
	Hints     []Found // in the order of transactions and outputs
	Malformed int     // outputs that begin like hints but are malformed
}

// Scan finds the hints of a block's transactions.
func Scan(txs []*btcwire.MsgTx) Block {
	var s scanner
	for _, tx := range txs {
		for _, out := range tx.TxOut {
			s.count(out.PkScript)
		}
	}
	if s.outputs == 0 {
		return Block{}
	}
	for _, tx := range txs {
		first := len(s.block.Hints)
		for i, out := range tx.TxOut {
			s.add(out.PkScript, out.Value, uint32(i))
		}
		if len(s.block.Hints) > first {
			s.name(first, wire.Hash(tx.TxHash()))
		}
	}
	return s.block
}

// scanner collects the hints of a block in two passes. The first counts them,
// so the second needs two allocations in all and not two for each hint.
type scanner struct {
	outputs int // that begin like a hint and are still to be read
	size    int // of their data
	text    strings.Builder
	block   Block
}

// hintData returns the data of an output that begins like a hint.
func hintData(pkScript []byte) (data []byte, ok bool) {
	data, ok = FromScript(pkScript)
	return data, ok && begins(data)
}

// count processes an output in the first pass.
func (s *scanner) count(pkScript []byte) {
	if data, ok := hintData(pkScript); ok {
		s.outputs++
		if len(data) <= MaxSize {
			s.size += len(data)
		}
	}
}

// add processes an output in the second pass. The txid is set later.
func (s *scanner) add(pkScript []byte, value int64, index uint32) {
	data, ok := hintData(pkScript)
	if !ok {
		return
	}
	left := s.outputs
	s.outputs--
	if len(data) > MaxSize || value < 0 || wire.Sat(value) > wire.MaxSat {
		s.block.Malformed++
		return
	}
	s.text.Grow(s.size) // once: then there is room
	at := s.text.Len()
	s.text.Write(data)
	s.size -= len(data)
	h, err := parse(s.text.String()[at:])
	if err != nil {
		s.block.Malformed++
		return
	}
	if s.block.Hints == nil {
		s.block.Hints = make([]Found, 0, left)
	}
	s.block.Hints = append(s.block.Hints, Found{Hint: h, Value: wire.Sat(value), Out: wire.Outpoint{Vout: index}})
}

// name sets the txid of the hints from first on.
func (s *scanner) name(first int, txid wire.Hash) {
	for i := first; i < len(s.block.Hints); i++ {
		s.block.Hints[i].Out.Txid = txid
	}
}

// ScanRaw finds the hints of a serialised block, like Scan, without decoding
// its transactions. It returns ErrBlock if raw is not exactly one block of at
// most 4,000,000 bytes. It does not check whether the block is valid otherwise.
func ScanRaw(raw []byte) (Block, error) {
	const header = 80
	if len(raw) < header || len(raw) > maxBlock {
		return Block{}, ErrBlock
	}
	var s scanner
	c := cursor{b: raw, i: header}
	for n := c.varint(); n > 0 && !c.bad; n-- {
		s.countRaw(&c)
	}
	if c.bad || c.i != len(raw) {
		return Block{}, ErrBlock
	}
	if s.outputs == 0 {
		return Block{}, nil
	}
	c = cursor{b: raw, i: header}
	for n := c.varint(); n > 0; n-- {
		s.addRaw(&c)
	}
	return s.block, nil
}

// countRaw processes a transaction in the first pass.
func (s *scanner) countRaw(c *cursor) {
	t := c.tx()
	for range t.outputs {
		if c.bad {
			return
		}
		c.skip(8)
		if script := c.take(c.varint()); len(script) > 1 && script[0] == opReturn {
			s.count(script)
		}
	}
	c.end(&t)
}

// addRaw processes a transaction in the second pass. It is well-formed.
func (s *scanner) addRaw(c *cursor) {
	t := c.tx()
	first := len(s.block.Hints)
	for i := range t.outputs {
		value := c.take(8)
		if script := c.take(c.varint()); len(script) > 1 && script[0] == opReturn {
			s.add(script, int64(binary.LittleEndian.Uint64(value)), uint32(i))
		}
	}
	c.end(&t)
	if len(s.block.Hints) > first {
		s.name(first, t.txid(c))
	}
}

// rawTx is where the parts of a transaction are (BIP144).
type rawTx struct {
	version int    // of 4 bytes
	body    int    // the inputs and outputs
	witness int    // what of the witness there is
	lock    int    // of 4 bytes
	marked  bool   // has a witness
	inputs  uint64 // how many
	outputs uint64
}

// tx reads a transaction up to its first output.
func (c *cursor) tx() (t rawTx) {
	t.version = c.i
	c.skip(4)
	t.body = c.i
	t.inputs = c.varint()
	if t.marked = t.inputs == 0; t.marked {
		if flag := c.take(1); len(flag) == 0 || flag[0] != 1 {
			c.bad = true
			return t
		}
		t.body = c.i
		t.inputs = c.varint()
	}
	for n := t.inputs; n > 0 && !c.bad; n-- {
		c.skip(36) // outpoint
		c.skip(c.varint())
		c.skip(4) // sequence
	}
	t.outputs = c.varint()
	return t
}

// end reads what follows the outputs. It rejects a transaction with the witness
// marker but empty witnesses, because that is not the canonical form.
func (c *cursor) end(t *rawTx) {
	t.witness = c.i
	if t.marked {
		empty := true
		for n := t.inputs; n > 0 && !c.bad; n-- {
			items := c.varint()
			empty = empty && items == 0
			for ; items > 0 && !c.bad; items-- {
				c.skip(c.varint())
			}
		}
		c.bad = c.bad || empty
	}
	t.lock = c.i
	c.skip(4)
}

// txid hashes the transaction without its witness.
func (t *rawTx) txid(c *cursor) wire.Hash {
	var once [32]byte
	if t.marked {
		s := sha256.New()
		s.Write(c.b[t.version:][:4])
		s.Write(c.b[t.body:t.witness])
		s.Write(c.b[t.lock:][:4])
		s.Sum(once[:0])
	} else {
		once = sha256.Sum256(c.b[t.version:c.i])
	}
	return sha256.Sum256(once[:])
}

// cursor reads a block. After an error it does not advance, and returns zeros.
type cursor struct {
	b   []byte
	i   int
	bad bool
}

func (c *cursor) skip(n uint64) {
	if n > uint64(len(c.b)-c.i) {
		c.i, c.bad = len(c.b), true
		return
	}
	c.i += int(n)
}

// take returns the next n bytes, or nil if there are fewer.
func (c *cursor) take(n uint64) []byte {
	if n > uint64(len(c.b)-c.i) {
		c.i, c.bad = len(c.b), true
		return nil
	}
	b := c.b[c.i : c.i+int(n)]
	c.i += int(n)
	return b
}

// varint reads Bitcoin's compact size and requires the shortest form.
func (c *cursor) varint() uint64 {
	if c.i >= len(c.b) {
		c.bad = true
		return 0
	}
	first := c.b[c.i]
	c.i++
	if first < 0xfd {
		return uint64(first)
	}
	n := 2 << (first - 0xfd)
	if len(c.b)-c.i < n {
		c.i, c.bad = len(c.b), true
		return 0
	}
	var v, least uint64
	switch n {
	case 2:
		v, least = uint64(binary.LittleEndian.Uint16(c.b[c.i:])), 0xfd
	case 4:
		v, least = uint64(binary.LittleEndian.Uint32(c.b[c.i:])), 1<<16
	default:
		v, least = binary.LittleEndian.Uint64(c.b[c.i:]), 1<<32
	}
	c.i += n
	if v < least {
		c.bad = true
		return 0
	}
	return v
}
