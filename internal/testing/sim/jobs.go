package sim

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing/synctest"
	"time"

	"github.com/zeebo/blake3"

	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/contract"
	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/job"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/node/computing"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/internal/sandbox"
	"github.com/bitgram/bitgram/internal/testing/guests"
	"github.com/bitgram/bitgram/internal/wallet"
	"github.com/bitgram/bitgram/penny"
	"github.com/bitgram/bitgram/wire"
)

// Steps builds the program of the lab's jobs, which counts epochs. It needs a compiler,
// and runs outside of the lab.
func Steps() ([]byte, error) { return guests.C("internal/testing/sim/testdata/steps.c") }

// blobs are files in a directory, by digest.
type blobs string

func (b blobs) Open(d wire.Hash) (*os.File, uint64, error) {
	f, err := os.Open(filepath.Join(string(b), d.String()))
	if err != nil {
		return nil, 0, err
	}
	i, err := f.Stat()
	return f, uint64(i.Size()), err
}

func (blobs) Hold(engine.Tx, wire.Hash, wire.Hash, wire.Height) error { return nil }
func (blobs) Release(engine.Tx, wire.Hash) error                      { return nil }

func (b blobs) add(raw []byte) (wire.Hash, error) {
	d := wire.Hash(blake3.Sum256(raw))
	return d, os.WriteFile(filepath.Join(string(b), d.String()), raw, 0o600)
}

// Worker creates a home that works for jobs with a runner; it is not open yet.
func (l *Lab) Worker(name string, r sandbox.Runner) *Home {
	h := l.Banker(name, nil)
	h.Cfg.Computing = &computing.Policy{Price: 1_000_000_000_000, Jobs: 4, Memory: 64 << 20, Input: 1 << 20, State: 1 << 20, Output: 1 << 20, Epochs: 1000}
	h.Cfg.Runner, h.Cfg.Blobs = r, blobs(l.dir)
	return h
}

// Order is what a buyer of the lab orders.
type Order struct {
	Nodes, Quorum, Threshold int
	Epochs                   int // that the program runs, and of the terms
	FailsIn                  int // the epoch in which it fails; 0 for never
	Input                    []byte
	Window                   uint32
	Patience                 uint8
	Ahead                    uint32
}

// Job is a job of the lab, and its buyer: a home with the banks as payer, and a host
// with which the test makes a buyer's requests.
type Job struct {
	Lab    *Lab
	Buyer  *Home
	Nodes  []*Home // by party
	Terms  job.Terms
	ID     wire.Hash
	File   job.File
	Input  []byte
	Banks  []bank.ID
	Host   *p2p.Host
	Away   bool // the buyer is offline
	key    wire.Secret
	seed   wire.Secret
	roots  []wire.Secret
	purses []*penny.Purse
	chain  []job.Certificate
}

// life is the life of a job's banks in blocks, and bankValue their value.
const (
	life      = 160
	bankValue = wire.Sat(40_000)
)

