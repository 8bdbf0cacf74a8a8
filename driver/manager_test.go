package driver_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// managed is a manager in a bubble, and servers at addresses of their own.
type managed struct {
	*testing.T
	*driver.Manager
	servers map[string]*testkit.Fake
}

// inManager runs the test in a bubble. The manager's configuration is cfg with dials to
// the servers at 10.0.0.1 and so on, of which there are that many.
func inManager(t *testing.T, servers int, cfg driver.Config, run func(m *managed), opts ...driver.Option) {
	t.Helper()
	inServers(t, servers, func(m *managed) {
		cfg.Dial = m.dial
		m.open(cfg, opts...)
		run(m)
	})
}

// inServers runs the test in a bubble, without a manager yet.
func inServers(t *testing.T, servers int, run func(m *managed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := &managed{T: t, servers: make(map[string]*testkit.Fake)}
		for i := range servers {
			f := testkit.NewFake()
			t.Cleanup(f.Close)
			m.servers[fmt.Sprintf("10.0.0.%d:6379", i+1)] = f
		}
		run(m)
	})
}

// dial reaches the servers.
func (m *managed) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if f := m.servers[addr]; f != nil {
		return f.Dial(ctx, network, addr)
	}
	return nil, errors.New("no route to " + addr)
}

// open makes the manager.
func (m *managed) open(cfg driver.Config, opts ...driver.Option) {
	m.Helper()
	cfg.Logger = slog.New(slog.DiscardHandler)
	var err error
	if m.Manager, err = driver.NewManager(cfg, opts...); err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() {
		if err := m.Close(); err != nil {
			m.Error(err)
		}
	})
}

// noticed is how long it takes until the end of a node is known that nobody asks for.
const noticed = 11 * time.Second

// server is the nth, from 1.
func (m *managed) server(n int) *testkit.Fake { return m.servers[fmt.Sprintf("10.0.0.%d:6379", n)] }

// within is a context of so much time.
func (m *managed) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(m.Context(), d)
	m.Cleanup(cancel)
	return ctx
}

func (m *managed) add(name, url string, opts ...driver.Option) redis.UniversalClient {
	m.Helper()
	c, err := m.Add(m.within(time.Minute), name, url, opts...)
	if err != nil {
		m.Fatal(err)
	}
	return c
}

// with calls With, and reports whether f was called.
func (m *managed) with(name string) (called bool, err error) {
	err = m.With(m.Context(), name, func(ctx context.Context, c redis.UniversalClient) error {
		called = true
		return c.Ping(ctx).Err()
	})
	return called, err
}

// serves checks that With works.
func (m *managed) serves(name string) {
	m.Helper()
	if called, err := m.with(name); err != nil || !called {
		m.Errorf("With: called %t, %v", called, err)
	}
}

// refuses checks that With fails at once, by what is known, without a call.
func (m *managed) refuses(name string) {
	m.Helper()
	_ = m.refusal(name)
}

// refusal is refuses, and returns the error.
func (m *managed) refusal(name string) *driver.NoHealthyNodeError {
	m.Helper()
	began := time.Now()
	called, err := m.with(name)
	var e *driver.NoHealthyNodeError
	if called || !errors.As(err, &e) || !errors.Is(err, driver.ErrNoHealthyNode) || !errors.Is(err, pooler.ErrNodeDown) || e.Name != name || time.Since(began) > 0 {
		m.Fatalf("With: called %t, %v (%T) after %s", called, err, err, time.Since(began))
	}
	return e
}

func (m *managed) status(name string) driver.ClientStatus {
	m.Helper()
	for _, s := range m.Status() {
		if s.Name == name {
			return s
		}
	}
	m.Fatalf("no status of %q", name)
	return driver.ClientStatus{}
}

func TestAManagerAddsAClientOnce(t *testing.T) {
	inManager(t, 2, driver.Config{}, func(m *managed) {
		const url = "redis://10.0.0.1/3"
		one := m.add("one", url)
		if err := one.Set(m.Context(), "k", "v", 0).Err(); err != nil {
			m.Fatal(err)
		}
		if again := m.add("one", url, driver.WithClientOptions(func(*redis.Options) {})); again != one {
			m.Error("the same name and URL are another client")
		}
		if two := m.add("two", url); two != one {
			m.Error("the same URL under another name is another client")
		}
		if three := m.add("three", url, driver.WithClientOptions(func(o *redis.Options) { o.ClientName = "three" })); three == one {
			m.Error("the same URL with options is the same client")
		}
		if _, err := m.Add(m.Context(), "one", "redis://:hunter2@10.0.0.2"); !errors.Is(err, pooler.ErrConfig) || !strings.Contains(err.Error(), `"one"`) || strings.Contains(err.Error(), "hunter2") {
			m.Errorf("another URL under the same name: %v", err)
		}
		if _, err := m.Add(m.Context(), "", url); !errors.Is(err, pooler.ErrConfig) {
			m.Errorf("no name: %v", err)
		}
		if got, err := m.Client("two"); got != one || err != nil {
			m.Errorf("Client: %v, %v", got, err)
		}
		if _, err := m.Client("four"); err == nil || !strings.Contains(err.Error(), `"one", "three", "two"`) {
			m.Errorf("a name that isn't there: %v; want those that are", err)
		}
		if err := m.Remove(m.Context(), "one"); err != nil {
			m.Error(err)
		}
		m.serves("two")
	})
}

