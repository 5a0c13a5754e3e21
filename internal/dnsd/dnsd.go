// Package dnsd implements a DNS server for stub resolvers. It forwards ordinary
// names to an upstream server. Names that do not exist there are looked up
// among the hints on the chain. Names under .bitgram are never forwarded; they
// resolve to the closest active agents and their rates.
package dnsd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/miekg/dns"
	"golang.org/x/time/rate"

	"github.com/bitgram/bitgram/internal/choose"
)

// Zone is the TLD of agents.
const Zone = "bitgram."

// Agent is an active agent.
type Agent struct {
	Label string // the name under Zone that resolves to this agent alone: its address, split in two labels if too long for one
	Key   string // hex
	Rate  uint64 // psat per byte-day
	At    []netip.AddrPort
	Addrs []string // multiaddrs
}

// Hint is a hint on the chain for a name.
type Hint struct {
	Name   string         // the hint's name: the queried name or, for a name server, a domain that contains it
	Server netip.AddrPort // the domain's name server, if it is a domain hint
	Host   netip.Addr     // the address, of a host hint
	Burned int64          // satoshi
}

// Source provides agents and hints. Names have no final dot.
type Source interface {
	// Agents returns the active agents closest to a name under Zone, the
	// closest first.
	Agents(ctx context.Context, name string) ([]Agent, error)
	// Hints returns the domain hints of a name and of the domains that contain
	// it, the longest first, and then its host hint.
	Hints(ctx context.Context, name string) ([]Hint, error)
}

// Config configures a Server.
type Config struct {
	Source Source
	// Upstream lists servers for ordinary names, as host:port, in order. If it
	// is empty, only hints are used.
	Upstream []string
	// Private allows name servers and hosts at addresses that are not public,
	// for networks on one machine.
	Private bool
	// PerSecond is the number of questions per second from one client network;
	// 0 means 100.
	PerSecond int
	Log       *slog.Logger
}

const (
	// agentsTTL is the TTL of an agent, in seconds.
	agentsTTL = 30
	// hintTTL is the TTL of a hint on the chain: about a block.
	hintTTL = 600
	// nothingTTL is the TTL of a negative answer, in seconds; failures are not
	// cached.
	nothingTTL = 30
	// maxTTL caps the TTL of upstream answers, in seconds.
	maxTTL = 86400
	// maxCache is the maximum number of cached answers, maxClients that of
	// clients whose rate is tracked.
	maxCache   = 20_000
	maxClients = 8192
	// maxUDP is the maximum size of an answer over UDP (DNS Flag Day 2020).
	maxUDP = 1232
	// amplify limits the size of a UDP answer to another machine, relative to
	// its question, so that forged addresses cannot be used for amplification.
	amplify = 3
	// maxLookups is the maximum number of concurrent lookups, maxWaiting that
	// of questions that wait for an answer, and maxWaitingOf that of one
	// network; further questions are refused.
	maxLookups   = 256
	maxWaiting   = 4096
	maxWaitingOf = 64
	// maxKept is the maximum size of a cached answer.
	maxKept = maxUDP
	// maxConns is the maximum number of TCP connections, maxConnsOf that of one
	// network.
	maxConns   = 512
	maxConnsOf = 32
	// patience is the timeout of a question, askPatience that of one upstream
	// server.
	patience    = 8 * time.Second
	askPatience = 2 * time.Second
)

// Server answers DNS questions. It implements dns.Handler.
type Server struct {
	cfg     Config
	cache   *lru.Cache[question, *answer]
	clients *lru.Cache[netip.Prefix, *rate.Limiter]
	places  chan struct{}
	udp     *dns.Client
	tcp     *dns.Client

	mu      sync.Mutex
	lookups map[question]*lookup
	waiting int
	of      map[netip.Prefix]int // of them, by network
}

// lookup is a lookup in progress.
type lookup struct {
	done   chan struct{}
	answer *answer // when it is done
}

type question struct {
	name  string // lower case, with its dot
	qtype uint16
}

