// Package session remembers, for each node, which commands of go-redis's handshake lead from
// which session to which, and what a client has been let into by the server. It has no
// connection, and asks nobody: handles do.
package session

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/pooler"
)

// MaxReply is the size of the largest reply that is remembered.
const MaxReply = 8 << 10

// Bounds of what is remembered for one node.
const (
	maxSessions = 64 // distinct final states
	maxSteps    = 24 // commands that make one state
	maxRefusals = 16 // of one state
)

// Memory is what a node remembers of the handshakes: which commands lead from
// which session to which, and what the server replied. A handle that does what
// another did before it is answered from here.
//
// It holds credentials. They are compared as the exact bytes that the server
// accepted, and go nowhere but to the server.
type Memory struct {
	mu     sync.Mutex
	root   *State
	states map[string]*State // by the commands that make them
	clock  uint64

	verdicts map[string]command.Facts // of commands that aren't in the table
}

// State is the state that a handle is in. Its fields, but for the first ones,
// are guarded by Memory.mu.
type State struct {
	Pool  *pooler.Session
	Key   string // the commands that make it, credentials and all
	RESP3 bool
	steps []step

	next    map[string]edge // by the exact bytes of the command
	refused map[string]refusal
	flights map[flightKey]*underWay
	users   int    // handles in this state
	used    uint64 // Memory.clock when a handle last came here
}

// step is one command of a session.
type step struct {
	slots command.Slots
	login *Login // has its credentials; nil: they are in the request
	pooler.Step
}

// isRESP3 reports whether the step switches to RESP3.
func (st step) isRESP3() bool { return st.slots&command.SlotProto != 0 && IsRESP3(st.Request) }

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
	to    *State
	reply []byte
	login bool // it authenticates
}

// refusal is a reply by which the server doesn't know a command.
type refusal struct {
	reply []byte
	at    time.Time
}

// refusedFor is for how long it is answered from memory: a server may be replaced by a newer
// one, behind a proxy or a name, with no outage to be noticed.
const refusedFor = 10 * time.Second

// flightKey is what handles wait for together: a step that one of their client takes.
type flightKey struct {
	client *Identity
	frame  string
}

// underWay is a step that a handle takes, or is about to.
//
// Its invariant: after one that was in vain the handle that has waited for it longest takes the
// step. Whoever has no patience would have it again and again otherwise, and give it up each
// time before the reply is there, while those who have wait for nothing.
type underWay struct {
	began time.Time
	line  []chan struct{} // of those who wait for it, in their order; closed when they may go on
	next  chan struct{}   // whose turn it is to take it; nil: it is being taken
}

// passOn has the first in the line take the step.
func (f *underWay) passOn() {
	f.next, f.line, f.began = f.line[0], f.line[1:], time.Now()
	close(f.next)
}

// flightTime is how long other handles of the client wait for a step. One that takes
// longer hangs where they needn't: its credentials provider, say.
const flightTime = time.Second

// NewMemory returns one that remembers nothing.
func NewMemory() *Memory {
	m := &Memory{states: make(map[string]*State), verdicts: make(map[string]command.Facts)}
	m.root = m.newSession(nil, "")
	return m
}

func (m *Memory) newSession(steps []step, key string) *State {
	ps := make([]pooler.Step, len(steps))
	for i, st := range steps {
		ps[i] = st.Step
		if st.login != nil {
			ps[i].Renew = func(ctx context.Context) ([]byte, error) { return st.login.Fill(ctx, st.Request) }
		}
	}
	return &State{
		Pool: pooler.NewSession(ps...), steps: steps, Key: key, RESP3: slices.ContainsFunc(steps, step.isRESP3),
		next: make(map[string]edge), refused: make(map[string]refusal), flights: make(map[flightKey]*underWay),
	}
}

// Root is the state of a connection on which nothing was said.
func (m *Memory) Root() *State { return m.root }

// Enter counts a handle in s.
func (m *Memory) Enter(s *State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clock++
	s.users++
	s.used = m.clock
	s.Pool.SetVacant(false)
}

