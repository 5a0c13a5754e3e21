package main

import (
	"bytes"
	"context"
	"crypto/rand"
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
	// errFalseSet: what was opened is not what was offered.
	errFalseSet = errors.New("the set is false")
	// errPicked: another pence of the set was picked before.
	errPicked = errors.New("another pence of this set was picked before")
)

// hexMap is a JSON object of hex by ID, none of them twice.
type hexMap map[string]string

func (m *hexMap) UnmarshalJSON(raw []byte) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("an object is wanted")
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
			return fmt.Errorf("%q stands twice", shorten(id))
		}
		(*m)[id] = value
	}
	return nil
}

// The files of a set. The offer is the linked specification's; the set has the
// secrets besides, and what was picked.
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
		ID      string `json:"ID"`      // that was picked
		Secrets hexMap `json:"secrets"` // p₀ of all others, by ID
	}
)

// maxSetFile bounds what is read, bytes: twice what a set has at the longest
// secrets and with indentation.
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
		err = fmt.Errorf("%s: more than the %d KiB of a set", path, maxSetFile>>10)
	}
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.DisallowUnknownFields()
		if err = d.Decode(v); err == nil {
			if _, end := d.Token(); !errors.Is(end, io.EOF) {
				err = errors.New("something stands behind the object")
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

// offer is the file's, its pence in the order of their IDs.
func (f *offerFile) offer() (o *penny.Offer, err error) {
	bad := func(format string, a ...any) (*penny.Offer, error) {
		return nil, fmt.Errorf("%w: the offer: %s", errInput, fmt.Sprintf(format, a...))
	}
	if f.N < 1 || f.N > penny.MaxSeq {
		return bad("N is 1 to %d, not %d", penny.MaxSeq, f.N)
	}
	if len(f.Pence) != penny.SetSize {
		return bad("%d pence, not %d", len(f.Pence), penny.SetSize)
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
			return bad("%q is no ID", shorten(id))
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
		Short: "A set of 100 pence: offer, pick, open, check",
		Long: "Pence are negotiated by cut and choose. A offers 100 with one nonce and length; B picks one; A opens\n" +
			"the p₀ of the 99 others; B checks them, and takes it that the one is right too. A, who made one of\n" +
			"them false, passes with 1 in 100. Each step is a file, in the form of the linked specification:\n\n" +
			"  bitgram bank classic set new --n 1000 --set set.json --offer offer.json    # A\n" +
			"  bitgram bank classic set pick --offer offer.json                           # B, shows an ID\n" +
			"  bitgram bank classic set open --set set.json --id ID --opened opened.json  # A\n" +
			"  bitgram bank classic set check --offer offer.json --opened opened.json --id ID  # B\n\n" + forStudy,
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.setNew(), a.setPick(), a.setOpen(), a.setCheck())
	return c
}

// given wants flags to have been given.
func given(c *cobra.Command, names ...string) error {
	for _, name := range names {
		if !c.Flags().Changed(name) {
			return fmt.Errorf("%w: --%s is wanted", errUsage, name)
		}
	}
	return nil
}

func (a *app) setNew() *cobra.Command {
	var n int
	var nonceHex, set, offer string
	c := &cobra.Command{
		Use:   "new --n N --set FILE --offer FILE",
		Short: "Make a set and its offer",
		Long:  "Draws 100 pence of N pennies each. The set has their secrets and is A's alone; the offer is for B.",
		Args:  usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := given(c, "n", "set", "offer"); err != nil {
				return err
			}
			if err := checkN(n); err != nil {
				return err
			}
			for _, path := range []string{set, offer} {
				if err := checkOutput(path, false); err != nil {
					return err
				}
			}
			if _, err := os.Lstat(set); err == nil {
				return fmt.Errorf("%w: %s is there, and its secrets are not written over", errOutput, set)
			}
			ch := penny.Chain{Size: penny.ClassicSize}
			var err error
			if ch.Nonce, err = nonce(nonceHex); err != nil {
				return err
			}
			f := setFile{offerFile: offerFile{N: uint32(n), Nonce: ch.Nonce.String(), Pence: hexMap{}}, Secrets: hexMap{}}
			for len(f.Pence) < penny.SetSize {
				p := penny.Pence{Chain: ch, N: f.N}
				_, _ = rand.Read(p.P0[:p.Size]) // never fails (crypto/rand)
				sum, err := roll(c.Context(), &p)
				if err != nil {
					return err
				}
				f.Pence[sum.ID.String()] = hex.EncodeToString(sum.Last.Secret[:p.Size])
				f.Secrets[sum.ID.String()] = hex.EncodeToString(p.P0[:p.Size])
				a.print.working(fmt.Sprintf("%d of %d pence", len(f.Pence), penny.SetSize))
			}
			if err := errors.Join(writeSet(set, &f), writeSet(offer, &f.offerFile)); err != nil {
				return fmt.Errorf("%w: %w", errOutput, err)
			}
			a.print.summary(struct {
				N     uint32 `json:"n"`
				Nonce string `json:"nonce"`
				Pence int    `json:"pence"`
				Set   string `json:"set"`
				Offer string `json:"offer"`
			}{f.N, f.Nonce, len(f.Pence), set, offer}, func(w io.Writer) {
				fmt.Fprintf(w, "%d pence of %d pennies, nonce %s.\nThe offer is in %s, for the other side; the secrets are in %s, for nobody.\n", len(f.Pence), f.N, f.Nonce, offer, set)
			})
			return nil
		},
	}
	c.Flags().IntVar(&n, "n", 0, fmt.Sprintf("how many pennies each, 1 to %d", penny.MaxSeq))
	c.Flags().StringVar(&nonceHex, "nonce", "", "24 bytes in hex; drawn at random where there is none")
	c.Flags().StringVar(&set, "set", "", "where the set with its secrets goes")
	c.Flags().StringVar(&offer, "offer", "", "where the offer goes")
	return c
}

func (a *app) setPick() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use:   "pick --offer FILE",
		Short: "Pick one of an offer at random",
		Args:  usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := given(c, "offer"); err != nil {
				return err
			}
			var f offerFile
			if err := readSet(path, &f); err != nil {
				return err
			}
			if _, err := f.offer(); err != nil {
				return err
			}
			ids := f.ids()
			var b [1]byte
			for b[0] = 255; int(b[0]) >= 2*len(ids); {
				_, _ = rand.Read(b[:]) // never fails (crypto/rand)
			}
			id := ids[int(b[0])%len(ids)]
			a.print.summary(struct {
				ID    string `json:"id"`
				PN    string `json:"pn"`
				N     uint32 `json:"n"`
				Nonce string `json:"nonce"`
			}{id, f.Pence[id], f.N, f.Nonce}, func(w io.Writer) { fmt.Fprintln(w, id) })
			return nil
		},
	}
	c.Flags().StringVar(&path, "offer", "", "the offer")
	return c
}

