package home

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/bitgram/bitgram/wire"
)

// keysVersion is the version of the key file's format.
const keysVersion = 1

// Keys is the key file: the public identity, and the entropy of its BIP39 mnemonic,
// sealed with XChaCha20-Poly1305 under a key that argon2id derives from the
// passphrase. The other fields of the file are authenticated as well.
type Keys struct {
	Version int          `json:"version"`
	Network wire.Network `json:"network"`
	Address string       `json:"address"`
	// Created is the Unix time before which the seed was used nowhere; 0 if
	// unknown, and the whole chain must be read.
	Created int64 `json:"created"`
	KDF     KDF   `json:"kdf"`
	// Nonce and Sealed are lower-case hex. If the KDF is "none", Sealed is the
	// entropy, unencrypted.
	Nonce  string `json:"nonce,omitempty"`
	Sealed string `json:"sealed"`
}

// KDF says how the key is derived from the passphrase.
type KDF struct {
	Name    string `json:"name"` // "argon2id" (RFC 9106), or "none" for no passphrase
	Time    uint32 `json:"time,omitempty"`
	Memory  uint32 `json:"memory_kib,omitempty"`
	Threads uint8  `json:"threads,omitempty"`
	Salt    string `json:"salt,omitempty"` // hex
}

// kdfCost is the second recommended choice of RFC 9106. Only this package's tests
// change it.
var kdfCost = KDF{Name: "argon2id", Time: 3, Memory: 64 << 10, Threads: 4}

// newKDF returns kdfCost with a new salt.
func newKDF() KDF {
	var salt [16]byte
	_, _ = rand.Read(salt[:]) // never fails (crypto/rand)
	k := kdfCost
	k.Salt = hex.EncodeToString(salt[:])
	return k
}

// key derives the key. It returns ErrDamaged for parameters out of range, so that a
// file cannot demand absurd work.
func (k KDF) key(passphrase string) ([]byte, error) {
	salt, err := hex.DecodeString(k.Salt)
	if err != nil || k.Name != "argon2id" || len(salt) < 8 || len(salt) > 64 || k.Time < 1 || k.Time > 100 || k.Memory < 8 || k.Memory > 4<<20 || k.Threads < 1 {
		return nil, fmt.Errorf("%w: the key file's kdf", ErrDamaged)
	}
	return argon2.IDKey([]byte(passphrase), salt, k.Time, k.Memory, k.Threads, chacha20poly1305.KeySize), nil
}

// public returns the data that is authenticated along with the sealed entropy.
func (k Keys) public() []byte {
	k.Nonce, k.Sealed = "", ""
	raw, err := json.Marshal(k)
	if err != nil {
		panic(err) // strings and numbers marshal
	}
	return raw
}

// seal puts the entropy into k, encrypted under the passphrase; unencrypted if that
// is empty.
func (k *Keys) seal(entropy []byte, passphrase string) error {
	if passphrase == "" {
		k.KDF, k.Nonce, k.Sealed = KDF{Name: "none"}, "", hex.EncodeToString(entropy)
		return nil
	}
	k.KDF = newKDF()
	key, err := k.KDF.key(passphrase)
	if err != nil {
		return err
	}
	box, err := chacha20poly1305.NewX(key)
	if err != nil {
		return err
	}
	nonce := make([]byte, box.NonceSize())
	_, _ = rand.Read(nonce) // never fails (crypto/rand)
	k.Nonce, k.Sealed = hex.EncodeToString(nonce), hex.EncodeToString(box.Seal(nil, nonce, entropy, k.public()))
	return nil
}

// Encrypted reports whether Open needs a passphrase.
func (k *Keys) Encrypted() bool { return k.KDF.Name != "none" }

// Open returns the entropy. It returns ErrPassphrase if the passphrase is wrong or
// the file was changed.
func (k *Keys) Open(passphrase string) ([]byte, error) {
	sealed, err := hex.DecodeString(k.Sealed)
	if err != nil {
		return nil, fmt.Errorf("%w: the key file's seed", ErrDamaged)
	}
	if !k.Encrypted() {
		return sealed, nil
	}
	key, err := k.KDF.key(passphrase)
	if err != nil {
		return nil, err
	}
	box, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, err
	}
	nonce, err := hex.DecodeString(k.Nonce)
	if err != nil || len(nonce) != box.NonceSize() {
		return nil, fmt.Errorf("%w: the key file's nonce", ErrDamaged)
	}
	entropy, err := box.Open(nil, nonce, sealed, k.public())
	if err != nil {
		return nil, ErrPassphrase
	}
	return entropy, nil
}

// NewKeys returns a key file for an identity, with its entropy sealed under a
// passphrase. created is a Unix time before which the seed was not used.
func NewKeys(n wire.Network, address string, created int64, entropy []byte, passphrase string) (*Keys, error) {
	k := &Keys{Version: keysVersion, Network: n, Address: address, Created: created}
	return k, k.seal(entropy, passphrase)
}

// Save writes a new home's key file. It returns ErrExists if there is one, or a
// database whose key file is gone, because a seed must never be overwritten.
func (h Home) Save(k *Keys) error {
	if err := h.Make(); err != nil {
		return err
	}
	if _, err := os.Lstat(h.path(backupDB)); err == nil {
		return fmt.Errorf("%w: %s belongs to an identity whose %s is missing", ErrExists, h.path(backupDB), fileKeys)
	}
	return h.save(k)
}

func (h Home) save(k *Keys) error {
	raw, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	if err = createFile(h.path(fileKeys), append(raw, '\n')); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %s", ErrExists, h.Dir)
	}
	return err
}

// Keys reads the key file. It returns ErrNone, ErrNewer or ErrDamaged.
func (h Home) Keys() (*Keys, error) {
	raw, err := readFile(h.path(fileKeys), 64<<10)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNone, h.Dir)
	}
	if err != nil {
		return nil, err
	}
	return ParseKeys(raw)
}

// ParseKeys decodes a key file. It returns ErrNewer or ErrDamaged.
func ParseKeys(raw []byte) (*Keys, error) {
	k := new(Keys)
	if err := json.Unmarshal(raw, k); err != nil {
		return nil, fmt.Errorf("%w: the key file: %w", ErrDamaged, err)
	}
	return k.check()
}

func (k *Keys) check() (*Keys, error) {
	switch {
	case k.Version > keysVersion:
		return nil, ErrNewer
	case k.Version < 1 || k.Network.HRP() == "":
		return nil, fmt.Errorf("%w: the key file", ErrDamaged)
	}
	return k, nil
}
