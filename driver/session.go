package driver

import (
	"bytes"
	"context"
	"slices"
	"sync"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/pooler"
)

// Bounds of what is remembered for one node.
const (
	maxSessions = 64      // distinct final states
	maxSteps    = 24      // commands that make one state
	maxReply    = 8 << 10 // of one such command
	maxRefusals = 16      // of one state
)

// memory is what a node remembers of the handshakes: which commands lead from
// which session to which, and what the server replied. A handle that does what
// another did before it is answered from here.
//
// It holds credentials. They are compared as the exact bytes that the server
// accepted, and go nowhere but to the server.
type memory struct {
	mu     sync.Mutex
	root   *session
	states map[string]*session // by the commands that make them
	clock  uint64

	verdicts map[string]command.Facts // of commands that aren't in the table
}

// session is the state that a handle is in. Its fields, but for the first ones,
// are guarded by memory.mu.
type session struct {
	pool  *pooler.Session
	steps []step
	key   string

	next    map[string]edge // by the exact bytes of the command
	refused map[string][]byte
	flights map[flightKey]chan struct{} // steps under way
	users   int                         // handles in this state
	used    uint64                      // memory.clock when a handle last came here
}

// step is one command of a session.
type step struct {
	slots command.Slots
	login *login // has its credentials; nil: they are in the request
	pooler.Step
}

// as returns the step as the user of a later AUTH takes it, or nil if that is another
// user.
func (st step) as(later step) *step {
	username, password := credentialsIn(later.Request)
	if !sameUser(st.Request, username) {
		return nil
	}
	st.Request, st.login = reauthenticate(st.Request, username, password), later.login
	return &st
}

// edge is where a command leads, and its reply.
type edge struct {
	to    *session
	reply []byte
	login bool // it authenticates
}

// flightKey is what handles wait for together: a step that one of their client takes.
type flightKey struct {
	client *client
	frame  string
}

func newMemory() *memory {
	m := &memory{states: make(map[string]*session), verdicts: make(map[string]command.Facts)}
	m.root = m.newSession(nil, "")
	return m
}

func (m *memory) newSession(steps []step, key string) *session {
	ps := make([]pooler.Step, len(steps))
	for i, st := range steps {
		ps[i] = st.Step
		if st.login != nil {
			ps[i].Renew = func(ctx context.Context) ([]byte, error) { return st.login.fill(ctx, st.Request) }
		}
	}
	return &session{
		pool: pooler.NewSession(ps...), steps: steps, key: key,
		next: make(map[string]edge), refused: make(map[string][]byte), flights: make(map[flightKey]chan struct{}),
	}
}

// enter counts a handle in s.
func (m *memory) enter(s *session) {
	m.mu.Lock()
	m.enterLocked(s)
	m.mu.Unlock()
}

func (m *memory) enterLocked(s *session) {
	m.clock++
	s.users++
	s.used = m.clock
}

// leave takes a handle out of s.
func (m *memory) leave(s *session) {
	m.mu.Lock()
	s.users--
	m.mu.Unlock()
}

// ask says what is known of the command in state s: its reply and, unless the
// server refused it as unknown, the state that it leads to. If nothing is known
// the caller either gets a channel that is closed when the attempt of another handle
// of its client has ended, or has to make the attempt, and to tell with finish when
// it has.
//
// What the server has accepted from others it need not accept from this client: the
// first step of its first handle, and the first of each login, are taken again.
func (m *memory) ask(s *session, frame []byte, who *client) (to *session, reply []byte, wait <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k, ok := s.next[string(frame)]; ok {
		_, checked := who.checked.Load(k.to)
		switch {
		case k.to.pool.Dead():
			m.forgetLocked(k.to)
		case checked || s != m.root && !k.login:
			return k.to, k.reply, nil
		}
	}
	if reply, ok := s.refused[string(frame)]; ok {
		return nil, reply, nil
	}
	key := flightKey{who, string(frame)}
	if ch, ok := s.flights[key]; ok {
		return nil, nil, ch
	}
	s.flights[key] = make(chan struct{})
	return nil, nil, nil
}

// begin takes the lead for the command in state s, if no handle of the client has it.
func (m *memory) begin(s *session, frame []byte, who *client) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := flightKey{who, string(frame)}
	if _, ok := s.flights[key]; ok {
		return false
	}
	s.flights[key] = make(chan struct{})
	return true
}

