package devchain

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/btcsuite/btcd/blockchain"
	"github.com/btcsuite/btcd/btcutil/v2"
)

// journal is a file of records:
//
//	length of the block, 4 bytes big-endian
//	CRC-32C of the block, 4 bytes big-endian
//	the serialised block
//
// A crash can leave the last record incomplete. Opening the journal cuts it
// off, together with everything after a record that does not verify.
type journal struct{ f *os.File }

const recordHead = 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errTorn marks the end of the readable records.
var errTorn = errors.New("torn record")

// openJournal reads all blocks and positions the file after the last valid one.
func openJournal(path string) (*journal, []*btcutil.Block, error) {
	_, statErr := os.Stat(path)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, nil, err
	}
	if errors.Is(statErr, os.ErrNotExist) {
		if err := syncDir(filepath.Dir(path)); err != nil {
			return nil, nil, errors.Join(err, f.Close())
		}
	}
	blocks, good, err := readJournal(bufio.NewReaderSize(f, 1<<20))
	if err == nil {
		err = f.Truncate(good)
	}
	if err == nil {
		_, err = f.Seek(good, io.SeekStart)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return &journal{f}, blocks, nil
}

// readJournal reads records until the first that is incomplete or damaged, and
// returns the offset of its start.
func readJournal(r io.Reader) (blocks []*btcutil.Block, good int64, err error) {
	for {
		b, n, err := readRecord(r)
		if errors.Is(err, io.EOF) || errors.Is(err, errTorn) {
			return blocks, good, nil
		}
		if err != nil {
			return nil, 0, err
		}
		blocks = append(blocks, b)
		good += n
	}
}

// readRecord reads one record. It returns io.EOF at a clean end, and errTorn if
// the record is incomplete or damaged.
func readRecord(r io.Reader) (*btcutil.Block, int64, error) {
	var head [recordHead]byte
	if _, err := io.ReadFull(r, head[:]); err == io.EOF {
		return nil, 0, io.EOF
	} else if err == io.ErrUnexpectedEOF {
		return nil, 0, errTorn
	} else if err != nil {
		return nil, 0, err
	}
	n := binary.BigEndian.Uint32(head[:4])
	if n > blockchain.MaxBlockWeight {
		return nil, 0, errTorn
	}
	raw := make([]byte, n)
	if _, err := io.ReadFull(r, raw); err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil, 0, errTorn
	} else if err != nil {
		return nil, 0, err
	}
	if crc32.Checksum(raw, castagnoli) != binary.BigEndian.Uint32(head[4:]) {
		return nil, 0, errTorn
	}
	b, err := btcutil.NewBlockFromBytes(raw)
	if err != nil {
		return nil, 0, errTorn
	}
	return b, recordHead + int64(n), nil
}

// append adds a block; sync makes it durable.
func (j *journal) append(b *btcutil.Block) error {
	raw, err := b.Bytes()
	if err != nil {
		return err
	}
	rec := binary.BigEndian.AppendUint32(make([]byte, 0, recordHead+len(raw)), uint32(len(raw)))
	rec = binary.BigEndian.AppendUint32(rec, crc32.Checksum(raw, castagnoli))
	_, err = j.f.Write(append(rec, raw...))
	return err
}

func (j *journal) sync() error  { return j.f.Sync() }
func (j *journal) close() error { return j.f.Close() }

// ErrLocked: another process has the chain open.
var ErrLocked = errors.New("the chain is open in another process")

// lockDir locks dir; closing the file unlocks it.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%w: %s", ErrLocked, dir)
	}
	return f, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
