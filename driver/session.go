package driver

import (
	"bytes"
	"slices"
	"sync"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/internal/resp"
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

	next    map[string]known // by the exact bytes of the command
	refused map[string][]byte
	flights map[string]chan struct{} // handshakes under way, by their next command
	users   int                      // handles in this state
	used    uint64                   // memory.clock when a handle last came here
}

// step is one command of a session.
type step struct {
	slots command.Slots
	pooler.Step
}

// known is where a command leads, and its reply.
type known struct {
	to    *session
	reply []byte
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
	}
	return &session{
		pool: pooler.NewSession(ps...), steps: steps, key: key,
		next: make(map[string]known), refused: make(map[string][]byte), flights: make(map[string]chan struct{}),
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
// the caller either gets a channel that is closed when somebody else's attempt
// has ended, or has to make the attempt, and to tell with finish when it has.
func (m *memory) ask(s *session, frame []byte) (to *session, reply []byte, wait <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k, ok := s.next[string(frame)]; ok {
		if !k.to.pool.Dead() {
			return k.to, k.reply, nil
		}
		m.forgetLocked(k.to)
	}
	if reply, ok := s.refused[string(frame)]; ok {
		return nil, reply, nil
	}
	if ch, ok := s.flights[string(frame)]; ok {
		return nil, nil, ch
	}
	s.flights[string(frame)] = make(chan struct{})
	return nil, nil, nil
}

// begin takes the lead for the command in state s, if nobody has it.
func (m *memory) begin(s *session, frame []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := s.flights[string(frame)]; ok {
		return false
	}
	s.flights[string(frame)] = make(chan struct{})
	return true
}

// finish ends an attempt and wakes those who wait for it.
func (m *memory) finish(s *session, frame []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ch, ok := s.flights[string(frame)]; ok {
		delete(s.flights, string(frame))
		close(ch)
	}
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

// extend remembers that the command has led from s to another state, and
// returns that state, or nil if there is no room for it.
func (m *memory) extend(s *session, frame, reply []byte, slots command.Slots) *session {
	if len(reply) > maxReply {
		return nil
	}
	st := step{slots, pooler.Step{
		Request: bytes.Clone(frame), Reply: bytes.Clone(reply),
		Optional: slots&^(command.SlotLibName|command.SlotLibVer) == 0,
	}}
	m.mu.Lock()
	defer m.mu.Unlock()
	to := m.stateLocked(follow(s.steps, st))
	if to != nil {
		s.next[string(st.Request)] = known{to, st.Reply}
	}
	return to
}

// renew returns the state that steps make, or nil if there is no room for it.
func (m *memory) renew(steps []step) *session {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stateLocked(steps)
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
// what the other commands may do, so their order around it is kept.
func follow(steps []step, st step) []step {
	out := make([]step, 0, len(steps)+1)
	for i, old := range steps {
		overruled := old.slots&^st.slots == 0
		if overruled && (st.slots&command.SlotAuth == 0 || i == len(steps)-1) {
			continue
		}
		out = append(out, old)
	}
	return append(out, st)
}

// withCredentials returns the steps with the user and password of their
// authentication replaced, or nil if none of them authenticates or nothing
// would change.
func withCredentials(steps []step, username, password string) []step {
	out := slices.Clone(steps)
	found, differs := false, false
	for i, st := range out {
		if st.slots&command.SlotAuth == 0 {
			continue
		}
		frame := reauthenticate(st.Request, username, password)
		if frame == nil || found {
			return nil // two of them: who it was that the session belongs to isn't known
		}
		if found = true; !bytes.Equal(frame, st.Request) {
			differs = true
			out[i].Step = pooler.Step{Request: frame, Reply: st.Reply}
		}
	}
	if !differs {
		return nil
	}
	return out
}

// reauthenticate rewrites HELLO .. AUTH user password, AUTH user password or
// AUTH password.
func reauthenticate(frame []byte, username, password string) []byte {
	var sc resp.RequestScanner
	if _, done, err := sc.Next(frame); err != nil || !done || sc.Seen() < sc.NumArgs() {
		return nil
	}
	args := make([][]byte, sc.NumArgs())
	for i := range args {
		a := sc.Arg(i)
		args[i] = frame[a.Start:a.End]
	}
	at := slices.IndexFunc(args, func(a []byte) bool { return bytes.EqualFold(a, []byte("AUTH")) })
	switch {
	case at < 0:
		return nil
	case at == 0 && username == "":
		args = [][]byte{args[0], []byte(password)}
	case at == 0:
		args = [][]byte{args[0], []byte(username), []byte(password)}
	case at+2 < len(args):
		if username == "" {
			username = "default"
		}
		args[at+1], args[at+2] = []byte(username), []byte(password)
	default:
		return nil
	}
	return resp.AppendCommand(nil, args...)
}
