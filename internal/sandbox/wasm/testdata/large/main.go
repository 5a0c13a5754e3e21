// Command large is a program of the size that interpreters and servers written in
// Go have: it links much of the standard library, and uses each part a little.
package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"compress/lzw"
	"compress/zlib"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"debug/buildinfo"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"encoding/asn1"
	"encoding/csv"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"encoding/xml"
	"expvar"
	"fmt"
	"go/ast"
	"go/constant"
	"go/doc"
	"go/format"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	html "html/template"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"log/slog"
	"math/big"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httputil"
	"net/mail"
	"net/netip"
	"net/rpc"
	"net/smtp"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"text/template"
	"time"
	"unicode/utf16"
)

func must[T any](v T, err error) T {
	check(err)
	return v
}

func check(err error) {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}

// linked keeps parts in the program that nothing else uses.
var linked = []any{tls.Dial, sql.Open, elf.Open, macho.Open, pe.Open, buildinfo.Read, importer.ForCompiler, doc.New, expvar.Handler,
	cookiejar.New, httputil.NewSingleHostReverseProxy, rpc.NewServer, smtp.Dial, bzip2.NewReader, http.ListenAndServe, types.NewChecker}

const source = `package p

type Number interface{ ~int | ~float64 }

func Sum[T Number](list []T) (s T) { for _, v := range list { s += v }; return s }

const Answer = len("forty-two") * 4 + 6

var Total = Sum([]int{1, 2, Answer})
`

func checked() string {
	set := token.NewFileSet()
	file := must(parser.ParseFile(set, "p.go", source, parser.ParseComments))
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Instances: map[*ast.Ident]types.Instance{}}
	pkg := must((&types.Config{}).Check("p", set, []*ast.File{file}, info))
	var out bytes.Buffer
	check(format.Node(&out, set, file))
	answer, _ := constant.Int64Val(pkg.Scope().Lookup("Answer").(*types.Const).Val())
	return fmt.Sprintf("%d of %v, %s, %d bytes formatted", answer, pkg.Scope().Names(), pkg.Scope().Lookup("Total").Type(), out.Len())
}

func served() string {
	mux := http.NewServeMux()
	page := html.Must(html.New("page").Parse(`<p title="{{.}}">{{.}}</p><script>var x = {{.}}</script>`))
	mux.HandleFunc("GET /page/{name}", func(w http.ResponseWriter, r *http.Request) { check(page.Execute(w, r.PathValue("name"))) })
	rec := httptest.NewRecorder()
	mux.ServeHTTP(rec, httptest.NewRequest("GET", "/page/%3Cb%3E", nil))
	return rec.Result().Status + " " + rec.Body.String()
}

type item struct {
	Name string   `json:"name" xml:"name,attr"`
	Tags []string `json:"tags" xml:"tag"`
	When time.Time
}

func encoded() string {
	in := []item{{"a <&> b", []string{"x", "y"}, time.Unix(1e9, 0).UTC()}}
	var viaGob []item
	var b bytes.Buffer
	check(gob.NewEncoder(&b).Encode(in))
	check(gob.NewDecoder(&b).Decode(&viaGob))
	var viaJSON []item
	check(json.Unmarshal(must(json.Marshal(viaGob)), &viaJSON))
	rows := must(csv.NewReader(strings.NewReader("a,\"b,c\"\nd,e\n")).ReadAll())
	der := must(asn1.Marshal(struct{ A, B int }{1, 1 << 20}))
	return fmt.Sprintf("%s %v %x %x", must(xml.Marshal(viaJSON)), rows, der, utf16.Encode([]rune("𝄞")))
}

