package pooler

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A look that waits for the lane's lock is enough for everybody whose time is over
// meanwhile: on a busy machine there would be hundreds of them.
func TestLooksDoNotPileUpBehindTheLock(t *testing.T) {
	l, _ := testLane(t)
	p := l.pool
	l.mu.Lock()
	for range 100 {
		l.watch.by(l, p.now())
		time.Sleep(100 * time.Microsecond) // for a timer to go off, if there is one
	}
	var stacks [1 << 20]byte
	n := runtime.Stack(stacks[:], true)
	l.mu.Unlock()
	l.watch.stop()
	if looks := bytes.Count(stacks[:n], []byte("(*lane).look(")); looks > 1 {
		t.Errorf("%d looks wait for the lane's lock; want 1", looks)
	}
}

// A writer whose request is answered already hasn't ended its write yet. A look that meets that
// is followed by one at the writer's deadline, which is far away; the silence of what comes
// meanwhile is noticed in time.
func TestASilenceIsNoticedWhateverElseIsDueLater(t *testing.T) {
	l, _ := testLane(t)
	defer l.watch.stop()
	l.pool.cfg.SilenceAfter = time.Minute
	l.writeBy = time.Hour
	l.onWatch()
	if at := time.Duration(l.watch.at.Load()); at != time.Hour {
		t.Fatalf("the next look is at %v", at)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.boardLocked(NewRider(), &Exchange{Request: ping, Replies: 1}); err != nil {
		t.Fatal(err)
	}
	if at := time.Duration(l.watch.at.Load()); at > time.Minute {
		t.Errorf("the next look is at %v", at)
	}
}

// A lane that is retired while it is idle may have let somebody in who hasn't run
// yet, and others may be behind: all are called, to go elsewhere.
func TestRetiringAnIdleLaneCallsWhoeverWaitsForRoom(t *testing.T) {
	l, _ := testLane(t)
	p := l.pool
	p.wg.Add(1) // until the lane has ended
	waits := &entrant{in: make(chan struct{}, 1)}
	l.room.add(waits)
	l.retire()
	p.wg.Wait()
	select {
	case <-waits.in:
	default:
		t.Error("the lane has ended, and who waits for room in it wasn't called")
	}
}

// A rider that was let in, or called, and can't use its turn passes it on: no other event
// comes for those behind it.
func TestARiderThatCantUseItsTurnPassesItOn(t *testing.T) {
	for name, spoil := range map[string]func(r *Rider, e *entrant){
		"its time is over":    func(_ *Rider, e *entrant) { e.expired = true },
		"its caller has left": func(r *Rider, _ *entrant) { r.mu.Lock(); r.closed = true; r.mu.Unlock() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, _ := testLane(t)
				l.forsaken.Store(maxForsaken) // full
				l.leader.Store(&mourner)      // nobody attends
				riders := []*Rider{NewRider(), NewRider()}
				var in [2]error
				var wait sync.WaitGroup
				for i, r := range riders {
					wait.Go(func() {
						l.mu.Lock()
						defer l.mu.Unlock()
						in[i] = errNothing
						in[i] = l.awaitRoomLocked(r, &Exchange{})
					})
					synctest.Wait()
				}
				l.mu.Lock()
				spoil(riders[0], l.room.all[0])
				l.forsaken.Store(0)
				l.admitLocked()
				l.mu.Unlock()
				synctest.Wait()
				if in[0] == nil || in[1] != nil {
					t.Errorf("the first is told %v, the second %v; want an error and none", in[0], in[1])
					l.makeRoom()
				}
				wait.Wait()
			})
		})
	}
}

// A connection may die while a leader hands out what has come. Another one may lead before
// the lane is buried, and goes on behind what was answered.
func TestALeaderGoesOnBehindWhatWasAnsweredWhenTheConnectionDied(t *testing.T) {
	l, far := testLane(t)
	defer l.watch.stop()
	first, second := NewRider(), NewRider()
	l.mu.Lock()
	for _, r := range []*Rider{first, second} {
		if err := l.boardLocked(r, &Exchange{Request: ping, Replies: 1}); err != nil {
			t.Fatal(err)
		}
	}
	l.mu.Unlock()
	go func() { _, _ = far.Write([]byte("+ONE\r\n+TWO\r\n")) }()
	l.fill(first)
	l.conn.Fail(CloseWrite, errNothing) // as its writer would
	l.deliver()
	l.deliver()
	for r, want := range map[*Rider]string{first: "+ONE\r\n", second: "+TWO\r\n"} {
		var reply [64]byte
		if n := r.stash.take(reply[:]); string(reply[:n]) != want {
			t.Errorf("got %q, want %q", reply[:n], want)
		}
	}
	if n := l.inFlight(); n != 0 {
		t.Errorf("%d under way", n)
	}
}

