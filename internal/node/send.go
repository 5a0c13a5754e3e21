package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"time"

	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/mail"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// Letter is what to send, and on what terms.
type Letter struct {
	To       wire.Key
	Body     io.Reader // read once, to its end
	Size     uint64    // of Body, for progress; 0 where it is not known
	Subject  string
	Filename string
	Agents   int
	Shape    wire.Shape
	MaxCost  wire.Sat
	Blocks   uint32 // of storage
}

// ErrEmpty: there is nothing to send.
var ErrEmpty = errors.New("the message is empty")

// Send encrypts a letter, keeps the payload and starts to deliver it. When it
// returns, the message is queued: the rest happens in the engine, also after a
// crash.
func (n *Node) Send(ctx context.Context, l Letter) (engine.Ref, error) {
	body := n.watched("encrypting", l.Body, l.Size)
	var terms deal.Terms
	if _, err := rand.Read(terms.Ephemeral[:]); err != nil {
		return engine.Ref{}, err
	}
	sec, err := seal.FromSender(terms.Ephemeral, l.To)
	if err != nil {
		return engine.Ref{}, err
	}
	file, err := n.files.create()
	if err != nil {
		return engine.Ref{}, err
	}
	defer file.discard()
	mime := mail.Compose(mail.Meta{From: n.Address(), To: wire.EncodeAddress(n.cfg.Network, l.To), Subject: l.Subject,
		Filename: l.Filename, Date: time.Now()}, body)
	info, err := sec.Encrypt(file, mime, n.identity)
	_ = mime.Close()
	if err != nil {
		return engine.Ref{}, err
	}
	if body.done == 0 {
		return engine.Ref{}, ErrEmpty
	}
	nonce, candidates, err := n.neighbourhood(ctx, info.Hash, seal.SealedSize(info.Size), &l)
	if err != nil {
		return engine.Ref{}, err
	}
	terms.Key = seal.MessageKey(info.Hash, nonce)
	ref := senderRef(terms.Key)
	if err := file.keep(n.files.path(dirOutgoing, ref.ID, "")); err != nil {
		return engine.Ref{}, err
	}
	terms.Recipient, terms.PayloadHash, terms.PayloadSize = l.To, info.Hash, info.Size
	terms.Agents, terms.Shape, terms.MaxCost, terms.Blocks = l.Agents, l.Shape, l.MaxCost, l.Blocks
	terms.Candidates, terms.Margins, terms.Created = candidates, n.margins, time.Now().Unix()
	for _, s := range []*wire.Secret{&terms.Seed, &terms.RefundKey} {
		if _, err := rand.Read(s[:]); err != nil {
			return engine.Ref{}, err
		}
	}
	err = n.engine.CreateWith(ctx, func(tx engine.Tx) (engine.Creation, error) {
		var err error
		if terms.RefundTo, err = n.wallet.PeekScript(tx, wallet.Internal); err != nil {
			return engine.Creation{}, err
		}
		state, effects, err := deal.NewSender(terms)
		return engine.Creation{Ref: ref, State: state, Effects: effects}, err
	})
	if err != nil {
		return engine.Ref{}, errors.Join(err, remove(n.files.path(dirOutgoing, ref.ID, "")))
	}
	return ref, nil
}

// Message opens the MIME message of a received contract whose phase is
// deal.RecipientRead.
func (n *Node) Message(ref engine.Ref) (*os.File, error) {
	f, err := os.Open(n.files.path(dirIncoming, ref.ID, ".eml"))
	if err != nil {
		return nil, fmt.Errorf("message %s is not here: %w", ref, err)
	}
	return f, nil
}

// meter counts what passes and tells of it.
type meter struct {
	r           io.Reader
	tell        func(done, total uint64)
	done, total uint64
}

func (n *Node) watched(what string, r io.Reader, total uint64) *meter {
	tell := func(uint64, uint64) {}
	if n.cfg.Progress != nil {
		tell = func(done, total uint64) { n.cfg.Progress(what, done, total) }
	}
	return &meter{r: r, tell: tell, total: total}
}

// Write counts without keeping: a meter beside another writer.
func (w *meter) Write(p []byte) (int, error) {
	w.done += uint64(len(p))
	w.tell(w.done, w.total)
	return len(p), nil
}

func (w *meter) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	w.done += uint64(n)
	w.tell(w.done, w.total)
	return n, err
}

// Received lists the messages that were found, in the order of the chain.
func (n *Node) Received(ctx context.Context) iter.Seq2[engine.Ref, deal.Recipient] {
	return func(yield func(engine.Ref, deal.Recipient) bool) {
		_ = n.store.View(ctx, func(tx engine.Tx) error {
			return tx.Each(engine.KindRecipient, true, func(ref engine.Ref, raw []byte) error {
				var r deal.Recipient
				if err := wire.Unmarshal(raw, &r); err != nil {
					return err
				}
				if !yield(ref, r) {
					return io.EOF
				}
				return nil
			})
		})
	}
}