func TestAManagerAddsWhenTheClientAnswers(t *testing.T) {
	inManager(t, 1, driver.Config{}, func(m *managed) {
		m.server(1).DownRefused()
		began := time.Now()
		time.AfterFunc(20*time.Second, m.server(1).Up)
		m.add("late", "redis://10.0.0.1")
		if took := time.Since(began); took < 20*time.Second || took > 22*time.Second {
			m.Errorf("Add has taken %s; the server came after 20s", took)
		}
		m.serves("late")
	})
}

func TestAManagerSaysWhyAClientIsNotAdded(t *testing.T) {
	inManager(t, 1, driver.Config{}, func(m *managed) {
		m.server(1).DownRefused()
		began := time.Now()
		var wg sync.WaitGroup
		for range 2 { // each waits for itself
			wg.Go(func() {
				_, err := m.Add(m.within(3*time.Second), "dead", "redis://:hunter2@10.0.0.1")
				var e *driver.NoHealthyNodeError
				if !errors.As(err, &e) || e.Name != "dead" || len(e.Nodes) != 1 || e.Nodes[0].Addr != "10.0.0.1:6379" || e.Nodes[0].State == pooler.StateUp || e.Nodes[0].Since.Before(began) {
					m.Errorf("got %v", err)
					return
				}
				for _, want := range []error{driver.ErrNoHealthyNode, pooler.ErrNodeDown, context.DeadlineExceeded} {
					if !errors.Is(err, want) {
						m.Errorf("%v is no %v", err, want)
					}
				}
				if text := err.Error(); strings.Contains(text, "hunter2") || strings.Contains(text, "\n") || !strings.Contains(text, `"dead": 10.0.0.1:6379 is`) || !strings.Contains(text, "refused") {
					m.Errorf("text %q", text)
				}
			})
		}
		wg.Wait()
		if d := time.Since(began); d > 3200*time.Millisecond {
			m.Errorf("it has taken %s", d)
		}
		if s := m.Status(); len(s) != 0 {
			m.Errorf("kept: %+v", s)
		}
		if _, err := m.Client("dead"); err == nil || !strings.Contains(err.Error(), "there are: none") {
			m.Errorf("Client: %v", err)
		}
	})
}

// The last try, which the context cuts short, doesn't know.
func TestAddSaysThatTheSentinelsKnowNoSuchMaster(t *testing.T) {
	inManager(t, 1, driver.Config{}, func(m *managed) {
		m.server(1).Handle("SENTINEL", func(_ *testkit.FakeConn, args []string) []byte {
			if strings.EqualFold(args[1], "get-master-addr-by-name") {
				return []byte("*-1\r\n")
			}
			return testkit.ReplyArray()
		})
		for _, limit := range []time.Duration{1500 * time.Millisecond, 15 * time.Second} {
			_, err := m.Add(m.within(limit), "s", "redis://10.0.0.1?master_name=nope")
			if !errors.Is(err, driver.ErrNoHealthyNode) || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, redis.Nil) ||
				!strings.Contains(err.Error(), "no such master; is master_name right?") {
				m.Errorf("%s: %v", limit, err)
			}
		}
		time.Sleep(10 * time.Second) // go-redis still dials, in vain
	})
}

func TestAServerThatRefusesAClientEndsAddAtOnce(t *testing.T) {
	inManager(t, 1, driver.Config{}, func(m *managed) {
		m.server(1).SetPassword("default", "secret")
		for _, url := range []string{"redis://:hunter2@10.0.0.1", "redis://10.0.0.1", "redis://:hunter2@10.0.0.1?cluster=true", "redis://10.0.0.1:6379/x"} {
			began := time.Now()
			_, err := m.Add(m.within(time.Minute), "refused", url)
			if err == nil || errors.Is(err, driver.ErrNoHealthyNode) || strings.Contains(err.Error(), "hunter2") || time.Since(began) > 5*time.Second {
				m.Errorf("%s: %v after %s", url, err, time.Since(began))
			}
		}
		if s := m.Status(); len(s) != 0 {
			m.Errorf("kept: %+v", s)
		}
	})
}

func TestWithFailsAtOnceByWhatIsKnownAndHeals(t *testing.T) {
	inManager(t, 2, driver.Config{}, func(m *managed) {
		m.add("one", "redis://:@10.0.0.1")
		m.add("two", "redis://10.0.0.2")
		m.serves("one")
		m.server(1).DownRefused()
		time.Sleep(noticed) // nobody asks: the pool notices by itself
		e := m.refusal("one")
		if len(e.Nodes) != 1 || e.Nodes[0].Addr != "10.0.0.1:6379" || e.Nodes[0].Stats.LastDialError == "" {
			m.Errorf("nodes %+v", e.Nodes)
		}
		m.serves("two")
		m.server(1).Up()
		time.Sleep(2 * time.Second)
		m.serves("one")
		time.Sleep(time.Hour) // without a call
		m.serves("one")

		// An outage of hours without a call, which no pool would look at for so long.
		m.server(1).DownRefused()
		time.Sleep(5 * time.Hour)
		m.refuses("one")
		time.Sleep(3 * time.Hour)
		m.server(1).Up()
		time.Sleep(15 * time.Second)
		m.serves("one")
	})
}

