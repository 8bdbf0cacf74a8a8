package main

import "sync"

// account says what became of a driver's writes.
//
// A write is acknowledged when its caller was told that it has run, and of unknown
// outcome when its caller was told that this isn't known. What the server has in the end
// must be all that was acknowledged, and at most what was of unknown outcome besides:
//
//	acknowledged <= found <= acknowledged + unknown
type account struct {
	Acked   int64 `json:"acked"`
	Unknown int64 `json:"unknown"`
	Found   int64 `json:"found"`
	Lost    int64 `json:"lost"`    // acknowledged, and not there
	Twice   int64 `json:"twice"`   // there beyond what the callers were told: run again behind their backs
	Torn    int64 `json:"torn"`    // transactions of which a part has run
	Foreign int64 `json:"foreign"` // replies that belong to another request
}

func (a account) plus(b account) account {
	return account{
		a.Acked + b.Acked, a.Unknown + b.Unknown, a.Found + b.Found,
		a.Lost + b.Lost, a.Twice + b.Twice, a.Torn + b.Torn, a.Foreign + b.Foreign,
	}
}

// sound says whether every write is accounted for.
func (a account) sound() bool { return a.Lost == 0 && a.Twice == 0 && a.Torn == 0 && a.Foreign == 0 }

// span is how far the counters are from each other: a value that is nearer to another one
// is foreign. Where there is no counter any more, values begin at 0.
const span = 1 << 40

// counter accounts for the INCRs of one caller, on a key that nobody else writes. Each
// reply must be one more than the reply before it, and more only by as much as there
// were unknown outcomes.
type counter struct {
	key  string
	base int64 // the key's value at the start

	mu      sync.Mutex
	last    int64 // the last value that was acknowledged
	open    int64 // unknown outcomes that no reply has told anything of yet
	account account
}

// newCounter returns the counter number n.
func newCounter(key string, n int) *counter {
	base := int64(n+1) * span
	return &counter{key: key, base: base, last: base}
}

// ack takes note of an INCR's reply.
func (c *counter) ack(value int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.account.Acked++
	if value < span/2 {
		value += c.base // all that was written is lost
	}
	if value <= c.base-span/2 || value >= c.base+span/2 {
		c.account.Foreign++
		c.open++ // its own reply went elsewhere, so whether it has run isn't known
		return
	}
	c.last++
	c.moveLocked(value)
}

// fail takes note of an INCR that has failed.
func (c *counter) fail(unknown bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if unknown {
		c.account.Unknown++
		c.open++
	}
}

// soFar is what is known until now.
func (c *counter) soFar() account {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.account
}

// settle takes note of the value that the server has in the end, 0 if it has none.
func (c *counter) settle(found int64) account {
	c.mu.Lock()
	defer c.mu.Unlock()
	if found < span/2 {
		found += c.base
	}
	c.moveLocked(found)
	c.account.Found = found - c.base
	return c.account
}

// moveLocked compares the server's value with the one that is expected.
func (c *counter) moveLocked(value int64) {
	more := value - c.last
	if more < 0 {
		c.account.Lost -= more
	} else {
		explained := min(more, c.open)
		c.open -= explained
		c.account.Twice += more - explained
	}
	c.last = value
}

// items accounts for values that are pushed to a list, each of them once.
type items struct {
	mu      sync.Mutex
	told    map[string]told
	account account // so far
}

// told is what the caller of a push was told.
type told uint8

const (
	toldFailed told = iota
	toldUnknown
	toldDone
)

func newItems() *items { return &items{told: make(map[string]told)} }

// note takes note of a push.
func (l *items) note(item string, what told) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told[item] = what
	switch what {
	case toldDone:
		l.account.Acked++
	case toldUnknown:
		l.account.Unknown++
	case toldFailed:
	}
}

// misled takes note of a reply that belongs to another request.
func (l *items) misled() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.account.Foreign++
}

// soFar is what is known until now.
func (l *items) soFar() account {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.account
}

// settle compares what was pushed with what is found in the end.
func (l *items) settle(found []string) account {
	l.mu.Lock()
	defer l.mu.Unlock()
	times := make(map[string]int64)
	for _, item := range found {
		times[item]++
	}
	a := l.account
	a.Found = int64(len(found))
	for item, what := range l.told {
		n := times[item]
		delete(times, item)
		allowed := int64(1)
		if what == toldFailed {
			allowed = 0
		}
		a.Twice += max(n-allowed, 0)
		if what == toldDone && n == 0 {
			a.Lost++
		}
	}
	for _, n := range times {
		a.Foreign += n // nobody has pushed that
	}
	return a
}
