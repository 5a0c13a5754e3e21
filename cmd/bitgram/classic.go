package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/btcsuite/btcd/blockchain"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/demo"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// errWork: what would take longer than the user allows.
var errWork = errors.New("more work than is allowed")

// forStudy stands in every help and under what could be taken for more.
const forStudy = "The classic form is for study: secrets of 5 bytes can be found by work, and a bank of them is\n" +
	"worth a fraction of a satoshi today ('bank classic value'). Never put money behind it."

func (a *app) classicCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "classic",
		Short: "Pence as they were first described, step by step, for study",
		Long: "Replays the specification of penny banks (github.com/quartzjer/pennybank, spec.md) offline:\n\n" +
			"  pence    a chain of pennies and its roll-up to digest and ID\n" +
			"  verify   one penny against another\n" +
			"  set      a set of 100 pence: offer, pick, open, check\n" +
			"  value    what pence may be worth at a difficulty\n" +
			"  p2cm     the conditional multisig, and spends of it on a chain in this process\n" +
			"  thaw     missing pennies, found by work\n\n" + forStudy + "\n" +
			"spec/pence.md says where this differs from that specification, and why.",
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.classicPence(), a.classicVerify(), a.classicSet(), a.classicValue(), a.classicP2CM(), a.classicThaw())
	return c
}

// unhex reads the hex of a flag or an argument that has one of those lengths.
func unhex(what, s string, sizes ...int) ([]byte, error) {
	b, err := hex.DecodeString(s)
	for _, n := range sizes {
		if err == nil && len(b) == n {
			return b, nil
		}
	}
	digits := make([]string, len(sizes))
	for i, n := range sizes {
		digits[i] = fmt.Sprint(2 * n)
	}
	return nil, fmt.Errorf("%w: %s takes %s hex digits, not %q", errUsage, what, strings.Join(digits, " or "), shorten(s))
}

// shorten keeps what a user typed wrong from filling the screen.
func shorten(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}

// nonce reads --nonce, or draws one.
func nonce(s string) (n penny.Nonce, err error) {
	if s == "" {
		_, _ = rand.Read(n[:]) // never fails (crypto/rand)
		return n, nil
	}
	b, err := unhex("--nonce", s, len(n))
	copy(n[:], b)
	return n, err
}

// secretOf reads a secret of a chain's size.
func secretOf(what, s string, size int) (out penny.Secret, err error) {
	b, err := unhex(what, s, size)
	copy(out[:], b)
	return out, err
}

func checkN(n int) error {
	if n < 1 || n > penny.MaxSeq {
		return fmt.Errorf("%w: --n takes 1 to %d pennies", errUsage, penny.MaxSeq)
	}
	return nil
}

// roll is the sum of pence, unless it is interrupted.
func roll(ctx context.Context, p *penny.Pence) (penny.Sum, error) {
	sum := p.Steps(func(at penny.Penny, _ [32]byte) bool { return at.Seq%(1<<16) != 0 || ctx.Err() == nil })
	return sum, ctx.Err()
}

// pennyStep is one line of a roll-up.
type pennyStep struct {
	Seq    uint32 `json:"seq"`
	Secret string `json:"secret"`
	Penny  string `json:"penny"`
	Digest string `json:"digest"`
}

