package wasm

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"

	"github.com/tetratelabs/wazero"
	"github.com/zeebo/blake3"

	"github.com/bitgram/bitgram/internal/sandbox"
)

// codeCache is wazero's cache of compiled code for one module. wazero's own reads
// the file again after its checksum was compared, with one system call for each
// function, into memory that takes a page fault for every 4 KiB.
type codeCache struct {
	// dir has the code in a file whose name is the key in hexadecimal digits, sum is
	// its BLAKE3. If dir is "", there is none yet.
	dir string
	sum []byte
	// file is where to write code that was compiled; "" for nowhere. Its BLAKE3 is
	// then sum.
	file string
	// key is what wazero looked for, which names the module and the features of the
	// processor.
	key   [32]byte
	taken bool // wazero got the code
}

var errCode = errors.New("no compiled code")

// attach makes c the cache of compiled code of a new wazero.CompilationCache, which
// has no setting for it. If wazero renames the field or changes its type, this
// panics in every test with a cache.
func (c *codeCache) attach(cache wazero.CompilationCache) {
	f := reflect.ValueOf(cache).Elem().FieldByName("fileCache")
	reflect.NewAt(f.Type(), f.Addr().UnsafePointer()).Elem().Set(reflect.ValueOf(c))
}

// Get is called by wazero before it compiles a module. An error prevents that it
// compiles a shell.
func (c *codeCache) Get(key [32]byte) (io.ReadCloser, bool, error) {
	c.key = key
	if c.dir == "" {
		return nil, false, nil
	}
	b, err := readReserved(filepath.Join(c.dir, hex.EncodeToString(key[:])))
	if err != nil {
		return nil, false, err
	}
	if sum := blake3.Sum256(b); !bytes.Equal(sum[:], c.sum) {
		release(b)
		return nil, false, fmt.Errorf("%w: wrong checksum", errCode)
	}
	c.taken = true
	return &codeReader{left: b, all: b}, true, nil
}

// Add is called by wazero with the code that it has compiled.
func (c *codeCache) Add(_ [32]byte, code io.Reader) error {
	if c.file == "" {
		return nil
	}
	f, err := os.OpenFile(c.file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	h := blake3.New()
	_, err = io.Copy(io.MultiWriter(f, h), code)
	c.sum = h.Sum(nil)
	return errors.Join(err, f.Close())
}

// Delete is called by wazero if the code is another version's.
func (c *codeCache) Delete([32]byte) error {
	return fmt.Errorf("%w: another version", errCode)
}

// readReserved reads a file of at most cacheLimit bytes into memory from reserve.
func readReserved(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if s.Size() == 0 || s.Size() > cacheLimit {
		return nil, fmt.Errorf("%w: %d bytes", errCode, s.Size())
	}
	b := reserve(int(s.Size()))
	if b == nil {
		return nil, fmt.Errorf("%w: no addresses for %d bytes", errCode, s.Size())
	}
	populate(b)
	if _, err := io.ReadFull(f, b); err != nil {
		release(b)
		return nil, err
	}
	return b, nil
}

// codeReader reads memory from reserve and releases it when it is closed.
type codeReader struct{ left, all []byte }

func (r *codeReader) Read(p []byte) (int, error) {
	if len(r.left) == 0 {
		return 0, io.EOF
	}
	if len(p) >= 1<<20 { // the machine code, in memory that nobody has touched
		sandbox.Huge(p)
		populate(p)
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

func (r *codeReader) Close() error {
	if r.all != nil {
		release(r.all)
		r.left, r.all = nil, nil
	}
	return nil
}
