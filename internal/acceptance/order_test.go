package acceptance_test

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/resp"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// echoes has a pipeline of n ECHOes answered, of about total bytes, and compares
// each reply with what was sent.
func (s side) echoes(t *testing.T, who string, n, total int, run func(context.Context, func(redis.Pipeliner) error) ([]redis.Cmder, error)) {
	want := make([]string, n)
	for i := range want {
		want[i] = fmt.Sprintf("%s.%d.", who, i)
		// "*2 $4 ECHO $n payload", with a length of one to five digits.
		if pad := total/n - len("*2\r\n$4\r\nECHO\r\n$123\r\n\r\n") - len(want[i]); pad > 0 {
			want[i] += strings.Repeat("x", pad)
		}
		if i == n-1 {
			want[i] += strings.Repeat("z", max(0, total%n))
		}
	}
	cmds, err := run(context.Background(), func(p redis.Pipeliner) error {
		for _, w := range want {
			p.Echo(context.Background(), w)
		}
		return nil
	})
	if err != nil || len(cmds) != n {
		t.Errorf("%s: %d of %d commands of %d bytes: %v", who, len(cmds), n, total, err)
		return
	}
	for i, c := range cmds {
		if got := c.(*redis.StringCmd).Val(); got != want[i] {
			t.Errorf("%s: command %d of %d of %d bytes got %.20q (%d bytes), want %.20q (%d bytes)", who, i, n, total, got, len(got), want[i], len(want[i]))
			return
		}
	}
}

// Pipelines and transactions of all sizes around the limits of buffers and of
// what may be shared get their replies, in order, beside each other.
func TestSharedPipelinesOfAllSizesGetTheirReplies(t *testing.T) {
	testkit.Works(t)
	server := testkit.Start(t, testkit.Redis)
	s := ourSide(t, driver.Config{}, redis.Options{Addr: server.Addr})
	var wg sync.WaitGroup
	for id, n := range []int{1, 10, 1000, 5000} {
		for tx, run := range []func(context.Context, func(redis.Pipeliner) error) ([]redis.Cmder, error){s.rdb.Pipelined, s.rdb.TxPipelined} {
			wg.Go(func() {
				for _, size := range []int{0, 4 << 10, 16 << 10, 64 << 10, 128 << 10} {
					for _, more := range []int{-40, -17, -1, 0, 1, 17, 40} {
						s.echoes(t, fmt.Sprintf("%d.%d.%d", id, tx, size+more), n, size+more, run)
					}
				}
			})
		}
	}
	wg.Wait()
	st := s.settled(t)
	t.Logf("%d batches shared, %d leased, %d dials, pins %v", st.Shared, st.Leased, st.Dials, st.Pins)
	if st.Shared == 0 || st.Closes[pooler.CloseProtocol]+st.Closes[pooler.CloseUnasked] != 0 {
		t.Errorf("%d batches shared, closes %v", st.Shared, st.Closes)
	}
}

// A pipeline that ends with what needs a connection of its own is answered in
// order, and what it writes is there for its own end.
func TestAPipelineThatLeavesTheSharedConnectionKeepsItsOrder(t *testing.T) {
	testkit.Works(t)
	server := testkit.Start(t, testkit.Redis)
	for name, o := range map[string]redis.Options{
		"in one write":     {Addr: server.Addr},
		"in writes of 1 K": {Addr: server.Addr, PipelinePoolSize: -1},
	} {
		t.Run(name, func(t *testing.T) {
			server.Do(t, "FLUSHALL")
			s := ourSide(t, driver.Config{}, o)
			var wg sync.WaitGroup
			for id := range 16 {
				wg.Go(func() {
					for i := range 30 {
						s.leave(t, fmt.Sprintf("%d.%d", id, i), i*40)
					}
				})
			}
			wg.Wait()
			st := s.settled(t)
			t.Logf("%d batches shared, %d leased, %d dials", st.Shared, st.Leased, st.Dials)
			if o.PipelinePoolSize < 0 && st.Shared == 0 {
				t.Error("no pipeline has begun on a shared connection")
			}
		})
	}
}

// leave runs a pipeline of n INCRs that ends with a command that blocks. Each
// INCR has 64 bytes, so that a buffer of 4 KiB ends with one.
func (s side) leave(t *testing.T, key string, n int) {
	ctx := context.Background()
	key += strings.Repeat("x", 41-len(key))
	cmds, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Echo(ctx, "e:"+key)
		for range n {
			p.Incr(ctx, "n:"+key)
		}
		p.RPush(ctx, "q:"+key, "first", "second")
		p.BLPop(ctx, 0, "q:"+key)
		p.LPop(ctx, "q:"+key)
		return nil
	})
	if err != nil {
		t.Errorf("%s: %v", key, err)
		return
	}
	for i, c := range cmds[1 : 1+n] {
		if got := c.(*redis.IntCmd).Val(); got != int64(i+1) {
			t.Errorf("%s: INCR %d gave %d", key, i+1, got)
			return
		}
	}
	n = len(cmds)
	if e, b, l := cmds[0].(*redis.StringCmd).Val(), cmds[n-2].(*redis.StringSliceCmd).Val(), cmds[n-1].(*redis.StringCmd).Val(); e != "e:"+key || len(b) != 2 || b[1] != "first" || l != "second" {
		t.Errorf("%s: ECHO %q, BLPOP %q, LPOP %q", key, e, b, l)
	}
}

