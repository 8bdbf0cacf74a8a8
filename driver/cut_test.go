package driver_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/resp"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// script is what a client does while its first connection suffers a fault. Every
// payload is unique, so that a reply tells whose it is.
type script struct {
	*lab
	rdb *redis.Client
	// corrupt: bytes were changed on their way. A number that still looks like
	// one can't be told from the right one. garbled: nor can a string, since it
	// was the request that changed, or since what came in between has a CRLF.
	corrupt, garbled bool
	requests         bool // it is the requests that suffer
	shared           int  // SharedConns

	acked   map[string]bool
	unknown map[string]bool
	where   string
}

// unsafe notes how a command ended that must not run twice.
func (s *script) unsafe(marker string, err error) {
	switch {
	case err == nil:
		s.acked[marker] = true
	case errors.Is(err, pooler.ErrUnknownOutcome):
		s.unknown[marker] = true
	}
}

// own checks that a string that came without an error is the caller's own.
func (s *script) own(what, got string, err error, allowed ...string) {
	s.Helper()
	if err != nil || s.garbled {
		return
	}
	if slices.Contains(allowed, got) {
		return
	}
	s.Errorf("%s: %s got %q, want one of %q", s.where, what, got, allowed)
}

func (s *script) small(ctx context.Context) {
	set := s.rdb.Set(ctx, "k", "value-k", 0).Err()
	v, err := s.rdb.Get(ctx, "k").Result()
	if set == nil {
		s.own("GET", v, err, "value-k")
	}
	n, err := s.rdb.Incr(ctx, "i1").Result()
	if s.unsafe("INCR i1", err); err == nil && n != 1 && !s.corrupt {
		s.Errorf("%s: INCR got %d", s.where, n)
	}
	mget, err := s.rdb.MGet(ctx, "p0", "p1").Result()
	s.own("MGET", fmt.Sprint(mget), err, "[preset-0 preset-1]")

	p := s.rdb.Pipeline()
	get, incr, get1 := p.Get(ctx, "p0"), p.Incr(ctx, "i2"), p.Get(ctx, "p1")
	p.Set(ctx, "k2", "value-k2", 0)
	_, _ = p.Exec(ctx)
	s.own("GET in a pipeline", get.Val(), get.Err(), "preset-0")
	s.own("the second one", get1.Val(), get1.Err(), "preset-1")
	s.unsafe("INCR i2", incr.Err())

	tx := s.rdb.TxPipeline()
	incr, get = tx.Incr(ctx, "i3"), tx.Get(ctx, "p0")
	_, _ = tx.Exec(ctx)
	s.own("GET in a transaction", get.Val(), get.Err(), "preset-0")
	s.unsafe("INCR i3", incr.Err())

	h, err := s.rdb.HGetAll(ctx, "h").Result()
	s.own("HGETALL", fmt.Sprint(h), err, "map[field-1:hash-1 field-2:hash-2]")
	s.unsafe("RPUSH q element", s.rdb.RPush(ctx, "q", "element").Err())
	pop, err := s.rdb.BLPop(ctx, time.Second, "q").Result()
	s.own("BLPOP", fmt.Sprint(pop), err, "[q element]")

	cn := s.rdb.Conn()
	err = cn.Select(ctx, 1).Err()
	v, gerr := cn.Get(ctx, "p0").Result()
	if err == nil {
		s.own("GET in database 1", v, gerr, "other-0")
	}
	_ = cn.Select(ctx, 0).Err() // go-redis would hand the handle on as it is
	_ = cn.Close()
}

func (s *script) large(ctx context.Context) {
	big := strings.Repeat("0123456789abcdef", 70<<10/16)
	err := s.rdb.Set(ctx, "big", big, 0).Err()
	v, gerr := s.rdb.Get(ctx, "big").Result()
	if err == nil && gerr == nil && v != big && !s.garbled {
		s.Errorf("%s: a value of %d bytes came back as %d bytes", s.where, len(big), len(v))
	}
	s.unsafe("INCR i1", s.rdb.Incr(ctx, "i1").Err())
	v, err = s.rdb.Get(ctx, "p0").Result()
	s.own("GET", v, err, "preset-0")
}

