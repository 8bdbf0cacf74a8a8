package session_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/session"
)

// filled is AUTH with what the provider says, within that time.
func filled(t *testing.T, l *session.Login, within time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	frame, err := l.Fill(ctx, []byte("*2\r\n$4\r\nAUTH\r\n$1\r\nx\r\n"))
	return string(frame), err
}

// A provider takes longer than any of those who ask has. What it says is the next one's.
func TestAProviderThatTakesLongIsHeardInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		o := &redis.Options{CredentialsProviderContext: func(ctx context.Context) (string, string, error) {
			asked++
			select {
			case <-time.After(350 * time.Millisecond):
				return "", "secret", nil
			case <-ctx.Done():
				return "", "", ctx.Err()
			}
		}}
		l := session.NewIdentity(o, t.Context).Login
		for i := range 20 {
			frame, err := filled(t, l, 100*time.Millisecond)
			if late := i%4 < 3; late != errors.Is(err, context.DeadlineExceeded) || !late && !strings.Contains(frame, "secret") {
				t.Errorf("question %d: %q, %v", i, frame, err)
			}
			time.Sleep(time.Millisecond)
		}
		if asked != 5 {
			t.Errorf("asked %d times, want 5", asked)
		}
		time.Sleep(time.Minute)
		if frame, err := filled(t, l, time.Second); err != nil || !strings.Contains(frame, "secret") || asked != 6 {
			t.Errorf("later: %q, %v, asked %d times", frame, err, asked)
		}
	})
}

// An answer that has waited for long is no longer the newest.
func TestAnAnswerThatNobodyHasHeardGrowsOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var password atomic.Value
		password.Store("old")
		var fails atomic.Bool
		l := session.NewIdentity(&redis.Options{CredentialsProvider: func() (string, string) {
			said := password.Load().(string)
			time.Sleep(200 * time.Millisecond)
			return "", said
		}}, t.Context).Login
		if _, err := filled(t, l, 100*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		password.Store("new")
		time.Sleep(2 * time.Second)
		if frame, err := filled(t, l, time.Second); err != nil || !strings.Contains(frame, "new") {
			t.Errorf("%q, %v", frame, err)
		}
		fails.Store(true)
		l = session.NewIdentity(&redis.Options{CredentialsProviderContext: func(context.Context) (string, string, error) {
			time.Sleep(200 * time.Millisecond)
			if fails.Load() {
				return "", "", errors.New("no answer")
			}
			return "", "secret", nil
		}}, t.Context).Login
		if _, err := filled(t, l, 100*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
		fails.Store(false)
		if _, err := filled(t, l, time.Second); err != nil {
			t.Errorf("an error that nobody has heard is told: %v", err)
		}
	})
}

// Nobody comes again after a caller that was cancelled, as by the end of its driver.
func TestAProviderIsLeftWithItsCancelledCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan struct{})
		l := session.NewIdentity(&redis.Options{CredentialsProviderContext: func(ctx context.Context) (string, string, error) {
			<-ctx.Done()
			close(ended)
			return "", "", ctx.Err()
		}}, t.Context).Login
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		began := time.Now()
		if _, err := l.Fill(ctx, []byte("*2\r\n$4\r\nAUTH\r\n$1\r\nx\r\n")); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		<-ended
		if took := time.Since(began); took != time.Second {
			t.Errorf("the provider was left after %s", took)
		}
	})
}