// Leave takes a handle out of s.
func (m *Memory) Leave(s *State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s.users--
	s.Pool.SetVacant(s.users == 0)
}

// Ask says what is known of the command in state s. If nothing is, the caller either
// has to wait for another handle of its client, or to make the attempt, and to tell
// with Finish when it has. turn is what it has waited for, nil: nothing.
//
// What the server has accepted from others it need not accept from this client: the
// first step of its first handle, and the first of each login, are taken again.
func (m *Memory) Ask(s *State, frame []byte, who *Identity, turn <-chan struct{}) (a Answer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k, ok := s.next[string(frame)]; ok {
		switch {
		case k.to.Pool.Dead():
			m.forgetLocked(k.to)
		case !m.checks(s, k) || who.isLetInto(k.to):
			key := flightKey{who, string(frame)}
			switch f := s.flights[key]; {
			case f == nil:
			case f.next != nil && f.next == turn: // the reply to one that was given up has come since
				s.landLocked(key)
			case a.awaits(f, turn):
				return a // until the connection that has taken the step is there for the next
			}
			return Answer{To: k.to, Reply: k.reply}
		default:
			a.Check = true
		}
	}
	if r, ok := s.refused[string(frame)]; ok && time.Since(r.at) < refusedFor {
		return Answer{Reply: r.reply}
	}
	if f, led := m.leadLocked(s, frame, who, turn); !led {
		a.awaits(f, turn)
	}
	return a // if the other attempt takes long, this handle is to make it too
}

// Answer is what a memory says of a command.
type Answer struct {
	To    *State          // where it leads, if that is known
	Reply []byte          // nil: it is to be sent
	Check bool            // only to see whether the client is let in
	Wait  <-chan struct{} // until another handle has sent it; then Ask again, and GiveUp in the end
	Until time.Time       // no longer than that
}

// awaits has the handle wait for the attempt, unless that takes too long. One that has
// waited before keeps its place.
func (a *Answer) awaits(f *underWay, turn <-chan struct{}) bool {
	if time.Since(f.began) >= flightTime {
		return false
	}
	i := slices.IndexFunc(f.line, func(ch chan struct{}) bool { return ch == turn })
	if i < 0 {
		i = len(f.line)
		f.line = append(f.line, make(chan struct{}))
	}
	a.Wait, a.Until = f.line[i], f.began.Add(flightTime)
	return true
}

// checks reports whether the server is asked about a step anew for each client.
func (m *Memory) checks(from *State, k edge) bool { return from == m.root || k.login }

// Begin takes the lead for the command in state s, if no handle of the client has it.
func (m *Memory) Begin(s *State, frame []byte, who *Identity) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, led := m.leadLocked(s, frame, who, nil)
	return led
}

// leadLocked begins the attempt, unless another handle of the client makes it already, or has
// its turn now.
func (m *Memory) leadLocked(s *State, frame []byte, who *Identity, turn <-chan struct{}) (f *underWay, led bool) {
	key := flightKey{who, string(frame)}
	f = s.flights[key]
	switch {
	case f == nil:
		f = &underWay{}
		s.flights[key] = f
	case f.next == nil || f.next != turn:
		return f, false
	}
	f.began, f.next = time.Now(), nil
	return f, true
}

// Finish ends an attempt. If it has led somewhere those who wait for it go on, else one of
// them makes the next.
func (m *Memory) Finish(s *State, frame []byte, who *Identity) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := flightKey{who, string(frame)}
	f := s.flights[key]
	if f == nil {
		return
	}
	if !m.knowsLocked(s, frame, who) && len(f.line) > 0 {
		f.passOn()
		return
	}
	s.landLocked(key)
}

// landLocked has all go on who wait for the step.
func (s *State) landLocked(key flightKey) {
	for _, ch := range s.flights[key].line {
		close(ch)
	}
	delete(s.flights, key)
}

// knowsLocked reports whether the command needn't be sent.
func (m *Memory) knowsLocked(s *State, frame []byte, who *Identity) bool {
	if _, refused := s.refused[string(frame)]; refused {
		return true
	}
	k, ok := s.next[string(frame)]
	return ok && (!m.checks(s, k) || who.isLetInto(k.to))
}