func TestRemoveWaitsForWith(t *testing.T) {
	inManager(t, 2, driver.Config{}, func(m *managed) {
		c := m.add("one", "redis://10.0.0.1")
		m.add("two", "redis://10.0.0.2")
		var done atomic.Bool
		entered := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			err := m.With(m.Context(), "one", func(ctx context.Context, c redis.UniversalClient) error {
				close(entered)
				time.Sleep(10 * time.Second)
				done.Store(true)
				return c.Ping(ctx).Err()
			})
			if err != nil {
				m.Errorf("With: %v", err)
			}
		})
		<-entered
		wg.Go(func() {
			time.Sleep(time.Second)
			if _, err := m.with("one"); err == nil || !strings.Contains(err.Error(), `"two"`) {
				m.Errorf("With while it is removed: %v", err)
			}
		})
		if err := m.Remove(m.Context(), "one"); err != nil || !done.Load() {
			m.Errorf("Remove: %v, With had ended: %t", err, done.Load())
		}
		wg.Wait()
		if err := c.Ping(m.Context()).Err(); !errors.Is(err, redis.ErrClosed) {
			m.Errorf("the client isn't closed: %v", err)
		}
		if err := m.Remove(m.Context(), "one"); err == nil || !strings.Contains(err.Error(), `"two"`) {
			m.Errorf("removed again: %v", err)
		}
		time.Sleep(4 * time.Second)
		if n := m.server(1).Live(); n != 0 {
			m.Errorf("%d connections are left", n)
		}
		db := m.add("two", "redis://10.0.0.2").(*driver.DB)
		if n := db.Driver.Nodes(); len(n) != 1 || n[0].Addr != "10.0.0.2:6379" {
			m.Errorf("the driver has %+v, want the node of the client that is left", n)
		}
	})
}

func TestRemoveClosesTheClientWhenItsContextEnds(t *testing.T) {
	inManager(t, 1, driver.Config{}, func(m *managed) {
		c := m.add("one", "redis://10.0.0.1")
		end, entered := make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			_ = m.With(m.Context(), "one", func(context.Context, redis.UniversalClient) error {
				close(entered)
				<-end
				return nil
			})
		})
		<-entered
		began := time.Now()
		if err := m.Remove(m.within(2*time.Second), "one"); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 2*time.Second {
			m.Errorf("Remove: %v after %s", err, time.Since(began))
		}
		if err := c.Ping(m.Context()).Err(); !errors.Is(err, redis.ErrClosed) {
			m.Errorf("the client isn't closed: %v", err)
		}
		close(end)
		wg.Wait()
	})
}

// What is under way on a server that stands still isn't waited for beyond the context.
func TestRemoveEndsWithItsContextWhateverIsUnderWay(t *testing.T) {
	inManager(t, 1, driver.Config{}, func(m *managed) {
		c := m.add("one", "redis://10.0.0.1")
		m.server(1).Freeze(true)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { _ = c.Incr(context.Background(), "n").Err() })
			wg.Go(func() {
				_ = m.With(m.Context(), "one", func(ctx context.Context, rdb redis.UniversalClient) error {
					return rdb.Incr(context.Background(), "n").Err()
				})
			})
		}
		time.Sleep(10 * time.Millisecond)
		began := time.Now()
		if err := m.Remove(m.within(200*time.Millisecond), "one"); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 200*time.Millisecond {
			m.Errorf("Remove: %v after %s", err, time.Since(began))
		}
		m.server(1).Freeze(false)
		wg.Wait()
	})
}

func TestAPanicInWithEndsIt(t *testing.T) {
	inManager(t, 1, driver.Config{}, func(m *managed) {
		m.add("one", "redis://10.0.0.1")
		func() {
			defer func() {
				if r := recover(); r != "oh" {
					m.Errorf("recovered %v", r)
				}
			}()
			_ = m.With(m.Context(), "one", func(context.Context, redis.UniversalClient) error { panic("oh") })
		}()
		var wg sync.WaitGroup
		wg.Go(func() {
			_ = m.With(m.Context(), "one", func(context.Context, redis.UniversalClient) error {
				runtime.Goexit()
				return nil
			})
		})
		wg.Wait()
		if err := m.Remove(m.within(time.Second), "one"); err != nil {
			m.Errorf("Remove still waits: %v", err)
		}
	})
}

func TestWithGivesBackWhatItsFunctionReturns(t *testing.T) {
	inManager(t, 1, driver.Config{}, func(m *managed) {
		m.add("one", "redis://10.0.0.1")
		mine := errors.New("mine")
		if err := m.With(m.Context(), "one", func(context.Context, redis.UniversalClient) error { return mine }); !errors.Is(err, mine) {
			m.Errorf("got %v", err)
		}
		over, cancel := context.WithCancel(m.Context())
		cancel()
		err := m.With(over, "one", func(context.Context, redis.UniversalClient) error { m.Error("called"); return nil })
		if !errors.Is(err, context.Canceled) {
			m.Errorf("with a context that is over: %v", err)
		}
	})
}

func TestCloseWaitsForWithAndEndsAll(t *testing.T) {
	inManager(t, 1, driver.Config{}, func(m *managed) {
		m.add("one", "redis://10.0.0.1")
		m.add("again", "redis://10.0.0.1")
		entered := make(chan struct{})
		var done atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() {
			_ = m.With(m.Context(), "again", func(ctx context.Context, c redis.UniversalClient) error {
				close(entered)
				time.Sleep(time.Minute)
				done.Store(true)
				return nil
			})
		})
		<-entered
		for range 2 {
			wg.Go(func() {
				if err := m.Close(); err != nil || !done.Load() {
					m.Errorf("Close: %v, With had ended: %t", err, done.Load())
				}
			})
		}
		wg.Wait()
		_, added := m.Add(m.Context(), "one", "redis://10.0.0.1")
		_, got := m.Client("one")
		_, with := m.with("one")
		for what, err := range map[string]error{"Add": added, "Client": got, "With": with, "Remove": m.Remove(m.Context(), "one")} {
			if !errors.Is(err, pooler.ErrClosed) {
				m.Errorf("%s after Close: %v", what, err)
			}
		}
		if code, _ := get(m.T, m.Handler(), ""); code != http.StatusServiceUnavailable {
			m.Errorf("the handler answers %d", code)
		}
	})
}

