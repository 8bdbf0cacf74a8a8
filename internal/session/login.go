package session

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/auth"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/internal/resp"
)

// Identity is what is known of one client's right to be served.
type Identity struct {
	Login *Login // nil: the credentials are the same for the client's life
	fixed int    // so many of its handshake's first commands are the same for each handle

	mu  sync.Mutex
	let map[*State]bool // the server has let this client in
}

// letInto notes that the server has let the client enter the session. What is too
// much is forgotten: that costs a question.
func (c *Identity) letInto(s *State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.let == nil || len(c.let) >= maxSessions {
		c.let = make(map[*State]bool)
	}
	c.let[s] = true
}

// IsLetIn reports whether the server has let the client in.
func (c *Identity) IsLetIn() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.let) > 0
}

func (c *Identity) isLetInto(s *State) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.let[s]
}

// Login is where a client's credentials come from that may change. A session is of
// a client and its login, not of the bytes of one password: those are asked for when
// they are sent to the server.
type Login struct {
	provide func(ctx context.Context) (username, password string, err error)
	id      string // no other's sessions are this login's
	Token   string // what go-redis has in place of the password; "": it has the password

	life func() context.Context // ends when nobody will ask any more

	mu   sync.Mutex
	late *question // of one whose time was over
}

// NewIdentity is the client of the options. The context that life returns ends with all that
// the client asks for.
func NewIdentity(o *redis.Options, life func() context.Context) *Identity {
	c := &Identity{Login: newLogin(o, life)}
	switch {
	case o.OnConnect == nil:
		c.fixed = math.MaxInt
	case c.Login != nil || o.Password != "":
		c.fixed = 1 // go-redis authenticates first; what OnConnect does may be something else the next time
	}
	return c
}

// newLogin makes the login of a client whose options name a provider, or nil, and
// gives go-redis what it needs of it.
func newLogin(o *redis.Options, life func() context.Context) *Login {
	l := &Login{id: rand.Text(), life: life}
	switch {
	case o.StreamingCredentialsProvider != nil:
		s := &streaming{provider: o.StreamingCredentialsProvider}
		o.StreamingCredentialsProvider, l.provide = s, s.latest
		return l
	case o.CredentialsProviderContext != nil:
		l.provide = o.CredentialsProviderContext
	case o.CredentialsProvider != nil:
		provide := o.CredentialsProvider
		l.provide = func(context.Context) (username, password string, err error) {
			username, password = provide()
			return username, password, nil
		}
	default:
		return nil
	}
	l.Token = "everpool-" + l.id
	o.CredentialsProviderContext = func(context.Context) (string, string, error) { return "", l.Token, nil }
	return l
}

// Renews reports whether the command is to be sent with the credentials of then: it
// has the token in place of a password, or those that a streaming provider gave.
func (l *Login) Renews(frame []byte, slots command.Slots) bool {
	return l != nil && slots&command.SlotAuth != 0 && (l.Token == "" || bytes.Contains(frame, []byte(l.Token)))
}

// Fill returns the command with the credentials that the provider gives now. With
// streaming credentials those of another user stay as they are.
func (l *Login) Fill(ctx context.Context, frame []byte) ([]byte, error) {
	username, password, err := l.ask(ctx)
	if err != nil {
		return nil, err
	}
	if l.Token == "" && (password == "" || !sameUser(frame, username)) {
		return frame, nil
	}
	return reauthenticate(frame, username, password), nil
}

// ask asks the provider. It returns when ctx is done even if the provider doesn't, and
// a panic of the provider's is an error: it is asked where nobody could recover. An answer
// for which there was no time is the next one's: else callers with less time than the
// provider takes would never have one.
func (l *Login) ask(ctx context.Context) (username, password string, err error) {
	if l.Token == "" {
		return l.provide(ctx)
	}
	q := l.left()
	if q == nil {
		q = l.begin()
	}
	select {
	case <-q.answered:
		q.cancel()
		return q.username, q.password, q.err
	case <-ctx.Done():
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		q.cancel() // nobody will come
	} else {
		l.leave(q)
	}
	return "", "", context.Cause(ctx)
}

// question is what a provider was asked.
type question struct {
	cancel   context.CancelFunc
	answered chan struct{} // closed when what follows is known
	username string
	password string
	err      error
	at       time.Time
}

const (
	// answerTime is how long a provider may take, if whoever asks has less time.
	answerTime = 5 * time.Second
	// answerKeeps is how long an answer is kept for which nobody had the time.
	answerKeeps = time.Second
)

// begin asks the provider, whatever time whoever asks has.
func (l *Login) begin() *question {
	q := &question{answered: make(chan struct{})}
	ctx, cancel := context.WithTimeout(l.life(), answerTime)
	q.cancel = cancel
	go func() {
		defer func() {
			if r := recover(); r != nil {
				q.err = fmt.Errorf("everpool: the credentials provider has panicked: %v", r)
			}
			q.at = time.Now()
			close(q.answered)
		}()
		q.username, q.password, q.err = l.provide(ctx)
	}()
	return q
}

