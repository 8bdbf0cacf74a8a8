package testkit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// watchPause is how often a topology is asked for what it tells, and so how
	// late the time of a telling may be.
	watchPause = 10 * time.Millisecond
	// settlePause is how often a topology is asked whether it has settled. That
	// is many questions to many servers, who need the processor themselves.
	settlePause = 50 * time.Millisecond
	// topologyPatience bounds a change of a topology: many times what an
	// election takes on a busy machine.
	topologyPatience = time.Minute
)

// awaitSettled asks until nothing is missing, and fails the test with what
// still was after [topologyPatience].
func awaitSettled(tb testing.TB, what string, missing func() string) {
	tb.Helper()
	by := time.Now().Add(topologyPatience)
	for {
		why := missing()
		if why == "" {
			return
		}
		if time.Now().After(by) {
			tb.Fatalf("testkit: it never came about that %s: %s", what, why)
		}
		time.Sleep(settlePause)
	}
}

// order is [Server.Do] for commands whose only good answer is no error.
func (s *Server) order(tb testing.TB, args ...string) {
	tb.Helper()
	if reply := s.Do(tb, args...); strings.HasPrefix(reply, "-") {
		tb.Fatalf("testkit: %s on %s: %s", strings.Join(args, " "), s.Addr, reply)
	}
}

// session opens a connection that ctx ends, authenticated as with [Server.Do].
func (s *Server) session(ctx context.Context) (c *respClient, end func(), err error) {
	conn, err := s.dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	end = func() { stop(); conn.Close() }
	c = newRespClient(conn)
	refusal, err := s.logIn(c)
	if err == nil && refusal != "" {
		err = errors.New(refusal)
	}
	if err != nil {
		end()
		return nil, nil, err
	}
	return c, end, nil
}

// inquire sends commands on one fresh connection and returns their replies.
// An error reply counts as an error.
func (s *Server) inquire(commands ...string) ([]any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	c, end, err := s.session(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	replies := make([]any, len(commands))
	for i, command := range commands {
		if replies[i], err = c.ask(strings.Fields(command)...); err != nil {
			return nil, err
		}
		if text, ok := replies[i].(string); ok && strings.HasPrefix(text, "-") {
			return nil, errors.New(text)
		}
	}
	return replies, nil
}

// watch asks a server the same every [watchPause] until take wants no more or
// ctx ends, dialing again whenever the connection is lost.
func (s *Server) watch(ctx context.Context, command string, take func(reply any) (enough bool)) {
	tick := time.NewTicker(watchPause)
	defer tick.Stop()
	for ctx.Err() == nil {
		if c, end, err := s.session(ctx); err == nil {
			enough := watchOn(ctx, c, tick, strings.Fields(command), take)
			end()
			if enough {
				return
			}
		}
		waitTick(ctx, tick)
	}
}

// watchOn is [Server.watch] on one connection, until it is lost.
func watchOn(ctx context.Context, c *respClient, tick *time.Ticker, args []string, take func(any) bool) (enough bool) {
	for ctx.Err() == nil {
		reply, err := c.ask(args...)
		if err != nil {
			return false
		}
		if take(reply) {
			return true
		}
		waitTick(ctx, tick)
	}
	return false
}

func waitTick(ctx context.Context, tick *time.Ticker) {
	select {
	case <-ctx.Done():
	case <-tick.C:
	}
}

// firstToTell asks all servers at once, those too that are down or frozen for
// now, until any of them gives a reply in which find finds an address. It
// returns that address and when the reply came.
func firstToTell(ctx context.Context, servers []*Server, command string, find func(reply any) (addr string)) (addr string, at time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, topologyPatience)
	defer cancel()
	var mu sync.Mutex
	take := func(reply any) bool {
		now, told := time.Now(), find(reply)
		if told == "" {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		if addr == "" {
			addr, at = told, now
			cancel()
		}
		return true
	}
	var watching sync.WaitGroup
	for _, s := range servers {
		watching.Go(func() { s.watch(ctx, command, take) })
	}
	watching.Wait()
	if addr == "" {
		return "", time.Time{}, fmt.Errorf("nobody of %d servers told it: %w", len(servers), ctx.Err())
	}
	return addr, at, nil
}

// infoFields are the lines "name:value" of INFO and CLUSTER INFO.
func infoFields(reply any) map[string]string {
	fields := map[string]string{}
	for line := range strings.Lines(replyText(reply)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	return fields
}