// answer is a cached answer, without its question and OPT.
type answer struct {
	msg   *dns.Msg
	until time.Time
	at    time.Time

	once sync.Once
	// raw is msg packed with and without OPT, with the positions of its TTLs.
	raw [2]packed
}

// New returns a server.
func New(cfg Config) (*Server, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.PerSecond == 0 {
		cfg.PerSecond = 100
	}
	if cfg.PerSecond < 0 {
		return nil, fmt.Errorf("%d questions a second", cfg.PerSecond)
	}
	for _, u := range cfg.Upstream {
		if _, _, err := net.SplitHostPort(u); err != nil {
			return nil, fmt.Errorf("upstream %q: %w", u, err)
		}
	}
	cache, err := lru.New[question, *answer](maxCache)
	if err != nil {
		return nil, err
	}
	clients, err := lru.New[netip.Prefix, *rate.Limiter](maxClients)
	if err != nil {
		return nil, err
	}
	return &Server{cfg: cfg, cache: cache, clients: clients, places: make(chan struct{}, maxLookups), lookups: map[question]*lookup{}, of: map[netip.Prefix]int{},
		udp: &dns.Client{Net: "udp", Timeout: askPatience, UDPSize: maxUDP}, tcp: &dns.Client{Net: "tcp", Timeout: askPatience}}, nil
}

// Serve answers questions at an address, over UDP and TCP, until ctx ends. It
// calls ready with the address once both listen.
func (s *Server) Serve(ctx context.Context, addr string, ready func(net.Addr)) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	p, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		return errors.Join(err, l.Close())
	}
	conns := newListener(l)
	servers := []*dns.Server{
		{Listener: conns, Handler: s, ReadTimeout: askPatience, IdleTimeout: func() time.Duration { return patience }, MaxTCPQueries: 128},
		{PacketConn: p, Handler: s, UDPSize: maxUDP},
	}
	errs := make(chan error, len(servers))
	var started sync.WaitGroup
	for _, d := range servers {
		started.Add(1)
		d.NotifyStartedFunc = started.Done
		go func() { errs <- d.ActivateAndServe() }()
	}
	started.Wait()
	if ready != nil {
		ready(l.Addr())
	}
	var first error
	done := 0
	select {
	case <-ctx.Done():
	case first = <-errs:
		done++
	}
	// Give running answers a moment; drop clients that do not read.
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), askPatience)
	defer cancel()
	for _, d := range servers {
		_ = d.ShutdownContext(end)
	}
	conns.end()
	for ; done < len(servers); done++ {
		<-errs
	}
	return first
}

// ServeDNS implements dns.Handler.
func (s *Server) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	from, stream := addrOf(w.RemoteAddr())
	if !s.allowed(from) {
		if !stream && rand.IntN(2) == 0 {
			s.short(w, r, dns.RcodeSuccess, true) // a real client repeats the question over TCP
		}
		return
	}
	rcode := dns.RcodeSuccess
	switch {
	case r.Opcode != dns.OpcodeQuery:
		rcode = dns.RcodeNotImplemented
	case len(r.Question) != 1 || r.Response || len(r.Answer)+len(r.Ns) > 0 || !onlyOPT(r.Extra):
		rcode = dns.RcodeFormatError
	case r.IsEdns0() != nil && r.IsEdns0().Version() != 0:
		rcode = dns.RcodeBadVers
	case r.Question[0].Qclass != dns.ClassINET || refused(r.Question[0].Qtype):
		rcode = dns.RcodeRefused
	}
	if rcode != dns.RcodeSuccess {
		s.short(w, r, rcode, false)
		return
	}
	q := question{strings.ToLower(r.Question[0].Name), r.Question[0].Qtype}
	a := s.cached(q)
	if a == nil {
		a = s.look(q, from)
	}
	if a == nil {
		s.short(w, r, dns.RcodeServerFailure, false)
		return
	}
	raw, err := a.reply(r, time.Now())
	if err != nil {
		s.short(w, r, dns.RcodeServerFailure, false)
		return
	}
	if !stream {
		limit := dns.MinMsgSize
		if o := r.IsEdns0(); o != nil {
			limit = min(max(int(o.UDPSize()), dns.MinMsgSize), maxUDP)
		}
		if !from.IsLoopback() {
			limit = min(limit, amplify*sizeOf(r))
		}
		if len(raw) > limit {
			s.short(w, r, dns.RcodeSuccess, true)
			return
		}
	}
	_, _ = w.Write(raw)
}

