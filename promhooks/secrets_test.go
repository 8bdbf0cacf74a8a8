package promhooks_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/promhooks"
)

// What users send and receive, and how they log in, is in no scrape.
func TestNoSecretIsInAScrape(t *testing.T) {
	const password, key, value, typed = "pw-Xk41", "key-Xk42", "value-Xk43", "typed-Xk44"
	s := testkit.Start(t, testkit.Redis, testkit.WithPassword(password))
	reg := prometheus.NewRegistry()
	opts := []promhooks.Setting{promhooks.WithBaseplateNames(), promhooks.WithRedisManagerNames(), promhooks.WithExemplars(true)}
	w := watch(t, "test", "redis://:"+password+"@"+s.Addr, reg, opts)
	wrong := watch(t, "wrong", "redis://:Xk45"+password+"@"+s.Addr, reg, opts)
	ctx := t.Context()
	for _, c := range []redis.UniversalClient{w, wrong} {
		c.Set(ctx, key, value, 0)
		c.Get(ctx, key)
		c.LPush(ctx, key, value)
		c.Do(ctx, typed, key, value)
		c.Do(ctx, "client", typed)
		c.Do(ctx, "auth", password+"wrong")
		c.Eval(ctx, "return redis.error_reply('"+typed+" "+value+"')", []string{key})
		_, _ = c.Pipelined(ctx, func(p redis.Pipeliner) error {
			p.Get(ctx, key)
			p.Do(ctx, typed, value)
			return nil
		})
	}
	if got := w.Get(ctx, key).Val(); got != value {
		t.Fatalf("GET: %q", got)
	}
	for _, accept := range []string{"text/plain", "application/openmetrics-text; version=1.0.0"} {
		request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		request.Header.Set("Accept", accept)
		response := httptest.NewRecorder()
		promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true}).ServeHTTP(response, request)
		body := response.Body.String()
		if !strings.Contains(body, "redis_client_command_errors") {
			t.Errorf("a scrape without metrics:\n%s", body)
		}
		for line := range strings.Lines(body) {
			if strings.Contains(line, "Xk4") || strings.Contains(line, "://") {
				t.Errorf("in a scrape: %s", line)
			}
		}
	}
}