// testLane is a lane of a pool that has nothing else, and the peer's end of its connection.
func testLane(t *testing.T) (l *lane, far net.Conn) {
	near, far := net.Pipe()
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	p := &Pool{start: time.Now()}
	return newLane(p, newConn(near, nil), &Lanes{pool: p}), far
}

// A process that was stopped, or had no processor, reads first what has come meanwhile: nobody's
// time is over for that. Where nothing has come it is, at the next look.
func TestALookThatComesLateIsPutOffOnce(t *testing.T) {
	const limit, late = time.Second, 100 * time.Millisecond
	for _, answered := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			l, far := testLane(t)
			defer l.watch.stop()
			l.group.lanes.Store(&[]*lane{l})
			go func() { _, _ = io.Copy(io.Discard, far) }()
			r := NewRider()
			defer r.Close()
			if ok, err := l.submit(r, &Exchange{Request: ping, Replies: 1}); !ok || err != nil {
				t.Fatal(ok, err)
			}
			began := time.Now()
			done := make(chan error)
			go func() {
				var reply [16]byte
				_, _, err := r.Receive(reply[:], began.Add(limit))
				done <- err
			}()
			synctest.Wait()
			if l.watch.at.Load() == 0 {
				t.Fatal("nobody looks")
			}
			l.watch.at.Add(-int64(late)) // the timer goes off when it would have
			time.Sleep(limit + lateLook/2)
			if answered {
				_, _ = io.WriteString(far, "+PONG\r\n")
			} else {
				l.watch.at.Add(-int64(late)) // and the next one late as well
			}
			err := <-done
			switch took := time.Since(began); {
			case answered && err != nil:
				t.Errorf("what came before the next look wasn't read: %v", err)
			case !answered && (!errors.Is(err, os.ErrDeadlineExceeded) || took != limit+lateLook):
				t.Errorf("after %v: %v", took, err)
			}
			_, _ = l.conn.nc.Close(), far.Close()
		})
	}
}

// lanesWith returns lanes with so many exchanges under way.
func lanesWith(group *Lanes, inFlight ...int) []*lane {
	var lanes []*lane
	for _, n := range inFlight {
		l := &lane{pool: group.pool, group: group}
		l.tail.Store(uint64(n))
		lanes = append(lanes, l)
	}
	return lanes
}

// Who has met many others is one of few again when there are few.
func TestARiderForgetsACrowd(t *testing.T) {
	s := &Lanes{pool: &Pool{cfg: Config{SharedConns: 4}}}
	r := NewRider()
	for range 100 {
		s.choose(r, lanesWith(s, 30, 30, 0, 0), 1)
	}
	for range 100 {
		s.choose(r, lanesWith(s, 3, 0, 0, 0), 1) // the most that few are
	}
	if at, more := s.choose(r, lanesWith(s, 3, 0, 0, 0), 1); at == 0 || more {
		t.Errorf("it goes to lane %d, and wants more: %v", at, more)
	}
}

// Whoever meets seven others had better share, though there are idle lanes.
func TestFewCallersMeetAtMostSixOthers(t *testing.T) {
	wantLaneOfItsOwn(t, false, map[int]bool{2: true, 5: true, 7: false})
}

// Where sharing is faster, two have a lane each, and four share two.
func TestFewCallersShareWhereThatIsFaster(t *testing.T) {
	wantLaneOfItsOwn(t, true, map[int]bool{1: true, 3: false, 5: false})
}

// wantLaneOfItsOwn says beside how many others, each with a lane of eight, a caller gets one.
func wantLaneOfItsOwn(t *testing.T, together bool, beside map[int]bool) {
	t.Helper()
	for busy, own := range beside {
		s := &Lanes{pool: &Pool{cfg: Config{SharedConns: 8}}}
		s.trial.together.Store(together)
		inFlight := make([]int, 8)
		for i := range busy {
			inFlight[i] = 1
		}
		r, at := NewRider(), 0
		for range 100 {
			at, _ = s.choose(r, lanesWith(s, inFlight...), 1)
		}
		if got := at >= busy; got != own {
			t.Errorf("beside %d others it goes to lane %d", busy, at)
		}
	}
}

