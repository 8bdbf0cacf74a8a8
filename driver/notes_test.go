package driver_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
)

// lines collects what a driver logs.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// with returns the lines that contain the text.
func (l *lines) with(text string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func TestALaterClientsSettingsThatArentInForceAreLoggedOnceEach(t *testing.T) {
	log := new(lines)
	inLab(t, driver.Config{Logger: log.logger()}, func(t *lab) {
		ping := func(change func(*redis.Options)) {
			t.Helper()
			if err := t.client(change).Ping(t.Context()).Err(); err != nil {
				t.Error(err)
			}
		}
		ping(func(o *redis.Options) { o.PoolSize, o.PoolTimeout = 10, time.Second })
		ping(func(o *redis.Options) { o.PoolSize, o.PoolTimeout = 10, 3*time.Second })
		if all := log.with("field="); len(all) != 0 {
			t.Errorf("logged of clients that agree, or whose own settings hold: %q", all)
		}
		for range 3 {
			ping(func(o *redis.Options) { o.PoolSize, o.MaxIdleConns, o.DialTimeout = 50, 7, 3*time.Second })
		}
		for field, facts := range map[string]string{
			"field=MaxIdleConns": "node=" + labAddr + ` field=MaxIdleConns options=MaxIdleConns asked=7 in_force=20`,
			"field=DialTimeout":  "asked=3s in_force=5s",
		} {
			if all := log.with(field); len(all) != 1 || !strings.Contains(all[0], facts) {
				t.Errorf("%q; want one line with %q", all, facts)
			}
		}
		if all := log.with("field=MaxOpenConns "); len(all) != 0 {
			t.Errorf("logged although they have their sockets together: %q", all)
		}
		t.d.SetConnMaxLifetime(time.Hour)
		ping(func(o *redis.Options) { o.PoolSize, o.ConnMaxLifetime = 10, time.Minute })
		if all := log.with("field=ConnMaxLifetime "); len(all) != 0 {
			t.Errorf("logged although a knob decides: %q", all)
		}
	})
}
