package main

import (
	"encoding/hex"
	"fmt"
	"io"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

func (a *app) classicP2CM() *cobra.Command {
	var ids, keys [2]string
	c := &cobra.Command{
		Use:   "p2cm --id-a HEX --id-b HEX --key-a HEX --key-b HEX",
		Short: "Show a conditional multisig: script and address",
		Long: "Computes the P2SH output that either side can spend with the preimages of both IDs:\n\n" +
			"  HASH160 <idA> EQUALVERIFY HASH160 <idB> EQUALVERIFY 1 <A> <B> 2 CHECKMULTISIG\n\n" +
			"'bitgram bank classic pence' shows the preimage of an ID. --network selects the form of the address. The\n" +
			"script does not say who gets what: the side that reveals its preimage first has lost ('bitgram bank\n" +
			"classic p2cm demo').\n\n" + forStudy,
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
	f.StringVar(&ids[1], "id-b", "", "ID of B's pence, 20 bytes in hex")
	f.StringVar(&keys[0], "key-a", "", "A's compressed public key, 33 bytes in hex")
	f.StringVar(&keys[1], "key-b", "", "B's compressed public key, 33 bytes in hex")
	c.AddCommand(a.classicP2CMDemo())
	return c
}

// params returns the btcd parameters of a network.
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