// What is written to a handle before anything is read is answered in the order
// of writing, wherever it goes.
func TestAHandleKeepsTheOrderWhenItLeavesTheSharedConnection(t *testing.T) {
	server := testkit.Start(t, testkit.Redis)
	s := ourSide(t, driver.Config{}, redis.Options{Addr: server.Addr})
	for _, script := range []struct {
		name string
		send []string // a Write each; ";" separates commands of the same Write
		want string
	}{
		{"BLPOP", []string{"GET a", "RPUSH q x", "BLPOP q 0"}, "$1 A :1 *2 $1 q $1 x"},
		{"BLPOP in one piece", []string{"GET a;RPUSH q x;BLPOP q 0;GET b"}, "$1 A :1 *2 $1 q $1 x $1 B"},
		{"BLPOP and back", []string{"GET a", "RPUSH q x", "BLPOP q 0", "GET b", "GET a"}, "$1 A :1 *2 $1 q $1 x $1 B $1 A"},
		{"SELECT", []string{"GET a", "SELECT 1", "GET a", "SELECT 0", "GET b"}, "$1 A +OK $3 one +OK $1 B"},
		{"SELECT in one piece", []string{"GET a;SELECT 1;GET a;SELECT 0;GET b"}, "$1 A +OK $3 one +OK $1 B"},
		{"MULTI", []string{"GET a", "MULTI", "INCR n", "GET n", "EXEC", "GET b"}, "$1 A +OK +QUEUED +QUEUED *2 :1 $1 1 $1 B"},
		{"MULTI in one piece", []string{"GET a;MULTI;INCR n;EXEC;GET b"}, "$1 A +OK +QUEUED *1 :1 $1 B"},
		{"WATCH", []string{"GET a", "WATCH a", "GET a", "UNWATCH", "GET b"}, "$1 A +OK $1 A +OK $1 B"},
		{"WAIT", []string{"SET c C", "WAIT 0 10", "GET c"}, "+OK :0 $1 C"},
		{"CLIENT GETNAME after SETNAME", []string{"GET a", "CLIENT SETNAME me", "GET b", "CLIENT GETNAME"}, "$1 A +OK $1 B $2 me"},
		{"QUIT", []string{"GET a", "GET b", "QUIT"}, "$1 A $1 B +OK"},
		{"RESET", []string{"GET a", "RESET", "GET b"}, "$1 A +RESET $1 B"},
		{"an error", []string{"GET a", "HGET a b;GET b"}, "$1 A -WRONGTYPE"},
		{"SUBSCRIBE", []string{"GET a", "SUBSCRIBE ch"}, "$1 A *3 $9 subscribe $2 ch :1"},
	} {
		t.Run(script.name, func(t *testing.T) {
			server.Do(t, "FLUSHALL")
			server.Do(t, "MSET", "a", "A", "b", "B")
			server.Do(t, "EVAL", "redis.call('SELECT', 1) return redis.call('SET', 'a', 'one')", "0")
			s.wantReplies(t, server.Addr, script.send, script.want)
		})
	}
	if st := s.stats(t); st.Closes[pooler.CloseProtocol]+st.Closes[pooler.CloseUnasked] != 0 {
		t.Errorf("closes %v", st.Closes)
	}
}

// wantReplies sends each piece in a Write of its own on a handle of its own, and
// then reads these lines. Of an error the beginning is enough.
func (s side) wantReplies(t *testing.T, addr string, pieces []string, want string) {
	t.Helper()
	nc, err := s.d.Options(&redis.Options{Addr: addr}).Dialer(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(time.Minute)) // a hang is a failure
	for _, piece := range pieces {
		var b []byte
		for command := range strings.SplitSeq(piece, ";") {
			b = resp.AppendCommand(b, strings.Fields(command)...)
		}
		if _, err := nc.Write(b); err != nil {
			t.Fatalf("write %q: %v", piece, err)
		}
	}
	r := bufio.NewReader(nc)
	for i, line := range strings.Fields(want) {
		got, err := r.ReadString('\n')
		if err != nil || got != line+"\r\n" && (line[0] != '-' || !strings.HasPrefix(got, line+" ")) {
			t.Fatalf("line %d: %q, %v, want %q of %q", i, got, err, line, want)
		}
	}
}
