package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/bitgram/bitgram/"

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func list(t *testing.T, args ...string) (list []pkg) {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports,Deps"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

// pure packages are values in, values out: what they do is the same on every
// machine, in every test and after every crash.
var pure = []string{"wire", "seal", "blockname", "penny", "internal/contract", "internal/choose", "internal/batch", "internal/deal", "internal/bank", "internal/job"}

// bans of what pure packages may import, each with its reason. A pattern that
// ends in a slash means everything below it.
var bans = []struct{ pattern, reason string }{
	{"net", "peers are reached through effects, so that a replay reaches nobody"},
	{"net/", "peers are reached through effects, so that a replay reaches nobody"},
	{"os", "files and the environment differ between machines"},
	{"os/", "files and the environment differ between machines"},
	{"time", "heights and times arrive in events; a clock inside makes a replay differ"},
	{"context", "nothing here waits, so nothing can be cancelled"},
	{"math/rand", "fresh secrets arrive in events and are kept before they are used"},
	{"math/rand/v2", "fresh secrets arrive in events and are kept before they are used"},
	{"crypto/rand", "fresh secrets arrive in events and are kept before they are used"},
	{"database/", "states are values; the engine keeps them"},
	{"log", "states hold secrets; what is logged is decided outside"},
	{"log/", "states hold secrets; what is logged is decided outside"},
	{"github.com/libp2p/", "the network is behind the engine's interfaces"},
	{"modernc.org/", "the database is behind the engine's interfaces"},
	{module + "internal/engine", "machines do not know what runs them"},
	{module + "internal/store", "machines do not know what keeps them"},
	{module + "internal/chain", "machines see the chain through contract.Block"},
	{module + "internal/chain/", "machines see the chain through contract.Block"},
	{module + "internal/wallet", "coins are asked for by effects"},
	{module + "internal/p2p", "peers are reached through effects"},
	{module + "internal/node", "the house stands on the machines, not they on it"},
}

func banned(pattern, imported string) bool {
	if imported == "net/netip" {
		return false // addresses as values: it reaches nobody
	}
	return imported == pattern || (strings.HasSuffix(pattern, "/") && strings.HasPrefix(imported, pattern))
}

func TestImports(t *testing.T) {
	for _, p := range list(t, module+"...") {
		name := strings.TrimPrefix(p.ImportPath, module)
		if base := path.Base(name); slices.Contains([]string{"util", "utils", "common", "helpers", "types"}, base) {
			t.Errorf("package %s: a name that says nothing collects everything", name)
		}
		for _, imported := range p.Imports {
			if slices.Contains(pure, name) {
				for _, b := range bans {
					if banned(b.pattern, imported) {
						t.Errorf("%s imports %s: %s", name, imported, b.reason)
					}
				}
			}
			machines := []string{"internal/deal", "internal/bank", "internal/job"}
			if slices.Contains(machines, name) && slices.Contains(machines, strings.TrimPrefix(imported, module)) {
				t.Errorf("%s imports %s: what one contract does must not depend on another's states", name, imported)
			}
			strangers := []string{"internal/engine", "internal/p2p", "internal/store", "internal/node/coins", "internal/node/directory", "internal/node/share", "internal/node/disk"}
			if slices.Contains(strangers, name) && slices.Contains(machines, strings.TrimPrefix(imported, module)) {
				t.Errorf("%s imports %s: it serves any machine, so that a new kind touches only the room that registers it", name, imported)
			}
			const backends = module + "internal/chain/"
			if strings.HasPrefix(p.ImportPath, backends) && strings.HasPrefix(imported, backends) {
				t.Errorf("%s imports %s: one backend must not lean on another", name, imported)
			}
			if name == "internal/api" && !slices.Contains([]string{"wire", "blockname", "internal/deal", "internal/home"}, strings.TrimPrefix(imported, module)) && strings.HasPrefix(imported, module) || name == "internal/api" && strings.Contains(imported, "huma") {
				t.Errorf("%s imports %s: a client of the API carries neither a node nor a server", name, imported)
			}
			if name == "internal/engine" && slices.Contains([]string{"internal/store", "internal/wallet", "internal/p2p", "internal/node"}, strings.TrimPrefix(imported, module)) {
				t.Errorf("%s imports %s: the engine declares what it needs and knows no more", name, imported)
			}
			if strings.HasPrefix(name, "internal/sandbox") && slices.Contains([]string{"internal/store", "internal/engine", "internal/p2p", "internal/node"}, strings.TrimPrefix(imported, module)) {
				t.Errorf("%s imports %s: a runtime knows programs and jobs, not who pays for them", name, imported)
			}
		}
	}
}

// The binary carries nothing of ours that is for tests. (The DHT's library
// itself links testing, for the type of an option.)
func TestBinaryHasNoTestCode(t *testing.T) {
	var ours []string
	for _, p := range list(t, module+"cmd/bitgram") {
		for _, dep := range p.Deps {
			if strings.HasPrefix(dep, module+"internal/testing/") {
				t.Errorf("the binary depends on %s", dep)
			}
			ours = append(ours, dep)
		}
	}
	ours = slices.DeleteFunc(ours, func(dep string) bool { return !strings.HasPrefix(dep, module) })
	for _, p := range list(t, ours...) {
		if slices.Contains(p.Imports, "testing") {
			t.Errorf("%s, in the binary, imports testing", p.ImportPath)
		}
	}
}
