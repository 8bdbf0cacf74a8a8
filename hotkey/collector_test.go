package hotkey_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/everpool/everpool/hotkey"
)

// rates are what a registry says of hot keys, by class and label.
func rates(t *testing.T, c prometheus.Collector) map[string]float64 {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(c); err != nil {
		t.Fatal(err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			labels := make(map[string]string)
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if family.GetName() != "redis_client_hot_key_rate" || labels["client"] != "shop" {
				t.Errorf("%s %v", family.GetName(), labels)
			}
			got[labels["class"]+" "+labels["key"]] = m.GetGauge().GetValue()
		}
	}
	return got
}

func TestTheCollectorExportsAllowedKeysAndHashesOfOthers(t *testing.T) {
	tracker := newTracker(t, everything())
	get, set := feed(tracker, "get", ""), feed(tracker, "set", "", "hunter2")
	get.key("public:1", 30)
	get.key("private:1", 20)
	get.key("private:\xff", 10)
	set.key("private:1", 5)

	public := func(key string) bool { return strings.HasPrefix(key, "public:") }
	collector := func(cfg hotkey.CollectorConfig) map[string]float64 {
		cfg.Client = "shop"
		c, err := tracker.Collector(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return rates(t, c)
	}
	if got := collector(hotkey.CollectorConfig{Allow: public}); len(got) != 1 || got["reads public:1"] <= 0 {
		t.Errorf("without a salt: %v", got)
	}
	got := collector(hotkey.CollectorConfig{Allow: public, Salt: "pepper and salt"})
	if len(got) != 4 || got["reads public:1"] <= 0 {
		t.Errorf("with a salt: %v", got)
	}
	other := collector(hotkey.CollectorConfig{Salt: "another salt"})
	for label := range got {
		if strings.Contains(label, "private") || strings.Contains(label, "hunter2") {
			t.Errorf("exported %q", label)
		}
		if _, same := other[label]; same {
			t.Errorf("%q is the same with another salt", label)
		}
	}
	if got := collector(hotkey.CollectorConfig{TopN: 1, Salt: "pepper and salt"}); len(got) != 2 {
		t.Errorf("of one key of each class: %v", got)
	}
	odd := collector(hotkey.CollectorConfig{Allow: func(string) bool { return true }})
	if _, ok := odd["reads private:\uFFFD"]; !ok {
		t.Errorf("a key that isn't UTF-8: %v", odd)
	}
}

func TestAPanicOfAllowIsAnErrorOfTheScrape(t *testing.T) {
	tracker := newTracker(t, everything())
	feed(tracker, "get", "").key("key", 5)
	c, err := tracker.Collector(hotkey.CollectorConfig{Client: "shop", Allow: func(string) bool { panic("hunter2") }})
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	if _, err := reg.Gather(); err == nil || !strings.Contains(err.Error(), "Allow has panicked") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

func TestAWrongCollectorConfigIsToldAtOnce(t *testing.T) {
	tracker := newTracker(t, hotkey.Config{})
	_, err := tracker.Collector(hotkey.CollectorConfig{Client: "redis://:hunter2@h", TopN: 101, Salt: "short"})
	if !errors.Is(err, hotkey.ErrConfig) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"Client is like a URL", "TopN is 101; allowed is 1 to 100", "Salt is 5 bytes long"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "short") {
		t.Errorf("%v shows what it must not", err)
	}
	for _, cfg := range []hotkey.CollectorConfig{{Client: "a"}, {Salt: "long enough"}, {Client: "a\xff", Salt: "long enough"}} {
		if _, err := tracker.Collector(cfg); !errors.Is(err, hotkey.ErrConfig) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}
