package wallet

import (
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcutil/v2/hdkeychain"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/tyler-smith/go-bip39"

	"github.com/bitgram/bitgram/wire"
)

// ErrBadMnemonic means that the words are not a BIP39 mnemonic.
var ErrBadMnemonic = errors.New("not a BIP39 mnemonic: check the words, their order and spelling")

// NewMnemonic encodes 16 or 32 bytes of entropy as 12 or 24 words (BIP39).
func NewMnemonic(entropy []byte) (string, error) { return bip39.NewMnemonic(entropy) }

// Entropy decodes the words of a mnemonic, or returns ErrBadMnemonic.
func Entropy(mnemonic string) ([]byte, error) {
	e, err := bip39.EntropyFromMnemonic(strings.ToLower(strings.Join(strings.Fields(mnemonic), " ")))
	if err != nil {
		return nil, fmt.Errorf("%w (%v)", ErrBadMnemonic, err)
	}
	return e, nil
}

// Seed returns the BIP39 seed of a mnemonic, 64 bytes.
func Seed(mnemonic, passphrase string) ([]byte, error) {
	seed, err := bip39.NewSeedWithErrorChecking(mnemonic, passphrase)
	if err != nil {
		return nil, fmt.Errorf("%w (%v)", ErrBadMnemonic, err)
	}
	return seed, nil
}

// IdentityKey derives the identity's key from the seed, independent of every
// key that holds coins. Its point has even y.
func IdentityKey(seed []byte) (wire.Secret, error) {
	for ctr := byte(0); ; ctr++ {
		raw, err := hkdf.Key(sha256.New, seed, nil, "bitgram/1/identity"+string(rune(ctr)), 32)
		if err != nil {
			return wire.Secret{}, err
		}
		if k, err := wire.Secret(raw).PrivKey(); err == nil {
			return wire.SecretOf(k), nil
		}
	}
}

// Branches of a BIP86 account.
const (
	External uint32 = 0 // receiving addresses
	Internal uint32 = 1 // change
)

// path is an address of the account: m/86'/coin'/0'/Branch/Index.
type path struct{ Branch, Index uint32 }

// account is the BIP86 account m/86'/coin'/0'.
type account struct{ branches [2]*hdkeychain.ExtendedKey }

func newAccount(seed []byte, p *chaincfg.Params) (*account, error) {
	k, err := hdkeychain.NewMaster(seed, p)
	if err != nil {
		return nil, err
	}
	for _, i := range []uint32{86, p.HDCoinType, 0} {
		if k, err = k.Derive(hdkeychain.HardenedKeyStart + i); err != nil {
			return nil, err
		}
	}
	a := &account{}
	for b := range a.branches {
		if a.branches[b], err = k.Derive(uint32(b)); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func (a *account) key(p path) (*btcec.PrivateKey, error) {
	k, err := a.branches[p.Branch].Derive(p.Index)
	if err != nil {
		return nil, err
	}
	return k.ECPrivKey()
}

// script returns the P2TR script of an address.
func (a *account) script(p path) ([]byte, error) {
	k, err := a.key(p)
	if err != nil {
		return nil, err
	}
	return txscript.PayToTaprootScript(txscript.ComputeTaprootKeyNoScript(k.PubKey()))
}