// onlyOPT reports whether a question has nothing but EDNS in its additional
// section, with the root as owner (RFC 6891 §6.1.2).
func onlyOPT(extra []dns.RR) bool {
	return len(extra) == 0 || len(extra) == 1 && extra[0].Header().Rrtype == dns.TypeOPT && extra[0].Header().Name == "."
}

// sizeOf returns the minimum wire size of a question: header, name, type,
// class, and an empty OPT.
func sizeOf(r *dns.Msg) int {
	var name [256]byte
	n, err := dns.PackDomainName(r.Question[0].Name, name[:], 0, nil, false)
	if err != nil {
		n = 1
	}
	n += 12 + 4
	if len(r.Extra) > 0 {
		n += 11
	}
	return n
}

// refused reports whether a type is asked only for amplification, or to copy a
// zone.
func refused(t uint16) bool {
	return t == dns.TypeANY || t == dns.TypeAXFR || t == dns.TypeIXFR || t == dns.TypeMAILA || t == dns.TypeMAILB
}

// short answers without records; truncated makes the client repeat the question
// over TCP.
func (s *Server) short(w dns.ResponseWriter, r *dns.Msg, rcode int, truncated bool) {
	m := new(dns.Msg)
	m.SetRcode(r, rcode)
	m.Truncated, m.RecursionAvailable = truncated, true
	if r.IsEdns0() != nil {
		m.SetEdns0(maxUDP, false)
	}
	_ = w.WriteMsg(m)
}

func addrOf(a net.Addr) (ip netip.Addr, stream bool) {
	switch a := a.(type) {
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap(), false
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap(), true
	}
	return netip.Addr{}, true
}

// allowed enforces the rate of a client's network. The local machine has no
// limit.
func (s *Server) allowed(from netip.Addr) bool {
	if from.IsLoopback() {
		return true
	}
	net := networkOf(from)
	l, ok := s.clients.Get(net)
	if !ok {
		l = rate.NewLimiter(rate.Limit(s.cfg.PerSecond), 2*s.cfg.PerSecond)
		s.clients.Add(net, l)
	}
	return l.Allow()
}

func (s *Server) cached(q question) *answer {
	a, ok := s.cache.Get(q)
	if !ok || time.Now().After(a.until) {
		return nil
	}
	return a
}

// look returns an answer, with one lookup at a time per question, or nil if
// none can be found now.
func (s *Server) look(q question, from netip.Addr) *answer {
	net := networkOf(from)
	s.mu.Lock()
	if s.waiting >= maxWaiting || !from.IsLoopback() && s.of[net] >= maxWaitingOf {
		s.mu.Unlock()
		return nil
	}
	s.waiting++
	s.of[net]++
	l, other := s.lookups[q]
	if !other {
		l = &lookup{done: make(chan struct{})}
		s.lookups[q] = l
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.waiting--
		if s.of[net]--; s.of[net] == 0 {
			delete(s.of, net)
		}
		s.mu.Unlock()
	}()
	if other {
		<-l.done // within patience
		return l.answer
	}
	defer func() {
		s.mu.Lock()
		delete(s.lookups, q)
		s.mu.Unlock()
		close(l.done)
	}()
	if l.answer = s.cached(q); l.answer != nil {
		return l.answer // found a moment ago
	}
	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
	default:
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m, ttl, err := s.resolve(ctx, q)
	if err != nil {
		s.cfg.Log.Debug("not answered", "name", q.name, "type", dns.TypeToString[q.qtype], "err", err)
		return nil
	}
	now := time.Now()
	l.answer = &answer{msg: m, at: now, until: now.Add(time.Duration(ttl) * time.Second)}
	if m.Len() <= maxKept {
		s.cache.Add(q, l.answer)
	}
	return l.answer
}

