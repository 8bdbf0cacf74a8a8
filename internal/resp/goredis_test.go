package resp_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/everpool/everpool/internal/resp"
)

// cannedConn answers a handshake, and anything else with its replies. At their
// end it says EOF, so that a client which waits for more fails instead of
// hanging.
type cannedConn struct {
	net.Conn // for what go-redis never calls
	replies  []byte
	out      []byte
}

func (c *cannedConn) Write(p []byte) (int, error) {
	if bytes.Contains(bytes.ToLower(p), []byte("hello")) {
		c.out = append(c.out, "%1\r\n$5\r\nproto\r\n:3\r\n"...)
	} else {
		c.out = append(c.out, c.replies...)
	}
	return len(p), nil
}

func (c *cannedConn) Read(p []byte) (int, error) {
	if len(c.out) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.out)
	c.out = c.out[n:]
	return n, nil
}

func (c *cannedConn) Close() error                     { return nil }
func (c *cannedConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *cannedConn) SetDeadline(time.Time) error      { return nil }
func (c *cannedConn) SetReadDeadline(time.Time) error  { return nil }
func (c *cannedConn) SetWriteDeadline(time.Time) error { return nil }

// goRedisReads has go-redis read a reply and two sentinels after it, as the
// answer to a pipeline of two commands.
func goRedisReads(t *testing.T, reply []byte) (first, second *redis.Cmd) {
	t.Helper()
	client := redis.NewClient(&redis.Options{
		Addr:                     "127.0.0.1:1",
		Protocol:                 3,
		MaxRetries:               -1,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		ReadBufferSize:           512,
		WriteBufferSize:          512,
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			return &cannedConn{replies: append(bytes.Clone(reply), "+SENTINEL\r\n+AFTER\r\n"...)}, nil
		},
	})
	defer func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}()
	pipe := client.Pipeline()
	first, second = pipe.Do(t.Context(), "a"), pipe.Do(t.Context(), "b")
	_, _ = pipe.Exec(t.Context()) // the error is that of one of the commands
	return first, second
}

// checkGoRedisAgrees checks that go-redis, too, sees a reply's end where the
// scanner did.
func checkGoRedisAgrees(t *testing.T, reply []byte, kind byte) {
	t.Helper()
	first, second := goRedisReads(t, reply)
	var redisErr redis.Error
	switch err := first.Err(); {
	case kind == '>' && first.Val() == "SENTINEL" && second.Val() == "AFTER":
		// A push that go-redis took for itself.
	case err == nil, errors.As(err, &redisErr):
		if second.Err() != nil || second.Val() != "SENTINEL" {
			t.Errorf("after %q (%v, %v) go-redis read %v, %v", reply, first.Val(), err, second.Val(), second.Err())
		}
	case notAValue(err):
		// The frame is right, go-redis just has no value for it, and it gives the
		// connection up.
		if second.Err() == nil {
			t.Errorf("after %q (%v) go-redis read %v", reply, err, second.Val())
		}
	default:
		t.Errorf("go-redis reads %q as %v, %v", reply, first.Val(), err)
	}
}

// notAValue reports whether go-redis framed a reply but couldn't convert it.
func notAValue(err error) bool {
	return errors.Is(err, strconv.ErrRange) || errors.Is(err, strconv.ErrSyntax) ||
		strings.Contains(err.Error(), "map key must be a scalar") ||
		strings.Contains(err.Error(), "can't parse verbatim string")
}

// losesGoRedis reports whether a reply may have one of the shapes in which
// go-redis v9.23.0 loses its place: see the test of that name.
func losesGoRedis(reply []byte) bool {
	r := &reference{p: reply}
	r.stream(func() { r.value(0, false) })
	return r.oddKey || r.nested
}

func TestGoRedisSeesTheSameBoundaries(t *testing.T) {
	for _, reply := range replyScript {
		checkGoRedisAgrees(t, []byte(reply), gotReplies([]byte(reply), whole).Kinds[0])
	}
	for _, reply := range scalars {
		checkGoRedisAgrees(t, []byte(reply), reply[0])
	}
}

func TestGoRedisSeesTheSameBoundariesOfRandomReplies(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		reply := randomReply(rnd, nil, 4)
		got := gotReplies(reply, whole)
		if len(got.Ends) != 1 || got.Ends[0] != len(reply) {
			t.Fatalf("%q: %+v", reply, got)
		}
		checkGoRedisAgrees(t, reply, got.Kinds[0])
	}
}

// What go-redis reads after these isn't the next reply. The first can't be told
// from what a server might mean, no server sends it, and the scanner refuses it.
// The others are valid, and servers do send errors inside arrays (EXEC, scripts):
// go-redis takes the inner error or null for the whole reply. That is for the
// reader of the handle to bear in mind; other callers must not pay for it.
func TestGoRedisLosesItsPlaceWhereTheScannerDoesNot(t *testing.T) {
	for _, tt := range []struct {
		name, reply string
		refused     bool
	}{
		{"attribute inside an attribute", "|1\r\n+a\r\n|1\r\n+b\r\n+c\r\n+d\r\n+OK\r\n", true},
		{"typed error in an array", "*2\r\n-MOVED 1 a:1\r\n+OK\r\n", false},
		{"typed error in a map", "%2\r\n+a\r\n-OOM no memory\r\n+b\r\n+c\r\n", false},
		{"null for a key", "%1\r\n_\r\n+a\r\n", false},
		{"error for a key", "%1\r\n-ERR no\r\n+a\r\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			first, second := goRedisReads(t, []byte(tt.reply))
			if second.Val() == "SENTINEL" {
				t.Errorf("go-redis no longer does: it read %v, %v", first.Val(), first.Err())
			}
			got := gotReplies([]byte(tt.reply), whole)
			if got.Failed != tt.refused || !tt.refused && got.Ends[0] != len(tt.reply) {
				t.Errorf("the scanner reads %+v", got)
			}
		})
	}
}

func FuzzReplyScannerAgainstGoRedis(f *testing.F) {
	for _, reply := range replyScript {
		f.Add([]byte(reply))
	}
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 50 {
		f.Add(randomReply(rnd, nil, 3))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		var s resp.ReplyScanner
		n, done, err := s.Scan(p)
		if err != nil || !done || losesGoRedis(p[:n]) {
			return
		}
		checkGoRedisAgrees(t, p[:n], s.Kind())
	})
}
