package main

import (
	"encoding/json"
	"testing"
)

// FuzzOffer: whatever is read as an offer is written as it was read, and nothing
// panics.
func FuzzOffer(f *testing.F) {
	f.Add([]byte(`{"N":5,"nonce":"734fb087f8db3935ecf7268127c6a46bc0a45ac13f4fbce4","pence":{"02b9aa0916b38a5132f524d3af512a89dbc27d94":"3f7c74f6f7"}}`))
	f.Add([]byte(`{"pence":{"a":"b","a":"c"}}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"pence":[]}`))
	f.Add([]byte(`{"pence":null}`))
	f.Add([]byte(`{"pence":{"a":{}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var o offerFile
		if json.Unmarshal(raw, &o) != nil {
			return
		}
		if offer, err := o.offer(); err == nil {
			for i, id := range o.ids() {
				if offer.IDs[i].String() != id {
					t.Errorf("%s is read as %v", id, offer.IDs[i])
				}
			}
		}
		out, err := json.Marshal(&o)
		var back offerFile
		if err != nil || json.Unmarshal(out, &back) != nil || len(back.Pence) != len(o.Pence) {
			t.Errorf("%s is written as %s, %v", raw, out, err)
		}
	})
}
