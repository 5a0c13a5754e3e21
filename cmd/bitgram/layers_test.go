package main

import (
	"slices"
	"strings"
	"testing"
)

// layer is packages that stand at one height, and why they stand there.
type layer struct {
	reason   string
	packages []string
}

// layers are all packages from the ground up. A package imports only what stands in
// a lower layer, and of its own layer only what siblings lists.
var layers = []layer{
	{"values and formats that every party agrees on: they import nothing of ours", []string{"wire", "guest", "internal/mail", "internal/sandbox", "internal/sandbox/wasm/rewrite"}},
	{"formats on top of them, of use without a node", []string{"seal", "blockname", "penny"}},
	{"what Bitcoin, a Bitcoin node, a home and a network are, each alone", []string{"internal/contract", "internal/choose", "internal/chain", "internal/home", "internal/sandbox/wasm", "internal/sandbox/process"}},
	{"what carries out one such thing: a backend of the chain, the wallet, the hosts, the resolver, who shares a transaction. None knows a machine",
		[]string{"internal/chain/bitcoind", "internal/chain/corerpc", "internal/chain/devchain", "internal/wallet", "internal/p2p", "internal/dnsd", "internal/batch"}},
	{"the machines: pure, and strangers to one another", []string{"internal/deal", "internal/bank", "internal/job"}},
	{"the engine runs any machine and names none; the API's types name what a user sees", []string{"internal/engine", "internal/api"}},
	{"what keeps and follows in the engine's transactions, and a home's files", []string{"internal/store", "internal/names", "internal/node/disk"}},
	{"the rooms that others pay and find with", []string{"internal/node/blobs", "internal/node/coins", "internal/node/directory", "internal/node/jury", "internal/node/share"}},
	{"the rooms of the machines: they register them, and know one another by no name", []string{"internal/node/agent", "internal/node/delivery", "internal/node/banking", "internal/node/computing"}},
	{"node assembles the rooms", []string{"internal/node"}},
	{"what stands around a node: its API, benchmarks, stories", []string{"internal/web", "internal/bankbench", "internal/demo"}},
	{"what runs homes", []string{"internal/daemon", "internal/devnet", "internal/bench"}},
	{"the programs: the command, and what draws the README's picture of it", []string{"cmd/bitgram", "docs/picture"}},
}

// siblings are imports within a layer, each with a reason beside it: what imports →
// what is imported. There are none.
var siblings = map[string][]string{}

// apart are tests' own packages: they import what they test, and only tests import them
// (see TestBinaryHasNoTestCode).
const apart = "internal/testing/"

// TestLayers: every package has its layer, and imports only what stands below it.
func TestLayers(t *testing.T) {
	rank := map[string]int{}
	for i, l := range layers {
		for _, p := range l.packages {
			if _, twice := rank[p]; twice {
				t.Errorf("%s stands in two layers", p)
			}
			rank[p] = i
		}
	}
	there := map[string]bool{}
	for _, p := range list(t, module+"...") {
		name := strings.TrimPrefix(p.ImportPath, module)
		there[name] = true
		if strings.HasPrefix(name, apart) || strings.HasPrefix(name, "guest/") {
			continue
		}
		at, ok := rank[name]
		if !ok {
			t.Errorf("%s stands in no layer", name)
			continue
		}
		for _, imported := range p.Imports {
			below, ours := strings.CutPrefix(imported, module)
			if !ours || strings.HasPrefix(below, apart) && name == "internal/bench" {
				continue
			}
			switch r, known := rank[below]; {
			case !known:
				t.Errorf("%s imports %s, which stands in no layer", name, below)
			case r > at:
				t.Errorf("%s imports %s, which stands above it (%s)", name, below, layers[r].reason)
			case r == at && !slices.Contains(siblings[name], below):
				t.Errorf("%s imports %s, which stands beside it (%s)", name, below, layers[r].reason)
			}
		}
	}
	for p := range rank {
		if !there[p] {
			t.Errorf("there is no package %s", p)
		}
	}
}