func (a *app) classicPence() *cobra.Command {
	var nonceHex, p0 string
	var n int
	var steps bool
	c := &cobra.Command{
		Use:   "pence --n N",
		Short: "Make pence and roll them up to digest and ID",
		Long: "Walks the chain from p₀ and rolls it up:\n\n" +
			"  pⱼ = SHA256(nonce ‖ j in 3 bytes ‖ pⱼ₋₁)[0:5]\n" +
			"  d₀ = SHA256(p₀),  dⱼ = SHA256(dⱼ₋₁ ‖ nonce ‖ j in 3 bytes ‖ pⱼ₋₁),  ID = RIPEMD160(d_N)\n\n" +
			"A nonce or p₀ that is not given is drawn at random. p₀ may also have 1 to 4 bytes, to be thawed in\n" +
			"a moment, or 16, as banks with money have. --steps shows every pⱼ and dⱼ.\n\n" + forStudy,
		Example: "  bitgram bank classic pence --n 5 --steps\n" +
			"  bitgram bank classic pence --nonce " + strings.Repeat("00", penny.NonceSize) + " --p0 0000000000 --n 1",
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := given(c, "n"); err != nil {
				return err
			}
			if n < 0 || n > penny.MaxSeq {
				return fmt.Errorf("%w: --n takes 0 to %d pennies", errUsage, penny.MaxSeq)
			}
			p := penny.Pence{Chain: penny.Chain{Size: penny.ClassicSize}, N: uint32(n)}
			var err error
			if p.Nonce, err = nonce(nonceHex); err != nil {
				return err
			}
			if p0 == "" {
				_, _ = rand.Read(p.P0[:p.Size]) // never fails (crypto/rand)
			} else {
				p.Size = len(p0) / 2
				if p.Size > penny.ClassicSize && p.Size != penny.MinSize || p.Size < 1 {
					return fmt.Errorf("%w: --p0 takes 1 to %d bytes, or %d, in hex", errUsage, penny.ClassicSize, penny.MinSize)
				}
				if p.P0, err = secretOf("--p0", p0, p.Size); err != nil {
					return err
				}
			}
			sum := p.Steps(func(at penny.Penny, digest [32]byte) bool {
				if steps {
					s := pennyStep{at.Seq, hex.EncodeToString(at.Secret[:p.Size]), hex.EncodeToString(p.Encode(nil, at)), hex.EncodeToString(digest[:])}
					a.print.line("penny", s, func(w io.Writer) { fmt.Fprintf(w, "p%-8d %s   d%-8d %s\n", s.Seq, s.Secret, s.Seq, s.Digest) })
				}
				return at.Seq%(1<<12) != 0 || c.Context().Err() == nil
			})
			if err := c.Context().Err(); err != nil {
				return err
			}
			v := struct {
				N        uint32 `json:"n"`
				Nonce    string `json:"nonce"`
				P0       string `json:"p0"`
				PN       string `json:"pn"`
				Last     string `json:"last_penny"`
				Preimage string `json:"preimage"`
				Digest   string `json:"digest"`
				ID       string `json:"id"`
				Global   string `json:"global,omitempty"`
			}{p.N, p.Nonce.String(), hex.EncodeToString(p.P0[:p.Size]), hex.EncodeToString(sum.Last.Secret[:p.Size]), hex.EncodeToString(p.Encode(nil, sum.Last)),
				hex.EncodeToString(sum.Preimage), hex.EncodeToString(sum.Digest[:]), sum.ID.String(), ""}
			if p.Size == penny.ClassicSize {
				v.Global = hex.EncodeToString(p.Global(sum.ID, sum.Last))
			}
			a.print.summary(v, func(w io.Writer) {
				fmt.Fprintf(w, "nonce     %s\np0        %s   secret, until the last penny is spent\n", v.Nonce, v.P0)
				fmt.Fprintf(w, "p%-8d %s   public\n", v.N, v.PN)
				fmt.Fprintf(w, "as penny  %s\npreimage  %s   secret, until the bank is closed\ndigest    %s\nID        %s\n", v.Last, v.Preimage, v.Digest, v.ID)
				if v.Global != "" {
					fmt.Fprintf(w, "global    %s\n", v.Global)
				}
			})
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&nonceHex, "nonce", "", "24 bytes in hex; drawn at random where there is none")
	f.StringVar(&p0, "p0", "", "the secret end in hex, 5 bytes; drawn at random where there is none")
	f.IntVar(&n, "n", 0, fmt.Sprintf("how many pennies, 0 to %d", penny.MaxSeq))
	f.BoolVar(&steps, "steps", false, "show every penny and digest")
	return c
}

