package seal

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/bitgram/bitgram/wire"
	"github.com/zeebo/blake3"
)

var update = flag.Bool("update", false, "write the vectors instead of comparing")

type hexBytes []byte

func (b hexBytes) MarshalJSON() ([]byte, error) { return json.Marshal(hex.EncodeToString(b)) }

func h32[T ~[32]byte](v T) hexBytes { return append(hexBytes(nil), v[:]...) }

type vectorFile struct {
	Comment string       `json:"comment"`
	Keys    vectorKeys   `json:"keys"`
	Shared  vectorShared `json:"shared"`
	Agents  []vectorFor  `json:"agents"`
	Bodies  []vectorBody `json:"bodies"`
	Tree    vectorTree   `json:"tree"`
	Padme   [][2]uint64  `json:"padme"`
}

type vectorKeys struct {
	Ephemeral hexBytes `json:"e"`
	Recipient hexBytes `json:"r"`
	Sender    hexBytes `json:"sender"`
	E         hexBytes `json:"E"`
	R         hexBytes `json:"R"`
	S         hexBytes `json:"S"`
}

type vectorShared struct {
	SS0      hexBytes `json:"ss0"`
	SS       hexBytes `json:"ss"`
	Content  hexBytes `json:"content_key"`
	Outpoint hexBytes `json:"outpoint"`
	Tag      hexBytes `json:"tag"`
	Mask     hexBytes `json:"mask"`
}

type vectorFor struct {
	Agent       hexBytes `json:"agent"`
	Tau         hexBytes `json:"tau"`
	T           hexBytes `json:"T"`
	Fetch       hexBytes `json:"fetch_key"`
	Release     hexBytes `json:"release_secret"`
	ReleaseHash hexBytes `json:"release_hash"`
	SenderKey   hexBytes `json:"sender_key"`
	NonceKey    hexBytes `json:"nonce_key"`
	AckKey      hexBytes `json:"ack_key"`
	SealKey     hexBytes `json:"seal_key"`
	Sealed      hexBytes `json:"sealed_blake3"`
	SealedSize  uint64   `json:"sealed_size"`
	Leaf        hexBytes `json:"leaf_hash"`
	Section     hexBytes `json:"section"`
	Ack         hexBytes `json:"ack"`
}

type vectorBody struct {
	Size        uint64   `json:"size"`
	Body        hexBytes `json:"body_blake3"`
	PayloadSize uint64   `json:"payload_size"`
	Payload     hexBytes `json:"payload_blake3"`
	Bytes       hexBytes `json:"payload,omitempty"`
}

type vectorTree struct {
	Body   uint64   `json:"body_size"`
	Nonce  uint64   `json:"nonce"`
	Key    hexBytes `json:"message_key"`
	Root   hexBytes `json:"root"`
	Marker hexBytes `json:"marker"`
}

func vectors(t *testing.T) vectorFile {
	e, r, from := key("ephemeral"), key("recipient"), key("sender")
	s := sender(t)
	op := Outpoint{32: 1} // output 1 of some transaction
	copy(op[:32], h32(key("transaction")))
	tag, mask := s.Tag(op), s.Mask(wire.Locator{})
	v := vectorFile{
		Comment: "Secrets are the SHA-256 of their name (recipient, sender, ephemeral, agent 1, tau 1, …), negated where that makes the public key even. " +
			"Byte i of a body is i mod 251. The agents' copies, leaves and the marker are of the body of tree.body_size bytes. Hashes are BLAKE3.",
		Keys: vectorKeys{Ephemeral: h32(e), Recipient: h32(r), Sender: h32(from), E: h32(publicOf(e)), R: h32(publicOf(r)), S: h32(publicOf(from))},
		Shared: vectorShared{
			SS0: h32(s.ss0), SS: h32(s.ss), Content: h32(s.contentKey()),
			Outpoint: op[:], Tag: tag[:], Mask: mask[:],
		},
		Tree: vectorTree{Body: 511, Nonce: 7},
	}
	for _, n := range []int{1, 511, 512, 65535, 65536, 65537, 200000} {
		body := pattern(n)
		p := encrypt(t, body)
		b := vectorBody{Size: uint64(n), Body: h32(blake3.Sum256(body)), PayloadSize: uint64(len(p)), Payload: h32(blake3.Sum256(p))}
		if len(p) < 1000 {
			b.Bytes = p
		}
		v.Bodies = append(v.Bodies, b)
	}
	p := encrypt(t, pattern(int(v.Tree.Body)))
	K := MessageKey(blake3.Sum256(p), v.Tree.Nonce)
	v.Tree.Key = h32(K)
	var leaves []wire.Hash
	for _, i := range []string{"1", "2", "3"} {
		agent, tau := public("agent "+i), key("tau "+i)
		T := publicOf(tau)
		kappa, err := SealKey(e, T, agent, K)
		if err != nil {
			t.Fatal(err)
		}
		info, err := SealTo(io.Discard, bytes.NewReader(p), kappa)
		if err != nil {
			t.Fatal(err)
		}
		sigma := s.ReleaseSecret(agent)
		leaf := wire.Leaf{Agent: agent, CopyHash: info.Hash, Size: info.Size, Point: T, ReleaseHash: ReleaseHash(sigma), Key: K}.Hash()
		leaves = append(leaves, leaf)
		v.Agents = append(v.Agents, vectorFor{
			Agent: h32(agent), Tau: h32(tau), T: h32(T),
			Fetch: h32(s.FetchKey(agent)), Release: h32(sigma), ReleaseHash: h32(ReleaseHash(sigma)),
			SenderKey: h32(s.SenderKey(agent)), NonceKey: h32(s.NonceKey(agent)), AckKey: h32(s.AckKey(agent)),
			SealKey: h32(kappa), Sealed: h32(info.Hash), SealedSize: info.Size, Leaf: h32(leaf),
		})
	}
	root, err := Root(leaves)
	if err != nil {
		t.Fatal(err)
	}
	v.Tree.Root = h32(root)
	for i := range v.Agents {
		path, err := Section(leaves, i)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range path {
			v.Agents[i].Section = append(v.Agents[i].Section, h[:]...)
		}
		agent := wire.Key(v.Agents[i].Agent)
		if v.Agents[i].Ack, err = SealAck(s.AckKey(agent), r, publicOf(e), root, wire.Hash(v.Agents[i].Leaf)); err != nil {
			t.Fatal(err)
		}
	}
	m := Marker{Root: root, E: publicOf(e), MaskedLocator: s.Mask(K.Locator()), Tag: tag}.Encode()
	v.Tree.Marker = m[:]
	for _, n := range []uint64{1, 9, 100, 513, 65535, 65537, 1000000, 1<<32 + 1} {
		v.Padme = append(v.Padme, [2]uint64{n, padme(n)})
	}
	return v
}

// spec/vectors/seal.json is what the code makes, byte for byte.
func TestVectors(t *testing.T) {
	got, err := json.MarshalIndent(vectors(t), "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	name := filepath.Join("..", "spec", "vectors", "seal.json")
	if *update {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("the vectors differ from spec/vectors/seal.json: a change of version 1 is a break")
	}
}
