package driver

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

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
	resp3 bool

	next    map[string]edge // by the exact bytes of the command
	refused map[string][]byte
	flights map[flightKey]underWay
	users   int    // handles in this state
	used    uint64 // memory.clock when a handle last came here
}

// step is one command of a session.
type step struct {
	slots command.Slots
	login *login // has its credentials; nil: they are in the request
	pooler.Step
}

// isRESP3 reports whether the step switches to RESP3.
func (st step) isRESP3() bool { return st.slots&command.SlotProto != 0 && isRESP3(st.Request) }

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

// underWay is a step that a handle takes.
type underWay struct {
	began time.Time
	over  chan struct{} // closed when it is
}

// flightTime is how long other handles of the client wait for a step. One that takes
// longer hangs where they needn't: its credentials provider, say.
const flightTime = time.Second

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
		pool: pooler.NewSession(ps...), steps: steps, key: key, resp3: slices.ContainsFunc(steps, step.isRESP3),
		next: make(map[string]edge), refused: make(map[string][]byte), flights: make(map[flightKey]underWay),
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
	s.pool.SetVacant(false)
}

// leave takes a handle out of s.
func (m *memory) leave(s *session) {
	m.mu.Lock()
	s.users--
	s.pool.SetVacant(s.users == 0)
	m.mu.Unlock()
}

// ask says what is known of the command in state s. If nothing is, the caller either
// has to wait for another handle of its client, or to make the attempt, and to tell
// with finish when it has.
//
// What the server has accepted from others it need not accept from this client: the
// first step of its first handle, and the first of each login, are taken again.
func (m *memory) ask(s *session, frame []byte, who *client) (a answer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k, ok := s.next[string(frame)]; ok {
		switch {
		case k.to.pool.Dead():
			m.forgetLocked(k.to)
		case !m.checks(s, k) || who.isLetInto(k.to):
			if f, ok := s.flights[flightKey{who, string(frame)}]; ok && a.awaits(f) {
				return a // until the connection that has taken the step is there for the next
			}
			return answer{to: k.to, reply: k.reply}
		default:
			a.check = true
		}
	}
	if reply, ok := s.refused[string(frame)]; ok {
		return answer{reply: reply}
	}
	if f, led := m.leadLocked(s, frame, who); !led {
		a.awaits(f)
	}
	return a // if the other attempt takes long, this handle is to make it too
}

// answer is what a memory says of a command.
type answer struct {
	to    *session        // where it leads, if that is known
	reply []byte          // nil: it is to be sent
	check bool            // only to see whether the client is let in
	wait  <-chan struct{} // until another handle has sent it
	until time.Time       // no longer than that
}

// awaits has the handle wait for the attempt, unless that takes too long.
func (a *answer) awaits(f underWay) bool {
	if time.Since(f.began) >= flightTime {
		return false
	}
	a.wait, a.until = f.over, f.began.Add(flightTime)
	return true
}

// checks reports whether the server is asked about a step anew for each client.
func (m *memory) checks(from *session, k edge) bool { return from == m.root || k.login }

// begin takes the lead for the command in state s, if no handle of the client has it.
func (m *memory) begin(s *session, frame []byte, who *client) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, led := m.leadLocked(s, frame, who)
	return led
}

// leadLocked begins the attempt, unless another handle of the client makes it already.
func (m *memory) leadLocked(s *session, frame []byte, who *client) (f underWay, led bool) {
	key := flightKey{who, string(frame)}
	if f, ok := s.flights[key]; ok {
		return f, false
	}
	f = underWay{time.Now(), make(chan struct{})}
	s.flights[key] = f
	return f, true
}

// finish ends an attempt and wakes those who wait for it.
func (m *memory) finish(s *session, frame []byte, who *client) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := flightKey{who, string(frame)}
	if f, ok := s.flights[key]; ok {
		delete(s.flights, key)
		close(f.over)
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
// returns that state, or nil if there is no room for it.
func (m *memory) extend(s *session, frame, reply []byte, slots command.Slots, who *client) *session {
	if len(reply) > maxReply {
		return nil
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
	to := m.stateLocked(follow(s.steps, st), who.fixed)
	if to == nil || to == s {
		return to
	}
	k := edge{to, st.Reply, slots&command.SlotAuth != 0}
	s.next[string(st.Request)] = k
	if m.checks(s, k) {
		who.letInto(to)
	}
	return to
}

// stateLocked finds or makes the state. fixed: see [pooler.Session.SetFixed].
func (m *memory) stateLocked(steps []step, fixed int) *session {
	if len(steps) > maxSteps {
		return nil
	}
	var key []byte
	for _, st := range steps {
		key = append(key, st.Request...)
		if st.login != nil {
			key = append(key, st.login.id...)
		}
	}
	if s := m.states[string(key)]; s != nil && !s.pool.Dead() {
		return s
	}
	for len(m.states) >= maxSessions*4 || m.finalLocked() >= maxSessions {
		if !m.evictLocked() {
			return nil
		}
	}
	s := m.newSession(steps, string(key))
	s.pool.SetFixed(fixed)
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

// evictLocked forgets the state that has been without a handle longest: a final one,
// if there is one.
func (m *memory) evictLocked() bool {
	var old *session
	for _, s := range m.states {
		if s.users > 0 || len(s.flights) > 0 {
			continue
		}
		final := len(s.next) == 0
		if old == nil || final && len(old.next) > 0 || final == (len(old.next) == 0) && s.used < old.used {
			old = s
		}
	}
	if old != nil {
		m.forgetLocked(old)
	}
	return old != nil
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