// parsePenny reads a penny, alone or with the ID of its pence in front; its
// length tells which, and the chain's size.
func parsePenny(text string) (size int, id []byte, p penny.Penny, err error) {
	b, err := hex.DecodeString(text)
	if err != nil {
		return 0, nil, p, fmt.Errorf("%w: %q is not hex", penny.ErrMalformed, shorten(text))
	}
	if len(b) == len(penny.ID{})+3+penny.ClassicSize {
		id, b = b[:20], b[20:]
	}
	c := penny.Chain{Size: len(b) - 3}
	if err := c.Check(); err != nil {
		return 0, nil, p, fmt.Errorf("%w: %d bytes: %w", penny.ErrMalformed, len(b), err)
	}
	p, err = c.Decode(b)
	return c.Size, id, p, err
}

func (a *app) classicVerify() *cobra.Command {
	var nonceHex string
	c := &cobra.Command{
		Use:   "verify --nonce HEX KNOWN PENNY",
		Short: "Check a penny against a higher one that is known",
		Long: "Hashes PENNY forward until its number is that of KNOWN, and compares. Spending goes down: p_N is\n" +
			"known at first, and each lower penny pays for the difference of their numbers. Both are written as\n" +
			"on the wire, 8 bytes: number in 3 bytes, secret; or named globally, 28 bytes with the ID in front.\n\n" + forStudy,
		Args: usage(cobra.ExactArgs(2)),
		RunE: func(_ *cobra.Command, args []string) error {
			if nonceHex == "" {
				return fmt.Errorf("%w: the nonce of the pence is wanted: --nonce", errUsage)
			}
			size, idKnown, known, err := parsePenny(args[0])
			if err != nil {
				return err
			}
			other, id, p, err := parsePenny(args[1])
			if err != nil {
				return err
			}
			switch {
			case other != size:
				return fmt.Errorf("%w: secrets of %d and %d bytes", penny.ErrMalformed, size, other)
			case idKnown != nil && id != nil && string(idKnown) != string(id):
				return fmt.Errorf("%w: of other pence: %x, not %x", penny.ErrFalse, id, idKnown)
			}
			ch := penny.Chain{Size: size}
			if ch.Nonce, err = nonce(nonceHex); err != nil {
				return err
			}
			if err := ch.Verify(known, p); err != nil {
				return err
			}
			v := struct {
				Known  uint32 `json:"known"`
				Seq    uint32 `json:"seq"`
				Paid   uint32 `json:"pennies"`
				Hashes uint32 `json:"hashes"`
			}{known.Seq, p.Seq, known.Seq - p.Seq, known.Seq - p.Seq}
			a.print.summary(v, func(w io.Writer) {
				fmt.Fprintf(w, "True: penny %d leads to penny %d by %d hashes, and pays %d pennies.\n", v.Seq, v.Known, v.Hashes, v.Paid)
			})
			return nil
		},
	}
	c.Flags().StringVar(&nonceHex, "nonce", "", "24 bytes in hex")
	return c
}

