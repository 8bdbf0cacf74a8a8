package promhooks

import "sync"

// maxUnseen bounds the nodes that have told of something and that no scrape has
// seen.
const maxUnseen = 1024

// known are the nodes that something is kept of. Nodes come and go between two
// scrapes, or without any, so that what is told of them has to end too.
type known struct {
	mu     sync.Mutex // held for all that is made and dropped; nothing else is taken under it but the vectors' own
	scrape uint64
	seen   map[string]bool   // by the scrape before
	unseen map[string]uint64 // the others, by the scrape after which they told something last
}

// tell calls observe, unless there are too many nodes that no scrape has seen.
func (k *known) tell(node string, observe func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.seen[node] {
		if _, is := k.unseen[node]; !is && len(k.unseen) >= maxUnseen {
			return
		}
		if k.unseen == nil {
			k.unseen = make(map[string]uint64)
		}
		k.unseen[node] = k.scrape
	}
	observe()
}

// begin is called before the nodes are read: what is told from now on may be of one
// that is newer.
func (k *known) begin() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.scrape++
}

// end is called with the nodes that were read. Those that aren't among them leave,
// except that if nothing was watched, which has no nodes, those that no scrape has
// seen stay.
func (k *known) end(there map[string]bool, watched bool, enter, leave func(node string)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for node := range k.seen {
		if !there[node] {
			leave(node)
		}
	}
	for node, told := range k.unseen {
		switch {
		case there[node]:
			delete(k.unseen, node)
		case watched && told < k.scrape:
			delete(k.unseen, node)
			leave(node)
		}
	}
	for node := range there {
		enter(node)
	}
	k.seen = there
}
