package pooler

import "sync"

// stash is what has come for a rider while it received nothing. No lock, no I/O.
type stash struct {
	b []byte
	r int // b[r:] is still to be received
}

// maxIdleHeld is the largest buffer that a rider keeps.
const maxIdleHeld = 4 << 10

// heldBuffers are lent to riders that hold more: of *[maxHeld]byte.
var heldBuffers sync.Pool

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
	if size := len(s.b) + n; cap(s.b) < size {
		before := s.b
		switch {
		case size <= maxIdleHeld:
			s.b = make([]byte, 0, min(max(2*cap(s.b), size), maxIdleHeld))
		case size <= maxHeld:
			lent, _ := heldBuffers.Get().(*[maxHeld]byte)
			if lent == nil {
				lent = new([maxHeld]byte)
			}
			s.b = lent[:0]
		default:
			s.b = make([]byte, 0, max(2*cap(s.b), size))
		}
		s.b = append(s.b, before...)
	}
	return s.b[len(s.b) : len(s.b)+n]
}

func (s *stash) add(n int) { s.b = s.b[:len(s.b)+n] }

// drop forgets what is held, and gives a lent buffer back.
func (s *stash) drop() {
	switch {
	case cap(s.b) <= maxIdleHeld:
		s.b = s.b[:0]
	case cap(s.b) == maxHeld:
		heldBuffers.Put((*[maxHeld]byte)(s.b[:maxHeld]))
		s.b = nil
	default:
		s.b = nil
	}
	s.r = 0
}
