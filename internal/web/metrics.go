package web

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics serves /metrics.
func (s *Server) metrics() {
	reg := prometheus.NewRegistry()
	reg.MustRegister(&collector{s})
	s.mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelWarn)}))
}

// collector reads the node's figures when they are scraped.
type collector struct{ s *Server }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("bitgram_"+name, help, labels, nil)
}

// The metrics of /metrics.
var (
	descInfo     = desc("info", "Always 1; the labels say what runs.", "version", "network")
	descUptime   = desc("uptime_seconds", "Seconds since the daemon started.")
	descHeight   = desc("chain_height", "Height of the last block read.")
	descSynced   = desc("chain_synced", "1 if the last block read is the Bitcoin node's tip, else 0.")
	descPeers    = desc("dht_peers", "Number of peers in the DHT routing table.")
	descBalance  = desc("wallet_satoshi", "Balance of the wallet, by kind.", "kind")
	descMessages = desc("agent_messages", "Number of messages that the agent holds.")
	descBytes    = desc("agent_stored_bytes", "Bytes of held messages on disk.")
	descQuotes   = desc("agent_quotes", "Number of quotes given and not used.")
	descEarned   = desc("agent_earned_satoshi", "Earned by final claims, before fees.")
	descPending  = desc("agent_pending_satoshi", "Claimed or claimable, and not final.")
)

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descInfo, descUptime, descHeight, descSynced, descPeers, descBalance, descMessages, descBytes,
		descQuotes, descEarned, descPending} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(descInfo, 1, c.s.cfg.Version, string(c.s.cfg.Network))
	gauge(descUptime, time.Since(c.s.started).Seconds())
	n, err := c.s.get()
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), headerTime)
	defer cancel()
	gauge(descHeight, float64(n.Engine().Position().Height))
	gauge(descSynced, map[bool]float64{true: 1}[n.Engine().Synced()])
	gauge(descPeers, float64(n.Directory.Known()))
	if b, err := n.Coins.Balance(ctx); err == nil {
		gauge(descBalance, float64(b.Confirmed), "confirmed")
		gauge(descBalance, float64(b.Change), "change")
		gauge(descBalance, float64(b.Locked), "locked")
		gauge(descBalance, float64(b.Leaving()), "pending")
		gauge(descBalance, float64(b.Immature), "immature")
	}
	if !n.IsAgent() {
		return
	}
	if st, err := n.Stored(ctx); err == nil {
		gauge(descMessages, float64(st.Messages))
		gauge(descBytes, float64(st.Bytes))
		gauge(descQuotes, float64(st.Quotes))
		gauge(descEarned, float64(st.Earned))
		gauge(descPending, float64(st.Pending))
	}
}