// meter notes the bytes of a connection's two directions.
type meter struct {
	net.Conn
	saw [2][]byte
}

func (m *meter) Read(b []byte) (int, error) {
	n, err := m.Conn.Read(b)
	m.saw[testkit.ToClient] = append(m.saw[testkit.ToClient], b[:n]...)
	return n, err
}

func (m *meter) Write(b []byte) (int, error) {
	n, err := m.Conn.Write(b)
	m.saw[testkit.ToServer] = append(m.saw[testkit.ToServer], b[:n]...)
	return n, err
}

// suffer runs the script over a first connection that is wrapped, and checks
// what holds whatever happened to it.
func suffer(t *testing.T, run func(*script, context.Context), s script, wrap func(net.Conn) net.Conn) {
	t.Helper()
	wrapped := 0
	inLab(t, driver.Config{Pool: pooler.Config{SharedConns: s.shared}}, func(t *lab) {
		t.preset()
		wrapped = 1 // the next one
		s.lab = t
		s.acked, s.unknown = map[string]bool{}, map[string]bool{}
		// What requests go through is told by frames among the replies.
		s.rdb, _ = t.listened(&told{}, func(o *redis.Options) {
			o.MaxRetries, o.ReadTimeout, o.WriteTimeout = 3, 100*time.Millisecond, 100*time.Millisecond
		})
		run(&s, t.Context())

		for _, marker := range []string{"INCR i1", "INCR i2", "INCR i3", "RPUSH q element"} {
			runs := t.f.Count(marker)
			if runs > 1 || s.acked[marker] && runs == 0 && !s.garbled || runs == 1 && !s.acked[marker] && !s.unknown[marker] && !s.corrupt {
				t.Errorf("%s: %s ran %d times; acknowledged %t, unknown %t", s.where, marker, runs, s.acked[marker], s.unknown[marker])
			}
		}
		time.Sleep(5100 * time.Millisecond) // not while the idle ones are checked
		v, err := s.rdb.Get(t.Context(), "p1").Result()
		if s.corrupt {
			v, err = s.rdb.Get(t.Context(), "p1").Result() // the first may have met the fault
		}
		if s.corrupt && errors.Is(err, pooler.ErrProtocol) {
			v, err = s.rdb.Get(t.Context(), "p1").Result() // or the second, which isn't run again for that
		}
		// A request that was changed on its way is another request: what state
		// it has left on the connection nobody can know.
		if (v != "preset-1" || err != nil) && !(s.garbled && s.requests) {
			t.Errorf("%s: afterwards %q, %v", s.where, v, err)
		}
		time.Sleep(5 * time.Second)
		if st := t.stats(); st.Draining != 0 || st.InFlight != 0 && !s.corrupt {
			t.Errorf("%s: draining %d, in flight %d", s.where, st.Draining, st.InFlight)
		}
	}, testkit.WithConnWrapper(func(c net.Conn) net.Conn {
		if wrapped++; wrapped == 2 {
			return wrap(c)
		}
		return c
	}))
}

// preset fills the server.
func (l *lab) preset() {
	l.f.Handle("HGETALL", func(c *testkit.FakeConn, _ []string) []byte {
		kind := map[int]string{2: "*4", 3: "%2"}[c.Session().Proto]
		return []byte(kind + "\r\n$7\r\nfield-1\r\n$6\r\nhash-1\r\n$7\r\nfield-2\r\n$6\r\nhash-2\r\n")
	})
	nc, err := l.f.Dial(l.Context(), "tcp", labAddr)
	if err != nil {
		l.Fatal(err)
	}
	defer nc.Close()
	v := &virtual{Conn: nc, l: l, r: bufio.NewReader(nc)}
	v.send("MSET", "SET p0 preset-0", "SET p1 preset-1", "SELECT 1", "SET p0 other-0")
	v.wantLine("-ERR")
	v.want("+OK +OK +OK +OK")
	l.f.ResetLog()
}

