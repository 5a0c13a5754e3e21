package wire_test

import (
	"strings"

	"github.com/bitgram/bitgram/wire"
)

// key returns the n-th key of the tests, which is on the curve.
func key(n byte) wire.Key {
	k, err := wire.Secret{31: n + 1}.PrivKey()
	if err != nil {
		panic(err)
	}
	return wire.XOnly(k.PubKey())
}

// offCurve is not the x coordinate of any point (BIP340's vector 5).
var offCurve = wire.Key{0xee, 0xfd, 0xea, 0x4c, 0xdb, 0x67, 0x77, 0x50, 0xa4, 0x20, 0xfe, 0xe8, 0x07, 0xea, 0xcf, 0x21,
	0xeb, 0x98, 0x98, 0xae, 0x79, 0xb9, 0x76, 0x87, 0x66, 0xe4, 0xfa, 0xa0, 0x4a, 0x2d, 0x4a, 0x34}

const maxVout = 1<<32 - 1

// The largest valid message of each type, and a small one.

func maxFrozen() (f wire.Frozen) {
	f = wire.Frozen{Blinding: wire.Secret{0: 0xff}, Expiry: wire.MaxHeight, RefundKey: key(1)}
	for i := range wire.MaxAgents {
		f.Claims = append(f.Claims, wire.ClaimLeaf{ReleaseHash: wire.Hash{0xff}, SenderKey: key(byte(i)), ClaimKey: key(byte(i + 50))})
	}
	return f
}

func minFrozen() wire.Frozen {
	return wire.Frozen{Blinding: wire.Secret{1}, Expiry: 1, RefundKey: key(1), Claims: []wire.ClaimLeaf{{SenderKey: key(2), ClaimKey: key(3)}}}
}

func maxSection() wire.Section {
	return wire.Section{Leaf: wire.Leaf{Agent: key(1), Size: wire.MaxPayload, Point: key(2)}, Index: wire.MaxAgents - 1, Count: wire.MaxAgents,
		Path: make([]wire.Hash, 4)}
}

func minSection() wire.Section {
	return wire.Section{Leaf: wire.Leaf{Agent: key(1), Size: 1, Point: key(2)}, Count: 1}
}

func maxQuote() *wire.Quote {
	return &wire.Quote{Agent: key(1), E: key(2), Point: key(3), ClaimKey: key(4), Size: wire.MaxPayload,
		From: wire.MaxHeight - 2 - wire.MaxStoreBlocks, StoreUntil: wire.MaxHeight - 2, Expiry: wire.MaxHeight, ValidUntil: wire.MaxHeight,
		Shape: wire.OneOfMany, Rate: wire.MaxRate, Reserve: wire.MaxSat, Value: wire.MaxSat}
}

func minQuote() *wire.Quote {
	return &wire.Quote{Agent: key(1), E: key(2), Point: key(3), ClaimKey: key(4), Size: 1, StoreUntil: 1, Expiry: 2}
}

func maxProofs() *wire.Proofs {
	p := &wire.Proofs{}
	for range wire.MaxProofs {
		p.Proofs = append(p.Proofs, wire.Proof{Outpoint: wire.Outpoint{Vout: maxVout}, Frozen: maxFrozen(), Section: maxSection()})
	}
	return p
}

func maxPackage() *wire.Package {
	return &wire.Package{Funding: make([]byte, wire.MaxFunding), Vout: maxVout, Frozen: maxFrozen(), Section: maxSection(),
		Grant: wire.Grant{Owner: key(1), Agent: key(1)}}
}

func minPackage() *wire.Package {
	return &wire.Package{Funding: []byte{1}, Frozen: minFrozen(), Section: minSection(), Grant: wire.Grant{Owner: key(1), Agent: key(1)}}
}

// maxRecord and minRecord are the largest and smallest records of a provider.
func maxRecord() wire.Record {
	r := wire.Record{Seq: 1<<64 - 1, Expires: 1<<63 - 1}
	for range wire.MaxAddrs {
		r.Addrs = append(r.Addrs, strings.Repeat("a", wire.MaxAddr))
	}
	return r
}

func minRecord() wire.Record { return wire.Record{Expires: 1, Addrs: []string{"a"}} }

func maxAdvertisement() *wire.Advertisement {
	return &wire.Advertisement{Agent: key(1), Services: 1<<32 - 1, Rate: wire.MaxRate,
		Limits: wire.Limits{Size: wire.MaxPayload, Blocks: wire.MaxStoreBlocks}, Record: maxRecord()}
}