func (a *app) classicValue() *cobra.Command {
	var bits, n int
	var difficulty float64
	var nbits string
	var subsidy int64
	c := &cobra.Command{
		Use:   "value",
		Short: "What pence may be worth at a difficulty",
		Long: "A satoshi of new coins costs miners a number of hashes: those of a block over its subsidy. Pence may\n" +
			"be worth what it costs to forge them, with a margin of 16:\n\n" +
			"  value ≤ 2^bits / (16 · hashes per satoshi)\n\n" +
			"whatever the number of pennies: whoever finds one secret by work, most often finds many. The linked\n" +
			"specification multiplies by their number, --n, and takes no margin; that is shown beside it.\n\n" +
			"The difficulty is given, as such or as a header's nBits, or is that of the running daemon's chain.\n" +
			"Without a daemon the subsidy is that of the blocks 840,000 to 1,049,999 unless given.",
		Example: "  bitgram bank classic value --difficulty 1.4e14\n" +
			"  bitgram bank classic value --difficulty 40007470271.271 --subsidy-sat 2500000000 --n 16777215",
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			f := c.Flags()
			v := struct {
				Bits         int      `json:"bits"`
				Height       *uint32  `json:"height,omitempty"`
				Difficulty   float64  `json:"difficulty"`
				NBits        string   `json:"nbits,omitempty"`
				Subsidy      wire.Sat `json:"subsidy_sat"`
				HashesPerSat float64  `json:"hashes_per_sat"`
				Value        *big.Int `json:"value_sat"`
				ValuePsat    *big.Int `json:"value_psat"`
				Pennies      int      `json:"n"`
				LinkedPsat   *big.Int `json:"linked_spec_value_psat"`
			}{Bits: bits, Pennies: n, Subsidy: wire.Sat(subsidy)}
			switch {
			case bits < 1 || bits > 256:
				return fmt.Errorf("%w: --bits takes 1 to 256", errUsage)
			case subsidy < 1 || subsidy > int64(wire.MaxSat):
				return fmt.Errorf("%w: --subsidy-sat takes 1 to %d", errUsage, int64(wire.MaxSat))
			case f.Changed("difficulty") && f.Changed("nbits"):
				return fmt.Errorf("%w: --difficulty or --nbits, not both", errUsage)
			}
			if err := checkN(n); err != nil {
				return err
			}
			var target *big.Int
			switch {
			case f.Changed("difficulty"):
				if target = penny.Target(difficulty); target == nil {
					return fmt.Errorf("%w: no block has difficulty %v", errUsage, difficulty)
				}
			default:
				if !f.Changed("nbits") {
					client, err := a.dial()
					if err != nil {
						return fmt.Errorf("%w; or give the difficulty: --difficulty", err)
					}
					d, err := client.Difficulty(c.Context())
					if err != nil {
						return err
					}
					nbits, v.Height = d.Bits, &d.Height
					if !f.Changed("subsidy-sat") {
						v.Subsidy = d.Subsidy
					}
				}
				b, err := unhex("--nbits", nbits, 4)
				if err != nil {
					return err
				}
				v.NBits = nbits
				target = blockchain.CompactToBig(uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]))
				if target.Sign() <= 0 || target.BitLen() > 256 {
					return fmt.Errorf("%w: no block has nBits %s", errUsage, nbits)
				}
			}
			h := penny.HashesPerSat(target, v.Subsidy)
			if h.Sign() == 0 {
				return fmt.Errorf("%w: a block without a subsidy gives work no price", errUsage)
			}
			v.Difficulty = penny.Difficulty(target)
			v.HashesPerSat, _ = h.Float64()
			ours := penny.MaxValue(bits, h)
			linked := new(big.Rat).SetFrac(penny.ThawWork(bits, uint32(n)), big.NewInt(1))
			linked.Quo(linked, h)
			v.Value, v.ValuePsat, v.LinkedPsat = floor(ours, 1), floor(ours, 1e12), floor(linked, 1e12)
			a.print.summary(v, func(w io.Writer) {
				if v.Height != nil {
					fmt.Fprintf(w, "Block %d: ", *v.Height)
				}
				fmt.Fprintf(w, "difficulty %.8g, a subsidy of %v: %.3g hashes to the satoshi.\n", v.Difficulty, v.Subsidy, v.HashesPerSat)
				fmt.Fprintf(w, "In all, a bank with secrets of %d bits may be worth %s.\n", bits, amount(ours))
				fmt.Fprintf(w, "By the linked specification %d of its pennies would be worth %s; that is too much (spec/pence.md).\n", n, amount(linked))
				if ours.Cmp(big.NewRat(1, 1)) < 0 {
					fmt.Fprintln(w, "That is not worth a satoshi: for study only.")
				}
			})
			return nil
		},
	}
	f := c.Flags()
	f.IntVar(&bits, "bits", 8*penny.ClassicSize, "of a secret")
	f.IntVar(&n, "n", 1, "pennies, for what the linked specification says")
	f.Float64Var(&difficulty, "difficulty", 0, "as people speak of it: 1 is the least on mainnet")
	f.StringVar(&nbits, "nbits", "", "or a header's target, 8 hex digits")
	f.Int64Var(&subsidy, "subsidy-sat", 312_500_000, "new coins of a block")
	return c
}

