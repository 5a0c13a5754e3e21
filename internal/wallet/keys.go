package wallet

import (
	"crypto/hkdf"
	"crypto/sha256"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcutil/v2/hdkeychain"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/txscript/v2"

	"github.com/bitgram/bitgram/wire"
)

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
