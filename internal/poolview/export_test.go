package poolview

// MaxGone is maxGone.
const MaxGone = maxGone

// Len is how much is kept.
func (c *Counters[S, K]) Len() int { return len(c.sources) + len(c.sums) }
