package wire_test

import (
	"errors"
	"fmt"

	"github.com/bitgram/bitgram/wire"
)

// An address is a public key with a checksum, for one network. Where an address
// is taken, a bare key and a Nostr npub are taken too.
func ExampleParseRecipient() {
	key, err := wire.ParseRecipient(wire.Mainnet, "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
	if err != nil {
		fmt.Println(err)
		return
	}
	address := wire.EncodeAddress(wire.Mainnet, key)
	fmt.Println(address)

	again, err := wire.ParseRecipient(wire.Mainnet, address)
	fmt.Println(again == key, err)

	_, err = wire.ParseRecipient(wire.Signet, address)
	fmt.Println(errors.Is(err, wire.ErrWrongNetwork))
	// Output:
	// bg1q0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqek8gd5
	// true <nil>
	// true
}

// Rates are in psat, 10⁻¹² satoshi, for a byte and a day. A price is rounded up
// once, to whole thousandths of a satoshi.
func ExampleStoragePrice() {
	const rate = wire.Psat(20_000_000) // 20 sat for a megabyte and a day
	price, err := wire.StoragePrice(rate, 4096, 7*144, 144)
	fmt.Println(price, err)
	// Output: 0.574 sat <nil>
}

// Messages between peers have one encoding each: what does not re-encode to the
// same bytes is refused.
func ExampleUnmarshal() {
	b, err := wire.Marshal(&wire.Done{})
	if err != nil {
		fmt.Println(err)
		return
	}
	var d wire.Done
	fmt.Println(wire.Unmarshal(b, &d))
	fmt.Println(errors.Is(wire.Unmarshal(append(b, 0), &d), wire.ErrMalformed))
	// Output:
	// <nil>
	// true
}
