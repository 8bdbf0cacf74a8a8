package pooler

import "github.com/everpool/everpool/internal/lent"

// stash is what has come for a rider while it received nothing. No lock, no I/O.
type stash struct {
	b []byte
	r int // b[r:] is still to be received
}

// maxIdleHeld is the largest buffer that a rider keeps. What is larger is lent.
const maxIdleHeld = 4 << 10

func (s *stash) len() int { return len(s.b) - s.r }

// take moves what is held to p, as far as it has room.
func (s *stash) take(p []byte) int {
	n := copy(p, s.b[s.r:])
	if s.r += n; s.len() == 0 {
		s.drop()
	}
	return n
}

// room makes room to hold n bytes more; add says how many were put there.
func (s *stash) room(n int) []byte {
	if s.r > 0 {
		s.b = append(s.b[:0], s.b[s.r:]...)
		s.r = 0
	}
	if size := len(s.b) + n; size > maxIdleHeld {
		s.b = lent.Grow(s.b, n)
	} else if cap(s.b) < size {
		s.b = append(make([]byte, 0, min(max(2*cap(s.b), size), maxIdleHeld)), s.b...)
	}
	return s.b[len(s.b) : len(s.b)+n]
}

func (s *stash) add(n int) { s.b = s.b[:len(s.b)+n] }

// drop forgets what is held, and gives a lent buffer back.
func (s *stash) drop() {
	s.b, s.r = s.b[:0], 0
	if cap(s.b) > maxIdleHeld {
		lent.Back(s.b)
		s.b = nil
	}
}
