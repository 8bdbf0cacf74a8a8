package promhooks_test

import (
	"math"
	"strings"
	"testing"

	"github.com/everpool/everpool/promhooks"
)

// All that is wrong is named at once, with its value and what is allowed.
func TestWrongOptionsAreNamed(t *testing.T) {
	for _, c := range []struct {
		client string
		opts   []promhooks.Setting
		want   []string
	}{
		{"", nil, []string{"client is", "required"}},
		{"redis://u:secret@h:1", nil, []string{"client has ://", "required"}},
		{"u:secret@h", nil, []string{"client has", "@"}},
		{"\xff", nil, []string{"UTF-8"}},
		{"a", []promhooks.Setting{nil}, []string{"setting 0 is nil"}},
		{"a", []promhooks.Setting{promhooks.WithBuckets([]float64{0, 1})}, []string{"bound 0 is 0", "above 0"}},
		{"a", []promhooks.Setting{promhooks.WithBuckets([]float64{1, 1})}, []string{"bound 1 is 1 after 1", "rise"}},
		{"a", []promhooks.Setting{promhooks.WithBuckets([]float64{1, math.Inf(1)})}, []string{"bound 1 is +Inf", "finite"}},
		{"a", []promhooks.Setting{promhooks.WithBuckets([]float64{math.NaN()})}, []string{"bound 0 is NaN", "finite"}},
		{"a", []promhooks.Setting{promhooks.WithNativeHistograms(1)}, []string{"factor is 1", "above 1"}},
		{"a", []promhooks.Setting{promhooks.WithNativeHistograms(math.NaN())}, []string{"factor is NaN", "above 1"}},
		{"a", []promhooks.Setting{promhooks.WithNativeHistograms(-2)}, []string{"factor is -2", "above 1"}},
		{"a", []promhooks.Setting{promhooks.WithNativeHistograms(-1), promhooks.WithBuckets(nil)}, []string{"WithBuckets is empty", "needs classic or native"}},
		{"a", []promhooks.Setting{promhooks.WithRedisType("ring")}, []string{`type is "ring"`, "standalone, cluster and sentinel"}},
		{"", []promhooks.Setting{promhooks.WithRedisType("ring"), promhooks.WithNativeHistograms(.5)}, []string{"client is", `"ring"`, "factor is 0.5"}},
	} {
		_, err := promhooks.NewMetrics(c.client, c.opts...)
		_, poolErr := promhooks.NewPool(c.client, c.opts...)
		_, stockErr := promhooks.NewStockPool(c.client, &stockStats{}, c.opts...)
		for _, err := range []error{err, poolErr, stockErr} {
			if err == nil {
				t.Errorf("%q, %v: no error", c.client, c.want)
				continue
			}
			for _, part := range c.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q isn't in: %v", part, err)
				}
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("a password is in: %v", err)
			}
		}
	}
	if _, err := promhooks.NewStockPool("a", nil); err == nil || !strings.Contains(err.Error(), "s is nil") {
		t.Errorf("a stock pool without a client: %v", err)
	}
}

// The buckets that were given are the ones that are there, also after the caller
// has changed its slice.
func TestBucketsAreTheOnesThatWereGiven(t *testing.T) {
	buckets := []float64{.001, .002}
	opt := promhooks.WithBuckets(buckets)
	buckets[0] = 5
	for _, f := range families(t, everything(t, opt)) {
		if !strings.HasSuffix(f.GetName(), "_duration_seconds") {
			continue
		}
		for _, m := range f.GetMetric() {
			b := m.GetHistogram().GetBucket()
			if len(b) < 2 || b[0].GetUpperBound() != .001 || b[1].GetUpperBound() != .002 {
				t.Errorf("%s has the buckets %v", f.GetName(), b)
			}
		}
	}
}

// One histogram has classic and native buckets, unless one kind is switched off.
func TestHistogramsAreClassicAndNative(t *testing.T) {
	for _, c := range []struct {
		name            string
		opts            []promhooks.Setting
		classic, native bool
	}{
		{"default", nil, true, true},
		{"classic", []promhooks.Setting{promhooks.WithNativeHistograms(-1)}, true, false},
		{"native", []promhooks.Setting{promhooks.WithBuckets(nil)}, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, f := range families(t, everything(t, c.opts...)) {
				for _, m := range f.GetMetric() {
					h := m.GetHistogram()
					if h == nil {
						continue
					}
					if native := h.Schema != nil; native != c.native {
						t.Errorf("%s: native is %t", f.GetName(), native)
					}
					if c.native && h.GetSampleCount() > 0 && len(h.GetPositiveSpan()) == 0 && h.GetZeroCount() == 0 {
						t.Errorf("%s has no native buckets", f.GetName())
					}
					if c.native && h.GetSchema() != 3 { // the widest with a growth of 1.1 at most
						t.Errorf("%s has schema %d", f.GetName(), h.GetSchema())
					}
					// Without classic buckets only that of an exemplar could be there.
					if classic := len(h.GetBucket()) > 1; classic != c.classic {
						t.Errorf("%s: classic is %t", f.GetName(), classic)
					}
				}
			}
		})
	}
}
