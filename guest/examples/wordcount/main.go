//go:build wasip1

// Wordcount counts the words of its input and prints the most frequent, ten by
// default. An epoch has 256 KiB of input.
package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/bitgram/bitgram/guest"
)

const (
	chunk   = 64 << 10
	perStep = 4 // chunks of an epoch
)

// state is how far the input was read. Go writes the keys of a map in order, so
// equal states are equal bytes.
type state struct {
	Next  int64
	Words map[string]int
	Part  string // a word that continues in the next chunk
}

func main() {
	top := 10
	if len(os.Args) > 1 {
		n, err := strconv.Atoi(os.Args[1])
		if err != nil || n < 1 {
			fmt.Fprintln(os.Stderr, "wordcount: how many words?", os.Args[1])
			os.Exit(2)
		}
		top = n
	}
	s := state{Words: map[string]int{}}
	if b, ok := guest.Restore(); ok {
		if err := json.Unmarshal(b, &s); err != nil {
			panic(err)
		}
	}
	in := guest.Input()
	buf := make([]byte, chunk)
	for n := 1; s.Next < in.Size(); n++ {
		got, _ := in.ReadAt(buf, s.Next) // the end shows in Next
		s.Next += int64(got)
		s.count(buf[:got], s.Next == in.Size())
		if n%perStep == 0 && s.Next < in.Size() {
			b, err := json.Marshal(s)
			if err != nil {
				panic(err)
			}
			guest.Sync(b)
		}
	}
	s.print(top)
}

// count adds the words of a chunk; its last one waits for the next chunk.
func (s *state) count(b []byte, last bool) {
	text := s.Part + string(b)
	s.Part = ""
	word := func(r rune) bool {
		return unicode.IsLetter(r) || unicode.IsDigit(r) || r == '\'' || r == utf8.RuneError
	}
	if !last {
		end := strings.LastIndexFunc(text, func(r rune) bool { return !word(r) })
		s.Part, text = text[end+1:], text[:end+1]
	}
	for _, w := range strings.FieldsFunc(text, func(r rune) bool { return !word(r) }) {
		s.Words[strings.ToLower(w)]++
	}
}

func (s *state) print(top int) {
	list := make([]string, 0, len(s.Words))
	total := 0
	for w, n := range s.Words {
		list = append(list, w)
		total += n
	}
	slices.SortFunc(list, func(a, b string) int { return cmp.Or(s.Words[b]-s.Words[a], strings.Compare(a, b)) })
	fmt.Printf("%d words, %d different\n", total, len(list))
	for _, w := range list[:min(top, len(list))] {
		fmt.Printf("%7d %s\n", s.Words[w], w)
	}
}
