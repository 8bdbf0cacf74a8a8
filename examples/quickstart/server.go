package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// server is what the clients talk to: embedded, or somebody's real one. Of a
// real one only this program's connections and keys are touched.
type server struct {
	addr     string
	about    string
	embedded *miniredis.Miniredis
	admin    *redis.Client // a plain client for what isn't measured
	keys     []string
}

func newServer(ctx context.Context, addr string) (*server, error) {
	s := &server{addr: addr}
	if addr == "" {
		m := miniredis.NewMiniRedis()
		if err := m.Start(); err != nil {
			return nil, fmt.Errorf("starting the embedded server: %w", err)
		}
		s.embedded, s.addr = m, m.Addr()
		s.about = "The server is embedded (miniredis, " + s.addr + ")."
	} else {
		s.about = "The server is " + s.addr + `. Only the connections of this program will be cut.
For a whole outage restart the server yourself meanwhile, with a longer -for.`
	}
	s.admin = redis.NewClient(&redis.Options{Addr: s.addr, MaxRetries: -1, DialerRetries: 1})
	if err := s.admin.Ping(ctx).Err(); err != nil {
		s.close()
		return nil, fmt.Errorf("no answer from %s: %w", s.addr, err)
	}
	return s, nil
}

// prepare makes the keys, to go by themselves should nobody delete them.
func (s *server) prepare(ctx context.Context, sides []*side) error {
	for _, side := range sides {
		for key, value := range map[string]string{side.key: strings.Repeat("x", 32), side.incrKey: "0"} {
			if err := s.admin.Set(ctx, key, value, time.Hour).Err(); err != nil {
				return fmt.Errorf("preparing a key: %w", err)
			}
			s.keys = append(s.keys, key)
		}
	}
	return nil
}

// outage stops the embedded server and starts it again, its data as before; of a
// real one it cuts the clients' connections at the beginning and at the end.
func (s *server) outage(ctx context.Context, d *diary, length time.Duration) {
	if ctx.Err() != nil {
		return
	}
	if s.embedded == nil {
		s.cut(ctx, d)
		pause(ctx, length)
		s.cut(ctx, d)
		return
	}
	d.note("the server is stopped")
	s.embedded.Close()
	pause(ctx, length)
	if err := s.embedded.Restart(); err != nil {
		d.note("the server can't be started again: %v", err)
		return
	}
	d.note("the server is started again")
}

// cut has the server close the connections of both clients.
func (s *server) cut(ctx context.Context, d *diary) {
	list, err := s.admin.ClientList(ctx).Result()
	if err != nil {
		d.note("the connections can't be cut: %v", err)
		return
	}
	var killed int64
	for line := range strings.Lines(list) {
		if fields := strings.Fields(line); strings.Contains(line, " name="+clientName+" ") {
			n, _ := s.admin.ClientKillByFilter(ctx, "ID", strings.TrimPrefix(fields[0], "id=")).Result()
			killed += n
		}
	}
	d.note("the server closes %d connections of these clients", killed)
}

// count reads how often the server has counted.
func (s *server) count(side *side) (int64, error) {
	return s.admin.Get(context.Background(), side.incrKey).Int64()
}

func (s *server) close() {
	if len(s.keys) > 0 {
		s.admin.Del(context.Background(), s.keys...)
	}
	s.admin.Close()
	if s.embedded != nil {
		s.embedded.Close()
	}
}
