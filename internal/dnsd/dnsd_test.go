package dnsd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/bitgram/bitgram/internal/testing/tier"
)

// chainOf is a Source that says what a test wants.
type chainOf struct {
	mu      sync.Mutex
	agents  []Agent
	hosts   map[string]netip.Addr
	domains map[string]netip.AddrPort
	burned  map[string]int64 // by address
	asked   atomic.Int64
	fails   atomic.Bool
}

var errGone = errors.New("the daemon is gone")

func (c *chainOf) Agents(context.Context, string) ([]Agent, error) {
	c.asked.Add(1)
	if c.fails.Load() {
		return nil, errGone
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.agents), nil
}

// set changes the agents while questions are answered.
func (c *chainOf) set(list []Agent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.agents = list
}

func (c *chainOf) Hints(_ context.Context, name string) (list []Hint, err error) {
	for domain := name; strings.Contains(domain, "."); _, domain, _ = strings.Cut(domain, ".") {
		if at, ok := c.domains[domain]; ok {
			list = append(list, Hint{Name: domain, Server: at, Burned: c.burned[at.String()]})
		}
	}
	if at, ok := c.hosts[name]; ok {
		list = append(list, Hint{Name: name, Host: at, Burned: c.burned[at.String()]})
	}
	return list, nil
}

// upstream is a name server that knows some names, and remembers what it was
// asked.
type upstream struct {
	names map[string][]dns.RR
	mu    sync.Mutex
	asked []string
}

func (u *upstream) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	name := strings.ToLower(r.Question[0].Name)
	u.mu.Lock()
	u.asked = append(u.asked, name)
	u.mu.Unlock()
	m := new(dns.Msg)
	m.SetReply(r)
	list, ok := u.names[name]
	if !ok {
		m.Rcode = dns.RcodeNameError
	}
	m.Answer = list
	if strings.HasPrefix(name, "broken.") {
		m.Rcode = dns.RcodeServerFailure
	}
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp && m.Len() > 512 {
		m.Answer, m.Truncated = nil, true
	}
	_ = w.WriteMsg(m)
}

func start(t testing.TB, h dns.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{Listener: l, Handler: h}, {PacketConn: p, Handler: h}} {
		ready := make(chan struct{})
		s.NotifyStartedFunc = func() { close(ready) }
		go s.ActivateAndServe()
		<-ready
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return l.Addr().String()
}

// serve runs a server as the command does.
func serve(t testing.TB, cfg Config) (*Server, string) {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	at, ended := make(chan net.Addr, 1), make(chan error, 1)
	go func() { ended <- s.Serve(ctx, "127.0.0.1:0", func(a net.Addr) { at <- a }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s, (<-at).String()
}

func ask(t testing.TB, at, network, name string, qtype uint16) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), qtype)
	r, _, err := (&dns.Client{Net: network}).Exchange(m, at)
	if err != nil {
		t.Fatalf("%s %s: %v", name, dns.TypeToString[qtype], err)
	}
	return r
}

func agentsOf(n int) (list []Agent) {
	for i := range n {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), 4001)
		list = append(list, Agent{Label: fmt.Sprintf("bg1agent%d", i), Key: strings.Repeat(fmt.Sprint(i), 64), Rate: uint64(20_000_000 + i),
			At: []netip.AddrPort{at, netip.MustParseAddrPort("[2001:db8::1]:4002")}, Addrs: []string{"/ip4/192.0.2.1/tcp/4001"}})
	}
	return list
}