func (a *app) setOpen() *cobra.Command {
	var path, id, opened string
	c := &cobra.Command{
		Use:   "open --set FILE --id ID --opened FILE",
		Short: "Open all pence of a set but the one that was picked",
		Long:  "Writes the p₀ of all others, and notes in the set what was picked: opening it for another pick would\ntell the secret of the pence in use, and is refused.",
		Args:  usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := given(c, "set", "id", "opened"); err != nil {
				return err
			}
			var f setFile
			if err := readSet(path, &f); err != nil {
				return err
			}
			if _, err := f.offer(); err != nil {
				return err
			}
			switch _, ours := f.Pence[id]; {
			case !ours:
				return fmt.Errorf("%w: %q is no ID of this set", errUsage, shorten(id))
			case f.Picked != "" && f.Picked != id:
				return fmt.Errorf("%w: %s", errPicked, shorten(f.Picked))
			}
			o := openedFile{ID: id, Secrets: hexMap{}}
			for other := range f.Pence {
				p0, ok := f.Secrets[other]
				if !ok {
					return fmt.Errorf("%w: the set lacks the secret of %s", errInput, other)
				}
				if other != id {
					o.Secrets[other] = p0
				}
			}
			if err := checkOutput(opened, false); err != nil {
				return err
			}
			// Noted before anything is told.
			f.Picked = id
			if err := writeSet(path, &f); err != nil {
				return fmt.Errorf("%w: %w", errOutput, err)
			}
			if err := writeSet(opened, &o); err != nil {
				return fmt.Errorf("%w: %w", errOutput, err)
			}
			a.print.summary(struct {
				ID     string `json:"id"`
				Opened int    `json:"opened"`
				File   string `json:"file"`
			}{id, len(o.Secrets), opened}, func(w io.Writer) {
				fmt.Fprintf(w, "Opened %d pence in %s; %s stays secret.\n", len(o.Secrets), opened, id)
			})
			return nil
		},
	}
	c.Flags().StringVar(&path, "set", "", "the set with its secrets")
	c.Flags().StringVar(&id, "id", "", "what the other side picked")
	c.Flags().StringVar(&opened, "opened", "", "where the secrets of the others go")
	return c
}

