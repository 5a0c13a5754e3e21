package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/daemon"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/home"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/wire"
)

// apiCodes returns every code that package api declares.
func apiCodes(t *testing.T) (list []api.Code) {
	f, err := parser.ParseFile(token.NewFileSet(), "../../internal/api/errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, typed := v.Type.(*ast.Ident); typed && id.Name == "Code" {
			text, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, api.Code(text))
		}
		return true
	})
	return list
}

// TestErrorTable: each code of the API has exactly one row of its own, or is an
// error's; a row is reached, and no error has two.
func TestErrorTable(t *testing.T) {
	known := apiCodes(t)
	if len(known) < 50 {
		t.Fatalf("%d codes", len(known))
	}
	rows := map[api.Code]int{}
	errs := map[error]bool{}
	for _, r := range errorTable {
		if r.is != nil {
			if errs[r.is] {
				t.Errorf("two rows for %v", r.is)
			}
			errs[r.is] = true
			if got := rowOf(fmt.Errorf("x: %w", r.is)); got != r {
				t.Errorf("%v: found the row of %v", r.is, got.is)
			}
			continue
		}
		rows[r.code]++
	}
	for _, c := range known {
		got := rowOf(&api.Error{Status: 500, Code: c})
		if rows[c] > 1 || got.code != c || got.hint == "" && c != api.CodeCancelled {
			t.Errorf("code %s: %d rows, hint %q", c, rows[c], got.hint)
		}
	}
}

// TestExplain: what the daemon answers, what a message failed by and what a
// command finds itself come to the same code, exit code and hint.
func TestExplain(t *testing.T) {
	for _, c := range []struct {
		err  error
		code api.Code
		exit int
		hint string
	}{
		{deal.ErrNoFunds, api.CodeFunds, exitMoney, "bitgram wallet address"},
		{&api.Error{Status: 402, Code: api.CodeFunds}, api.CodeFunds, exitMoney, "bitgram wallet address"},
		{&failure{by: api.CodeFunds}, api.CodeFunds, exitMoney, "bitgram wallet address"},
		{wallet.ErrAddress, api.CodeBitcoinAddress, exitUsage, "bitcoin address"},
		{wire.ErrBadAddress, api.CodeAddress, exitUsage, "bgrt1"},
		{&api.Error{Status: 409, Code: api.CodeTooLate}, api.CodeTooLate, exitFailed, "refunded"},
		{&api.Error{Status: 409, Code: api.CodeAlreadySent}, api.CodeAlreadySent, exitFailed, "bump"},
		{bank.ErrTooEarly, api.CodeBankFundingSigned, exitFailed, "close it"},
		{fmt.Errorf("%w: x", home.ErrNoDaemon), "no_daemon", exitFailed, "bitgram up"},
		{fmt.Errorf("%w: x", daemon.ErrNoChain), api.CodeNoChain, exitUsage, "--rpc"},
		{&api.Error{Status: 504, Code: api.CodeNoChain}, api.CodeNoChain, exitNobody, "--rpc"},
		// Codes of a newer daemon.
		{&api.Error{Status: 404, Code: "new"}, "new", exitUsage, ""},
		{&api.Error{Status: 500, Code: "newer"}, "newer", exitFailed, ""},
		{errors.New("x"), api.CodeFailed, exitFailed, "--verbose"},
		{&commandError{fmt.Errorf("%w: x", errUsage), "bitgram bank open"}, "usage", exitUsage, "see 'bitgram bank open --help'"},
	} {
		code, exit, hint := explain(c.err)
		if code != c.code || exit != c.exit || !strings.Contains(hint, c.hint) {
			t.Errorf("%v: %s, %d, %q", c.err, code, exit, hint)
		}
	}
}

// TestUsageHint: a mistake points to the help of the command it was made in.
func TestUsageHint(t *testing.T) {
	for args, want := range map[string]string{
		"bank open":             "see 'bitgram bank open --help'",
		"--nonsense":            "see 'bitgram --help'",
		"wallet send --rate x":  "see 'bitgram wallet send --help'",
		"demo --agents 1":       "see 'bitgram demo --help'",
		"demo bank --pennies 0": "see 'bitgram demo bank --help'",
	} {
		var out strings.Builder
		if code := run(t.Context(), strings.Fields(args), strings.NewReader(""), io.Discard, &out); code != exitUsage || !strings.Contains(out.String(), want) {
			t.Errorf("%s: exit %d, %s", args, code, out.String())
		}
	}
}