// resolve asks the sources in order.
func (s *Server) resolve(ctx context.Context, q question) (*dns.Msg, uint32, error) {
	if q.name == Zone || strings.HasSuffix(q.name, "."+Zone) {
		return s.agents(ctx, q)
	}
	m := new(dns.Msg)
	m.Rcode = dns.RcodeNameError
	if len(s.cfg.Upstream) > 0 {
		up, err := s.forward(ctx, q, true, s.cfg.Upstream...)
		if err != nil {
			return nil, 0, err
		}
		// Use hints only if ordinary DNS says that the name does not exist.
		if up.Rcode != dns.RcodeNameError {
			return up, ttlOf(up), nil
		}
		m = up
	}
	if hint, ttl, err := s.hints(ctx, q); hint != nil || err != nil {
		return hint, ttl, err
	}
	return m, min(ttlOf(m), nothingTTL), nil
}

// hints looks up a name on the chain. Among the name's address, its name server
// and those of the domains that contain it, the hint with the largest burn is
// used; if equal, the name server of the longest domain. If a server does not
// answer, the next hint is used.
func (s *Server) hints(ctx context.Context, q question) (*dns.Msg, uint32, error) {
	list, err := s.cfg.Source.Hints(ctx, strings.TrimSuffix(q.name, "."))
	if err != nil {
		return nil, 0, err
	}
	slices.SortStableFunc(list, func(a, b Hint) int { return cmp.Compare(b.Burned, a.Burned) })
	var errs []error
	for _, h := range list {
		if h.Server.IsValid() && s.usable(h.Server.Addr()) {
			m, err := s.forward(ctx, q, false, h.Server.String())
			if err != nil {
				errs = append(errs, err)
				continue
			}
			m.Answer, m.Ns = s.within(h.Name, m.Answer), s.within(h.Name, m.Ns)
			return m, min(ttlOf(m), hintTTL), nil
		}
		if h.Host.IsValid() && s.usable(h.Host) {
			m := new(dns.Msg)
			if q.qtype == dns.TypeA {
				m.Answer = append(m.Answer, address(q.name, h.Host, hintTTL))
			}
			return m, hintTTL, nil
		}
	}
	return nil, 0, errors.Join(errs...)
}

// within returns the records that a stranger's name server may provide: those
// of its domain, without addresses behind the firewall.
func (s *Server) within(domain string, list []dns.RR) []dns.RR {
	return slices.DeleteFunc(list, func(rr dns.RR) bool {
		var ip net.IP
		switch rr := rr.(type) {
		case *dns.A:
			ip = rr.A
		case *dns.AAAA:
			ip = rr.AAAA
		case *dns.SVCB, *dns.HTTPS:
			return !s.cfg.Private // they may have addresses in them
		}
		at, ok := netip.AddrFromSlice(ip)
		return !dns.IsSubDomain(dns.Fqdn(domain), rr.Header().Name) || ok && !s.usable(at.Unmap())
	})
}

// usable reports whether we may contact or return an address that a stranger
// named: never one behind the firewall.
func (s *Server) usable(ip netip.Addr) bool {
	return s.cfg.Private || choose.Public(ip)
}