// finish ends an attempt and wakes those who wait for it.
func (m *memory) finish(s *session, frame []byte, who *client) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := flightKey{who, string(frame)}
	if ch, ok := s.flights[key]; ok {
		delete(s.flights, key)
		close(ch)
	}
}

// doubt takes note that the server has refused what it may have accepted before: it
// is asked again for everybody.
func (m *memory) doubt(s *session, frame []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(s.next, string(frame))
}

// refuse remembers that the server doesn't know the command, until the node
// comes back from an outage.
func (m *memory) refuse(s *session, frame, reply []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(s.refused) < maxRefusals && len(reply) <= maxReply {
		s.refused[string(frame)] = bytes.Clone(reply)
	}
}

func (m *memory) forgetRefusals() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.root.refused)
	clear(m.verdicts)
	for _, s := range m.states {
		clear(s.refused)
	}
}

// extend remembers that the command of a client has led from s to another state, and
// returns that state, or nil if there is no room for it; known says whether it has
// led there before.
func (m *memory) extend(s *session, frame, reply []byte, slots command.Slots, who *client) (to *session, known bool) {
	if len(reply) > maxReply {
		return nil, false
	}
	st := step{slots: slots, Step: pooler.Step{
		Request: bytes.Clone(frame), Reply: bytes.Clone(reply),
		Optional: slots&^(command.SlotLibName|command.SlotLibVer) == 0,
	}}
	if who.login.renews(frame, slots) {
		st.login = who.login
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if to = m.stateLocked(follow(s.steps, st)); to == nil {
		return nil, false
	}
	if to != s {
		_, known = s.next[string(st.Request)]
		s.next[string(st.Request)] = edge{to, st.Reply, slots&command.SlotAuth != 0}
		who.checked.Store(to, nil)
	}
	return to, known
}

// stateLocked finds or makes the state.
func (m *memory) stateLocked(steps []step) *session {
	if len(steps) > maxSteps {
		return nil
	}
	var key []byte
	for _, st := range steps {
		key = append(key, st.Request...)
	}
	if s := m.states[string(key)]; s != nil && !s.pool.Dead() {
		return s
	}
	if len(m.states) >= maxSessions*4 || m.finalLocked() >= maxSessions {
		m.evictLocked()
	}
	if len(m.states) >= maxSessions*4 || m.finalLocked() >= maxSessions {
		return nil
	}
	s := m.newSession(steps, string(key))
	m.states[s.key] = s
	return s
}

// finalLocked counts the states that no other leads on from: a handshake passes
// through several states, and only the last is a session that is worked in.
func (m *memory) finalLocked() int {
	n := 0
	for _, s := range m.states {
		if len(s.next) == 0 {
			n++
		}
	}
	return n
}

// evictLocked forgets the final state that has been without a handle longest.
func (m *memory) evictLocked() {
	var old *session
	for _, s := range m.states {
		if s.users == 0 && len(s.flights) == 0 && len(s.next) == 0 && (old == nil || s.used < old.used) {
			old = s
		}
	}
	if old != nil {
		m.forgetLocked(old)
	}
}

// forgetLocked removes the state and all ways to it.
func (m *memory) forgetLocked(s *session) {
	if m.states[s.key] == s {
		delete(m.states, s.key)
	}
	remove := func(from *session) {
		for frame, k := range from.next {
			if k.to == s {
				delete(from.next, frame)
			}
		}
	}
	remove(m.root)
	for _, from := range m.states {
		remove(from)
	}
}

// follow returns the steps that make the state after one more. A step that the
// new one overrules entirely is left out, so that a handle that goes back and
// forth between two databases doesn't grow its session. Authentication changes
// what the other commands may do, so their order around it is kept; but a user that
// authenticates anew, with another password, has done so from the beginning.
func follow(steps []step, st step) []step {
	out := make([]step, 0, len(steps)+1)
	for i, old := range steps {
		if st.slots == command.SlotAuth && old.slots&command.SlotAuth != 0 {
			if again := old.as(st); again != nil {
				return slices.Concat(out, []step{*again}, steps[i+1:])
			}
		}
		overruled := old.slots&^st.slots == 0
		if overruled && (st.slots&command.SlotAuth == 0 || i == len(steps)-1) {
			continue
		}
		out = append(out, old)
	}
	return append(out, st)
}
