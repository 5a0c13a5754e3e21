package sim

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/bitgram/bitgram/internal/engine"
	"github.com/bitgram/bitgram/internal/node"
	"github.com/bitgram/bitgram/internal/p2p"
	"github.com/bitgram/bitgram/wire"
)

// Backup makes a backup of a home before its N-th effect of a type, counted
// from 1, or when it has answered its N-th request of a kind. The home
// continues; Later blocks after that its disk is lost, and it is restored from
// the backup.
type Backup struct {
	At    string // an effect as %T prints it; Quote, Store, Release or Acknowledge
	N     int
	Later wire.Height

	mu       sync.Mutex
	counted  int
	dir      string // of what was saved; "" before
	height   wire.Height
	restored bool
}

// Restored reports whether the restore happened.
func (b *Backup) Restored() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.restored
}

// at is called at each point where a backup may be due.
func (h *Home) at(what string) {
	b := h.Backup
	b.mu.Lock()
	defer b.mu.Unlock()
	if what != b.At || h.Node == nil {
		return
	}
	if b.counted++; b.counted != b.N {
		return
	}
	dir := h.Cfg.Dir + ".backup"
	h.lab.must(os.Mkdir(dir, 0o700))
	h.lab.must(h.Node.Snapshot(context.Background(), filepath.Join(dir, "bitgram.db")))
	h.lab.must(copyRead(dir, h.Cfg.Dir))
	b.dir, b.height = dir, h.lab.Height()
}

// copyRead copies the messages that were read, which a backup contains too.
func copyRead(to, from string) error {
	return fs.WalkDir(os.DirFS(from), "incoming", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".eml") {
			return nil // none there, or gone meanwhile
		}
		raw, err := os.ReadFile(filepath.Join(from, path))
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(to, filepath.Dir(path)), 0o700); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, path), raw, 0o600)
	})
}

// restore restores the homes that are due.
func (l *Lab) restore() {
	l.T.Helper()
	for _, h := range l.Up() {
		b := h.Backup
		if b == nil || b.restored || b.dir == "" || l.Height() < b.height+b.Later {
			continue
		}
		h.Close()
		l.must(os.RemoveAll(h.Cfg.Dir))
		l.must(os.Rename(b.dir, h.Cfg.Dir))
		l.must(node.MarkRestored(context.Background(), filepath.Join(h.Cfg.Dir, "bitgram.db")))
		b.mu.Lock()
		b.restored = true
		b.mu.Unlock()
		h.Open()
	}
}

// watch makes a node's effects and answers call at.
func (h *Home) watch(cfg *node.Config) {
	cfg.Intercept = func(e engine.Executor) engine.Executor { return saver{e, h} }
	serve := cfg.Serve
	cfg.Serve = func(s p2p.Service) p2p.Service {
		if serve != nil {
			s = serve(s)
		}
		return served{s, h}
	}
}

type saver struct {
	engine.Executor
	home *Home
}

func (s saver) Do(ctx context.Context, ref engine.Ref, e engine.Effect) (func(engine.Tx) ([]engine.Delivery, error), error) {
	s.home.at(fmt.Sprintf("%T", e))
	return s.Executor.Do(ctx, ref, e)
}

type served struct {
	p2p.Service
	home *Home
}

func (s served) Quote(ctx context.Context, from p2p.Caller, r *wire.QuoteRequest) (*wire.Quote, error) {
	q, err := s.Service.Quote(ctx, from, r)
	s.home.at("Quote")
	return q, err
}

func (s served) Store(ctx context.Context, p *wire.Package, proceed func() (io.Reader, error)) (*wire.Receipt, error) {
	r, err := s.Service.Store(ctx, p, proceed)
	s.home.at("Store")
	return r, err
}

func (s served) Release(ctx context.Context, r *wire.Release) (*wire.Reveal, error) {
	reveal, err := s.Service.Release(ctx, r)
	s.home.at("Release")
	return reveal, err
}

func (s served) Acknowledge(ctx context.Context, a *wire.Acknowledge) error {
	err := s.Service.Acknowledge(ctx, a)
	s.home.at("Acknowledge")
	return err
}
