package bitcoind

import (
	"sync"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
)

const (
	// resendTime is the time after which a transaction is sent again although the
	// node's mempool has it, because other nodes may have lost it.
	resendTime = time.Hour
	// maxSent is the maximum number of transactions that are remembered. What is
	// forgotten is only sent again.
	maxSent = 4096
)

// sent contains when the node accepted transactions, by wtxid.
type sent struct {
	mu sync.Mutex
	at map[chainhash.Hash]time.Time
}

// lately reports whether the node accepted a transaction within resendTime.
func (s *sent) lately(id chainhash.Hash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.at[id]
	return ok && time.Since(at) < resendTime
}

func (s *sent) add(id chainhash.Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil {
		s.at = map[chainhash.Hash]time.Time{}
	}
	if len(s.at) >= maxSent {
		for old, at := range s.at {
			if time.Since(at) >= resendTime {
				delete(s.at, old)
			}
		}
		for old := range s.at { // any half
			if len(s.at) <= maxSent/2 {
				break
			}
			delete(s.at, old)
		}
	}
	s.at[id] = time.Now()
}