// forward asks servers in turn, over TCP if UDP does not suffice.
func (s *Server) forward(ctx context.Context, q question, recurse bool, servers ...string) (*dns.Msg, error) {
	ask := new(dns.Msg)
	ask.SetQuestion(q.name, q.qtype)
	ask.RecursionDesired = recurse
	ask.SetEdns0(maxUDP, false)
	var errs []error
	for _, at := range servers {
		m, _, err := s.udp.ExchangeContext(ctx, ask, at)
		if err == nil && m.Truncated {
			m, _, err = s.tcp.ExchangeContext(ctx, ask, at)
		}
		if err == nil && (len(m.Question) != 1 || !strings.EqualFold(m.Question[0].Name, q.name) || m.Question[0].Qtype != q.qtype) {
			err = fmt.Errorf("%s answers something else", at)
		}
		if err == nil && (m.Rcode == dns.RcodeServerFailure || m.Rcode == dns.RcodeRefused) {
			err = fmt.Errorf("%s: %s", at, dns.RcodeToString[m.Rcode])
		}
		if err == nil {
			clean := new(dns.Msg)
			clean.Rcode, clean.Answer, clean.Ns, clean.Extra = m.Rcode, m.Answer, m.Ns, nil
			return clean, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// ttlOf returns how long others' answer may be cached, in seconds.
func ttlOf(m *dns.Msg) uint32 {
	ttl, any := uint32(maxTTL), false
	for _, list := range [][]dns.RR{m.Answer, m.Ns} {
		for _, rr := range list {
			least := rr.Header().Ttl
			if soa, ok := rr.(*dns.SOA); ok {
				least = min(least, soa.Minttl)
			}
			ttl, any = min(ttl, least), true
		}
	}
	if !any {
		return nothingTTL
	}
	return ttl
}

// agents answers a question under Zone.
func (s *Server) agents(ctx context.Context, q question) (*dns.Msg, uint32, error) {
	m := new(dns.Msg)
	m.Authoritative = true
	soa := &dns.SOA{Hdr: header(Zone, dns.TypeSOA, nothingTTL), Ns: Zone, Mbox: "hostmaster." + Zone, Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: nothingTTL}
	name := strings.TrimSuffix(q.name, ".")
	// _bitgram._tcp.NAME is queried by clients that look for the service (RFC
	// 2782).
	name = strings.TrimPrefix(name, "_bitgram._tcp.")
	list, err := s.cfg.Source.Agents(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	if len(list) == 0 {
		m.Ns = append(m.Ns, soa)
		return m, nothingTTL, nil
	}
	alone := strings.ReplaceAll(strings.TrimSuffix(name, ".bitgram"), ".", "") == list[0].Label
	for i, a := range list {
		switch q.qtype {
		case dns.TypeA, dns.TypeAAAA:
			if i > 0 && alone {
				continue // an agent's own name has only its own addresses
			}
			for _, at := range a.At {
				if at.Addr().Is4() == (q.qtype == dns.TypeA) {
					m.Answer = append(m.Answer, address(q.name, at.Addr(), agentsTTL))
				}
			}
		case dns.TypeSRV:
			for j, at := range a.At {
				target := domain(a.Label)
				if j == 0 {
					m.Answer = append(m.Answer, &dns.SRV{Hdr: header(q.name, dns.TypeSRV, agentsTTL), Priority: uint16(i), Port: at.Port(), Target: target})
				}
				m.Extra = append(m.Extra, address(target, at.Addr(), agentsTTL))
			}
		case dns.TypeTXT:
			text := []string{"agent=" + a.Key, fmt.Sprintf("rate=%d psat/byte-day", a.Rate)}
			if len(a.Addrs) > 0 && len(a.Addrs[0]) < 240 {
				text = append(text, "addr="+a.Addrs[0])
			}
			m.Answer = append(m.Answer, &dns.TXT{Hdr: header(q.name, dns.TypeTXT, agentsTTL), Txt: text})
		case dns.TypeSOA:
			if i == 0 && q.name == Zone {
				m.Answer = append(m.Answer, soa)
			}
		}
	}
	m.Answer = dedup(m.Answer)
	if len(m.Answer) == 0 {
		m.Ns = append(m.Ns, soa)
	}
	return m, agentsTTL, nil
}

// domain returns an agent's own name, split into labels that DNS allows (RFC
// 1035 §2.3.4).
func domain(label string) string {
	const most = 63
	if len(label) > most {
		label = label[:most] + "." + label[most:]
	}
	return label + "." + Zone
}

func dedup(list []dns.RR) []dns.RR { return dns.Dedup(list, nil) }

func header(name string, t uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: ttl}
}

func address(name string, ip netip.Addr, ttl uint32) dns.RR {
	if ip.Is4() {
		return &dns.A{Hdr: header(name, dns.TypeA, ttl), A: ip.AsSlice()}
	}
	return &dns.AAAA{Hdr: header(name, dns.TypeAAAA, ttl), AAAA: ip.AsSlice()}
}
