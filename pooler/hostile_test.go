package pooler_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// hostile are replies that no connection survives.
var hostile = map[string]string{
	"garbage":               "HTTP/1.1 400 Bad Request\r\n\r\n",
	"NUL":                   "\x00\x00\x00",
	"bulk too large":        "$536870913\r\nx",
	"bulk length overflows": "$99999999999999999999\r\n",
	"bulk length negative":  "$-2\r\n",
	"array too long":        "*2147483647\r\n",
	"array length no digit": "*x\r\n",
	"bulk without its end":  "$3\r\nabcde",
	"nested too deep":       strings.Repeat("*1\r\n", 10_001),
	"LF only":               "+OK\n+OK\n",
	"streamed type":         "*?\r\n",
	"attribute, then push":  "|1\r\n+a\r\n+b\r\n>1\r\n+x\r\n",
}

func TestWhatIsNotRESPEndsTheConnection(t *testing.T) {
	for name, bytes := range hostile {
		t.Run(name, func(t *testing.T) {
			bubble(t, pooler.Config{}, func(pt *tester) {
				pt.fake.Handle("GET", func(*testkit.FakeConn, []string) []byte { return []byte(bytes) })
				c := pt.get(pt.plain)
				_, err := exchange(c, "GET", "k")
				pt.wantErr(err, pooler.ErrProtocol)
				if _, _, again := c.Receive(make([]byte, 10), time.Time{}); again == nil {
					t.Error("it can still be received from")
				}
				pt.fail(c)
				pt.wantCloses(pooler.CloseProtocol, 1)
				pt.wantOpen(0)
			})
		})
	}
}

func TestHostilePushesEndTheConnectionToo(t *testing.T) {
	for name, bytes := range hostile {
		if strings.HasPrefix(bytes, "|") {
			continue
		}
		w := newWire(t, 1<<20)
		w.c.Owe(1)
		w.reply(">1\r\n" + bytes)
		if _, err := receive(w.c, time.Time{}); !errors.Is(err, pooler.ErrProtocol) || w.c.Err() == nil {
			t.Errorf("%s: %v, connection %v", name, err, w.c.Err())
		}
	}
}

func TestNoAnnouncedSizeIsAllocated(t *testing.T) {
	for _, announced := range []string{"$536870912\r\n", "*67108864\r\n", ">67108864\r\n", "%33554432\r\n", "*1\r\n*1\r\n*67108864\r\n"} {
		w := newWire(t, 0)
		w.c.Owe(1)
		w.reply(announced)
		buf := make([]byte, 64<<10)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 3 {
			_, _, _ = w.c.Receive(buf, time.Now().Add(time.Millisecond))
		}
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 64<<10 {
			t.Errorf("%q made it allocate %d bytes", announced, got)
		}
		if w.c.Err() != nil {
			t.Errorf("%q: %v, and it is within the limits", announced, w.c.Err())
		}
	}
}

func TestAnErrorOfTheProtocolShowsNoPayload(t *testing.T) {
	w := newWire(t, 0)
	w.c.Owe(1)
	w.reply("*2\r\n$7\r\n" + secret + "\r\nrubbish " + secret)
	_, err := receive(w.c, time.Time{})
	if !errors.Is(err, pooler.ErrProtocol) || strings.Contains(fmt.Sprintf("%v %+v", err, err), secret) {
		t.Errorf("error is %v", err)
	}
}
