package seal

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"github.com/bitgram/bitgram/wire"
)

// key is the fixed secret of that name, with an even public key.
func key(name string) wire.Secret {
	priv, err := wire.Secret(sha256.Sum256([]byte(name))).PrivKey()
	if err != nil {
		panic(err)
	}
	return wire.SecretOf(priv)
}

// public is the x-only key of key(name).
func public(name string) wire.Key { return publicOf(key(name)) }

func publicOf(s wire.Secret) wire.Key {
	priv, err := s.PrivKey()
	if err != nil {
		panic(err)
	}
	return wire.XOnly(priv.PubKey())
}

// sender and recipient are the two ends of the fixed message.
func sender(t testing.TB) *Secrets {
	t.Helper()
	s, err := FromSender(key("ephemeral"), public("recipient"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func recipient(t testing.TB) *Secrets {
	t.Helper()
	s, err := FromRecipient(key("recipient"), public("ephemeral"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// pattern is n bytes that repeat with a period that no chunk divides.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

// encrypt is the fixed message with body.
func encrypt(t testing.TB, body []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	info, err := sender(t).Encrypt(&out, bytes.NewReader(body), key("sender"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size != uint64(out.Len()) || info.Body != uint64(len(body)) || info.Size != PayloadSize(info.Body) {
		t.Fatalf("info %+v of %d bytes, body %d, foreseen %d", info, out.Len(), len(body), PayloadSize(uint64(len(body))))
	}
	return out.Bytes()
}
