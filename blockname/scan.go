package blockname

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/bitgram/bitgram/wire"
)

// ErrBlock means bytes that are not one serialised block.
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

// FromScript returns the data of an output script that is OP_RETURN and then
// exactly one push of bytes, by whatever opcode. data is a part of pkScript.
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

// Found is a hint in a block.
type Found struct {
	Hint  Hint
	Value wire.Sat      // burned by its output
	Out   wire.Outpoint // the output
}

// Block is what a block says.
type Block struct {
	Hints     []Found // in the order of transactions and outputs
	Malformed int     // outputs that begin as hints do and are none
}

// add takes an output and reports whether it was a hint. Its Out is not yet
// set.
func (b *Block) add(pkScript []byte, value int64) bool {
	data, ok := FromScript(pkScript)
	if !ok || !begins(data) {
		return false
	}
	h, err := Parse(data)
	if err != nil || value < 0 || wire.Sat(value) > wire.MaxSat {
		b.Malformed++
		return false
	}
	b.Hints = append(b.Hints, Found{Hint: h, Value: wire.Sat(value)})
	return true
}

// Scan finds the hints of a block's transactions.
func Scan(txs []*btcwire.MsgTx) (b Block) {
	for _, tx := range txs {
		first := len(b.Hints)
		for i, out := range tx.TxOut {
			if b.add(out.PkScript, out.Value) {
				b.Hints[len(b.Hints)-1].Out.Vout = uint32(i)
			}
		}
		if len(b.Hints) > first {
			b.name(first, wire.Hash(tx.TxHash()))
		}
	}
	return b
}

// name sets the txid of the hints from first on.
func (b *Block) name(first int, txid wire.Hash) {
	for i := first; i < len(b.Hints); i++ {
		b.Hints[i].Out.Txid = txid
	}
}

// ScanRaw finds the hints of a serialised block, as Scan does of its
// transactions, without making them. ErrBlock is what is no block of at most
// 4,000,000 bytes, or a block and more; whether the block is valid otherwise
// is for others to know.
func ScanRaw(raw []byte) (b Block, err error) {
	const header = 80
	if len(raw) < header || len(raw) > maxBlock {
		return Block{}, ErrBlock
	}
	c := cursor{b: raw, i: header}
	for n := c.varint(); n > 0 && !c.bad; n-- {
		b.rawTx(&c)
	}
	if c.bad || c.i != len(raw) {
		return Block{}, ErrBlock
	}
	return b, nil
}

// rawTx reads one transaction (BIP144).
func (b *Block) rawTx(c *cursor) {
	version := c.i
	c.skip(4)
	body := c.i
	ins := c.varint()
	witness := ins == 0
	if witness { // the marker
		if flag := c.take(1); c.bad || flag[0] != 1 {
			c.bad = true
			return
		}
		body = c.i
		ins = c.varint()
	}
	for n := ins; n > 0 && !c.bad; n-- {
		c.skip(36) // outpoint
		c.skip(c.varint())
		c.skip(4) // sequence
	}
	first := len(b.Hints)
	outs := c.varint()
	for i := uint64(0); i < outs && !c.bad; i++ {
		value := c.take(8)
		script := c.take(c.varint())
		if len(script) > 0 && script[0] == opReturn && b.add(script, int64(binary.LittleEndian.Uint64(value))) {
			b.Hints[len(b.Hints)-1].Out.Vout = uint32(i)
		}
	}
	end := c.i
	if witness {
		empty := true
		for n := ins; n > 0 && !c.bad; n-- {
			items := c.varint()
			empty = empty && items == 0
			for ; items > 0 && !c.bad; items-- {
				c.skip(c.varint())
			}
		}
		if empty {
			c.bad = true
		}
	}
	lock := c.i
	c.skip(4)
	if c.bad || len(b.Hints) == first {
		return
	}
	s := sha256.New()
	s.Write(c.b[version : version+4])
	s.Write(c.b[body:end])
	s.Write(c.b[lock:c.i])
	var txid wire.Hash
	txid = sha256.Sum256(s.Sum(txid[:0]))
	b.name(first, txid)
}

// cursor reads a block. Once bad, it stays where it is and gives zeros.
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

// take returns the next n bytes, nil where there are not as many.
func (c *cursor) take(n uint64) []byte {
	if n > uint64(len(c.b)-c.i) {
		c.i, c.bad = len(c.b), true
		return nil
	}
	b := c.b[c.i : c.i+int(n)]
	c.i += int(n)
	return b
}

// varint reads Bitcoin's compact size in its shortest form.
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
