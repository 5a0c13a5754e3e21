package seal

import "github.com/bitgram/bitgram/wire"

// Root is ss₀, from which FromRoot restores all of s. It is as secret as the
// message: it opens it.
func (s *Secrets) Root() wire.Secret { return s.ss0 }

// FromRoot restores the secrets of the message with ephemeral key E to
// recipient from what Root gave, for a program that was restarted meanwhile.
func FromRoot(root wire.Secret, E, recipient wire.Key) *Secrets {
	s := &Secrets{e: E, r: recipient, ss0: root}
	s.finish()
	return s
}
