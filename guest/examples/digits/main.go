//go:build wasip1

// Digits reads pictures of digits and prints the digits, one per line. It uses
// a neural network of two layers in int8. A picture has eight rows of eight
// characters, from blank to @; an empty line separates pictures. An epoch has
// 64 pictures.
//
// train.go generates weights.bin, samples.txt and answers.txt.
package main

import (
	"bufio"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/bitgram/bitgram/guest"
)

const (
	side     = 8
	inputs   = side * side
	hidden   = 24
	digits   = 10
	perEpoch = 64

	// ramp is the characters of a picture, from dark to bright.
	ramp = " .:-=+*#%@"
)

// weights are, as int8: hidden × inputs, hidden biases, digits × hidden, digits
// biases; then the shift after the first layer.
//
//go:embed weights.bin
var weights []byte

func main() {
	// The state is the number of pictures done, in four bytes.
	done := uint32(0)
	if b, ok := guest.Restore(); ok {
		done = binary.BigEndian.Uint32(b)
	}
	in := bufio.NewReader(os.Stdin)
	for n := uint32(0); ; n++ {
		picture, err := read(in)
		switch {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			fmt.Fprintf(os.Stderr, "digits: picture %d: %v\n", n+1, err)
			os.Exit(2)
		}
		if n < done {
			continue
		}
		if n > done && n%perEpoch == 0 {
			guest.Sync(binary.BigEndian.AppendUint32(nil, n))
		}
		fmt.Println(classify(picture))
	}
}

// read returns the next picture, each pixel from 0 to 9.
func read(in *bufio.Reader) (p [inputs]int8, err error) {
	for row := 0; row < side; {
		line, err := in.ReadString('\n')
		line = strings.TrimSuffix(line, "\n")
		switch {
		case err != nil && (line == "" || !errors.Is(err, io.EOF)):
			if row > 0 {
				return p, fmt.Errorf("it has %d rows", row)
			}
			return p, io.EOF
		case line == "" && row == 0:
			continue
		case len(line) != side:
			return p, fmt.Errorf("row %d has %d characters, %d are wanted", row+1, len(line), side)
		}
		for x := range side {
			level := strings.IndexByte(ramp, line[x])
			if level < 0 {
				return p, fmt.Errorf("row %d: %q is not a brightness", row+1, line[x])
			}
			p[row*side+x] = int8(level)
		}
		row++
	}
	return p, nil
}

// classify runs the network.
func classify(p [inputs]int8) (best int) {
	w := weights
	next := func(n int) []byte { part := w[:n]; w = w[n:]; return part }
	w1, b1 := next(hidden*inputs), next(hidden)
	w2, b2 := next(digits*hidden), next(digits)
	shift := w[0]
	var h [hidden]int8
	for i := range h {
		sum := int32(int8(b1[i])) << 4
		for j, v := range p {
			sum += int32(int8(w1[i*inputs+j])) * int32(v)
		}
		h[i] = int8(min(max(sum>>shift, 0), 127)) // ReLU
	}
	most := int32(-1 << 31)
	for i := range digits {
		sum := int32(int8(b2[i])) << 7
		for j, v := range h {
			sum += int32(int8(w2[i*hidden+j])) * int32(v)
		}
		if sum > most {
			most, best = sum, i
		}
	}
	return best
}