// floor is v in units of which scale make a satoshi, rounded down; all the
// satoshi there are at most.
func floor(v *big.Rat, scale int64) *big.Int {
	if most := big.NewRat(int64(wire.MaxSat), 1); v.Cmp(most) > 0 {
		v = most
	}
	v = new(big.Rat).Mul(v, big.NewRat(scale, 1))
	return new(big.Int).Quo(v.Num(), v.Denom())
}

// amount shows an amount of satoshi that may be tiny, or more than there are.
func amount(v *big.Rat) string {
	if v.Cmp(big.NewRat(int64(wire.MaxSat), 1)) > 0 {
		return "more than all the satoshi there are"
	}
	f, _ := v.Float64()
	return fmt.Sprintf("%.3g sat", f)
}

// params are bitcoin's own name for our networks.
func params(n wire.Network) *chaincfg.Params {
	switch n {
	case wire.Mainnet:
		return &chaincfg.MainNetParams
	case wire.Signet:
		return &chaincfg.SigNetParams
	case wire.Testnet4:
		return &chaincfg.TestNet4Params
	}
	return &chaincfg.RegressionNetParams
}

func (a *app) classicP2CM() *cobra.Command {
	var ids, keys [2]string
	c := &cobra.Command{
		Use:   "p2cm --id-a HEX --id-b HEX --key-a HEX --key-b HEX",
		Short: "The conditional multisig of two sides: script and address",
		Long: "Computes the P2SH output that either side can spend with the preimages of both IDs:\n\n" +
			"  HASH160 <idA> EQUALVERIFY HASH160 <idB> EQUALVERIFY 1 <A> <B> 2 CHECKMULTISIG\n\n" +
			"An ID's preimage is what 'pence' shows as such. --network says which form the address has. The\n" +
			"script does not say who gets what: whoever tells its preimage first has lost ('p2cm demo').\n\n" + forStudy,
		Args: usage(cobra.NoArgs),
		RunE: func(_ *cobra.Command, _ []string) error {
			var sides [2]contract.Side
			for i, name := range []string{"a", "b"} {
				id, err := unhex("--id-"+name, ids[i], len(penny.ID{}))
				if err != nil {
					return err
				}
				key, err := unhex("--key-"+name, keys[i], len(contract.PubKey{}))
				if err != nil {
					return err
				}
				sides[i].ID = penny.ID(id)
				if sides[i].Key, err = contract.ParsePubKey(key); err != nil {
					return fmt.Errorf("%w: --key-%s: %w", errUsage, name, err)
				}
			}
			p, err := contract.NewP2CM(sides[0], sides[1])
			if err != nil {
				return fmt.Errorf("%w: %w", errUsage, err)
			}
			asm, err := txscript.DisasmString(p.Script())
			if err != nil {
				return err
			}
			v := struct {
				Script   string       `json:"script"`
				ASM      string       `json:"asm"`
				PkScript string       `json:"pk_script"`
				Address  string       `json:"address"`
				Network  wire.Network `json:"network"`
				Spend    string       `json:"script_sig"`
			}{hex.EncodeToString(p.Script()), asm, hex.EncodeToString(p.PkScript()), p.Address(params(wire.Network(a.network))), wire.Network(a.network),
				"0 <signature of A or B> <preimage of idB> <preimage of idA> <script>"}
			a.print.summary(v, func(w io.Writer) {
				fmt.Fprintf(w, "script     %s\n           %s\npk_script  %s\naddress    %s  (%s)\nspent by   %s\n\n%s\n", v.Script, v.ASM, v.PkScript, v.Address, v.Network, v.Spend, forStudy)
			})
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&ids[0], "id-a", "", "ID of A's pence, 20 bytes in hex")
	f.StringVar(&ids[1], "id-b", "", "ID of B's pence")
	f.StringVar(&keys[0], "key-a", "", "A's compressed public key, 33 bytes in hex")
	f.StringVar(&keys[1], "key-b", "", "B's")
	c.AddCommand(a.classicP2CMDemo())
	return c
}

func (a *app) classicP2CMDemo() *cobra.Command {
	opt := demo.P2CMOptions{}
	c := &cobra.Command{
		Use:   "demo",
		Short: "Conditional multisigs on a chain in this process: as agreed, stolen, thawed by work",
		Long: "On a regtest chain of its own, with Bitcoin's real consensus rules, A and B fund three conditional\n" +
			"multisigs. The first is paid out as agreed. Of the second A tells its preimage first, and B takes\n" +
			"all. Of the third A is gone, and B thaws A's pence by work, with secrets of 2 bytes. Every\n" +
			"transaction is shown. Nothing is left behind.\n\n" + forStudy,
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if a.network != string(wire.Regtest) {
				return fmt.Errorf("%w: the demo runs on a regtest chain of its own", errUsage)
			}
			opt.Tell = func(e demo.Event) { a.print.event(e.Party, e.Text) }
			opt.Show = func(t demo.Transaction) {
				a.print.line("transaction", t, func(w io.Writer) {
					fmt.Fprintf(w, "\n  %s %s, %d vB, %v of fee\n", t.Name, t.Txid, t.VSize, t.Fee)
					if t.ScriptSig != "" {
						fmt.Fprintf(w, "  spends by %s\n", t.ScriptSig)
					}
					fmt.Fprintf(w, "  %s\n\n", t.Hex)
				})
			}
			r, err := demo.RunP2CM(c.Context(), opt)
			if err != nil {
				return err
			}
			a.print.summary(r, func(w io.Writer) {
				fmt.Fprintf(w, "\nOf %v A holds %v, B %v, miners %v, on a chain %d blocks high.\n", r.Funded, r.Holds[0].Holds, r.Holds[1].Holds, r.Fees, r.Height)
				if r.Balanced {
					fmt.Fprintln(w, "Every satoshi is accounted for.")
				}
			})
			if !r.Balanced {
				return errors.New("the books do not balance: this is a bug")
			}
			return nil
		},
	}
	c.Flags().StringVar(&opt.Blocks, "export-blocks", "", "write the chain to this file, one block in hex a line from height 1")
	return c
}