// Order builds banks and terms, has all nodes accept them, and publishes the funding.
func (l *Lab) Order(buyer *Home, nodes []*Home, program []byte, o Order) *Job {
	l.T.Helper()
	ctx := context.Background()
	j := &Job{Lab: l, Buyer: buyer, Nodes: nodes, Input: o.Input}
	j.key, j.seed = l.secret(), l.secret()
	var err error
	j.Host, err = p2p.New(p2p.Config{Transports: l.Net.Transports(l.Net.NewIP())})
	l.must(err)
	l.OnClose(j.Host.Close)
	j.File = job.File{Args: []string{"steps", strconv.Itoa(o.Epochs)}, Memory: 4 << 20, Fuel: 10_000_000, Epochs: uint64(o.Epochs), Output: 1 << 16, State: 1 << 12, Notices: 1 << 12}
	if o.FailsIn > 0 {
		j.File.Args = append(j.File.Args, strconv.Itoa(o.FailsIn))
	}
	j.File.Program, err = blobs(l.dir).add(program)
	l.must(err)
	j.File.Input, err = blobs(l.dir).add(o.Input)
	l.must(err)

	height := l.Height()
	expiry := height + life
	margins := bank.MarginsFor(wire.Regtest)
	buyerKey, err := j.key.PrivKey()
	l.must(err)
	j.Terms = job.Terms{File: j.File.Digest(), Depth: margins.Conf, Stop: expiry - wire.Height(margins.Stop), Buyer: wire.XOnly(buyerKey.PubKey()),
		N: uint8(o.Nodes), Q: uint8(o.Quorum), T: uint8(o.Threshold), Ahead: max(o.Ahead, 1), Patience: max(o.Patience, 1), Epochs: uint32(o.Epochs), Window: o.Window}
	rungs, perRung := contract.FinalRungs(uint32(o.Epochs))
	ladder := penny.Ladder{Value: bankValue, Rungs: rungs, PerRung: perRung}
	j.Banks = make([]bank.ID, len(nodes))
	quotes := make([]*wire.BankQuote, len(nodes))
	for i, h := range nodes {
		j.Banks[i] = wire.Hash(l.secret())
		quotes[i], err = j.Host.BankTerms(ctx, wire.Peer(h.Peer()), &wire.BankRequest{Bank: j.Banks[i], Value: ladder.Value, Rungs: rungs, PerRung: perRung, Expiry: expiry})
		l.must(err)
	}

	// All banks, their one funding, and the payers' contracts.
	var funding []byte
	payers := make([]bank.Payer, len(nodes))
	terms := make([]wire.BankTerms, len(nodes))
	first := engine.Ref{Kind: bank.KindPayer, ID: j.Banks[0]}
	l.must(buyer.Node.Engine().CreateWith(ctx, func(tx engine.Tx) (c engine.Creation, err error) {
		total := ladder.Value * wire.Sat(len(nodes))
		picked, short, err := buyer.Node.Coins.Lock(tx, first, total, contract.BanksFundingWeight(0, len(nodes), false))
		if err != nil || short != nil {
			return c, fmt.Errorf("%v: %v", err, short)
		}
		var banks []*contract.Bank
		for i := range nodes {
			root := l.secret()
			t, b, _, purse, err := bank.Build(&bank.Prepare{Root: root, Payee: quotes[i].Payee, Expiry: expiry, Ladder: ladder})
			if err != nil {
				return c, err
			}
			j.roots, j.purses, banks, terms[i] = append(j.roots, root), append(j.purses, purse), append(banks, b), t
			raw, err := wire.Marshal(&bank.Paper{Terms: t})
			if err != nil {
				return c, err
			}
			if err := tx.Put("bank/paper", append([]byte{'r'}, j.Banks[i][:]...), raw); err != nil {
				return c, err
			}
		}
		unsigned, err := contract.FundBanks(banks, picked.Inputs, picked.Change, picked.ChangeScript)
		if err != nil {
			return c, err
		}
		funding = contract.EncodeTx(unsigned)
		j.Terms.Funding = contract.Txid(unsigned)
		for i, h := range nodes {
			p, _, err := bank.NewPayer(j.Banks[i], bank.Terms{Peer: h.Peer(), Value: ladder.Value, Rungs: rungs, PerRung: perRung, Expiry: expiry, MaxFee: 10_000, Margins: margins})
			if err != nil {
				return c, err
			}
			p.Payer, p.Payee, p.Nonce, p.Conf, p.Tip = terms[i].Payer, terms[i].Payee, terms[i].Nonce, quotes[i].Conf, height
			p.Root, p.Inputs, p.Funding, p.Fee, p.At = j.roots[i], picked.Inputs, funding, picked.Fee, wire.Outpoint{Txid: j.Terms.Funding, Vout: uint32(i)}
			if p.Phase = bank.PayerPublished; i == 0 {
				p.Phase = bank.PayerOffering
			}
			payers[i] = p
		}
		return engine.Creation{Ref: first, State: payers[0]}, nil
	}))

	// Every node gets its bank, and then the job.
	for i, h := range nodes {
		b, err := contract.NewBank(terms[i])
		l.must(err)
		sigs, err := b.SignRungs(payers[i].At, bank.PayerKey(j.roots[i]))
		l.must(err)
		l.must(j.Host.OpenBank(ctx, wire.Peer(h.Peer()), &wire.BankOpen{Bank: j.Banks[i], Terms: terms[i], Funding: funding, Vout: uint32(i), Sigs: sigs}))
		secret := job.PartyKey(h.identity(), j.Banks[i])
		key, err := secret.PrivKey()
		l.must(err)
		j.Terms.Parties = append(j.Terms.Parties, job.Party{Key: wire.XOnly(key.PubKey()), Bank: job.BankDigest(&terms[i]), Nonce: terms[i].Nonce, Pennies: ladder.N(), Last: terms[i].Last})
	}
	l.must(j.Terms.Check())
	j.ID = j.Terms.ID()
	for i := range nodes {
		l.must(j.offer(i))
	}
	var rest []engine.Creation
	for i := 1; i < len(nodes); i++ {
		rest = append(rest, engine.Creation{Ref: engine.Ref{Kind: bank.KindPayer, ID: j.Banks[i]}, State: payers[i]})
	}
	_, err = buyer.Node.Engine().CreateAndTell(ctx, rest, []engine.Delivery{{Ref: first, Event: bank.Accepted{Height: height}}})
	l.must(err)
	l.Settle()
	return j
}

