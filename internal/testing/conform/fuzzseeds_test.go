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
// the target's *testing.F, by the target or a helper in its file, or a corpus
// under testdata/fuzz.
func TestFuzzSeeds(t *testing.T) {
	root := filepath.Join("..", "..", "..")
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
			if !adds(file, fn.Body, f) {
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

// adds reports whether body calls f.Add, or hands f to a function of the same
// file that does.
func adds(file *ast.File, body *ast.BlockStmt, f string) bool {
	seen := map[*ast.BlockStmt]bool{}
	var visit func(*ast.BlockStmt, string) bool
	visit = func(body *ast.BlockStmt, f string) (found bool) {
		if body == nil || seen[body] {
			return false
		}
		seen[body] = true
		is := func(e ast.Expr) bool {
			x, ok := e.(*ast.Ident)
			return ok && x.Name == f
		}
		ast.Inspect(body, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || found {
				return !found
			}
			fun := call.Fun
			switch x := fun.(type) { // type arguments
			case *ast.IndexExpr:
				fun = x.X
			case *ast.IndexListExpr:
				fun = x.X
			}
			switch fun := fun.(type) {
			case *ast.SelectorExpr:
				found = fun.Sel.Name == "Add" && is(fun.X)
			case *ast.Ident:
				for i, arg := range call.Args {
					if !is(arg) {
						continue
					}
					if body, name := helper(file, fun.Name, i); visit(body, name) {
						found = true
					}
				}
			}
			return !found
		})
		return found
	}
	return visit(body, f)
}

// helper returns the body of a function of file and the name of its i-th
// parameter; no body where there is none.
func helper(file *ast.File, name string, i int) (*ast.BlockStmt, string) {
	for _, d := range file.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Recv != nil || fn.Name.Name != name {
			continue
		}
		for _, field := range fn.Type.Params.List {
			for _, p := range field.Names {
				if i == 0 {
					return fn.Body, p.Name
				}
				i--
			}
		}
	}
	return nil, ""
}

func TestSeedsFound(t *testing.T) {
	const helpers = `
		func seeds(n int, g *testing.F) { g.Add(n) }
		func generic[T, U any](g *testing.F) { seeds(1, g) }
		func forgot(f, g *testing.F) { f.Add(1) }
		func loop(f *testing.F) { loop(f) }
	`
	for body, want := range map[string]bool{
		"f.Add(1); f.Fuzz(nil)":    true,
		"for range 3 { f.Add(1) }": true,
		"seeds(1, f)":              true,
		"generic[int, int](f)":     true,
		"generic[int](f)":          true,
		"f.Fuzz(nil)":              false,
		"g.Add(1); f.Fuzz(nil)":    false,
		"seeds(1, g)":              false,
		"forgot(g, f)":             false,
		"loop(f)":                  false,
		"elsewhereSeeds(f)":        false,
		"marshal(f, 1); f.Fuzz(func() { wg.Add(1)})": false,
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "", "package p\nfunc FuzzX(f *testing.F) {"+body+"}\n"+helpers, 0)
		if err != nil {
			t.Fatal(err)
		}
		fn := file.Decls[0].(*ast.FuncDecl)
		name, ok := fuzzParam(fn)
		if !ok || adds(file, fn.Body, name) != want {
			t.Errorf("%s: %v", body, !want)
		}
	}
}
