package seal_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// newKey makes a key pair. Secrets must be fresh for each message.
func newKey() (wire.Secret, wire.Key) {
	priv, err := btcec.NewPrivateKey()
	if err != nil {
		panic(err)
	}
	return wire.SecretOf(priv), wire.XOnly(priv.PubKey())
}

// Encrypt to a bare public key, and decrypt. The recipient learns who wrote, and
// that nobody changed a byte.
func Example() {
	alice, alicePub := newKey() // who writes
	bob, bobPub := newKey()     // to whom
	e, E := newKey()            // for this message alone; E travels with it

	toBob, err := seal.FromSender(e, bobPub)
	if err != nil {
		fmt.Println(err)
		return
	}
	var payload bytes.Buffer
	info, err := toBob.Encrypt(&payload, strings.NewReader("Dear Bob"), alice)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("encrypted to", info.Size, "bytes")

	fromAlice, err := seal.FromRecipient(bob, E)
	if err != nil {
		fmt.Println(err)
		return
	}
	var body bytes.Buffer
	m, err := fromAlice.Decrypt(&body, &payload)
	fmt.Println(body.String(), m.Sender == alicePub, err)
	// Output:
	// encrypted to 536 bytes
	// Dear Bob true <nil>
}

// Seal a payload for an agent. The copy opens for whoever learns the agent's
// secret τ, and the agent's claim of its money publishes τ.
func ExampleSealTo() {
	e, E := newKey()
	tau, T := newKey()    // the agent's, for this message alone
	_, agent := newKey()  // the agent's identity
	var payload [500]byte // encrypted already
	_, _ = rand.Read(payload[:])
	key := seal.MessageKey(wire.Hash{1}, 0)

	kappa, err := seal.SealKey(e, T, agent, key)
	if err != nil {
		fmt.Println(err)
		return
	}
	var copied bytes.Buffer
	if _, err := seal.SealTo(&copied, bytes.NewReader(payload[:]), kappa); err != nil {
		fmt.Println(err)
		return
	}

	// Days later, with τ from the chain:
	kappa, err = seal.UnsealKey(tau, E, agent, key)
	if err != nil {
		fmt.Println(err)
		return
	}
	var opened bytes.Buffer
	n, err := seal.Unseal(&opened, &copied, kappa)
	fmt.Println(n, bytes.Equal(opened.Bytes(), payload[:]), err)
	// Output: 500 true <nil>
}