func (l *Lab) secret() (s wire.Secret) {
	for i := 0; i < len(s); i += 8 {
		binary.BigEndian.PutUint64(s[i:], l.Rand.Uint64())
	}
	s[0] &= 0x7f
	return s
}

// call makes a request of the buyer's to a node. Kinds that it signs are signed.
func (j *Job) call(i int, kind uint8, body any) ([]byte, error) {
	return j.callAs(i, j.ID, j.key, kind, body)
}

// Key is the buyer's in the job.
func (j *Job) Key() wire.Secret { return j.key }

// OfferAs offers a node something, signed by the buyer.
func (j *Job) OfferAs(i int, o *computing.Offer) error {
	_, err := j.callAs(i, o.Terms.ID(), j.key, computing.CallOffer, o)
	return err
}

// AskAs makes a request as somebody who has a key.
func (j *Job) AskAs(i int, key wire.Secret, kind uint8) error {
	_, err := j.callAs(i, j.ID, key, kind, &computing.Ask{})
	return err
}

// Sheets are those of the first window of a party's bank, for a holder.
func (j *Job) Sheets(node, holder int) []job.Dealt { return j.window(node, 1)[holder] }

// SendSheets sends sheets to a node.
func (j *Job) SendSheets(i int, list []job.Dealt) error {
	_, err := j.call(i, computing.CallSheets, &computing.Sheets{Job: j.ID, List: list})
	return err
}