func (a *app) classicThaw() *cobra.Command {
	var nonceHex, idHex string
	var to int
	var limit time.Duration
	var estimate bool
	c := &cobra.Command{
		Use:   "thaw --nonce HEX PENNY",
		Short: "Find missing pennies by work, where that ends",
		Long: "Tries all secrets of the penny --to (p₀ unless told otherwise) until one leads to PENNY, the last that\n" +
			"is known. Without --id any that does will do: it verifies like the real ones. That takes about 2^bits\n" +
			"hashes, however many pennies are missing. With --id the p₀ is sought that the ID is of, and with it\n" +
			"the preimage that satisfies a conditional multisig: up to 2^bits hashes for every penny.\n\n" +
			"What would take longer than --limit at this machine's rate is refused with an estimate; --estimate\n" +
			"stops there in any case. Ctrl-C ends the work.\n\n" + forStudy,
		Example: "  bitgram bank classic pence --p0 a1b2 --n 20          # secrets of 2 bytes\n" +
			"  bitgram bank classic thaw --nonce NONCE --id ID PENNY  # its nonce, ID and last penny",
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			size, global, known, err := parsePenny(args[0])
			if err != nil {
				return err
			}
			if nonceHex == "" {
				return fmt.Errorf("%w: the nonce of the pence is wanted: --nonce", errUsage)
			}
			ch := penny.Chain{Size: size}
			if ch.Nonce, err = nonce(nonceHex); err != nil {
				return err
			}
			id := global
			if idHex != "" {
				if id, err = unhex("--id", idHex, len(penny.ID{})); err != nil {
					return err
				}
			}
			if to < 0 || int64(to) >= int64(known.Seq) || len(id) > 0 && to != 0 {
				return fmt.Errorf("%w: --to takes a number below %d, that of the penny, and with an ID only 0", errUsage, known.Seq)
			}
			return a.thaw(c.Context(), ch, known, uint32(to), id, limit, estimate)
		},
	}
	f := c.Flags()
	f.StringVar(&nonceHex, "nonce", "", "24 bytes in hex")
	f.StringVar(&idHex, "id", "", "ID of the pence, 20 bytes in hex; PENNY may have it in front instead")
	f.IntVar(&to, "to", 0, "number of the penny that is wanted")
	f.DurationVar(&limit, "limit", 10*time.Minute, "how long the work may be expected to take")
	f.BoolVar(&estimate, "estimate", false, "only say what it would take")
	return c
}

