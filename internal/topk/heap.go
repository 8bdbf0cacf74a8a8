package topk

// The heap finds the counter to replace next. It is written out here because
// container/heap calls through an interface for each comparison, on the path of
// every Add.

// before says whether c is replaced before o: the lowest count goes first, and of
// equal counts the one with the largest error, for it is the least certain.
func (c *counter) before(o *counter) bool {
	return c.count < o.count || c.count == o.count && c.err > o.err
}

// before says whether counter a is replaced before counter b.
func (s *Sketch) before(a, b int32) bool {
	return s.counters[a].before(&s.counters[b])
}

// place puts counter i at a position of the heap.
func (s *Sketch) place(i int32, pos int) {
	s.heap[pos] = i
	s.counters[i].pos = int32(pos)
}

// down moves the counter at pos to where it belongs after its count grew.
func (s *Sketch) down(pos int) {
	i := s.heap[pos]
	for {
		child := 2*pos + 1
		if child >= len(s.heap) {
			break
		}
		if right := child + 1; right < len(s.heap) && s.before(s.heap[right], s.heap[child]) {
			child = right
		}
		if !s.before(s.heap[child], i) {
			break
		}
		s.place(s.heap[child], pos)
		pos = child
	}
	s.place(i, pos)
}

// up moves the counter at pos to where it belongs after it was appended.
func (s *Sketch) up(pos int) {
	i := s.heap[pos]
	for pos > 0 {
		parent := (pos - 1) / 2
		if !s.before(i, s.heap[parent]) {
			break
		}
		s.place(s.heap[parent], pos)
		pos = parent
	}
	s.place(i, pos)
}