// get asks a handler, and returns its status and its JSON.
func get(t *testing.T, h http.Handler, query string) (int, map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/health"+query, nil))
	body := make(map[string]any)
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%v in %q of type %q", err, w.Body, w.Header().Get("Content-Type"))
	}
	if strings.Contains(w.Body.String(), "hunter2") {
		t.Errorf("a password in %s", w.Body)
	}
	if healthy := w.Code == http.StatusOK; body["healthy"] != healthy || !healthy && w.Code != http.StatusServiceUnavailable {
		t.Errorf("status %d with %s", w.Code, w.Body)
	}
	return w.Code, body
}

func TestTheHandlerOfAManagerTellsProbes(t *testing.T) {
	inManager(t, 2, driver.Config{}, func(m *managed) {
		if code, _ := get(m.T, m.Handler(), ""); code != http.StatusOK {
			m.Errorf("without clients: %d", code)
		}
		for i := range 2 {
			m.server(i+1).SetPassword("default", "hunter2")
		}
		m.add("one", "redis://:hunter2@10.0.0.1/0?max_open_conns=3")
		m.add("two", "redis://:hunter2@10.0.0.2")
		if code, _ := get(m.T, m.Handler(), ""); code != http.StatusOK {
			m.Errorf("two healthy clients: %d", code)
		}
		m.server(1).DownRefused()
		time.Sleep(noticed)
		code, body := get(m.T, m.Handler(), "")
		clients, _ := body["clients"].([]any)
		if code != http.StatusServiceUnavailable || len(clients) != 2 {
			m.Fatalf("one is down: %d, %v", code, body)
		}
		one := clients[0].(map[string]any)
		if one["name"] != "one" || one["kind"] != "standalone" || one["url"] != "redis://10.0.0.1/0" || one["healthy"] != false {
			m.Errorf("the dead one: %v", one)
		}
		node := one["nodes"].([]any)[0].(map[string]any)
		if since, err := time.Parse(time.RFC3339, fmt.Sprint(node["since"])); err != nil || time.Since(since) > noticed || node["addr"] != "10.0.0.1:6379" || node["state"] != "down" || !strings.Contains(fmt.Sprint(node["error"]), "refused") {
			m.Errorf("its node: %v", node)
		}
		for name, want := range map[string]int{"one": 503, "two": 200, "three": 503} {
			code, body := get(m.T, m.Handler(), "?name="+name)
			if clients, _ := body["clients"].([]any); code != want || name != "three" && len(clients) != 1 {
				m.Errorf("%s: %d, %v; want %d", name, code, body, want)
			}
		}
	})
}

// asCluster makes servers, all or the first few, a cluster of masters, each with an equal
// share of the slots, of which the last few may be nobody's.
func (m *managed) asCluster(unserved int, of ...int) {
	slots := m.slotsOf(unserved, of...)
	for _, f := range m.servers {
		f.Handle("CLUSTER", func(*testkit.FakeConn, []string) []byte { return slots })
	}
}

// slotsOf is the view of such a cluster.
func (m *managed) slotsOf(unserved int, of ...int) []byte {
	addrs := slices.Sorted(maps.Keys(m.servers))
	for _, n := range of {
		addrs = addrs[:n]
	}
	var slots [][]byte
	for i, addr := range addrs {
		last := (i+1)*16384/len(addrs) - 1
		if i == len(addrs)-1 {
			last -= unserved
		}
		host, _, _ := net.SplitHostPort(addr)
		slots = append(slots, testkit.ReplyArray(
			testkit.ReplyInt(int64(i*16384/len(addrs))), testkit.ReplyInt(int64(last)),
			testkit.ReplyArray(testkit.ReplyBulk(host), testkit.ReplyInt(6379), testkit.ReplyBulk(fmt.Sprintf("%040d", i))),
		))
	}
	return testkit.ReplyArray(slots...)
}

func TestAClusterIsHealthyIfEverySlotHasAMasterThatIsNotDown(t *testing.T) {
	inManager(t, 3, driver.Config{}, func(m *managed) {
		m.asCluster(0)
		m.add("c", "redis://:@10.0.0.1?cluster=true")
		if s := m.status("c"); !s.Healthy || s.Degraded || s.Kind != "cluster" || len(s.Nodes) != 3 || s.URL != "redis://10.0.0.1?cluster=true" {
			m.Errorf("status %+v", s)
		} else if got := s.Nodes[1].Slots.String(); got != "5461-10921" {
			m.Errorf("the second node has the slots %s", got)
		}
		m.server(2).DownRefused()
		time.Sleep(noticed)
		s := m.status("c")
		if s.Healthy || !s.Degraded || s.Nodes[1].State != pooler.StateDown || s.Nodes[1].Role != "master" {
			m.Errorf("a master is down: %+v", s)
		}
		if code, body := get(m.T, m.Handler(), ""); code != http.StatusServiceUnavailable || body["clients"].([]any)[0].(map[string]any)["degraded"] != true {
			m.Errorf("the handler says %d, %v", code, body)
		}
		if called, _ := m.with("c"); !called {
			m.Error("With isn't called though two masters serve")
		}
		for _, f := range m.servers {
			f.DownRefused()
		}
		time.Sleep(noticed)
		if e := m.refusal("c"); len(e.Nodes) != 3 {
			m.Errorf("nodes %+v", e.Nodes)
		}
		for _, f := range m.servers {
			f.Up()
		}
		time.Sleep(15 * time.Second)
		if s := m.status("c"); !s.Healthy || s.Degraded {
			m.Errorf("all are back: %+v", s)
		}
		m.serves("c")
		if err := m.Remove(m.Context(), "c"); err != nil {
			m.Error(err)
		}
		time.Sleep(time.Minute)
		if d := m.add("other", "redis://10.0.0.1").(*driver.DB).Driver; len(d.Nodes()) != 1 {
			m.Errorf("the nodes of the cluster are kept: %+v", d.Nodes())
		}
	})
}