// GiveUp takes a handle that has waited out of the line, if it is there still, and has the next
// one make the attempt if it was to.
func (m *Memory) GiveUp(s *State, frame []byte, who *Identity, turn <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := flightKey{who, string(frame)}
	f := s.flights[key]
	switch {
	case f == nil:
	case f.next != turn:
		f.line = slices.DeleteFunc(f.line, func(ch chan struct{}) bool { return ch == turn })
	case len(f.line) > 0:
		f.passOn()
	default:
		delete(s.flights, key)
	}
}

// Doubt takes note that the server has refused what it may have accepted before: it
// is asked again for everybody.
func (m *Memory) Doubt(s *State, frame []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(s.next, string(frame))
}

// Refuse remembers that the server doesn't know the command, for a while, or until the node
// comes back from an outage.
func (m *Memory) Refuse(s *State, frame, reply []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := s.refused[string(frame)]; (known || len(s.refused) < maxRefusals) && len(reply) <= MaxReply {
		s.refused[string(frame)] = refusal{bytes.Clone(reply), time.Now()}
	}
}

// ForgetRefusals has all be asked anew that the server didn't know: it may be another one.
func (m *Memory) ForgetRefusals() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.root.refused)
	clear(m.verdicts)
	for _, s := range m.states {
		clear(s.refused)
	}
}

// Extend remembers that the command of a client has led from s to another state, and
// returns that state, or nil if there is no room for it.
func (m *Memory) Extend(s *State, frame, reply []byte, slots command.Slots, who *Identity) *State {
	if len(reply) > MaxReply {
		return nil
	}
	st := step{slots: slots, Step: pooler.Step{
		Request: bytes.Clone(frame), Reply: bytes.Clone(reply),
		Optional: slots&^(command.SlotLibName|command.SlotLibVer) == 0,
	}}
	if who.Login.Renews(frame, slots) {
		st.login = who.Login
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(s.refused, string(frame)) // the server knows it by now
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
func (m *Memory) stateLocked(steps []step, fixed int) *State {
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
	if s := m.states[string(key)]; s != nil && !s.Pool.Dead() {
		return s
	}
	for len(m.states) >= maxSessions*4 || m.finalLocked() >= maxSessions {
		if !m.evictLocked() {
			return nil
		}
	}
	s := m.newSession(steps, string(key))
	s.Pool.SetFixed(fixed)
	m.states[s.Key] = s
	return s
}

// finalLocked counts the states that no other leads on from: a handshake passes
// through several states, and only the last is a session that is worked in.
func (m *Memory) finalLocked() int {
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
func (m *Memory) evictLocked() bool {
	var old *State
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
func (m *Memory) forgetLocked(s *State) {
	if m.states[s.Key] == s {
		delete(m.states, s.Key)
	}
	remove := func(from *State) {
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

// Lend returns the reply to the command in the state of that key, if the server has let
// the client go that way or doesn't know the command.
func (m *Memory) Lend(key string, frame []byte, who *Identity) (reply []byte, refused bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.root
	if key != "" {
		s = m.states[key]
	}
	if s == nil {
		return nil, false
	}
	if r, ok := s.refused[string(frame)]; ok {
		return r.reply, true
	}
	k, ok := s.next[string(frame)]
	if !ok || k.to.Pool.Dead() || m.checks(s, k) && !who.isLetInto(k.to) {
		return nil, false
	}
	return k.reply, false
}

// maxVerdicts bounds the commands of which a node remembers what they need.
const maxVerdicts = 256

// Verdict returns what the server has said that a command needs.
func (m *Memory) Verdict(name string) (command.Facts, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, ok := m.verdicts[name]
	return f, ok
}

// SetVerdict notes it.
func (m *Memory) SetVerdict(name string, f command.Facts) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.verdicts) < maxVerdicts && len(name) <= 64 {
		m.verdicts[name] = f
	}
}