// Of a client whose requests are spread over several nodes each has a part: they share a lane
// where the callers of one node would have two, or one each.
func TestCallersOfSeveralNodesShareSooner(t *testing.T) {
	for _, c := range []struct {
		spread   int
		inFlight []int
		want     []int // the lanes that callers go to
		more     bool
	}{
		{1, []int{9, 9}, []int{0, 1}, false},
		{1, []int{9}, []int{0}, true},
		{2, []int{9, 9}, []int{0}, false},
		{3, []int{9}, []int{0}, false},
		{1, []int{1, 1, 1, 0}, []int{3}, false}, // each meets three: few
		{2, []int{1, 1, 1, 0}, []int{3}, false}, // six
		{3, []int{1, 1, 1, 0}, []int{0}, false}, // nine
		{4, []int{1, 0}, []int{1}, false},       // four
		{9, []int{1, 0}, []int{1}, false},       // of more than four nodes no more matter
	} {
		s := &Lanes{pool: &Pool{cfg: Config{SharedConns: 8}}}
		to := make(map[int]bool)
		more := false
		for ticket := range uint32(2) {
			r, at := NewRider(), 0
			r.ticket = ticket
			for range 100 {
				at, more = s.choose(r, lanesWith(s, c.inFlight...), c.spread)
			}
			to[at] = true
		}
		if got := slices.Sorted(maps.Keys(to)); !slices.Equal(got, c.want) || more != c.more {
			t.Errorf("over %d nodes, beside %v: to %v, more %v; want %v, %v", c.spread, c.inFlight, got, more, c.want, c.more)
		}
	}
}

// A leader that is alone on its lane lets others run before it reads, if there are others,
// and not always: netpoll is only asked when none can run.
func TestALeaderLetsOthersRunIfItIsOneOfFew(t *testing.T) {
	for _, c := range []struct {
		name     string
		inFlight []int
		answered uint64
		together bool
		want     bool
	}{
		{"alone", []int{1, 0}, 0, false, false},
		{"beside another lane", []int{1, 1}, 0, false, true},
		{"every second time", []int{1, 1}, 1, false, false},
		{"the time after that", []int{1, 1}, 2, false, true},
		{"with others on its lane", []int{2, 1}, 0, false, false},
		{"where few had better share", []int{1, 1}, 0, true, false},
	} {
		s := &Lanes{pool: &Pool{}}
		s.trial.together.Store(c.together)
		lanes := lanesWith(s, c.inFlight...)
		s.lanes.Store(&lanes)
		lanes[0].head.Store(c.answered)
		lanes[0].tail.Add(c.answered)
		if got := lanes[0].isOneOfFew(); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// A lane that takes nothing more is no idle one, and what is under way on it is
// nobody's company.
func TestLanesThatTakeNothingMoreDoNotCount(t *testing.T) {
	s := &Lanes{pool: &Pool{cfg: Config{SharedConns: 4}}}
	lanes := lanesWith(s, 1, 500, 0)
	lanes[1].shut.Store(true)
	lanes[2].shut.Store(true)
	r := NewRider()
	for range 100 {
		if at, more := s.choose(r, lanes, 1); at != 0 || !more {
			t.Fatalf("it goes to lane %d, and wants more: %v", at, more)
		}
	}
}

// A rider may have several exchanges on a connection that dies. Once it was told, it may
// be about to go on elsewhere: the next slot must not tell it of a loss again.
func TestARiderIsToldOfALossOnce(t *testing.T) {
	l, r, s := &lane{}, NewRider(), &slot{}
	r.lane, r.trip.owed = l, 2
	s.rider.Store(r)
	r.lose(l, s, ErrProtocol, 0)
	if _, cause := r.Lost(); cause == nil {
		t.Error("it isn't told")
	}
	r.Forgive()
	r.lose(l, s, ErrProtocol, 0)
	if _, cause := r.Lost(); cause != nil {
		t.Errorf("it has lost what it has not asked for yet: %v", cause)
	}
}

// Who was about to be parked, and takes the lead since the last leader has gone, may have been
// served by that one just then, or woken for another reason. If it read on it would wait for a
// reply that somebody else is yet to ask for, with its own in its hands.
func TestWhoWasServedBeforeItLeadsReadsNoMore(t *testing.T) {
	for name, happened := range map[string]func(r *Rider){
		"has its replies":     func(r *Rider) { r.got, r.trip.owed = 5, 0 },
		"has some of them":    func(r *Rider) { r.got = 5 },
		"its time is over":    func(r *Rider) { r.expired = true },
		"is interrupted":      func(r *Rider) { r.interrupted = true },
		"its caller has left": func(r *Rider) { r.closed = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, far := testLane(t)
				r := NewRider()
				r.lane, r.p, r.state, r.trip.owed = l, make([]byte, 64), riderParked, 1
				l.parked.Store(1)
				happened(r)
				r.wakeLocked()
				l.leader.Store(r) // in the place of one that has gone
				over := make(chan struct{})
				go func() { l.succeed(r); close(over) }()
				synctest.Wait()
				select {
				case <-over:
				default:
					t.Error("it reads")
					l.pool.wg.Add(1) // it ends with its connection
					_ = far.Close()
					<-over
				}
				if l.leader.Load() != nil {
					t.Error("it leads still")
				}
			})
		})
	}
}