func TestAClusterWithSlotsOfNobodyIsDegraded(t *testing.T) {
	inManager(t, 2, driver.Config{}, func(m *managed) {
		m.asCluster(1)
		if _, err := m.Add(m.within(5*time.Second), "c", "redis://10.0.0.1?cluster=true"); !errors.Is(err, driver.ErrNoHealthyNode) {
			m.Fatalf("Add: %v", err)
		}
		began := time.Now()
		time.AfterFunc(10*time.Second, func() { m.asCluster(0) })
		m.add("c", "redis://10.0.0.1?cluster=true")
		if took := time.Since(began); took < 10*time.Second || took > 12*time.Second {
			m.Errorf("Add has taken %s; the slot was served after 10s", took)
		}
	})
}

// Without health checks nothing looks after nodes but calls: With and Status that find a
// client ill have its nodes looked for, for the next call.
func TestCallsHaveIllNodesLookedFor(t *testing.T) {
	cfg := driver.Config{Pool: pooler.Config{HealthCheckInterval: -1}}
	inManager(t, 1, cfg, func(m *managed) {
		c := m.add("one", "redis://10.0.0.1")
		for what, call := range map[string]func(){
			"With":    func() { m.refuses("one") },
			"Status":  func() { m.status("one") },
			"Handler": func() { get(m.T, m.Handler(), "") },
		} {
			m.server(1).DownRefused()
			_ = c.Ping(m.within(time.Second)).Err()
			time.Sleep(time.Hour) // after which the pool looks no more
			m.server(1).Up()
			time.Sleep(time.Minute)
			call()
			time.Sleep(2 * time.Second)
			if called, err := m.with("one"); !called || err != nil {
				m.Errorf("2s after %s: called %t, %v", what, called, err)
			}
		}
	})
}

func TestAMastersDeathIsTheSentinelGroups(t *testing.T) {
	inManager(t, 3, driver.Config{}, func(m *managed) {
		var master atomic.Value
		master.Store("10.0.0.1")
		m.server(3).Handle("SENTINEL", func(_ *testkit.FakeConn, args []string) []byte {
			host := testkit.ReplyBulk(master.Load().(string))
			switch strings.ToLower(args[1]) {
			case "get-master-addr-by-name":
				return testkit.ReplyArray(host, testkit.ReplyBulk("6379"))
			case "master":
				return testkit.ReplyArray(testkit.ReplyBulk("ip"), host, testkit.ReplyBulk("port"), testkit.ReplyBulk("6379"), testkit.ReplyBulk("config-epoch"), testkit.ReplyBulk("1"))
			}
			return testkit.ReplyArray()
		})
		m.add("s", "redis://:hunter2@10.0.0.3:6379?master_name=main&password=hunter2", driver.WithFailoverOptions(func(o *redis.FailoverOptions) {
			o.SentinelPassword, o.Password = "", ""
		}))
		s := m.status("s")
		if !s.Healthy || s.Kind != "sentinel" || s.URL != "redis://10.0.0.3:6379?master_name=main" || strings.Contains(fmt.Sprintf("%+v", s), "hunter2") {
			m.Errorf("status %+v", s)
		}
		m.server(1).DownRefused()
		time.Sleep(noticed)
		m.refuses("s")
		time.Sleep(10 * time.Minute) // in which nobody calls
		master.Store("10.0.0.2")
		time.Sleep(15 * time.Second)
		m.serves("s")
		if n := m.server(2).Count("PING"); n == 0 {
			m.Error("the new master wasn't asked")
		}
	})
}

func TestTheOptionsOfAManagerAreThoseOfEveryClient(t *testing.T) {
	var seen atomic.Int64
	watch, err := hooks.New(hooks.Func{OnEnd: func(context.Context, *hooks.Operation) { seen.Add(1) }})
	if err != nil {
		t.Fatal(err)
	}
	inManager(t, 2, driver.Config{Pool: pooler.Config{MaxOpenConns: 9}}, func(m *managed) {
		m.add("one", "redis://10.0.0.1?max_open_conns=5&retry=none")
		m.add("two", "redis://10.0.0.2?cluster=false")
		if seen.Load() != 2 {
			m.Errorf("the hook has seen %d commands, want the two PINGs", seen.Load())
		}
		for i, want := range []int{5, 9} {
			if n := m.Status()[i].Nodes[0].Stats.MaxOpenConnections; n != want {
				m.Errorf("client %d may have %d connections, want %d", i, n, want)
			}
		}
		db := m.add("one", "redis://10.0.0.1?max_open_conns=5&retry=none").(*driver.DB)
		if two := m.add("two", "redis://10.0.0.2?cluster=false").(*driver.DB); !two.Driver.Owns(db) {
			m.Error("the clients have drivers of their own")
		}
		if _, err := m.Add(m.Context(), "x", "redis://10.0.0.1", driver.WithClusterOptions(func(*redis.ClusterOptions) {})); !errors.Is(err, pooler.ErrConfig) {
			m.Errorf("an option for another kind: %v", err)
		}
	}, driver.WithHooks(watch), driver.WithClusterOptions(func(*redis.ClusterOptions) {}))

	_, err = driver.NewManager(driver.Config{Retry: 7}, nil, driver.WithClientOptions(nil))
	for _, want := range []string{"Retry is 7", "option 0 is nil", "WithClientOptions"} {
		if !errors.Is(err, pooler.ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v doesn't say %q", err, want)
		}
	}
}

