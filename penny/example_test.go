package penny_test

import (
	"errors"
	"fmt"

	"github.com/bitgram/bitgram/penny"
)

// A payer makes a chain and tells the payee its last penny. Each lower penny is
// one payment more, and verifies with one hash.
func Example() {
	payer := penny.Pence{
		Chain: penny.Chain{Nonce: penny.Nonce{1}, Size: penny.MinSize},
		N:     1000,
		P0:    penny.Secret{42}, // from crypto/rand, or from a bank's root
	}
	purse := penny.NewPurse(payer)
	known := payer.Last() // public

	// Pay 3 pennies at once: the payee needs only the lowest.
	paid := purse.At(known.Seq - 3)
	chain := payer.Chain // the payee knows the nonce and the size
	if err := chain.Verify(known, paid); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("paid", known.Seq-paid.Seq)
	known = paid

	// The same penny again is no payment, and one made up is false.
	fmt.Println(errors.Is(chain.Verify(known, paid), penny.ErrSpent))
	fmt.Println(errors.Is(chain.Verify(known, penny.Penny{Seq: 990}), penny.ErrFalse))
	// Output:
	// paid 3
	// true
	// true
}