func rr(t testing.TB, s string) dns.RR {
	t.Helper()
	r, err := dns.NewRR(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestAgents: a name under .bitgram is answered by the closest agents, in their
// order, and never sent upstream, whatever type is asked for and whether there
// are any.
func TestAgents(t *testing.T) {
	up := &upstream{}
	c := &chainOf{agents: agentsOf(3)}
	_, at := serve(t, Config{Source: c, Upstream: []string{start(t, up)}})
	if r := ask(t, at, "udp", "Alice.Bitgram", dns.TypeA); len(r.Answer) != 3 || r.Answer[0].(*dns.A).A.String() != "192.0.2.1" || r.Question[0].Name != "Alice.Bitgram." || !r.Authoritative {
		t.Errorf("A: %v", r)
	}
	if r := ask(t, at, "udp", "alice.bitgram", dns.TypeAAAA); len(r.Answer) != 1 {
		t.Errorf("AAAA: %v", r)
	}
	if r := ask(t, at, "udp", "bg1agent0.bitgram", dns.TypeA); len(r.Answer) != 1 {
		t.Errorf("an agent's own name: %v", r)
	}
	r := ask(t, at, "tcp", "_bitgram._tcp.alice.bitgram", dns.TypeSRV)
	if len(r.Answer) != 3 || len(r.Extra) != 6 || r.Answer[2].(*dns.SRV).Priority != 2 || r.Answer[0].(*dns.SRV).Port != 4001 || r.Answer[0].(*dns.SRV).Target != "bg1agent0.bitgram." {
		t.Errorf("SRV: %v", r)
	}
	r = ask(t, at, "tcp", "alice.bitgram", dns.TypeTXT)
	if len(r.Answer) != 3 || !slices.Contains(r.Answer[1].(*dns.TXT).Txt, "rate=20000001 psat/byte-day") {
		t.Errorf("TXT: %v", r)
	}
	long := strings.Repeat("x", 64)
	list := agentsOf(3)
	list[0].Label = long
	c.set(list)
	own := long[:63] + ".x.bitgram."
	if r := ask(t, at, "tcp", "long.bitgram", dns.TypeSRV); len(r.Answer) != 3 || r.Answer[0].(*dns.SRV).Target != own {
		t.Errorf("SRV to an address of 64 letters: %v", r)
	}
	if r := ask(t, at, "udp", own, dns.TypeA); len(r.Answer) != 1 {
		t.Errorf("an agent's own name, in two labels: %v", r)
	}
	for _, qtype := range []uint16{dns.TypeMX, dns.TypeNS, dns.TypeHTTPS, 65280} {
		if r := ask(t, at, "udp", "alice.bitgram", qtype); r.Rcode != dns.RcodeSuccess || len(r.Answer) > 0 || len(r.Ns) != 1 {
			t.Errorf("type %d: %v", qtype, r)
		}
	}
	c.set(nil)
	if r := ask(t, at, "udp", "nobody.bitgram", dns.TypeA); r.Rcode != dns.RcodeSuccess || len(r.Answer) > 0 {
		t.Errorf("nobody: %v", r)
	}
	c.fails.Store(true)
	if r := ask(t, at, "udp", "broken.bitgram", dns.TypeA); r.Rcode != dns.RcodeServerFailure {
		t.Errorf("without a daemon: %v", r)
	}
	if len(up.asked) > 0 {
		t.Errorf("upstream was asked for %v", up.asked)
	}
}

// TestOrder: ordinary DNS comes first; only what it says does not exist is looked
// for on the chain: the name server of the longest domain, then the host.
func TestOrder(t *testing.T) {
	server := start(t, &upstream{names: map[string][]dns.RR{"www.shop.chain.": {rr(t, "www.shop.chain. 900 IN A 203.0.112.9")}}})
	up := &upstream{names: map[string][]dns.RR{
		"known.example.": {rr(t, "known.example. 60 IN A 198.51.100.1")}, "empty.example.": nil, "broken.example.": nil}}
	hinted := netip.MustParseAddr("203.0.112.7")
	c := &chainOf{hosts: map[string]netip.Addr{"known.example": hinted, "empty.example": hinted, "broken.example": hinted, "new.example": hinted, "inside.example": netip.MustParseAddr("192.168.1.1"), "www.shop.chain": hinted},
		domains: map[string]netip.AddrPort{"shop.chain": netip.MustParseAddrPort(server), "chain": netip.MustParseAddrPort("127.0.0.1:1")}}
	at := func(private bool) string {
		_, at := serve(t, Config{Source: c, Upstream: []string{start(t, up)}, Private: private})
		return at
	}
	local, public := at(true), at(false)
	for _, q := range []struct {
		at, name, want string
		rcode          int
	}{
		{public, "known.example", "198.51.100.1", dns.RcodeSuccess},
		{public, "empty.example", "", dns.RcodeSuccess},
		{public, "broken.example", "", dns.RcodeServerFailure},
		{public, "new.example", "203.0.112.7", dns.RcodeSuccess},
		{public, "inside.example", "", dns.RcodeNameError},
		{local, "inside.example", "192.168.1.1", dns.RcodeSuccess},
		{public, "nowhere.example", "", dns.RcodeNameError},
		{local, "www.shop.chain", "203.0.112.9", dns.RcodeSuccess},
		{public, "www.shop.chain", "203.0.112.7", dns.RcodeSuccess}, // its name server is on this machine
	} {
		r := ask(t, q.at, "udp", q.name, dns.TypeA)
		got := ""
		if len(r.Answer) > 0 {
			got = r.Answer[0].(*dns.A).A.String()
		}
		if got != q.want || r.Rcode != q.rcode {
			t.Errorf("%s: %q, %s", q.name, got, dns.RcodeToString[r.Rcode])
		}
	}
}

// TestWithin: a stranger's name server speaks of its own domain, and of no machine
// behind the firewall.
func TestWithin(t *testing.T) {
	list := func() []dns.RR {
		return []dns.RR{rr(t, "shop.chain. 60 IN A 203.0.112.9"), rr(t, "www.shop.chain. 60 IN CNAME bank.example."), rr(t, "bank.example. 60 IN A 203.0.112.9"),
			rr(t, "myshop.chain. 60 IN A 203.0.112.9"), rr(t, "Shop.Chain. 60 IN A 192.168.1.1"), rr(t, "shop.chain. 60 IN AAAA fe80::1"), rr(t, "shop.chain. 60 IN AAAA ::ffff:10.0.0.1")}
	}
	for private, want := range map[bool]int{false: 2, true: 5} {
		s, err := New(Config{Private: private})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.within("shop.chain", list()); len(got) != want {
			t.Errorf("%v: %v", private, got)
		}
	}
}

// TestCache: an answer is found once and given until its time is up, less what
// has passed, whatever the case of the question's letters and its ID.
func TestCache(t *testing.T) {
	c := &chainOf{agents: agentsOf(2)}
	s, at := serve(t, Config{Source: c})
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			name := []string{"many.bitgram.", "MANY.bitgram.", "mAnY.BitGram."}[i%3]
			m := new(dns.Msg)
			m.SetQuestion(name, dns.TypeTXT)
			if i%2 == 0 {
				m.SetEdns0(1232, true)
			}
			r, _, err := (&dns.Client{}).Exchange(m, at)
			if err != nil || len(r.Answer) != 2 || r.Question[0].Name != name || (r.IsEdns0() != nil) != (i%2 == 0) || !r.RecursionDesired {
				t.Errorf("%v, %v", r, err)
			}
		})
	}
	wg.Wait()
	if n := c.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	q := question{"many.bitgram.", dns.TypeTXT}
	a := s.cached(q)
	s.cache.Add(q, &answer{msg: a.msg, at: a.at.Add(-7 * time.Second), until: a.until})
	if ttl := ask(t, at, "udp", "many.bitgram", dns.TypeTXT).Answer[0].Header().Ttl; ttl != agentsTTL-7 {
		t.Errorf("TTL %d after 7 s", ttl)
	}
	s.cache.Add(q, &answer{msg: a.msg, at: a.at, until: time.Now().Add(-time.Second)})
	ask(t, at, "udp", "many.bitgram", dns.TypeTXT)
	if n := c.asked.Load(); n != 2 {
		t.Errorf("asked %d times", n)
	}
}