func TestFiftyNodesOfWhichHalfAreDead(t *testing.T) {
	inManager(t, 50, driver.Config{}, func(m *managed) {
		for i := range 50 {
			m.add(fmt.Sprint("n", i+1), fmt.Sprintf("redis://10.0.0.%d", i+1))
		}
		for i := range 25 {
			m.server(i + 1).DownRefused()
		}
		time.Sleep(time.Minute)
		for i := range 50 {
			name := fmt.Sprint("n", i+1)
			if i < 25 {
				m.refuses(name)
				continue
			}
			began := time.Now()
			m.serves(name)
			if d := time.Since(began); d > 0 {
				m.Errorf("%s has taken %s", name, d)
			}
		}
	})
}

// A call of Add that gives up takes nothing from one that still waits.
func TestAddWaitsForItself(t *testing.T) {
	inManager(t, 1, driver.Config{}, func(m *managed) {
		m.server(1).DownRefused()
		time.AfterFunc(10*time.Second, m.server(1).Up)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := m.Add(m.within(time.Second), "one", "redis://10.0.0.1"); !errors.Is(err, driver.ErrNoHealthyNode) {
				m.Errorf("Add for a second: %v", err)
			}
		})
		m.add("one", "redis://10.0.0.1")
		wg.Wait()
		m.serves("one")
	})
}

// A call of Add whose client is taken out meanwhile says so: the client is closed, and the
// manager may be.
func TestAddSaysThatItsClientIsGone(t *testing.T) {
	for what, end := range map[string]func(m *managed) error{
		"everpool: closed": func(m *managed) error { return m.Close() },
		"was removed":      func(m *managed) error { return m.Remove(m.Context(), "dead") },
	} {
		inManager(t, 1, driver.Config{}, func(m *managed) {
			m.server(1).DownRefused()
			time.AfterFunc(10*time.Second, func() {
				if err := end(m); err != nil {
					m.Error(err)
				}
			})
			began := time.Now()
			_, err := m.Add(m.within(time.Minute), "dead", "redis://10.0.0.1")
			if !errors.Is(err, pooler.ErrClosed) || !strings.Contains(err.Error(), what) || !strings.Contains(err.Error(), `"dead"`) || strings.Count(err.Error(), "closed") > 1 || time.Since(began) > 11*time.Second {
				m.Errorf("%s: %v after %s", what, err, time.Since(began))
			}
		})
	}
}

// A user that may not PING may do other things, and a server that says so serves.
func TestAClientThatMayNotPingIsAdded(t *testing.T) {
	inManager(t, 1, driver.Config{}, func(m *managed) {
		m.server(1).Handle("PING", func(*testkit.FakeConn, []string) []byte {
			return testkit.ReplyError("NOPERM this user has no permissions to run the 'ping' command")
		})
		db := m.add("one", "redis://10.0.0.1").(*driver.DB)
		if err := db.Driver.Health(m.Context()); err != nil {
			m.Errorf("Health: %v", err)
		}
		m.server(1).Handle("PING", func(*testkit.FakeConn, []string) []byte {
			return testkit.ReplyError("LOADING Redis is loading the dataset in memory")
		})
		if err := db.Driver.Health(m.Context()); !errors.Is(err, driver.ErrNoHealthyNode) {
			m.Errorf("Health of a server that loads: %v", err)
		}
	})
}

// The program that has closed the client itself is not told of that by Remove.
func TestRemoveTakesAClientThatIsClosed(t *testing.T) {
	inManager(t, 1, driver.Config{}, func(m *managed) {
		if err := m.add("one", "redis://10.0.0.1").Close(); err != nil {
			m.Fatal(err)
		}
		if err := m.Remove(m.Context(), "one"); err != nil {
			m.Errorf("Remove: %v", err)
		}
	})
}

// A server that stands still may be slow: With calls, and statuses tell of the silence.
func TestASilentNodeIsHealthy(t *testing.T) {
	inManager(t, 1, driver.Config{}, func(m *managed) {
		c := m.add("one", "redis://10.0.0.1")
		m.server(1).Freeze(true)
		var wg sync.WaitGroup
		wg.Go(func() { c.Get(m.within(2*time.Second), "k") })
		time.Sleep(time.Second)
		s := m.status("one")
		if !s.Healthy || !s.Nodes[0].Silent {
			m.Errorf("status %+v", s)
		}
		_, err := m.Add(m.within(100*time.Millisecond), "two", "redis://10.0.0.1")
		if err == nil || !strings.Contains(err.Error(), "10.0.0.1:6379 is silent") {
			m.Errorf("Add says %v", err)
		}
		if called, _ := m.with("one"); !called {
			m.Error("With isn't called")
		}
		m.server(1).Freeze(false)
		wg.Wait()
	})
}

// A server that has no room for more connections still serves on those that there are.
func TestANodeThatAcceptsNobodyServes(t *testing.T) {
	inManager(t, 1, driver.Config{}, func(m *managed) {
		var full atomic.Bool
		c := m.add("one", "redis://10.0.0.1", driver.WithConfig(driver.Config{
			Logger: slog.New(slog.DiscardHandler),
			Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if full.Load() {
					return nil, errors.New("full")
				}
				return m.server(1).Dial(ctx, network, addr)
			},
		}))
		full.Store(true)
		var wg sync.WaitGroup
		wg.Go(func() { c.BLPop(m.within(3*time.Second), 0, "list") }) // which a dial is needed for
		for range 20 {
			time.Sleep(100 * time.Millisecond)
			m.serves("one")
		}
		if s := m.status("one"); !s.Healthy || s.Nodes[0].State != pooler.StateSuspect {
			m.Errorf("status %+v", s)
		}
		m.server(1).ResetAll()
		time.Sleep(noticed)
		m.refuses("one")
		wg.Wait()
		full.Store(false)
	})
}