func minAdvertisement() *wire.Advertisement {
	return &wire.Advertisement{Agent: key(1), Services: wire.Delivery, Limits: wire.Limits{Size: 1, Blocks: 1}, Record: minRecord()}
}

func minComputeOffer() *wire.ComputeOffer {
	return &wire.ComputeOffer{Agent: key(1), Expires: 1, Limits: wire.ComputeLimits{Memory: 1 << 16, Fuel: 1, Disk: 1, Epochs: 1, Blocks: 1}}
}

func maxComputeOffer() *wire.ComputeOffer {
	return &wire.ComputeOffer{Agent: key(1), Rate: wire.MaxRate, Expires: 1<<63 - 1,
		Limits: wire.ComputeLimits{Memory: 2 << 30, Fuel: 1 << 62, Disk: 1<<64 - 1, Epochs: 1<<24 - 1, Blocks: wire.MaxStoreBlocks}}
}

func minComputeRequest() *wire.ComputeRequest {
	return &wire.ComputeRequest{Memory: 1 << 16, Fuel: 1, Program: 1, Epochs: 1, Blocks: 1}
}

func maxComputeRequest() *wire.ComputeRequest {
	return &wire.ComputeRequest{Memory: 2 << 30, Fuel: 1 << 62, Program: wire.MaxBlob, Input: wire.MaxBlob, Output: wire.MaxBlob, State: 1 << 31,
		Epochs: 1<<24 - 1, Blocks: wire.MaxStoreBlocks}
}

func minHolding() *wire.Holding {
	return &wire.Holding{Grant: wire.Grant{Owner: key(1), Agent: key(2)}, Record: minRecord()}
}

// maxBank and minBank are the largest and smallest terms of a bank.
func maxBank() *wire.BankTerms {
	b := minBank()
	b.Expiry, b.Value, b.PerRung, b.Locks = wire.MaxHeight, wire.MaxSat, 1<<32-1, make([][20]byte, wire.MaxRungs)
	return b
}

func minBank() *wire.BankTerms {
	return &wire.BankTerms{Expiry: 1, Payer: key(1), Payee: key(2), Value: 1, Locks: make([][20]byte, 1)}
}

func minOpen() *wire.BankOpen {
	return &wire.BankOpen{Terms: *minBank(), Funding: []byte{1}, Sigs: make(wire.RungSigs, 1)}
}

func maxOpen() *wire.BankOpen {
	return &wire.BankOpen{Terms: *maxBank(), Funding: make([]byte, wire.MaxFunding), Vout: maxVout, Sigs: make(wire.RungSigs, wire.MaxRungs)}
}

func maxTransfer() *wire.Transfer {
	all := wire.MaxSat.Msat()
	return &wire.Transfer{Index: 1<<32 - 1, Amount: all, Total: all, Hops: []wire.Hop{{Key: key(1), Amount: all}, {Key: key(2), Amount: all}}}
}

func maxRoute() *wire.Route {
	hop := wire.RouteHop{Key: key(1), Fees: wire.Fees{Base: 1<<64 - 1, PPM: 1<<32 - 1}}
	return &wire.Route{Bankers: []wire.RouteHop{hop, hop}}
}

// kind describes a message type: constructors for an empty, a smallest and a
// largest message.
type kind struct {
	name  string
	empty func() wire.Limited
	small wire.Limited
	large wire.Limited
}