// workEstimate is what work is expected to take.
type workEstimate struct {
	Bits    int      `json:"bits"`
	Pennies uint32   `json:"pennies"`
	Hashes  *big.Int `json:"hashes"` // on average
	Rate    uint64   `json:"hashes_per_s"`
	Seconds float64  `json:"seconds"`
}

func (e *workEstimate) String() string {
	h, _ := new(big.Float).SetInt(e.Hashes).Float64()
	return fmt.Sprintf("about %.3g hashes for %d pennies of %d bits, %s at this machine's %.3g a second", h, e.Pennies, e.Bits, lasts(e.Seconds), float64(e.Rate))
}

// lasts says how long that is.
func lasts(seconds float64) string {
	for _, u := range []struct {
		name string
		s    float64
	}{{"years", 365.25 * 86400}, {"days", 86400}, {"hours", 3600}, {"minutes", 60}, {"seconds", 1}} {
		if seconds >= 2*u.s {
			return fmt.Sprintf("%.3g %s", seconds/u.s, u.name)
		}
	}
	return fmt.Sprintf("%.2g seconds", seconds)
}

// hashRate is how many hashes a second all of this machine's processors make.
func hashRate(ch penny.Chain) uint64 {
	const long = 50 * time.Millisecond
	var hashes atomic.Uint64
	var wg sync.WaitGroup
	start := time.Now()
	for i := range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			const steps = 1 << 14
			p := penny.Penny{Secret: penny.Secret(sha256.Sum256([]byte{byte(i)}))}
			for time.Since(start) < long {
				ch.Forward(p, steps)
				hashes.Add(steps)
			}
		})
	}
	wg.Wait()
	return max(uint64(float64(hashes.Load())/time.Since(start).Seconds()), 1)
}