// faults are what may happen at an offset, in both directions.
func faults(dir testkit.Direction, at int64) []testkit.ByteFault {
	all := []testkit.ByteFault{
		{Kind: testkit.FaultCut},
		{Kind: testkit.FaultReset},
		{Kind: testkit.FaultStall},
		{Kind: testkit.FaultBlock},
		{Kind: testkit.FaultSlice},
		{Kind: testkit.FaultDuplicate},
		{Kind: testkit.FaultInsert, Data: []byte("7")},
		{Kind: testkit.FaultDrop},
	}
	if dir == testkit.ToClient {
		all = append(all, testkit.ByteFault{Kind: testkit.FaultPush, Data: []byte(">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n")})
	} else {
		all = append(all, testkit.ByteFault{Kind: testkit.FaultCut, ShortWrite: true}, testkit.ByteFault{Kind: testkit.FaultReset, ShortWrite: true})
	}
	for i := range all {
		all[i].Dir, all[i].At = dir, at
	}
	return all
}

// tryFaults runs the script with every fault at the chosen offsets, both ways.
func tryFaults(t *testing.T, run func(*script, context.Context), choose func(at, total int64) bool) {
	bothWays(t, func(t *testing.T, shared int) { tryFaultsOf(t, shared, run, choose) })
}

func tryFaultsOf(t *testing.T, shared int, run func(*script, context.Context), choose func(at, total int64) bool) {
	m := &meter{}
	between := map[int64]bool{0: true}
	suffer(t, run, script{where: "undisturbed", shared: shared}, func(c net.Conn) net.Conn { m.Conn = c; return m })
	var sc resp.ReplyScanner
	for rest := m.saw[testkit.ToClient]; len(rest) > 0; {
		n, _, _ := sc.Scan(rest)
		rest = rest[n:]
		between[int64(len(m.saw[testkit.ToClient])-len(rest))] = true
	}
	for _, dir := range []testkit.Direction{testkit.ToServer, testkit.ToClient} {
		t.Run(dir.String(), func(t *testing.T) {
			t.Parallel()
			tried, total := 0, int64(len(m.saw[dir]))
			for at := range total + 1 {
				if !choose(at, total) {
					continue
				}
				for i, f := range faults(dir, at) {
					if shared == -1 && (at/8+at+int64(i))%2 != 0 {
						continue // with leases every other fault at each byte, for the time that it takes
					}
					tried++
					s := script{
						where:    fmt.Sprintf("%s at byte %d of %d %s, short %t", f.Kind, at, total, dir, f.ShortWrite),
						requests: dir == testkit.ToServer,
						shared:   shared,
					}
					switch f.Kind {
					case testkit.FaultDuplicate, testkit.FaultInsert, testkit.FaultDrop:
						s.corrupt, s.garbled = true, s.requests
					case testkit.FaultPush: // between two replies it is nothing unusual
						s.corrupt, s.garbled = !between[at], !between[at]
					}
					suffer(t, run, s, f.Wrap)
					if t.Failed() {
						t.FailNow()
					}
				}
			}
			t.Logf("%d faults at %d bytes", tried, total)
		})
	}
}

func TestWhateverHappensAtWhicheverByteEveryReplyIsItsCallersAndNothingUnsafeRunsTwice(t *testing.T) {
	t.Parallel()
	step := int64(1)
	if testkit.Race || testing.Short() {
		step = 7
	}
	tryFaults(t, (*script).small, func(at, _ int64) bool { return at%step == 0 })
}

// Of a value of 70 KiB the bytes around the edges of all buffers are tried.
func TestLargeValuesSurviveFaultsAtTheEdgesOfAllBuffers(t *testing.T) {
	t.Parallel()
	tryFaults(t, (*script).large, func(at, total int64) bool {
		if testkit.Race || testing.Short() {
			return at%(16<<10) < 2 || total-at < 16 && at%4 == 0
		}
		near := at%1024 == 0 || at%1024 == 1 || at%1024 == 1023
		return at%8 == 0 && (at < 128 || total-at < 128) || near && at%(16<<10) < 2100
	})
}
