package blockname_test

import (
	"fmt"

	"github.com/btcsuite/btcd/txscript/v2"

	"github.com/bitgram/bitgram/blockname"
)

// Read a hint, as it is in an OP_RETURN output.
func ExampleParse() {
	h, err := blockname.Parse([]byte("*!example.com5db8d822"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(h.Name, h.Addr.Addr())

	script, err := txscript.NullDataScript([]byte("*!example.com5db8d822"))
	if err != nil {
		fmt.Println(err)
		return
	}
	data, ok := blockname.FromScript(script)
	fmt.Println(string(data), ok)
	// Output:
	// example.com 93.184.216.34
	// *!example.com5db8d822 true
}

// A hint's text follows from its fields, and the other way round.
func ExampleHint_Encode() {
	h, err := blockname.Parse([]byte("*#bitgram.1a2b3c7f0000010fa1"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(h.Name, h.DHT, h.Addr)
	text, err := h.Encode()
	fmt.Println(string(text), err)
	// Output:
	// bitgram 1a2b3c 127.0.0.1:4001
	// *#bitgram.1a2b3c7f0000010fa1 <nil>
}