var kinds = []kind{
	{"QuoteRequest", func() wire.Limited { return new(wire.QuoteRequest) },
		&wire.QuoteRequest{E: key(1), Size: 1, StoreUntil: 1, Expiry: 2},
		&wire.QuoteRequest{E: key(1), Size: wire.MaxPayload, StoreUntil: wire.MaxHeight - 1, Expiry: wire.MaxHeight, Shape: wire.OneOfMany}},
	{"Quote", func() wire.Limited { return new(wire.Quote) }, minQuote(), maxQuote()},
	{"Package", func() wire.Limited { return new(wire.Package) }, minPackage(), maxPackage()},
	{"Receipt", func() wire.Limited { return new(wire.Receipt) }, &wire.Receipt{Agent: key(1)}, &wire.Receipt{Agent: key(1)}},
	{"Ask", func() wire.Limited { return new(wire.Ask) }, &wire.Ask{}, &wire.Ask{}},
	{"Proofs", func() wire.Limited { return new(wire.Proofs) }, &wire.Proofs{}, maxProofs()},
	{"Token", func() wire.Limited { return new(wire.Token) }, &wire.Token{}, &wire.Token{}},
	{"Release", func() wire.Limited { return new(wire.Release) }, &wire.Release{}, &wire.Release{}},
	{"Reveal", func() wire.Limited { return new(wire.Reveal) }, &wire.Reveal{}, &wire.Reveal{}},
	{"Acknowledge", func() wire.Limited { return new(wire.Acknowledge) },
		&wire.Acknowledge{Blob: []byte{1}}, &wire.Acknowledge{Blob: make([]byte, wire.MaxAck)}},
	{"Done", func() wire.Limited { return new(wire.Done) }, &wire.Done{}, &wire.Done{}},
	{"StatusRequest", func() wire.Limited { return new(wire.StatusRequest) }, &wire.StatusRequest{}, &wire.StatusRequest{}},
	{"Status", func() wire.Limited { return new(wire.Status) }, &wire.Status{}, &wire.Status{State: 255, Ack: make([]byte, wire.MaxAck)}},
	{"Advertisement", func() wire.Limited { return new(wire.Advertisement) }, minAdvertisement(), maxAdvertisement()},
	{"Holding", func() wire.Limited { return new(wire.Holding) }, minHolding(),
		&wire.Holding{Grant: wire.Grant{Owner: key(1), Agent: key(2)}, Record: maxRecord()}},
	{"JobCall", func() wire.Limited { return new(wire.JobCall) }, &wire.JobCall{}, &wire.JobCall{Kind: 255, Body: make([]byte, wire.MaxJobBody)}},
	{"JobAnswer", func() wire.Limited { return new(wire.JobAnswer) }, &wire.JobAnswer{}, &wire.JobAnswer{Body: make([]byte, wire.MaxJobBody)}},
	{"JobLetter", func() wire.Limited { return new(wire.JobLetter) }, &wire.JobLetter{}, &wire.JobLetter{Body: make([]byte, wire.MaxJobLetter)}},
	{"BankTerms", func() wire.Limited { return new(wire.BankTerms) }, minBank(), maxBank()},
	{"BankRequest", func() wire.Limited { return new(wire.BankRequest) },
		&wire.BankRequest{Value: 1, Rungs: 1, PerRung: 1, Expiry: 1},
		&wire.BankRequest{Value: wire.MaxSat, Rungs: wire.MaxRungs, PerRung: 1<<32 - 1, Expiry: wire.MaxHeight}},
	{"BankQuote", func() wire.Limited { return new(wire.BankQuote) },
		&wire.BankQuote{Payee: key(1), Conf: 1}, &wire.BankQuote{Payee: key(1), Conf: wire.MaxBankConf}},
	{"BankOpen", func() wire.Limited { return new(wire.BankOpen) }, minOpen(), maxOpen()},
	{"BankHello", func() wire.Limited { return new(wire.BankHello) }, &wire.BankHello{}, &wire.BankHello{}},
	{"ComputeOffer", func() wire.Limited { return new(wire.ComputeOffer) }, minComputeOffer(), maxComputeOffer()},
	{"ComputeRequest", func() wire.Limited { return new(wire.ComputeRequest) }, minComputeRequest(), maxComputeRequest()},
	{"ComputeQuote", func() wire.Limited { return new(wire.ComputeQuote) },
		&wire.ComputeQuote{Agent: key(1), Party: key(2), ValidUntil: 1},
		&wire.ComputeQuote{Agent: key(1), Party: key(2), Price: wire.MaxSat.Msat(), ValidUntil: wire.MaxHeight}},
	{"BlobHello", func() wire.Limited { return new(wire.BlobHello) }, &wire.BlobHello{Owner: key(1)}, &wire.BlobHello{Owner: key(1)}},
	{"BlobPut", func() wire.Limited { return new(wire.BlobPut) }, &wire.BlobPut{}, &wire.BlobPut{Size: wire.MaxBlob}},
	{"BlobHave", func() wire.Limited { return new(wire.BlobHave) }, &wire.BlobHave{}, &wire.BlobHave{Bytes: wire.MaxBlob}},
	{"BlobGet", func() wire.Limited { return new(wire.BlobGet) }, &wire.BlobGet{}, &wire.BlobGet{From: wire.MaxBlob, Most: wire.MaxBlob}},
	{"BlobPart", func() wire.Limited { return new(wire.BlobPart) }, &wire.BlobPart{}, &wire.BlobPart{Size: wire.MaxBlob, Bytes: wire.MaxBlob}},
	{"BankState", func() wire.Limited { return new(wire.BankState) }, &wire.BankState{},
		&wire.BankState{Code: wire.NoRoute, Text: strings.Repeat("x", 256), Reserve: wire.MaxSat, Credit: 1<<64 - 1}},
	{"Pennies", func() wire.Limited { return new(wire.Pennies) },
		&wire.Pennies{List: make([]byte, wire.EncodedPenny)}, &wire.Pennies{List: make([]byte, wire.MaxPennies*wire.EncodedPenny)}},
	{"Taken", func() wire.Limited { return new(wire.Taken) }, &wire.Taken{},
		&wire.Taken{Seq: 1<<32 - 1, Code: wire.NoRoute, Text: strings.Repeat("x", 256)}},
	{"PayerFrame", func() wire.Limited { return new(wire.PayerFrame) }, &wire.PayerFrame{},
		&wire.PayerFrame{Lane: 1<<32 - 1, Pennies: []wire.Pennies{{List: make([]byte, wire.MaxPennies*wire.EncodedPenny)}}}},
	{"PayeeFrame", func() wire.Limited { return new(wire.PayeeFrame) }, &wire.PayeeFrame{Taken: []wire.Taken{{}}},
		&wire.PayeeFrame{Lane: 1<<32 - 1, State: []wire.BankState{{Code: wire.NoRoute, Text: strings.Repeat("x", 256), Reserve: wire.MaxSat, Credit: 1<<64 - 1}}}},
	{"CloseOffer", func() wire.Limited { return new(wire.CloseOffer) },
		&wire.CloseOffer{Script: []byte{1}}, &wire.CloseOffer{Payer: wire.MaxSat, Fee: wire.MaxSat, Script: make([]byte, 42)}},
	{"CloseAsk", func() wire.Limited { return new(wire.CloseAsk) }, &wire.CloseAsk{}, &wire.CloseAsk{Unused: wire.MaxSat.Msat()}},
	{"CloseSign", func() wire.Limited { return new(wire.CloseSign) }, &wire.CloseSign{}, &wire.CloseSign{}},
	{"CloseDone", func() wire.Limited { return new(wire.CloseDone) }, &wire.CloseDone{}, &wire.CloseDone{}},
	{"PairRequest", func() wire.Limited { return new(wire.PairRequest) },
		&wire.PairRequest{Key: key(1), Addrs: []string{"a"}, Value: 1, Rungs: 1, PerRung: 1, Expiry: 1},
		&wire.PairRequest{Key: key(1), Addrs: maxRecord().Addrs, Value: wire.MaxSat, Rungs: wire.MaxRungs, PerRung: 1<<32 - 1, Expiry: wire.MaxHeight}},
	{"PairOpened", func() wire.Limited { return new(wire.PairOpened) }, &wire.PairOpened{}, &wire.PairOpened{}},
	{"Transfer", func() wire.Limited { return new(wire.Transfer) }, &wire.Transfer{Index: 1, Amount: 1, Total: 1}, maxTransfer()},
	{"Note", func() wire.Limited { return new(wire.Note) }, &wire.Note{}, &wire.Note{E: key(1), Box: make([]byte, 288), Proof: wire.Hash{0: 1, 31: 255}}},
	{"NoteText", func() wire.Limited { return new(wire.NoteText) }, &wire.NoteText{},
		&wire.NoteText{Reference: strings.Repeat("x", wire.MaxReference), Memo: strings.Repeat("x", wire.MaxMemo)}},
	{"TransferAck", func() wire.Limited { return new(wire.TransferAck) }, &wire.TransferAck{},
		&wire.TransferAck{Index: 1<<32 - 1, Total: wire.MaxSat.Msat()}},
	{"RouteRequest", func() wire.Limited { return new(wire.RouteRequest) }, &wire.RouteRequest{Payee: key(1), Amount: 1},
		&wire.RouteRequest{Payee: key(1), Amount: wire.MaxSat.Msat(), Depth: wire.MaxHops - 2}},
	{"Route", func() wire.Limited { return new(wire.Route) }, &wire.Route{Bankers: []wire.RouteHop{{Key: key(1)}}}, maxRoute()},
	{"Reply", func() wire.Limited { return new(wire.Reply) }, &wire.Reply{}, &wire.Reply{Code: wire.NoRoute, Text: strings.Repeat("x", 256)}},
}
