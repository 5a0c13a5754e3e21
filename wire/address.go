package wire

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/btcsuite/btcd/address/v2/bech32"
)

// Network is the name of a Bitcoin network that Bitgram supports.
type Network string

// The networks, as the --network flag spells them.
const (
	Mainnet  Network = "mainnet"
	Testnet4 Network = "testnet4"
	Signet   Network = "signet"
	Regtest  Network = "regtest"
)

// HRP returns the human-readable part of n's addresses, or "" if n is not a
// known network.
func (n Network) HRP() string {
	switch n {
	case Mainnet:
		return "bg"
	case Testnet4, Signet:
		return "tbg"
	case Regtest:
		return "bgrt"
	}
	return ""
}

// Errors of ParseRecipient.
var (
	// ErrBadAddress means that the text is neither an address nor a key nor an
	// npub.
	ErrBadAddress = errors.New("not a Bitgram address, public key or npub")
	// ErrWrongNetwork means that the address belongs to another network.
	ErrWrongNetwork = errors.New("address of another network")
)

// addressVersion is the 5-bit version symbol in front of the key.
const addressVersion = 0

// EncodeAddress returns k's address on n: bech32m (BIP350) over a version
// symbol and the 32 bytes of k.
func EncodeAddress(n Network, k Key) string {
	data, err := bech32.ConvertBits(k[:], 8, 5, true)
	if err != nil {
		panic(err) // 8 to 5 bits with padding takes any bytes
	}
	s, err := bech32.EncodeM(n.HRP(), append([]byte{addressVersion}, data...))
	if err != nil {
		panic(err) // the symbols come from ConvertBits
	}
	return s
}

// ParseRecipient parses a recipient: a bg1…, tbg1… or bgrt1… address of network
// n, a Nostr npub (NIP-19), 64 hex digits of an x-only key, or 66 of a
// compressed key. It checks that the key is on the curve. Errors wrap
// ErrBadAddress or ErrWrongNetwork.
func ParseRecipient(n Network, s string) (Key, error) {
	s = strings.TrimSpace(s)
	if len(s) > 128 {
		return Key{}, fmt.Errorf("%w: too long", ErrBadAddress)
	}
	var k Key
	switch raw, err := hex.DecodeString(s); {
	case err == nil && len(raw) == 32:
		k = Key(raw)
	case err == nil && len(raw) == 33 && (raw[0] == 2 || raw[0] == 3):
		k = Key(raw[1:])
	case err == nil:
		return Key{}, fmt.Errorf("%w: %d bytes of hex, a key has 32", ErrBadAddress, len(raw))
	default:
		if k, err = parseBech32(n, s); err != nil {
			return Key{}, err
		}
	}
	if _, err := k.Point(); err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrBadAddress, err)
	}
	return k, nil
}

func parseBech32(n Network, s string) (Key, error) {
	hrp, data, version, err := bech32.DecodeGeneric(s)
	if err != nil {
		return Key{}, fmt.Errorf("%w: %v", ErrBadAddress, err)
	}
	want := bech32.VersionM
	switch hrp {
	case "npub":
		want = bech32.Version0
	case n.HRP():
		if len(data) == 0 || data[0] != addressVersion {
			return Key{}, fmt.Errorf("%w: unknown address version", ErrBadAddress)
		}
		data = data[1:]
	case Mainnet.HRP(), Signet.HRP(), Regtest.HRP():
		return Key{}, fmt.Errorf("%w: %s… is not for %s", ErrWrongNetwork, hrp+"1", n)
	default:
		return Key{}, fmt.Errorf("%w: unknown prefix %q", ErrBadAddress, hrp)
	}
	if version != want {
		return Key{}, fmt.Errorf("%w: wrong checksum variant", ErrBadAddress)
	}
	raw, err := bech32.ConvertBits(data, 5, 8, false)
	if err != nil || len(raw) != 32 {
		return Key{}, fmt.Errorf("%w: not a 32-byte key", ErrBadAddress)
	}
	return Key(raw), nil
}
