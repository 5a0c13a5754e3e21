package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/chain"
	"github.com/bitgram/bitgram/internal/node/coins"
)

// health reports whether all is well and, as a code, what is not. Only a caller
// with the token gets the reason.
func (s *Server) health(w http.ResponseWriter, r *http.Request, known bool) {
	type health struct {
		OK     bool     `json:"ok"`
		Code   api.Code `json:"code,omitempty"`
		Reason string   `json:"reason,omitempty"`

		Warnings []api.Code `json:"warnings,omitempty"`
	}
	n, err := s.get()
	if err == nil {
		trouble := n.Engine().Trouble()
		if trouble == nil {
			ask := s.oldHealth
			if known {
				ask = s.nodeHealth
			}
			trouble = ask(r.Context())
		}
		if !n.Engine().Synced() {
			err = coins.ErrSyncing
		}
		select {
		case <-n.Ended():
			err = errors.Join(ErrEnded, err)
		default:
		}
		err = errors.Join(err, trouble)
	}
	if err != nil {
		h := health{Code: CodeOf(err)}
		if known {
			h.Reason = err.Error()
		}
		writeJSON(w, http.StatusServiceUnavailable, h)
		return
	}
	h := health{OK: true}
	if n.Directory.HintTrouble() != nil {
		h.Warnings = append(h.Warnings, api.CodeHintLost)
	}
	for _, err := range s.advice(r.Context()) {
		h.Warnings = append(h.Warnings, CodeOf(err))
	}
	writeJSON(w, http.StatusOK, h)
}

// healthTime is the time limit for the Bitcoin node to answer.
const healthTime = 5 * time.Second

// nodeHealth checks the Bitcoin node, which may not answer at all.
func (s *Server) nodeHealth(ctx context.Context) error {
	if s.cfg.Health == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	err := s.cfg.Health(ctx)
	if ctx.Err() != nil {
		err = fmt.Errorf("%w: no answer within %v", chain.ErrUnavailable, healthTime)
	}
	return err
}

// adviceTime is how long the Bitcoin node's settings are believed to be the same.
const adviceTime = 10 * time.Second

// advice returns what is wrong with the Bitcoin node's settings. It asks at most
// once in adviceTime, for all callers.
func (s *Server) advice(ctx context.Context) []error {
	if s.cfg.Advise == nil {
		return nil
	}
	s.advised.mu.Lock()
	defer s.advised.mu.Unlock()
	if s.advised.at.IsZero() || time.Since(s.advised.at) >= adviceTime {
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), healthTime) // the answer is for later callers, too
		defer cancel()
		s.advised.list = s.cfg.Advise(within)
		s.advised.at = time.Now()
	}
	return s.advised.list
}

// oldHealth is nodeHealth for callers without a token: the node is asked at most
// once per second.
func (s *Server) oldHealth(ctx context.Context) error {
	s.asked.mu.Lock()
	defer s.asked.mu.Unlock()
	if time.Since(s.asked.at) >= time.Second {
		s.asked.err = s.nodeHealth(context.WithoutCancel(ctx)) // the answer is for later callers, too
		s.asked.at = time.Now()
	}
	return s.asked.err
}
