package dnsd

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/miekg/dns"
)

// packed is an answer in wire format, ready to send except for what each
// question changes: ID, flags, the case of the name, and TTLs.
type packed struct {
	raw  []byte
	ttls []int // offsets
	err  error
}

var errPacked = errors.New("an answer that cannot be packed")

// pack packs both forms of an answer.
func (a *answer) pack(q dns.Question) {
	for i := range a.raw {
		m := a.msg.Copy()
		m.Question = []dns.Question{q}
		m.Response, m.RecursionAvailable, m.Compress = true, true, true
		if i == 1 {
			m.SetEdns0(maxUDP, false)
		}
		p := &a.raw[i]
		if p.raw, p.err = m.Pack(); p.err == nil {
			p.ttls, p.err = ttlsOf(p.raw)
		}
	}
}

// reply returns the answer to a question, with TTLs reduced by the time in the
// cache.
func (a *answer) reply(r *dns.Msg, now time.Time) ([]byte, error) {
	q := r.Question[0]
	a.once.Do(func() { a.pack(q) })
	i := 0
	if r.IsEdns0() != nil {
		i = 1
	}
	p := &a.raw[i]
	if p.err != nil {
		return nil, p.err
	}
	raw := make([]byte, len(p.raw))
	copy(raw, p.raw)
	binary.BigEndian.PutUint16(raw, r.Id)
	raw[2] &^= 0x01
	if r.RecursionDesired {
		raw[2] |= 0x01
	}
	raw[3] &^= 0x10
	if r.CheckingDisabled {
		raw[3] |= 0x10
	}
	// Copy the question's name as it was asked, because resolvers check the
	// case of its letters.
	if _, err := dns.PackDomainName(q.Name, raw, headerSize, nil, false); err != nil {
		return nil, err
	}
	age := uint32(max(now.Sub(a.at), 0) / time.Second)
	for _, at := range p.ttls {
		ttl := binary.BigEndian.Uint32(raw[at:])
		binary.BigEndian.PutUint32(raw[at:], ttl-min(age, ttl))
	}
	return raw, nil
}

const headerSize = 12

// ttlsOf returns the positions of the TTLs in a message that was packed here,
// except OPT's, which is not a TTL.
func ttlsOf(raw []byte) (list []int, err error) {
	if len(raw) < headerSize {
		return nil, errPacked
	}
	count := func(i int) int { return int(binary.BigEndian.Uint16(raw[4+2*i:])) }
	at := headerSize
	skip := func() bool { // a name
		for at < len(raw) {
			switch n := int(raw[at]); {
			case n == 0:
				at++
				return true
			case n >= 0xc0:
				at += 2
				return at <= len(raw)
			default:
				at += n + 1
			}
		}
		return false
	}
	for range count(0) {
		if !skip() {
			return nil, errPacked
		}
		at += 4
	}
	for range count(1) + count(2) + count(3) {
		if !skip() || at+10 > len(raw) {
			return nil, errPacked
		}
		if binary.BigEndian.Uint16(raw[at:]) != dns.TypeOPT {
			list = append(list, at+4)
		}
		at += 10 + int(binary.BigEndian.Uint16(raw[at+8:]))
	}
	if at != len(raw) {
		return nil, errPacked
	}
	return list, nil
}
