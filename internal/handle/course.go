package handle

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/push"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/internal/guard"
	"github.com/everpool/everpool/internal/session"
	"github.com/everpool/everpool/internal/wiring"
	"github.com/everpool/everpool/pooler"
)

// What a request has gone through is known to its handle, and wanted by who knows its
// context, which handles never see. Between the two is go-redis, and there is one thing
// that it hands on with the context of the command: a push of RESP3 that comes before the
// command's reply. So the handle puts one there. Only requests that have gone through
// something have one, and only while anybody listens.

// courseName is what the push is called.
const courseName = "everpool:course"

// Courses are who listens to what the requests of a client, or of several with the same options, have gone through.
type Courses struct {
	mu  sync.Mutex // for changing all
	all atomic.Pointer[[]*listener]

	answers atomic.Bool // a handle that asks for a caller's context is told
}

type listener struct {
	tell func(context.Context, wiring.Course)
}

// list is nil if nobody listens, and for a client that reads no pushes.
func (s *Courses) list() []*listener {
	if s == nil {
		return nil
	}
	if all := s.all.Load(); all != nil {
		return *all
	}
	return nil
}

// Listen has the listeners told of the requests of c, which has s, until end is
// called. A client that can't read pushes, or has a processor of its user's for them, has
// none to tell of.
func (s *Courses) Listen(c redis.UniversalClient, tell []func(context.Context, wiring.Course)) (end func()) {
	if s == nil || len(tell) == 0 || !s.reach(c) {
		return func() {}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var added []*listener
	for _, f := range tell {
		added = append(added, &listener{f})
	}
	all := append(slices.Clone(s.list()), added...)
	s.all.Store(&all)
	return func() { s.remove(added) }
}

func (s *Courses) remove(those []*listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.DeleteFunc(slices.Clone(s.list()), func(l *listener) bool { return slices.Contains(those, l) })
	s.all.Store(&all)
}

// reach has the client hand on the pushes, and reports whether it reads any.
func (s *Courses) reach(c redis.UniversalClient) bool {
	switch c := c.(type) {
	case *redis.Client:
		s.handle(c)
		return ReadsPushes(c.Options().Protocol, c.Options().PushNotificationProcessor)
	case *redis.ClusterClient:
		s.reachNodes(c)
		return ReadsPushes(c.Options().Protocol, c.Options().PushNotificationProcessor)
	case *redis.Ring:
		s.reachNodes(c)
		return ReadsPushes(c.Options().Protocol, nil)
	}
	return false
}

// ReadsPushes reports whether go-redis itself takes pushes out of what it reads.
func ReadsPushes(protocol int, p push.NotificationProcessor) bool {
	_, own := p.(*push.Processor)
	return protocol != 2 && (p == nil || own)
}

func (s *Courses) reachNodes(c interface {
	OnNewNode(func(*redis.Client))
	ForEachShard(context.Context, func(context.Context, *redis.Client) error) error
},
) {
	c.OnNewNode(s.handle)
	over, cancel := context.WithCancel(context.Background())
	cancel() // go-redis names the nodes that it knows, and asks none
	_ = c.ForEachShard(over, func(_ context.Context, n *redis.Client) error {
		s.handle(n)
		return nil
	})
}

// handle has the pushes of one client handed to s. One that has a handler already has this
// one: it isn't replaced. Without RESP3 there is none.
func (s *Courses) handle(c *redis.Client) {
	_ = c.RegisterPushNotificationHandler(courseName, s, false)
}

// HandlePushNotification is for go-redis, which calls it on the goroutine of the command,
// in the middle of reading, and logs its error.
func (s *Courses) HandlePushNotification(ctx context.Context, _ push.NotificationHandlerContext, notification []any) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("everpool: a listener has panicked: %s", guard.PanicText(v))
		}
	}()
	if len(notification) != 4 {
		return nil
	}
	var n [3]int64
	for i := range n {
		n[i], _ = notification[1+i].(int64)
	}
	c := wiring.Course{Waited: time.Duration(n[0]), Moved: int(n[1]), Resent: int(n[2])}
	for _, l := range s.list() {
		l.tell(ctx, c)
	}
	return nil
}

// tellCourseLocked puts what the batch has gone through in front of its replies, unless some of
// them was read already, or the handle has ended: what it was for has not come to pass.
func (h *handle) tellCourseLocked() {
	b := &h.b
	c, told := b.course(), b.told
	switch {
	case c == told, b.got, h.err != nil, b.outRead != b.notes, len(h.client.Courses.list()) == 0, !h.readsPushesLocked():
		return
	}
	b.push(fmt.Appendf(nil, ">4\r\n+%s\r\n:%d\r\n:%d\r\n:%d\r\n", courseName, c.Waited-told.Waited, c.Moved-told.Moved, c.Resent-told.Resent))
	b.told = c
}

// readsPushesLocked reports whether the caller surely takes a push out of what it reads. It
// has asked for RESP3, before this batch or by it, and reads replies, not a stream.
func (h *handle) readsPushesLocked() bool {
	if c := h.lease; c != nil && c.Mode() != pooler.Counted {
		return false
	}
	return h.shake.in.RESP3 || slices.ContainsFunc(h.b.pending(), asksForRESP3)
}

func asksForRESP3(r run) bool { return r.slots&command.SlotProto != 0 && session.IsRESP3(r.frame) }
