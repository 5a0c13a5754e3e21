package seal

import "github.com/bitgram/bitgram/wire"

// Root returns ss0, from which FromRoot restores all of s. It is as secret as
// the message, because it decrypts it.
func (s *Secrets) Root() wire.Secret { return s.ss0 }

// FromRoot restores, after a restart, the secrets of the message with ephemeral
// key E to recipient from the result of Root.
func FromRoot(root wire.Secret, E, recipient wire.Key) *Secrets {
	s := &Secrets{e: E, r: recipient, ss0: root}
	s.finish()
	return s
}