// Replicas aren't needed, and tell that they are replicas.
func TestReplicasAreNotNeeded(t *testing.T) {
	inManager(t, 2, driver.Config{}, func(m *managed) {
		member := func(n int) []byte {
			return testkit.ReplyArray(testkit.ReplyBulk(fmt.Sprintf("10.0.0.%d", n)), testkit.ReplyInt(6379), testkit.ReplyBulk(fmt.Sprintf("%040d", n)))
		}
		for i := range 2 {
			m.server(i+1).Handle("CLUSTER", func(*testkit.FakeConn, []string) []byte {
				return testkit.ReplyArray(testkit.ReplyArray(testkit.ReplyInt(0), testkit.ReplyInt(16383), member(1), member(2)))
			})
		}
		db := m.add("c", "redis://10.0.0.1?cluster=true").(*driver.DB)
		ping := func(ctx context.Context, c *redis.Client) error { return c.Ping(ctx).Err() }
		if err := db.Unwrap().(*redis.ClusterClient).ForEachSlave(m.Context(), ping); err != nil {
			m.Fatal(err)
		}
		m.server(2).DownRefused()
		time.Sleep(noticed)
		s := m.status("c")
		if !s.Healthy || len(s.Nodes) != 2 || s.Nodes[1].Role != "replica" || s.Nodes[1].State != pooler.StateDown {
			m.Errorf("status %+v", s)
		}
		if err := db.Driver.Health(m.Context()); err != nil {
			m.Errorf("Health: %v", err)
		}
		m.serves("c")
	})
}

func TestHealthChecksAreOffIfTheConfigurationSaysSo(t *testing.T) {
	for every, want := range map[time.Duration]bool{0: true, -1: false} {
		cfg := driver.Config{Pool: pooler.Config{HealthCheckInterval: every}}
		inManager(t, 1, cfg, func(m *managed) {
			m.add("one", "redis://10.0.0.1")
			m.server(1).ResetLog()
			time.Sleep(time.Hour)
			if got := m.server(1).Count("PING") > 0; got != want {
				m.Errorf("HealthCheckInterval %d: %d PINGs in an hour", every, m.server(1).Count("PING"))
			}
		})
	}
}

// The same address may be of another server by another Dial or MapAddr.
func TestAConfigurationOfItsOwnReachesItsOwnServer(t *testing.T) {
	inManager(t, 2, driver.Config{}, func(m *managed) {
		other := func(cfg driver.Config) driver.Option {
			cfg.Logger = slog.New(slog.DiscardHandler)
			return driver.WithConfig(cfg)
		}
		first := m.add("first", "redis://10.0.0.1")
		second := m.add("second", "redis://10.0.0.1", other(driver.Config{
			Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
				return m.server(2).Dial(ctx, network, addr)
			},
		}))
		for c, want := range map[redis.UniversalClient]string{first: "1", second: "2"} {
			if err := c.Set(m.Context(), "server", want, 0).Err(); err != nil {
				m.Fatal(err)
			}
		}
		for c, want := range map[redis.UniversalClient]string{first: "1", second: "2"} {
			if got := c.Get(m.Context(), "server").Val(); got != want {
				m.Errorf("server %q answers, want %s", got, want)
			}
		}
		if n := first.(*driver.DB).Driver.Nodes(); len(n) != 2 {
			m.Errorf("nodes %+v", n)
		}
		m.server(1).DownRefused()
		time.Sleep(noticed)
		m.refuses("first")
		m.serves("second")
	})
}

// All methods at once, from many goroutines: no client is closed under a call of With.
func TestAManagerIsForManyGoroutines(t *testing.T) {
	inManager(t, 3, driver.Config{}, func(m *managed) {
		var wg sync.WaitGroup
		var calls atomic.Int64
		for i := range 12 {
			wg.Go(func() {
				for j := range 30 {
					name := fmt.Sprint("n", (i+j)%4)
					switch i % 4 {
					case 0:
						if _, err := m.Add(m.Context(), name, fmt.Sprintf("redis://10.0.0.%d", (i+j)%4%3+1)); err != nil && !errors.Is(err, pooler.ErrClosed) {
							m.Errorf("Add: %v", err)
						}
					case 1:
						if j%5 == 0 {
							_ = m.Remove(m.Context(), name) // which may be gone
						}
					case 2:
						if called, err := m.with(name); called {
							calls.Add(1)
							if err != nil {
								m.Errorf("With: %v", err)
							}
						}
					case 3:
						_ = m.Status()
						get(m.T, m.Handler(), "?name="+name)
					}
					time.Sleep(time.Millisecond)
				}
			})
		}
		wg.Wait()
		if calls.Load() == 0 {
			m.Error("With hasn't called")
		}
	})
}