// TestKept: large answers are found anew each time, so that nobody fills the
// memory with them.
func TestKept(t *testing.T) {
	var many []dns.RR
	for i := range 400 {
		many = append(many, rr(t, fmt.Sprintf("large.example. 60 IN A 198.51.100.%d", i%256)))
	}
	up := &upstream{names: map[string][]dns.RR{"large.example.": many, "small.example.": many[:1]}}
	s, at := serve(t, Config{Source: &chainOf{}, Upstream: []string{start(t, up)}})
	for _, name := range []string{"large.example", "small.example"} {
		for range 3 {
			if r := ask(t, at, "tcp", name, dns.TypeA); len(r.Answer) == 0 {
				t.Errorf("%s: %v", name, r)
			}
		}
	}
	if s.cache.Len() != 1 {
		t.Errorf("%d answers are kept", s.cache.Len())
	}
}

// TestLarge: what does not fit into a datagram comes by TCP, and to another
// machine nothing that is much larger than its question.
func TestLarge(t *testing.T) {
	_, at := serve(t, Config{Source: &chainOf{agents: agentsOf(20)}})
	if r := ask(t, at, "udp", "large.bitgram", dns.TypeTXT); !r.Truncated || len(r.Answer) > 0 {
		t.Errorf("by UDP: %v", r)
	}
	if r := ask(t, at, "tcp", "large.bitgram", dns.TypeTXT); r.Truncated || len(r.Answer) != 20 {
		t.Errorf("by TCP: %d", len(r.Answer))
	}
	s, err := New(Config{Source: &chainOf{agents: agentsOf(3)}, PerSecond: 5})
	if err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg)
	m.SetQuestion("far.bitgram.", dns.TypeTXT)
	m.SetEdns0(4096, false)
	answered := 0
	for i := range 100 {
		w := &recorder{from: &net.UDPAddr{IP: net.IPv4(203, 0, 113, byte(i)), Port: 53}}
		s.ServeDNS(w, m)
		if w.sent > amplify*m.Len() {
			t.Errorf("%d bytes for %d", w.sent, m.Len())
		}
		if w.sent > 0 {
			answered++
		}
	}
	if answered < 10 || answered > 80 {
		t.Errorf("%d of 100 questions were answered", answered)
	}
	w := &recorder{from: &net.UDPAddr{IP: net.IPv4(198, 51, 100, 1), Port: 53}}
	if s.ServeDNS(w, m); w.sent == 0 {
		t.Error("another network is not answered")
	}
}