func (a *app) setCheck() *cobra.Command {
	var offerPath, openedPath, id string
	c := &cobra.Command{
		Use:   "check --offer FILE --opened FILE --id ID",
		Short: "Check the pence that were opened against the offer",
		Long: "Walks all pence but the picked one from their p₀. A set with a false one among them is refused with\n" +
			"exit code 6: offer and opened secrets together prove it to anybody.",
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := given(c, "offer", "opened", "id"); err != nil {
				return err
			}
			var f offerFile
			var o openedFile
			if err := errors.Join(readSet(offerPath, &f), readSet(openedPath, &o)); err != nil {
				return err
			}
			offer, err := f.offer()
			if err != nil {
				return err
			}
			ids := f.ids()
			pick := slices.Index(ids, id)
			switch {
			case pick < 0:
				return fmt.Errorf("%w: %q is no ID of this offer", errUsage, shorten(id))
			case o.ID != id:
				return fmt.Errorf("%w: opened for the pick %q, not for this one", errInput, shorten(o.ID))
			case len(o.Secrets) != penny.SetSize-1:
				return fmt.Errorf("%w: %d pence are opened, not %d", errInput, len(o.Secrets), penny.SetSize-1)
			}
			var p0 [penny.SetSize]penny.Secret
			for i, other := range ids {
				if i == pick {
					continue
				}
				text, ok := o.Secrets[other]
				if !ok {
					return fmt.Errorf("%w: %s is not opened", errInput, other)
				}
				if p0[i], err = secretOf("a p₀", text, offer.Size); err != nil {
					return err
				}
			}
			var lie *penny.FalseSetError
			switch err := checkOpened(c.Context(), offer, pick, &p0); {
			case errors.As(err, &lie):
				return fmt.Errorf("%w: %s: %s", errFalseSet, ids[lie.Index], lie.What)
			case err != nil:
				return err
			}
			v := struct {
				ID      string `json:"id"`
				PN      string `json:"pn"`
				N       uint32 `json:"n"`
				Nonce   string `json:"nonce"`
				Last    string `json:"last_penny"`
				Checked int    `json:"checked"`
			}{id, f.Pence[id], f.N, f.Nonce, hex.EncodeToString(offer.Encode(nil, penny.Penny{Seq: f.N, Secret: offer.Last[pick]})), len(o.Secrets)}
			a.print.summary(v, func(w io.Writer) {
				fmt.Fprintf(w, "%d pence are what was offered. Taken: %s of %d pennies, the last of which is %s.\nIt is false with a chance of 1 in %d, if its maker cheats.\n", v.Checked, id, v.N, v.Last, penny.SetSize)
			})
			return nil
		},
	}
	c.Flags().StringVar(&offerPath, "offer", "", "the offer")
	c.Flags().StringVar(&openedPath, "opened", "", "what was opened")
	c.Flags().StringVar(&id, "id", "", "what was picked")
	return c
}

// checkOpened is the offer's, and ends when ctx does: long pence take minutes.
func checkOpened(ctx context.Context, o *penny.Offer, pick int, p0 *[penny.SetSize]penny.Secret) error {
	done := make(chan error, 1)
	go func() { done <- o.CheckOpened(pick, p0) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