func (a *app) thaw(ctx context.Context, ch penny.Chain, known penny.Penny, to uint32, id []byte, limit time.Duration, only bool) error {
	e := workEstimate{Bits: 8 * ch.Size, Pennies: known.Seq - to, Rate: hashRate(ch)}
	all := penny.ThawWork(e.Bits, e.Pennies)
	e.Hashes = penny.ForgeWork(e.Bits)
	if len(id) > 0 {
		e.Hashes = new(big.Int).Rsh(all, 1) // half of them on average
	}
	h, _ := new(big.Float).SetInt(e.Hashes).Float64()
	e.Seconds = h / float64(e.Rate)
	if only {
		a.print.summary(&e, func(w io.Writer) { fmt.Fprintf(w, "It takes %v.\n", &e) })
		return nil
	}
	a.print.line("estimate", &e, func(w io.Writer) { fmt.Fprintf(w, "Expected: %v.\n", &e) })
	if e.Seconds > limit.Seconds() {
		return fmt.Errorf("%w: %v, and %v is allowed", errWork, &e, limit)
	}
	start := time.Now()
	found, hashes, err := a.search(ctx, ch, known, to, all, func(p penny.Penny) bool {
		return len(id) == 0 || string(idOf(ch, known.Seq, p)) == string(id)
	})
	switch {
	case err != nil:
		return err
	case found == nil && len(id) > 0:
		return fmt.Errorf("%w: no p₀ that leads to it has the ID %x", penny.ErrFalse, id)
	case found == nil:
		return fmt.Errorf("%w: no secret leads to it in %d steps", penny.ErrFalse, e.Pennies)
	}
	took := time.Since(start).Seconds()
	v := struct {
		Penny    string  `json:"penny"`
		Seq      uint32  `json:"seq"`
		Secret   string  `json:"secret"`
		Right    bool    `json:"of_the_id"`
		Preimage string  `json:"preimage,omitempty"`
		Hashes   uint64  `json:"hashes"`
		Seconds  float64 `json:"seconds"`
	}{Penny: hex.EncodeToString(ch.Encode(nil, *found)), Seq: to, Secret: hex.EncodeToString(found.Secret[:ch.Size]), Right: len(id) > 0, Hashes: hashes, Seconds: took}
	if v.Right {
		v.Preimage = hex.EncodeToString((&penny.Pence{Chain: ch, N: known.Seq, P0: found.Secret}).Sum().Preimage)
	}
	a.print.summary(v, func(w io.Writer) {
		fmt.Fprintf(w, "Found p%d = %s after %d hashes in %s: it leads to penny %d.\n", v.Seq, v.Secret, v.Hashes, lasts(v.Seconds), known.Seq)
		if v.Right {
			fmt.Fprintf(w, "It is the one of the ID. Preimage of the ID: %s\n", v.Preimage)
		} else {
			fmt.Fprintln(w, "Whoever only verifies pennies takes it; whether it is the one that was drawn, only the ID tells (--id).")
		}
	})
	return nil
}

// idOf is the ID of n pennies from a p₀.
func idOf(ch penny.Chain, n uint32, p0 penny.Penny) []byte {
	sum := (&penny.Pence{Chain: ch, N: n, P0: p0.Secret}).Sum()
	return sum.ID[:]
}

// search works on all processors until a penny that was found is right; nil where
// none is.
func (a *app) search(ctx context.Context, ch penny.Chain, known penny.Penny, to uint32, all *big.Int, right func(penny.Penny) bool) (*penny.Penny, uint64, error) {
	const slice = 1 << 16 // hashes between two looks around
	var hashes atomic.Uint64
	var found atomic.Pointer[penny.Penny]
	most, _ := new(big.Float).SetInt(all).Float64()
	var wg sync.WaitGroup
	for _, w := range penny.NewWork(ch, known, to).Split(runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for done := false; !done && found.Load() == nil && ctx.Err() == nil; {
				var p penny.Penny
				var ok bool
				before := w.Hashes()
				p, ok, done = w.Search(slice)
				n := hashes.Add(w.Hashes() - before)
				if ok && right(p) {
					found.CompareAndSwap(nil, &p)
				}
				a.print.working(fmt.Sprintf("%.3g of at most %.3g hashes (%.1f%%)", float64(n), most, 100*float64(n)/most))
			}
		})
	}
	wg.Wait()
	if p := found.Load(); p != nil {
		return p, hashes.Load(), nil
	}
	return nil, hashes.Load(), ctx.Err()
}
