//go:build ignore

// Train makes what the example needs, from a seed:
//
//	go run train.go
//
// It draws each digit from a template, shifts, thickens, dims and spoils it,
// trains the network on 20,000 such pictures, rounds its weights to int8, and
// writes 256 pictures that it was not trained on.
package main

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
)

const (
	side, inputs, hidden, digits = 8, 64, 24, 10
	ramp                         = " .:-=+*#%@"
)

var templates = [digits]string{
	"..####..|.#....#.|.#....#.|.#....#.|.#....#.|.#....#.|..####..|........",
	"...##...|..###...|...##...|...##...|...##...|...##...|..####..|........",
	"..####..|.#....#.|......#.|.....#..|...##...|..#.....|.######.|........",
	"..####..|.#....#.|......#.|...###..|......#.|.#....#.|..####..|........",
	".....#..|....##..|...#.#..|..#..#..|.######.|.....#..|.....#..|........",
	".######.|.#......|.#####..|......#.|......#.|.#....#.|..####..|........",
	"...###..|..#.....|.#......|.#####..|.#....#.|.#....#.|..####..|........",
	".######.|......#.|.....#..|....#...|...#....|...#....|...#....|........",
	"..####..|.#....#.|.#....#.|..####..|.#....#.|.#....#.|..####..|........",
	"..####..|.#....#.|.#....#.|..#####.|......#.|.....#..|..###...|........",
}

type picture [inputs]float64 // each from 0 to 9

func draw(r *rand.Rand, digit int) (p picture) {
	rows := strings.Split(templates[digit], "|")
	dx, dy := r.IntN(3)-1, r.IntN(2)
	bright, blur := 5.5+3.5*r.Float64(), 0.35*r.Float64()
	at := func(x, y int) float64 {
		x, y = x-dx, y-dy
		if x < 0 || y < 0 || x >= side || y >= side || rows[y][x] != '#' {
			return 0
		}
		return 1
	}
	for y := range side {
		for x := range side {
			v := at(x, y) + blur*(at(x-1, y)+at(x+1, y)+at(x, y-1)+at(x, y+1))/1.5
			v = min(v, 1)*bright + r.NormFloat64()*0.9
			if r.IntN(60) == 0 {
				v = 9 * r.Float64()
			}
			p[y*side+x] = math.Round(min(max(v, 0), 9))
		}
	}
	return p
}

type network struct {
	w1 [hidden][inputs]float64
	b1 [hidden]float64
	w2 [digits][hidden]float64
	b2 [digits]float64
}

func (n *network) forward(p *picture) (h [hidden]float64, out [digits]float64) {
	for i := range h {
		s := n.b1[i]
		for j, v := range p {
			s += n.w1[i][j] * v
		}
		h[i] = max(s, 0)
	}
	for i := range out {
		out[i] = n.b2[i]
		for j, v := range h {
			out[i] += n.w2[i][j] * v
		}
	}
	return h, out
}

func (n *network) learn(p *picture, digit int, rate float64) {
	h, out := n.forward(p)
	top, sum := out[0], 0.0
	for _, v := range out {
		top = max(top, v)
	}
	for i := range out {
		out[i] = math.Exp(out[i] - top)
		sum += out[i]
	}
	var back [hidden]float64
	for i := range out {
		d := out[i] / sum
		if i == digit {
			d--
		}
		for j := range h {
			back[j] += d * n.w2[i][j]
			n.w2[i][j] -= rate * d * h[j]
		}
		n.b2[i] -= rate * d
	}
	for j := range h {
		if h[j] <= 0 {
			continue
		}
		for k, v := range p {
			n.w1[j][k] -= rate * back[j] * v
		}
		n.b1[j] -= rate * back[j]
	}
}

// round gives the weights as main.go reads them.
func (n *network) round(samples []picture) []byte {
	largest := func(list ...[]float64) (m float64) {
		for _, l := range list {
			for _, v := range l {
				m = max(m, math.Abs(v))
			}
		}
		return m
	}
	m1, m2 := 0.0, 0.0
	for i := range n.w1 {
		m1 = max(m1, largest(n.w1[i][:]))
	}
	for i := range n.w2 {
		m2 = max(m2, largest(n.w2[i][:]))
	}
	s1 := min(127/m1, 127*16/largest(n.b1[:]))
	peak := 0.0
	for i := range samples {
		h, _ := n.forward(&samples[i])
		peak = max(peak, largest(h[:])*s1)
	}
	shift := 0
	for peak/float64(int(1)<<shift) > 127 {
		shift++
	}
	// The hidden layer is s1/2^shift times what it was.
	scale := s1 / float64(int(1)<<shift)
	s2 := min(127/m2, 127*128/largest(n.b2[:])/scale)
	var b bytes.Buffer
	put := func(v float64) { b.WriteByte(byte(int8(min(max(math.Round(v), -127), 127)))) }
	for i := range n.w1 {
		for _, v := range n.w1[i] {
			put(v * s1)
		}
	}
	for _, v := range n.b1 {
		put(v * s1 / 16)
	}
	for i := range n.w2 {
		for _, v := range n.w2[i] {
			put(v * s2)
		}
	}
	for _, v := range n.b2 {
		put(v * s2 * scale / 128)
	}
	b.WriteByte(byte(shift))
	return b.Bytes()
}

func main() {
	r := rand.New(rand.NewPCG(7, 11))
	var n network
	for i := range n.w1 {
		for j := range n.w1[i] {
			n.w1[i][j] = r.NormFloat64() * 0.03
		}
	}
	for i := range n.w2 {
		for j := range n.w2[i] {
			n.w2[i][j] = r.NormFloat64() * 0.2
		}
	}
	pictures, answers := make([]picture, 20_000), make([]int, 20_000)
	for i := range pictures {
		answers[i] = i % digits
		pictures[i] = draw(r, answers[i])
	}
	for round := range 12 {
		for range pictures {
			i := r.IntN(len(pictures))
			n.learn(&pictures[i], answers[i], 0.004/float64(1+round))
		}
	}
	check(os.WriteFile("weights.bin", n.round(pictures[:2000]), 0o644))
	var text, right strings.Builder
	correct := 0
	for i := range 256 {
		digit := r.IntN(digits)
		p := draw(r, digit)
		if i > 0 {
			text.WriteByte('\n')
		}
		for y := range side {
			for x := range side {
				text.WriteByte(ramp[int(p[y*side+x])])
			}
			text.WriteByte('\n')
		}
		fmt.Fprintln(&right, digit)
		_, out := n.forward(&p)
		best := 0
		for k, v := range out {
			if v > out[best] {
				best = k
			}
		}
		if best == digit {
			correct++
		}
	}
	check(os.WriteFile("samples.txt", []byte(text.String()), 0o644))
	check(os.WriteFile("answers.txt", []byte(right.String()), 0o644))
	fmt.Printf("in floating point %d of 256 are right\n", correct)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
