package delivery

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"time"

	"github.com/bitgram/bitgram/internal/choose"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/mail"
	"github.com/bitgram/bitgram/internal/node/disk"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/seal"
	"github.com/bitgram/bitgram/wire"
)

// Letter is a message to send, with its terms.
type Letter struct {
	To          wire.Key
	Body        io.Reader // read once, to its end
	Size        uint64    // of Body, for progress; 0 if unknown
	Subject     string
	Filename    string
	Attachments []mail.File
	Agents      int
	Shape       wire.Shape
	MaxCost     wire.Sat
	Blocks      uint32 // of storage
}

// ErrEmpty means that the message is empty.
var ErrEmpty = errors.New("the message is empty")

// Send encrypts a letter, stores the payload and starts its delivery. When it
// returns, the message is queued; the engine does the rest, even after a crash.
func (d *Delivery) Send(ctx context.Context, l Letter) (engine.Ref, error) {
	body := d.watched("encrypting", l.Body, l.Size)
	var terms deal.Terms
	if _, err := rand.Read(terms.Ephemeral[:]); err != nil {
		return engine.Ref{}, err
	}
	sec, err := seal.FromSender(terms.Ephemeral, l.To)
	if err != nil {
		return engine.Ref{}, err
	}
	file, err := d.cfg.Files.Create()
	if err != nil {
		return engine.Ref{}, err
	}
	defer file.Discard()
	mime := mail.Compose(mail.Meta{From: wire.EncodeAddress(d.cfg.Network, d.cfg.Self), To: wire.EncodeAddress(d.cfg.Network, l.To), Subject: l.Subject,
		Filename: l.Filename, Date: time.Now()}, body, l.Attachments...)
	info, err := sec.Encrypt(file, mime, d.cfg.Identity)
	_ = mime.Close()
	if err != nil {
		return engine.Ref{}, err
	}
	if body.done == 0 && len(l.Attachments) == 0 {
		return engine.Ref{}, ErrEmpty
	}
	nonce, candidates, err := d.neighbourhood(ctx, info.Hash, seal.SealedSize(info.Size), &l)
	if err != nil {
		return engine.Ref{}, err
	}
	terms.Key = seal.MessageKey(info.Hash, nonce)
	ref := senderRef(terms.Key)
	if err := file.Keep(d.cfg.Files.Path(dirOutgoing, ref.ID, "")); err != nil {
		return engine.Ref{}, err
	}
	terms.Recipient, terms.PayloadHash, terms.PayloadSize = l.To, info.Hash, info.Size
	terms.Subject = l.Subject
	terms.Agents, terms.Shape, terms.MaxCost, terms.Blocks = l.Agents, l.Shape, l.MaxCost, l.Blocks
	terms.Candidates, terms.Margins, terms.Created = candidates, d.cfg.Margins, time.Now().Unix()
	for _, s := range []*wire.Secret{&terms.Seed, &terms.RefundKey} {
		if _, err := rand.Read(s[:]); err != nil {
			return engine.Ref{}, err
		}
	}
	err = d.cfg.Engine.CreateWith(ctx, func(tx engine.Tx) (engine.Creation, error) {
		var err error
		if terms.RefundTo, err = d.cfg.Coins.PeekScript(tx, wallet.Internal); err != nil {
			return engine.Creation{}, err
		}
		state, effects, err := deal.NewSender(terms)
		return engine.Creation{Ref: ref, State: state, Effects: engine.EffectsOf(effects)}, err
	})
	if err != nil {
		return engine.Ref{}, errors.Join(err, disk.Remove(d.cfg.Files.Path(dirOutgoing, ref.ID, "")))
	}
	return ref, nil
}

// Estimate is the cost of a letter by the agents' current advertisements. Their
// quotes may differ.
type Estimate struct {
	Agents []wire.Key
	Frozen wire.Sat // for the agents
	Fee    wire.Sat // of the funding, with one coin to spend
}

// Estimate looks for agents and adds up their prices for a payload of size
// bytes. It asks for no quotes and stores nothing.
func (d *Delivery) Estimate(ctx context.Context, l Letter, size uint64) (e Estimate, err error) {
	var payload wire.Hash
	_, _ = rand.Read(payload[:]) // never fails (crypto/rand)
	sealed := seal.SealedSize(size)
	_, candidates, err := d.neighbourhood(ctx, payload, sealed, &l)
	if err != nil {
		return e, err
	}
	rates := map[wire.Key]wire.Psat{}
	for _, m := range d.cfg.Directory.Met() {
		rates[m.Ad.Agent] = m.Ad.Rate
	}
	outputs := l.Agents
	if l.Shape == wire.OneOfMany {
		outputs = 1
	}
	rate := d.cfg.Coins.FeeRate(ctx)
	expiry := d.cfg.Engine.Position().Height + wire.Height(l.Blocks+d.cfg.Margins.Slack)
	var offers []choose.Offer
	for _, c := range candidates {
		price, err := wire.StoragePrice(rates[c.Agent], sealed, l.Blocks, d.cfg.Margins.BlocksPerDay)
		if err != nil {
			continue
		}
		value := price.Sat() + deal.Reserve(rate, expiry, l.Shape)
		offers = append(offers, choose.Offer{Agent: c.Agent, Value: value, Prefix: c.Prefix})
	}
	picked := choose.Pick(offers, l.Agents, payload, nil)
	for _, i := range picked {
		e.Agents = append(e.Agents, offers[i].Agent)
		if l.Shape == wire.OneOfMany {
			e.Frozen = max(e.Frozen, offers[i].Value)
		} else {
			e.Frozen += offers[i].Value
		}
	}
	e.Fee = rate.Fee(contract.VSize(contract.FundingWeight(1, outputs, true)))
	return e, nil
}

// meter counts bytes read and reports progress.
type meter struct {
	r           io.Reader
	tell        func(done, total uint64)
	done, total uint64
}

func (d *Delivery) watched(what string, r io.Reader, total uint64) *meter {
	tell := func(uint64, uint64) {}
	if d.cfg.Progress != nil {
		tell = func(done, total uint64) { d.cfg.Progress(what, done, total) }
	}
	return &meter{r: r, tell: tell, total: total}
}

// Write only counts: it makes meter usable beside another writer.
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