func (j *Job) callAs(i int, id wire.Hash, key wire.Secret, kind uint8, body any) ([]byte, error) {
	raw, err := wire.Marshal(body)
	if err != nil {
		return nil, err
	}
	h := j.Nodes[i]
	if kind != computing.CallSheets {
		s := computing.Signed{Job: id, Body: raw}
		if s.Sig, err = wire.Sign(key, computing.CallDigest(id, kind, h.Key(), raw)); err != nil {
			return nil, err
		}
		if raw, err = wire.Marshal(&s); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return j.Host.JobCall(ctx, wire.Peer(h.Peer()), kind, raw)
}

// Offer is what a party is offered.
func (j *Job) Offer(i int) *computing.Offer {
	raw, err := wire.Marshal(&j.File)
	j.Lab.must(err)
	o := &computing.Offer{Terms: j.Terms, File: raw, Party: uint8(i), Bank: j.Banks[i]}
	o.Terms.Parties = slices.Clone(o.Terms.Parties)
	for _, h := range j.Nodes {
		o.Peers = append(o.Peers, wire.Peer(h.Peer()))
	}
	return o
}

func (j *Job) offer(i int) error {
	_, err := j.call(i, computing.CallOffer, j.Offer(i))
	return err
}

// Status asks a node where the job is, with certificates from an epoch on.
func (j *Job) Status(i int, from uint32) (*computing.Status, error) {
	raw, err := j.call(i, computing.CallStatus, &computing.Ask{Epoch: from})
	if err != nil {
		return nil, err
	}
	s := new(computing.Status)
	return s, wire.UnmarshalPeer(raw, s)
}

// last is the last certificate that the buyer has, or nil.
func (j *Job) last() *job.Certificate {
	if len(j.chain) == 0 {
		return nil
	}
	return &j.chain[len(j.chain)-1]
}

// Attend is what a buyer does that is online: it fetches certificates, deals the
// windows that it may deal, and judges if the nodes do not agree.
func (j *Job) Attend() {
	j.Lab.T.Helper()
	if j.Away {
		return
	}
	for i, h := range j.Nodes {
		if h.Node == nil {
			continue
		}
		from := uint32(1)
		if c := j.last(); c != nil {
			from = c.Body.Epoch + 1
		}
		s, err := j.Status(i, from)
		if err != nil {
			continue // it is not there now
		}
		for k := range s.Certs {
			if c := &s.Certs[k]; c.Verify(&j.Terms, j.last()) == nil {
				j.chain = append(j.chain, *c)
			}
		}
		j.deal(i, s)
		if s.Paused {
			j.judge(i, s)
		}
	}
}

// deal sends a holder the next windows that it does not have.
func (j *Job) deal(holder int, s *computing.Status) {
	for node := range j.Nodes {
		if node == holder {
			continue
		}
		first, paid, seated := s.Dealt[node]+1, uint32(0), node < int(j.Terms.N)
		if c := j.last(); c != nil {
			paid, seated = c.Body.Paid[node], slices.Contains(c.Body.Next, uint8(node))
		}
		if first > j.Terms.Epochs || !job.MayDeal(&j.Terms, first, paid, seated) {
			continue
		}
		list := j.window(node, first)
		for _, d := range list[holder] {
			if j.SendSheets(holder, []job.Dealt{d}) != nil {
				break // later
			}
		}
	}
}

// window deals the window of a party's bank that starts at first.
func (j *Job) window(node int, first uint32) [][]job.Dealt {
	list, err := job.Deal(&j.Terms, j.key, j.seed, uint8(node), first, func(k uint32) (s [wire.PennySize]byte) {
		secret := j.purses[node].At(j.Terms.Parties[node].Pennies - k).Secret
		copy(s[:], secret[:])
		return s
	})
	j.Lab.must(err)
	return list
}

// judge calls for the next attempt. The buyer of the lab does not run the epoch again:
// nobody relies on what the verdict says of it.
func (j *Job) judge(i int, s *computing.Status) {
	v := &job.Verdict{Epoch: s.Epoch + 1, Attempt: s.Attempt + 1, Buyer: true}
	u32 := func(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
	var err error
	v.Sig, err = wire.Sign(j.key, wire.Tagged("job-verdict", j.ID[:], u32(v.Epoch), u32(v.Attempt), v.State[:], []byte{uint8(v.Outcome)}))
	j.Lab.must(err)
	_, _ = j.call(i, computing.CallVerdict, v)
}

// Until attends to the job until f is true, and fails the test if that takes longer
// than limit of the lab's time.
func (j *Job) Until(what string, limit time.Duration, f func() bool) {
	l := j.Lab
	l.T.Helper()
	for end := time.Now().Add(limit); !f(); {
		if time.Now().After(end) {
			for i, h := range j.Nodes {
				if h.Node != nil {
					l.T.Logf("%s: %s", h.Name, j.describe(i))
				}
			}
			l.T.Fatalf("not after %v: %s", limit, what)
		}
		j.Attend()
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		l.reopen()
		for i, h := range j.Nodes { // invariant NodeLoss
			if h.Node == nil {
				continue
			}
			if n := j.Node(i); n.Ran > n.Forgiven+n.Held+n.Terms.Ahead {
				l.T.Fatalf("%s worked for %d epochs and holds %d pennies", h.Name, n.Ran, n.Held)
			}
		}
	}
}

func (j *Job) describe(i int) string {
	n := j.Node(i)
	return fmt.Sprintf("epoch %d, attempt %d, on %v, base %d, running %d, results %d, held %d of %d, dealt %v, gave %v, got %v, paused %v, muted %v", n.Epoch(), n.Attempt, n.On, n.Base, n.Running,
		len(n.Results), n.Held, n.Paid(), n.Dealt, n.Gave, n.Got, n.Paused, n.Muted)
}

// Machine is a party's machine, with its last certified epoch.
type Machine struct{ job.Node }

// Epoch is the last certified one.
func (m *Machine) Epoch() uint32 {
	if m.Last == nil {
		return 0
	}
	return m.Last.Body.Epoch
}

// Node is a party's machine.
func (j *Job) Node(i int) *Machine {
	j.Lab.T.Helper()
	s, err := j.Nodes[i].Node.Engine().State(context.Background(), engine.Ref{Kind: job.KindNode, ID: j.ID})
	j.Lab.must(err)
	return &Machine{s.(job.Node)}
}

// Payee is a party's side of its bank.
func (j *Job) Payee(i int) bank.Payee {
	j.Lab.T.Helper()
	s, err := j.Nodes[i].Node.Engine().State(context.Background(), engine.Ref{Kind: bank.KindPayee, ID: j.Banks[i]})
	j.Lab.must(err)
	return s.(bank.Payee)
}

// Paid reports whether the job is over and every party that is up, but those that are
// excepted, holds the pennies that it earned.
func (j *Job) Paid(except ...int) bool {
	for i, h := range j.Nodes {
		if h.Node == nil || slices.Contains(except, i) {
			continue
		}
		if n := j.Node(i); !n.Over() || n.Held < n.Paid() {
			return false
		}
	}
	return true
}

// Begin mines the funding's confirmations, deals the first windows, and lets the job
// begin.
func (j *Job) Begin() {
	j.Attend()
	j.Lab.Mine(int(j.Terms.Depth))
}

// Evidence fetches the result from a node and verifies all of it.
func (j *Job) Evidence(i int) *job.Evidence {
	j.Lab.T.Helper()
	j.Attend()
	e := &job.Evidence{Terms: j.Terms, File: j.File, Input: j.Input, Chain: j.chain}
	c := j.last()
	if c == nil {
		j.Lab.T.Fatal("there is no certificate")
	}
	var end computing.End
	raw := j.read(i, computing.Ask{Epoch: c.Body.Epoch, State: c.Body.State, Part: computing.PartEnd}, &e.Block)
	j.Lab.must(wire.UnmarshalPeer(raw, &end))
	j.Lab.must(end.Evidence(e))
	if c.Body.Outcome != job.Failed {
		e.Output = j.read(i, computing.Ask{Part: computing.PartOutput}, &e.Block)
	}
	j.Lab.must(e.Verify())
	return e
}

func (j *Job) read(i int, a computing.Ask, block *wire.Hash) []byte {
	j.Lab.T.Helper()
	var all bytes.Buffer
	for {
		raw, err := j.call(i, computing.CallRead, &a)
		j.Lab.must(err)
		c := new(computing.Chunk)
		j.Lab.must(wire.UnmarshalPeer(raw, c))
		all.Write(c.Data)
		*block = c.Block
		if a.From += uint64(len(c.Data)); a.From >= c.Total {
			return all.Bytes()
		}
	}
}

// Proofs are what a node has against others.
func (j *Job) Proofs(i int) (list []job.Proof) {
	j.Lab.T.Helper()
	raw, err := j.call(i, computing.CallProofs, &computing.Ask{})
	j.Lab.must(err)
	p := new(computing.Proofs)
	j.Lab.must(wire.UnmarshalPeer(raw, p))
	for k := range p.List {
		proof, err := p.List[k].Proof()
		j.Lab.must(err)
		list = append(list, proof)
	}
	return list
}

// Close lets the buyer close what it can together with the payees, and waits until all
// banks are closed or refunded and final.
func (j *Job) Close(together bool) {
	l := j.Lab
	l.T.Helper()
	ctx := context.Background()
	if together {
		for i, h := range j.Nodes {
			if h.Node != nil && j.Node(i).Held > 0 {
				l.must(j.Buyer.Node.Banks.CloseBank(ctx, engine.Ref{Kind: bank.KindPayer, ID: j.Banks[i]}))
			}
		}
		l.Settle()
		l.Mine(4)
	}
	for l.Height() < j.Terms.Stop+1 {
		l.Skip(int(min(20, j.Terms.Stop+1-l.Height())))
	}
	l.Mine(4)
	for l.Height() < j.Terms.Stop+wire.Height(bank.MarginsFor(wire.Regtest).Stop)+1 {
		l.Skip(10)
	}
	l.Mine(4)
	l.Skip(10)
	time.Sleep(5 * time.Second) // until the homes have looked
}

// identity is the home's secret.
func (h *Home) identity() wire.Secret {
	s, err := wallet.IdentityKey(h.Cfg.Seed)
	h.lab.must(err)
	return s
}

// Dir is what is stored of a job in a home.
func (j *Job) Dir(i int) string {
	return filepath.Join(j.Nodes[i].Cfg.Dir, "jobs", hex.EncodeToString(j.ID[:]))
}

// HasEnd reports whether a node has the end of the job's program.
func (j *Job) HasEnd(i int) bool {
	j.Lab.T.Helper()
	j.Attend()
	c := j.last()
	if c == nil {
		return false
	}
	_, err := j.call(i, computing.CallRead, &computing.Ask{Epoch: c.Body.Epoch, State: c.Body.State, Part: computing.PartEnd})
	return err == nil
}

// Files are what a home has of the job, besides its database.
func (j *Job) Files(i int) (names []string) {
	list, err := os.ReadDir(j.Dir(i))
	if err != nil {
		return nil
	}
	for _, f := range list {
		names = append(names, f.Name())
	}
	return append(names, "the directory")
}

// Kill ends a node without its good order: what it had not stored is lost.
func (h *Home) Kill() {
	h.lab.T.Helper()
	_ = h.Node.Close() // the store has nothing that was not durable
	h.Node = nil
}

// Save makes a backup of an open home, and Restore replaces the home by it, as after
// the loss of its disk.
func (h *Home) Save() {
	h.lab.T.Helper()
	dir := h.Cfg.Dir + ".saved"
	h.lab.must(os.Mkdir(dir, 0o700))
	h.lab.must(h.Node.Snapshot(context.Background(), filepath.Join(dir, "bitgram.db")))
}

// Restore is Save's counterpart.
func (h *Home) Restore() {
	h.lab.T.Helper()
	h.Kill()
	h.lab.must(os.RemoveAll(h.Cfg.Dir))
	h.lab.must(os.Rename(h.Cfg.Dir+".saved", h.Cfg.Dir))
	h.lab.must(node.MarkRestored(context.Background(), filepath.Join(h.Cfg.Dir, "bitgram.db")))
	h.Open()
}

// Split cuts the network between two groups of homes, until Net.Heal.
func (l *Lab) Split(a, b []*Home) {
	for _, x := range a {
		for _, y := range b {
			for _, from := range x.ips {
				for _, to := range y.ips {
					l.Net.CutPair(from, to)
				}
			}
		}
	}
}
