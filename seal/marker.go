package seal

import (
	"fmt"

	"github.com/bitgram/bitgram/wire"
)

const (
	// MarkerSize is the size of a marker: what one OP_RETURN push carries.
	MarkerSize = 79

	markerMagic   = "bg"
	markerVersion = 1
)

// Marker announces a message. It is the data push of an OP_RETURN output:
//
//	"bg" ‖ version(1) ‖ root(32) ‖ E(32) ‖ masked locator(8) ‖ tag(4)
type Marker struct {
	Root          wire.Hash
	E             wire.Key     // not checked to be on the curve: Scanner.Match does
	MaskedLocator wire.Locator // Secrets.Mask shows the locator
	Tag           [4]byte      // Secrets.Tag for the first input's outpoint
}

// Encode returns the marker's bytes.
func (m Marker) Encode() (b [MarkerSize]byte) {
	out := append(b[:0], markerMagic...)
	out = append(out, markerVersion)
	out = append(out, m.Root[:]...)
	out = append(out, m.E[:]...)
	out = append(out, m.MaskedLocator[:]...)
	_ = append(out, m.Tag[:]...)
	return b
}

// DecodeMarker decodes the data of the push, without opcodes. It returns
// ErrMarker if data does not have MarkerSize bytes or the magic, and ErrVersion
// if the version is unknown.
func DecodeMarker(data []byte) (m Marker, err error) {
	if len(data) != MarkerSize || string(data[:2]) != markerMagic {
		return Marker{}, ErrMarker
	}
	if data[2] != markerVersion {
		return Marker{}, fmt.Errorf("%w: marker version %d", ErrVersion, data[2])
	}
	copy(m.Root[:], data[3:])
	copy(m.E[:], data[35:])
	copy(m.MaskedLocator[:], data[67:])
	copy(m.Tag[:], data[75:])
	return m, nil
}