// recorder is a client elsewhere.
type recorder struct {
	dns.ResponseWriter
	from net.Addr
	sent int
}

func (r *recorder) RemoteAddr() net.Addr { return r.from }
func (r *recorder) Write(b []byte) (int, error) {
	r.sent += len(b)
	return len(b), nil
}
func (r *recorder) WriteMsg(m *dns.Msg) error {
	b, err := m.Pack()
	r.sent += len(b)
	return err
}

// TestRefused: what is asked to amplify, to change or to confuse is refused.
func TestRefused(t *testing.T) {
	s, err := New(Config{Source: &chainOf{agents: agentsOf(1)}})
	if err != nil {
		t.Fatal(err)
	}
	at := start(t, s)
	for _, c := range []struct {
		name   string
		change func(*dns.Msg)
		rcode  int
	}{
		{"ANY", func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeANY }, dns.RcodeRefused},
		{"AXFR", func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAXFR }, dns.RcodeRefused},
		{"CHAOS", func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }, dns.RcodeRefused},
		{"update", func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }, dns.RcodeNotImplemented},
		{"two questions", func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }, dns.RcodeFormatError},
		{"EDNS 1", func(m *dns.Msg) { m.SetEdns0(1232, false).IsEdns0().SetVersion(1) }, dns.RcodeBadVers},
	} {
		m := new(dns.Msg)
		m.SetQuestion("a.bitgram.", dns.TypeA)
		c.change(m)
		r, _, err := (&dns.Client{Timeout: time.Minute}).Exchange(m, at)
		if err != nil || r.Rcode != c.rcode || len(r.Answer) > 0 {
			t.Errorf("%s: %v, %v", c.name, r, err)
		}
	}
}

// TestDig: what dig prints is what was asked for.
func TestDig(t *testing.T) {
	tier.NotShort(t)
	dig, err := exec.LookPath("dig")
	if err != nil {
		t.Skip("dig is not installed (Debian: bind9-dnsutils)")
	}
	_, at := serve(t, Config{Source: &chainOf{agents: agentsOf(2)}})
	host, port, _ := net.SplitHostPort(at)
	for _, c := range []struct{ args, want []string }{
		{[]string{"alice.bitgram", "A", "+short"}, []string{"192.0.2.1", "192.0.2.2"}},
		{[]string{"alice.bitgram", "SRV", "+short", "+tcp"}, []string{"0 0 4001 bg1agent0.bitgram.", "1 0 4001 bg1agent1.bitgram."}},
		{[]string{"alice.bitgram", "TXT", "+short"}, []string{`"rate=20000000 psat/byte-day"`}},
		{[]string{"alice.bitgram", "ANY"}, []string{"REFUSED"}},
	} {
		out, err := exec.Command(dig, append([]string{"@" + host, "-p", port, "+time=60", "+tries=1"}, c.args...)...).CombinedOutput()
		for _, want := range c.want {
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("dig %v: %v\n%s", c.args, err, out)
			}
		}
	}
}

// FuzzServe: no packet makes the server panic, or answer more than it may.
func FuzzServe(f *testing.F) {
	m := new(dns.Msg)
	m.SetQuestion("a.bitgram.", dns.TypeTXT)
	raw, _ := m.Pack()
	f.Add(raw)
	m.SetEdns0(65535, true)
	m.Question[0].Name = "A.\\000b.bitgram."
	raw, _ = m.Pack()
	f.Add(raw)
	s, err := New(Config{Source: &chainOf{agents: agentsOf(3)}, PerSecond: 1 << 20})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := new(dns.Msg)
		if m.Unpack(raw) != nil {
			return
		}
		w := &recorder{from: &net.UDPAddr{IP: net.IPv4(203, 0, 113, 1), Port: 53}}
		s.ServeDNS(w, m)
		if w.sent > max(amplify*len(raw), len(raw)+16) {
			t.Errorf("%d bytes for %d: %v", w.sent, len(raw), m)
		}
	})
}