// leave leaves a question to the next one who asks.
func (l *Login) leave(q *question) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.late = q
}

// left is the question that was left, if its answer is still to be had, or is new and
// no error; or nil.
func (l *Login) left() *question {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.late
	l.late = nil
	if q == nil {
		return nil
	}
	select {
	case <-q.answered:
		if q.err != nil || time.Since(q.at) >= answerKeeps {
			q.cancel()
			return nil
		}
	default:
	}
	return q
}

// streaming notes the newest credentials of a provider that tells go-redis of them.
type streaming struct {
	provider auth.StreamingCredentialsProvider

	mu     sync.Mutex
	newest auth.Credentials
	told   int // times
}

// Subscribe is what go-redis calls for each handle. What it returns is not the newest
// if a listener has been told of other credentials since it began.
func (s *streaming) Subscribe(listener auth.CredentialsListener) (auth.Credentials, auth.UnsubscribeFunc, error) {
	s.mu.Lock()
	told := s.told
	s.mu.Unlock()
	credentials, unsubscribe, err := s.provider.Subscribe(overhearing{s, listener})
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && told == s.told {
		s.newest = credentials
	}
	return credentials, unsubscribe, err
}

func (s *streaming) tell(credentials auth.Credentials) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newest = credentials
	s.told++
}

func (s *streaming) latest(context.Context) (username, password string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.newest != nil {
		username, password = s.newest.BasicAuth()
	}
	return username, password, nil
}

// overhearing is a listener that notes what it is told. It is a value, since providers
// know listeners by their identity.
type overhearing struct {
	streaming *streaming
	auth.CredentialsListener
}

// OnNext is told of new credentials.
func (o overhearing) OnNext(credentials auth.Credentials) {
	o.streaming.tell(credentials)
	o.CredentialsListener.OnNext(credentials)
}

// reauthenticate rewrites HELLO .. AUTH user password, AUTH user password or
// AUTH password. Without a password HELLO is sent without AUTH, as go-redis does,
// and in place of an AUTH goes what changes nothing.
func reauthenticate(frame []byte, username, password string) []byte {
	args := arguments(frame)
	at := authAt(args)
	switch {
	case at < 0:
		return frame
	case at == 0 && password == "":
		args = [][]byte{[]byte("PING")}
	case at == 0 && username == "":
		args = [][]byte{args[0], []byte(password)}
	case at == 0:
		args = [][]byte{args[0], []byte(username), []byte(password)}
	case password == "":
		args = append(args[:at], args[at+3:]...)
	default:
		args[at+1], args[at+2] = []byte(orDefaultUser(username)), []byte(password)
	}
	return resp.AppendCommand(nil, args...)
}

// sameUser reports whether the command authenticates that user.
func sameUser(frame []byte, username string) bool {
	user, password := credentialsIn(frame)
	return password != "" && user == orDefaultUser(username)
}

// credentialsIn returns the user and password of a command; neither, if it doesn't
// authenticate.
func credentialsIn(frame []byte) (username, password string) {
	args := arguments(frame)
	switch at := authAt(args); {
	case at < 0:
		return "", ""
	case len(args) == 2:
		return defaultUser, string(args[1])
	default:
		return orDefaultUser(string(args[at+1])), string(args[at+2])
	}
}

// defaultUser is the user of a login that names none.
const defaultUser = "default"

func orDefaultUser(username string) string {
	if username == "" {
		return defaultUser
	}
	return username
}

// authAt is where AUTH is among a command's arguments, with what belongs to it; -1
// if it isn't there.
func authAt(args [][]byte) int {
	is := func(i int, word string) bool { return i < len(args) && bytes.EqualFold(args[i], []byte(word)) }
	switch {
	case is(0, "AUTH") && (len(args) == 2 || len(args) == 3):
		return 0
	case !is(0, "HELLO"):
		return -1
	}
	for i := 2; i < len(args); i++ {
		switch {
		case is(i, "SETNAME"):
			i++ // whatever the name is
		case is(i, "AUTH") && i+2 < len(args):
			return i
		}
	}
	return -1
}

// arguments returns the arguments of a complete command.
func arguments(frame []byte) [][]byte {
	var sc resp.RequestScanner
	if _, done, err := sc.Next(frame); err != nil || !done || sc.Seen() < sc.NumArgs() {
		return nil
	}
	args := make([][]byte, sc.NumArgs())
	for i := range args {
		a := sc.Arg(i)
		args[i] = frame[a.Start:a.End]
	}
	return args
}

// IsRESP3 reports whether the request is a HELLO for RESP3.
func IsRESP3(frame []byte) bool {
	args := arguments(frame)
	return len(args) > 1 && string(args[1]) == "3"
}
