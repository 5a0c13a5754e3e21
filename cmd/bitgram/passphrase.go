package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// errPassphrase is returned when a passphrase is needed and there is no way to
// get it.
var errPassphrase = errors.New("a passphrase is needed")

// maxSecret is the largest passphrase or mnemonic, in bytes.
const maxSecret = 4096

// passphrase reads the passphrase from the file, from BITGRAM_PASSPHRASE, or from
// the terminal, which asks twice for a new one.
func (a *app) passphrase(file, prompt string, twice bool) (string, error) {
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("%w: %w", errInput, err)
		}
		defer f.Close()
		return firstLine(f)
	}
	if p, ok := os.LookupEnv("BITGRAM_PASSPHRASE"); ok {
		return p, nil
	}
	in, ok := a.in.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return "", fmt.Errorf("%w, and there is no terminal to read it from", errPassphrase)
	}
	ask := func(text string) ([]byte, error) {
		fmt.Fprint(a.err, text)
		defer fmt.Fprintln(a.err)
		return term.ReadPassword(int(in.Fd()))
	}
	p, err := ask(prompt + ": ")
	if err != nil {
		return "", err
	}
	if twice {
		again, err := ask("Repeat it: ")
		if err != nil {
			return "", err
		}
		if !bytes.Equal(p, again) {
			return "", fmt.Errorf("%w: the two passphrases differ", errUsage)
		}
	}
	return string(p), nil
}

// newPassphrase asks for the passphrase of a new home; open means none.
func (a *app) newPassphrase(file string, open bool) (string, error) {
	if open {
		return "", nil
	}
	pass, err := a.passphrase(file, "Passphrase for the new home", true)
	if err == nil && pass == "" {
		err = fmt.Errorf("%w: an empty passphrase protects nothing; to store the seed unencrypted, pass --no-passphrase", errUsage)
	}
	return pass, err
}

func firstLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, maxSecret)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimRight(line, "\r\n"), nil
}
