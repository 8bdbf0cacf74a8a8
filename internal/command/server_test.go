package command_test

import (
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// server starts a real server for the test. Without its binary the test is
// skipped, but fails in CI, where nobody reads about skipped tests.
func server(t *testing.T, binary string) *redis.Client {
	t.Helper()
	path, err := exec.LookPath(binary)
	if err != nil {
		missing(t, "%s isn't installed", binary)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--port", port, "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", "")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	rdb := redis.NewClient(&redis.Options{
		Addr: addr, Protocol: 2, DisableIdentity: true,
		// The server doesn't listen yet.
		DialerRetries: 500, DialerRetryTimeout: 20 * time.Millisecond, DialTimeout: 15 * time.Second,
	})
	t.Cleanup(func() { _ = rdb.Close() })
	info, err := rdb.Info(t.Context(), "server").Result()
	if err != nil {
		t.Fatalf("%s on %s: %v", binary, addr, err)
	}
	if !strings.Contains(info, "process_id:"+strconv.Itoa(cmd.Process.Pid)+"\r\n") {
		t.Fatalf("another server got %s first", addr)
	}
	return rdb
}

func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}