// BenchmarkCached answers from the cache, without the sockets.
func BenchmarkCached(b *testing.B) {
	s, err := New(Config{Source: &chainOf{agents: agentsOf(3)}})
	if err != nil {
		b.Fatal(err)
	}
	m := new(dns.Msg)
	m.SetQuestion("a.bitgram.", dns.TypeA)
	w := &recorder{from: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 53}}
	b.ReportAllocs()
	for b.Loop() {
		s.ServeDNS(w, m)
	}
}

// TestBurned: of the hints that speak for a name the one counts for which most was
// burned, and one that does not answer leaves it to the next.
func TestBurned(t *testing.T) {
	up := &upstream{names: map[string][]dns.RR{"www.shop.chain.": {rr(t, "www.shop.chain. 60 IN A 203.0.113.2")}}}
	server, silent := netip.MustParseAddrPort(start(t, up)), netip.MustParseAddrPort("127.0.0.1:1")
	host := netip.MustParseAddr("203.0.113.1")
	for name, c := range map[string]struct {
		domains map[string]netip.AddrPort
		burned  map[string]int64
		want    string
	}{
		"host":                {map[string]netip.AddrPort{"shop.chain": server}, map[string]int64{host.String(): 2, server.String(): 1}, "203.0.113.1"},
		"domain":              {map[string]netip.AddrPort{"shop.chain": server}, map[string]int64{host.String(): 1, server.String(): 2}, "203.0.113.2"},
		"equal":               {map[string]netip.AddrPort{"shop.chain": server}, nil, "203.0.113.2"},
		"silent":              {map[string]netip.AddrPort{"www.shop.chain": silent, "shop.chain": server}, map[string]int64{silent.String(): 3, server.String(): 2}, "203.0.113.2"},
		"silent, then a host": {map[string]netip.AddrPort{"shop.chain": silent}, map[string]int64{silent.String(): 3}, "203.0.113.1"},
	} {
		_, at := serve(t, Config{Source: &chainOf{hosts: map[string]netip.Addr{"www.shop.chain": host}, domains: c.domains, burned: c.burned}, Private: true})
		r := ask(t, at, "udp", "www.shop.chain", dns.TypeA)
		if len(r.Answer) != 1 || r.Answer[0].(*dns.A).A.String() != c.want {
			t.Errorf("%s: %v", name, r)
		}
	}
}

// TestNeverReads: a client that asks by TCP and does not read is left, and does not
// keep the server from ending.
func TestNeverReads(t *testing.T) {
	var many []dns.RR
	for i := range 2000 {
		many = append(many, rr(t, fmt.Sprintf("large.example. 60 IN A 198.51.%d.%d", i/256, i%256)))
	}
	up := &upstream{names: map[string][]dns.RR{"large.example.": many}}
	_, at := serve(t, Config{Source: &chainOf{}, Upstream: []string{start(t, up)}})
	raw, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if err := raw.(*net.TCPConn).SetReadBuffer(2048); err != nil {
		t.Fatal(err)
	}
	c := &dns.Conn{Conn: raw}
	m := new(dns.Msg)
	m.SetQuestion("large.example.", dns.TypeA)
	for range 127 {
		if err := c.WriteMsg(m); err != nil {
			break // the server has left
		}
	}
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if err := c.WriteMsg(m); err != nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal("it is not left")
		}
	}
}

// TestOneNetwork: a network has a share of the connections and of what is waited
// for.
func TestOneNetwork(t *testing.T) {
	l := newListener(nil)
	from := netip.MustParseAddr("203.0.113.7")
	for i := range maxConnsOf + 1 {
		if ok := l.enter(&conn{l: l, from: networkOf(from)}, false); ok != (i < maxConnsOf) {
			t.Fatalf("connection %d: %v", i, ok)
		}
	}
	if !l.enter(&conn{l: l, from: networkOf(netip.MustParseAddr("198.51.100.1"))}, false) {
		t.Error("another network has no place")
	}
	s, err := New(Config{Source: &chainOf{agents: agentsOf(1)}})
	if err != nil {
		t.Fatal(err)
	}
	s.of[networkOf(from)] = maxWaitingOf
	if s.look(question{"a.bitgram.", dns.TypeA}, from) != nil || s.look(question{"a.bitgram.", dns.TypeA}, netip.MustParseAddr("198.51.100.1")) == nil {
		t.Error("one network takes what it likes")
	}
}
