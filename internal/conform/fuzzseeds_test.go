package conform

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFuzzSeeds: every fuzz target of the module has seeds. Without any a plain
// `go test` runs its body not once, and passes all the same: a target that
// lost its seeds looks like one that finds nothing. A seed is a call of Add on
// the target's *testing.F, or a corpus under testdata/fuzz.
func TestFuzzSeeds(t *testing.T) {
	root := filepath.Join("..", "..")
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	targets := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (d.Name() == "testdata" || d.Name() == "vendor" || strings.HasPrefix(d.Name(), ".")):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			f, ok := fuzzParam(fn)
			if !ok {
				continue
			}
			targets++
			if corpus, _ := os.ReadDir(filepath.Join(filepath.Dir(path), "testdata", "fuzz", fn.Name.Name)); len(corpus) > 0 {
				continue
			}
			if !adds(fn.Body, f) {
				t.Errorf("%s: %s has no seeds", filepath.ToSlash(path), fn.Name.Name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if targets == 0 {
		t.Error("no fuzz targets: the walk is broken")
	}
}

// fuzzParam returns the name of fn's *testing.F, where fn is a fuzz target.
func fuzzParam(fn *ast.FuncDecl) (string, bool) {
	if fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Fuzz") || len(fn.Type.Params.List) != 1 {
		return "", false
	}
	p := fn.Type.Params.List[0]
	star, ok := p.Type.(*ast.StarExpr)
	if !ok || len(p.Names) != 1 {
		return "", false
	}
	sel, ok := star.X.(*ast.SelectorExpr)
	return p.Names[0].Name, ok && sel.Sel.Name == "F"
}

// adds reports whether body calls f.Add, or hands f to a helper that is taken
// to do so.
func adds(body *ast.BlockStmt, f string) (found bool) {
	ast.Inspect(body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if sel, ok := call.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Add" {
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == f {
				found = true
			}
		}
		if name, ok := call.Fun.(*ast.Ident); ok && strings.Contains(strings.ToLower(name.Name), "seed") {
			for _, a := range call.Args {
				if x, ok := a.(*ast.Ident); ok && x.Name == f {
					found = true
				}
			}
		}
		return true
	})
	return found
}

func TestSeedsFound(t *testing.T) {
	for body, want := range map[string]bool{
		"f.Add(1); f.Fuzz(nil)":                      true,
		"for range 3 { f.Add(1) }":                   true,
		"addSeeds(f)":                                true,
		"f.Fuzz(nil)":                                false,
		"g.Add(1); f.Fuzz(nil)":                      false,
		"marshal(f, 1); f.Fuzz(func() { wg.Add(1)})": false,
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "", "package p\nfunc FuzzX(f *testing.F) {"+body+"}", 0)
		if err != nil {
			t.Fatal(err)
		}
		fn := file.Decls[0].(*ast.FuncDecl)
		name, ok := fuzzParam(fn)
		if !ok || adds(fn.Body, name) != want {
			t.Errorf("%s: %v", body, !want)
		}
	}
}
