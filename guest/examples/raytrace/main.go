//go:build wasip1

// Raytrace draws three spheres on a chessboard, in fixed-point arithmetic, and
// writes a PNG. It is 320 pixels wide by default. An epoch has 24 rows.
package main

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"strconv"

	"github.com/bitgram/bitgram/guest"
)

const rowsPerEpoch = 24

func main() {
	width := 320
	if len(os.Args) > 1 {
		n, err := strconv.Atoi(os.Args[1])
		if err != nil || n < 16 || n > 4096 {
			fmt.Fprintln(os.Stderr, "raytrace: a width from 16 to 4096?", os.Args[1])
			os.Exit(2)
		}
		width = n
	}
	height := width * 3 / 4
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	// The state is the number of rows done.
	done := 0
	if rows, ok := guest.Restore(); ok {
		done = copy(img.Pix, rows) / img.Stride
	}
	for y := done; y < height; y++ {
		if y > done && y%rowsPerEpoch == 0 {
			guest.Sync(img.Pix[:y*img.Stride])
		}
		for x := range width {
			// The picture spans -1 to 1 from side to side.
			dir := vec{fixed(2*x-width) * one / fixed(width), fixed(height-2*y) * one / fixed(width), one * 3 / 2}
			img.SetRGBA(x, y, trace(vec{0, one * 3 / 4, -3 * one}, dir.unit(), 4).rgba())
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic(err)
	}
	_, _ = guest.Output.Write(b.Bytes())
}

// fixed is a number with 16 fractional bits.
type fixed int64

const one fixed = 1 << 16

func (a fixed) mul(b fixed) fixed { return a * b >> 16 }

func (a fixed) div(b fixed) fixed { return a << 16 / b }

// root is the square root, by Newton from above.
func root(a fixed) fixed {
	if a <= 0 {
		return 0
	}
	n := uint64(a) << 16
	x := uint64(1) << 32
	for n < x*x>>2 && x > 2 {
		x >>= 1
	}
	for {
		y := (x + n/x) / 2
		if y >= x {
			return fixed(x)
		}
		x = y
	}
}

type vec struct{ x, y, z fixed }

func (a vec) add(b vec) vec     { return vec{a.x + b.x, a.y + b.y, a.z + b.z} }
func (a vec) sub(b vec) vec     { return vec{a.x - b.x, a.y - b.y, a.z - b.z} }
func (a vec) times(f fixed) vec { return vec{a.x.mul(f), a.y.mul(f), a.z.mul(f)} }
func (a vec) dot(b vec) fixed   { return a.x.mul(b.x) + a.y.mul(b.y) + a.z.mul(b.z) }
func (a vec) unit() vec         { return a.times(one.div(max(root(a.dot(a)), 1))) }

func (a vec) rgba() color.RGBA {
	c := func(f fixed) uint8 { return uint8(max(min(f>>8, 255), 0)) }
	return color.RGBA{c(a.x), c(a.y), c(a.z), 255}
}

type sphere struct {
	centre  vec
	radius  fixed
	colour  vec
	reflect fixed
}

var spheres = []sphere{
	{vec{-one * 11 / 10, one * 7 / 10, one}, one * 7 / 10, vec{one, one / 4, one / 5}, one / 4},
	{vec{one / 4, one, one * 5 / 2}, one, vec{one * 9 / 10, one * 9 / 10, one}, one * 3 / 5},
	{vec{one, one * 2 / 5, 0}, one * 2 / 5, vec{one / 5, one * 7 / 10, one / 3}, one / 4},
}

var light = vec{-one * 2, one * 3, -one * 2}.unit()

// hit is the nearest object along a ray.
type hit struct {
	at, normal, colour vec
	reflect            fixed
}

const epsilon = one / 256

func cast(from, dir vec) (h hit, ok bool) {
	nearest := fixed(1) << 40
	for i := range spheres {
		s := &spheres[i]
		to := s.centre.sub(from)
		along := to.dot(dir)
		rest := s.radius.mul(s.radius) - (to.dot(to) - along.mul(along))
		if rest < 0 {
			continue
		}
		if t := along - root(rest); t > epsilon && t < nearest {
			at := from.add(dir.times(t))
			nearest, ok = t, true
			h = hit{at, at.sub(s.centre).unit(), s.colour, s.reflect}
		}
	}
	if dir.y < 0 {
		if t := from.y.div(-dir.y); t > epsilon && t < nearest && t < 40*one {
			at := from.add(dir.times(t))
			shade := one / 5
			if (at.x>>16+at.z>>16)&1 == 0 {
				shade = one * 4 / 5
			}
			h, ok = hit{at, vec{0, one, 0}, vec{shade, shade, shade}, one / 6}, true
		}
	}
	return h, ok
}

func trace(from, dir vec, depth int) vec {
	h, ok := cast(from, dir)
	if !ok {
		up := max(dir.y, 0)
		return vec{one*2/5 - up/4, one*3/5 - up/5, one * 9 / 10}
	}
	bright := one / 5
	if _, shadow := cast(h.at.add(h.normal.times(epsilon*2)), light); !shadow {
		bright += max(h.normal.dot(light), 0).mul(one * 4 / 5)
	}
	c := h.colour.times(bright)
	if depth == 0 {
		return c
	}
	mirror := dir.sub(h.normal.times(2 * h.normal.dot(dir)))
	seen := trace(h.at.add(h.normal.times(epsilon*2)), mirror.unit(), depth-1)
	return c.times(one - h.reflect).add(seen.times(h.reflect))
}
