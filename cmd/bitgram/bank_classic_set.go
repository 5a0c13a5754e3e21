package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/penny"
)

var (
	// errFalseSet is returned if opened pence are not those that were offered.
	errFalseSet = errors.New("the set is false")
	// errPicked refuses to open a set for a second pick.
	errPicked = errors.New("another pence of this set was picked before")
)

// hexMap is a JSON object of hex strings by ID. A repeated ID is an error.
type hexMap map[string]string

func (m *hexMap) UnmarshalJSON(raw []byte) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("not a JSON object")
	}
	*m = hexMap{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		var value string
		if err := d.Decode(&value); err != nil {
			return err
		}
		id := key.(string) // of an object
		if _, twice := (*m)[id]; twice {
			return fmt.Errorf("repeated ID %q", shorten(id))
		}
		(*m)[id] = value
	}
	return nil
}

// MarshalJSON writes no entries as {}, which is read again.
func (m hexMap) MarshalJSON() ([]byte, error) {
	if m == nil {
		return []byte("{}"), nil
	}
	return json.Marshal(map[string]string(m))
}

// The files of a set. The offer has the form of the linked specification. The set
// also has the secrets, and which pence were picked.
type (
	offerFile struct {
		N     uint32 `json:"N"`
		Nonce string `json:"nonce"`
		Pence hexMap `json:"pence"` // p_N by ID
	}
	setFile struct {
		offerFile
		Secrets hexMap `json:"secrets"` // p₀ by ID
		Picked  string `json:"picked,omitempty"`
	}
	openedFile struct {
		ID      string `json:"ID"`      // of the picked pence
		Secrets hexMap `json:"secrets"` // p₀ of all others, by ID
	}
)

// maxSetFile is the largest file that is read, in bytes: twice the size of a set
// with the longest secrets and indentation.
const maxSetFile = 64 << 10

// readSet reads one of these files.
func readSet(path string, v any) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("%w: %w", errInput, err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxSetFile+1))
	if err == nil && len(raw) > maxSetFile {
		err = fmt.Errorf("%s: larger than the %d KiB of a set", path, maxSetFile>>10)
	}
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.DisallowUnknownFields()
		if err = d.Decode(v); err == nil {
			if _, end := d.Token(); !errors.Is(end, io.EOF) {
				err = errors.New("data after the JSON object")
			}
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", path, err)
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errInput, err)
	}
	return nil
}

func writeSet(path string, v any) error {
	return writeWhole(path, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(v)
	})
}

// offer checks the file and returns its offer, with the pence sorted by ID.
func (f *offerFile) offer() (o *penny.Offer, err error) {
	bad := func(format string, a ...any) (*penny.Offer, error) {
		return nil, fmt.Errorf("%w: the offer: %s", errInput, fmt.Sprintf(format, a...))
	}
	if f.N < 1 || f.N > penny.MaxSeq {
		return bad("N is %d: must be 1 to %d", f.N, penny.MaxSeq)
	}
	if len(f.Pence) != penny.SetSize {
		return bad("%d pence: must be %d", len(f.Pence), penny.SetSize)
	}
	o = &penny.Offer{Chain: penny.Chain{Size: penny.ClassicSize}, N: f.N}
	raw, err := unhex("nonce", f.Nonce, penny.NonceSize)
	if err != nil {
		return bad("%v", err)
	}
	o.Nonce = penny.Nonce(raw)
	for i, id := range f.ids() {
		raw, err := hex.DecodeString(id)
		if err != nil || len(raw) != len(o.IDs[i]) || hex.EncodeToString(raw) != id {
			return bad("invalid ID %q", shorten(id))
		}
		o.IDs[i] = penny.ID(raw)
		if o.Last[i], err = secretOf("the last penny", f.Pence[id], o.Size); err != nil {
			return bad("%v", err)
		}
	}
	return o, nil
}

func (f *offerFile) ids() []string {
	var ids []string
	for id := range f.Pence {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (a *app) classicSet() *cobra.Command {
	c := &cobra.Command{
		Use:   "set",
		Short: "Negotiate a set of 100 pence: offer, pick, open, check",
		Long: "Pence are negotiated by cut and choose. A offers 100 pence with one nonce and length; B picks one; A\n" +
			"reveals the p₀ of the other 99; B checks them, and concludes that the picked one is valid as well. If A\n" +
			"forged one, A gets away with it in 1 of 100 cases. Each step writes a file in the form of the linked\n" +
			"specification.\n\n" + forStudy,
		Example: "  bitgram bank classic set new --n 1000 --set set.json --offer offer.json    # A\n" +
			"  bitgram bank classic set pick --offer offer.json                           # B: shows an ID\n" +
			"  bitgram bank classic set open --set set.json --id ID --opened opened.json  # A\n" +
			"  bitgram bank classic set check --offer offer.json --opened opened.json --id ID  # B",
		SuggestionsMinimumDistance: 2,
		Args:                       noSuchCommand,
		RunE:                       func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.setNew(), a.setPick(), a.setOpen(), a.setCheck())
	return c
}