func packed() string {
	text := []byte(strings.Repeat("the quick brown fox jumps over the lazy dog, again. ", 400))
	var sizes []int
	for _, c := range []struct {
		to   func(io.Writer) io.WriteCloser
		from func(io.Reader) io.Reader
	}{
		{func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }, func(r io.Reader) io.Reader { return must(gzip.NewReader(r)) }},
		{func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) }, func(r io.Reader) io.Reader { return must(zlib.NewReader(r)) }},
		{func(w io.Writer) io.WriteCloser { return lzw.NewWriter(w, lzw.LSB, 8) }, func(r io.Reader) io.Reader { return lzw.NewReader(r, lzw.LSB, 8) }},
	} {
		var b bytes.Buffer
		w := c.to(&b)
		must(w.Write(text))
		check(w.Close())
		sizes = append(sizes, b.Len())
		if !bytes.Equal(must(io.ReadAll(c.from(&b))), text) {
			check(fmt.Errorf("packed to something else"))
		}
	}
	var z, t bytes.Buffer
	zw, tw := zip.NewWriter(&z), tar.NewWriter(&t)
	must(must(zw.Create("f")).Write(text))
	check(zw.Close())
	check(tw.WriteHeader(&tar.Header{Name: "f", Size: int64(len(text)), Mode: 0o600}))
	must(tw.Write(text))
	check(tw.Close())
	zr := must(zip.NewReader(bytes.NewReader(z.Bytes()), int64(z.Len())))
	return fmt.Sprint(sizes, " ", zr.File[0].UncompressedSize64, " ", t.Len())
}

func signed() string {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	check(err)
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	t := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "large"}, NotAfter: time.Unix(4e9, 0), IsCA: true, BasicConstraintsValid: true}
	cert := must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, t, t, key.Public(), key))))
	check(cert.CheckSignatureFrom(cert))
	block, _ := pem.Decode(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	ok := ed25519.Verify(public, block.Bytes, ed25519.Sign(private, block.Bytes))
	p := new(big.Int).Exp(big.NewInt(3), big.NewInt(4001), nil)
	sum := sha256.Sum256(p.Bytes())
	return fmt.Sprint(ok, " ", cert.Subject, " ", p.BitLen(), " ", hex.EncodeToString(sum[:8]))
}

func drawn() string {
	img := image.NewPaletted(image.Rect(0, 0, 64, 64), color.Palette{color.Black, color.White, color.RGBA{200, 30, 90, 255}})
	for i := range img.Pix {
		img.Pix[i] = byte(i * i / 7 % 3)
	}
	var p, j, g bytes.Buffer
	check(png.Encode(&p, img))
	check(jpeg.Encode(&j, img, nil))
	check(gif.Encode(&g, img, nil))
	back, kind, err := image.Decode(&j)
	check(err)
	return fmt.Sprint(p.Len(), " ", g.Len(), " ", kind, " ", back.Bounds())
}

func written() string {
	msg := must(mail.ReadMessage(strings.NewReader("From: A <a@b.example>\r\nSubject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n\r\nhello\r\n")))
	var form, table, log bytes.Buffer
	m := multipart.NewWriter(&form)
	check(m.SetBoundary("frontier"))
	check(m.WriteField("k", "v"))
	w := tabwriter.NewWriter(&table, 0, 8, 1, ' ', 0)
	check(template.Must(template.New("").Parse("{{range .}}{{.}}\t|{{end}}\n")).Execute(w, []int{1, 22, 333}))
	check(w.Flush())
	slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})).InfoContext(context.Background(), "done", "at", netip.MustParseAddr("::1"))
	re := regexp.MustCompile(`(\w+)@(\w+\.)+example`)
	return fmt.Sprintf("%s %q %d %q %s", msg.Header.Get("Subject"), re.FindStringSubmatch(msg.Header.Get("From")), form.Len(), table.String(), log.Bytes())
}

// collected makes the garbage collector and the scheduler work.
func collected() string {
	sums := make(chan int)
	for i := range 8 {
		go func() {
			list := map[int][]byte{}
			for k := range 300 {
				list[k%50] = make([]byte, 512+i)
			}
			sums <- len(list) * (i + 1)
		}()
	}
	var all []int
	for range 8 {
		all = append(all, <-sums)
	}
	runtime.GC()
	slices.Sort(all)
	return fmt.Sprint(all)
}

func main() {
	for _, f := range []func() string{checked, served, encoded, packed, signed, drawn, written, collected} {
		fmt.Println(f())
	}
	fmt.Println(len(linked), "more")
}