// A client that reads from replicas alone doesn't need the master.
func TestAClientOfReplicasIsHealthyWithoutTheMaster(t *testing.T) {
	inManager(t, 3, driver.Config{}, func(m *managed) {
		member := func(n int) []byte {
			return testkit.ReplyArray(testkit.ReplyBulk("ip"), testkit.ReplyBulk(fmt.Sprintf("10.0.0.%d", n)), testkit.ReplyBulk("port"), testkit.ReplyBulk("6379"), testkit.ReplyBulk("flags"), testkit.ReplyBulk("slave"))
		}
		m.server(3).Handle("SENTINEL", func(_ *testkit.FakeConn, args []string) []byte {
			switch strings.ToLower(args[1]) {
			case "get-master-addr-by-name":
				return testkit.ReplyArray(testkit.ReplyBulk("10.0.0.1"), testkit.ReplyBulk("6379"))
			case "master":
				return member(1)
			case "replicas", "slaves":
				return testkit.ReplyArray(member(2))
			}
			return testkit.ReplyArray()
		})
		m.server(1).DownRefused()
		m.add("r", "redis://10.0.0.3?master_name=main", driver.WithFailoverOptions(func(o *redis.FailoverOptions) { o.ReplicaOnly = true }))
		time.Sleep(noticed)
		m.serves("r")
		if s := m.status("r"); !s.Healthy || m.server(2).Count("PING") == 0 {
			m.Errorf("status %+v", s)
		}
		m.server(2).DownRefused()
		time.Sleep(noticed)
		m.refuses("r")
	})
}

func TestAManagerThatNewManagerHasNotMadeSaysSo(t *testing.T) {
	for _, m := range []*driver.Manager{nil, new(driver.Manager)} {
		_, added := m.Add(t.Context(), "one", "redis://10.0.0.1")
		_, got := m.Client("one")
		with := m.With(t.Context(), "one", func(context.Context, redis.UniversalClient) error { return nil })
		for what, err := range map[string]error{"Add": added, "Client": got, "With": with, "Remove": m.Remove(t.Context(), "one"), "Close": m.Close()} {
			if !errors.Is(err, pooler.ErrConfig) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if s := m.Status(); len(s) != 0 {
			t.Errorf("status %+v", s)
		}
		if code, _ := get(t, m.Handler(), ""); code != http.StatusServiceUnavailable {
			t.Errorf("the handler says %d", code)
		}
	}
}

// Nodes that are being asked when their client is removed are forgotten afterwards.
func TestRemoveForgetsNodesThatAreBeingAsked(t *testing.T) {
	inManager(t, 3, driver.Config{}, func(m *managed) {
		d := m.add("other", "redis://10.0.0.3").(*driver.DB).Driver
		for i := range 2 {
			m.server(i+1).Handle("CLUSTER", func(*testkit.FakeConn, []string) []byte {
				node := func(n int) []byte {
					return testkit.ReplyArray(testkit.ReplyBulk(fmt.Sprintf("10.0.0.%d", n)), testkit.ReplyInt(6379), testkit.ReplyBulk(fmt.Sprintf("%040d", n)))
				}
				return testkit.ReplyArray(
					testkit.ReplyArray(testkit.ReplyInt(0), testkit.ReplyInt(8191), node(1)),
					testkit.ReplyArray(testkit.ReplyInt(8192), testkit.ReplyInt(16383), node(2)))
			})
		}
		m.add("c", "redis://10.0.0.1?cluster=true")
		m.server(2).Freeze(true)
		m.server(1).DownRefused()
		time.Sleep(noticed)
		_ = m.status("c") // which has the other node asked
		time.Sleep(10 * time.Millisecond)
		if err := m.Remove(m.Context(), "c"); err != nil {
			m.Error(err)
		}
		time.Sleep(time.Minute)
		if n := d.Nodes(); len(n) != 1 {
			m.Errorf("nodes %+v", n)
		}
		m.server(2).Freeze(false)
	})
}

// Names are shown. Who confuses the two arguments is told so, without the password.
func TestANameThatIsAURLIsRefused(t *testing.T) {
	inServers(t, 1, func(m *managed) {
		m.open(driver.Config{Dial: m.dial})
		_, err := m.Add(m.Context(), "redis://:hunter2@10.0.0.1:6379", "orders")
		if !errors.Is(err, pooler.ErrConfig) || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), `"10.0.0.1:6379"`) {
			m.Errorf("got %v", err)
		}
	})
}

func TestWithNeedsAFunction(t *testing.T) {
	inServers(t, 1, func(m *managed) {
		m.open(driver.Config{Dial: m.dial})
		if _, err := m.Add(m.Context(), "orders", "redis://10.0.0.1:6379"); err != nil {
			m.Fatal(err)
		}
		if err := m.With(m.Context(), "orders", nil); !errors.Is(err, pooler.ErrConfig) {
			m.Errorf("got %v", err)
		}
	})
}

// Who waits for a node that is away with a client that is removed waits no longer.
func TestRemovingAClientEndsTheWaitOfItsCallers(t *testing.T) {
	if !driver.Vetoes {
		t.Skip("handles that exist already wait themselves")
	}
	inManager(t, 1, driver.Config{}, func(m *managed) {
		rdb := m.add("a", "redis://10.0.0.1:6379")
		m.server(1).DownRefused()
		_ = rdb.Ping(m.within(100 * time.Millisecond)).Err() // it is noticed
		const callers = 10
		told := make(chan error, callers)
		for range callers {
			go func() { told <- rdb.Set(m.Context(), "k", "v", 0).Err() }()
		}
		time.Sleep(500 * time.Millisecond)
		began := time.Now()
		if err := m.Remove(m.Context(), "a"); err != nil {
			m.Error(err)
		}
		for range callers {
			if err := <-told; !errors.Is(err, redis.ErrClosed) {
				m.Errorf("a caller is told %v", err)
			}
		}
		if took := time.Since(began); took != 0 {
			m.Errorf("they waited for %s", took)
		}
	})
}
