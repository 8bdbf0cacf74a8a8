package topk

// none is the position of no counter.
const none = -1

// counter is a monitored key. Counters with the same bucket are a chain.
type counter struct {
	key   string
	hash  uint64
	count uint64 // upper bound for the true count
	err   uint64 // count-err is the lower bound; never above count
	next  int32  // position of the next counter of the chain, or none
	pos   int32  // position in the heap
}

// bucket returns the head of the chain for a hash.
func (s *Sketch) bucket(hash uint64) *int32 {
	return &s.buckets[hash&uint64(len(s.buckets)-1)]
}

// find returns the position of the counter for key, or none.
func (s *Sketch) find(hash uint64, key string) int32 {
	i := *s.bucket(hash)
	for i != none {
		c := &s.counters[i]
		if c.hash == hash && c.key == key {
			break
		}
		i = c.next
	}
	return i
}

// link puts counter i first in its chain.
func (s *Sketch) link(i int32) {
	head := s.bucket(s.counters[i].hash)
	s.counters[i].next = *head
	*head = i
}

// unlink takes counter i out of its chain.
func (s *Sketch) unlink(i int32) {
	at := s.bucket(s.counters[i].hash)
	for *at != i {
		at = &s.counters[*at].next
	}
	*at = s.counters[i].next
}

// clearBuckets empties all chains.
func (s *Sketch) clearBuckets() {
	for i := range s.buckets {
		s.buckets[i] = none
	}
}
