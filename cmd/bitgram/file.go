package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/bitgram/bitgram/internal/home"
)

// errInput marks a file that cannot be read.
var errInput = errors.New("cannot read the input")

// openInput opens a file for reading and returns its size in bytes. A directory
// is refused.
func openInput(path string) (*os.File, uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errInput, err)
	}
	s, err := f.Stat()
	if err == nil && s.IsDir() {
		err = fmt.Errorf("%s is a directory", path)
	}
	if err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("%w: %w", errInput, err)
	}
	return f, uint64(max(s.Size(), 0)), nil
}

// errOutput marks a file or directory that cannot be written.
var errOutput = errors.New("cannot write the output")

// checkOutput checks before any work is done that a file, or a directory, can be
// written. An empty path is fine.
func checkOutput(path string, dir bool) error {
	if path == "" {
		return nil
	}
	if dir {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return fmt.Errorf("%w: %w", errOutput, err)
		}
		path = filepath.Join(path, "x")
	} else if s, err := os.Stat(path); err == nil && s.IsDir() {
		return fmt.Errorf("%w: %s is a directory", errOutput, path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".bitgram-*")
	if err != nil {
		return fmt.Errorf("%w: %w", errOutput, err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// writeWhole writes a file that appears whole or not at all. Only the user can
// read it, since it holds mail or secrets.
func writeWhole(path string, fill func(io.Writer) error) error { return home.WriteFile(path, fill) }

// writeNew writes a file whose name a stranger chose and returns the name used. If
// the name is taken, a number is added: nothing is overwritten.
func writeNew(path string, r io.Reader) (string, error) {
	ext := filepath.Ext(path)
	stem := strings.TrimSuffix(path, ext)
	for n := 2; ; n++ {
		if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
			break
		} else if err != nil {
			return "", fmt.Errorf("%w: %w", errOutput, err)
		}
		path = fmt.Sprintf("%s-%d%s", stem, n, ext)
	}
	return path, writeWhole(path, func(w io.Writer) error {
		_, err := io.Copy(w, r)
		return err
	})
}
