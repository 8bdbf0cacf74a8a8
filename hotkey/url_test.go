package hotkey_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/hotkey"
)

func TestConfigFromURLTakesItsParametersAndLeavesTheRest(t *testing.T) {
	base := hotkey.Config{WriteSampleRate: 0.5, TopN: 9}
	for name, c := range map[string]struct {
		url, rest string
		want      hotkey.Config
	}{
		"none":      {"redis://me:sec%2Fret@host:1/2?db=3&read_timeout=1s", "redis://me:sec%2Fret@host:1/2?db=3&read_timeout=1s", base},
		"rates":     {"redis://host?track_key_reads_sample_rate=0.01&track_key_writes_sample_rate=1", "redis://host", hotkey.Config{ReadSampleRate: 0.01, WriteSampleRate: 1, TopN: 9}},
		"amid":      {"redis://host/0?db=3&track_key_reads_sample_rate=1e-3&client_name=a%20b", "redis://host/0?db=3&client_name=a%20b", hotkey.Config{ReadSampleRate: 0.001, WriteSampleRate: 0.5, TopN: 9}},
		"last":      {"redis://h?track_key_reads_sample_rate=1&track_key_reads_sample_rate=0.5", "redis://h", hotkey.Config{ReadSampleRate: 0.5, WriteSampleRate: 0.5, TopN: 9}},
		"empty":     {"redis://h?track_key_writes_sample_rate=&db=1", "redis://h?db=1", base},
		"off":       {"rediss://h?track_key_writes_sample_rate=0", "rediss://h", hotkey.Config{TopN: 9}},
		"unix":      {"unix://u:p@/tmp/redis.sock?db=1&track_key_top_n=3", "unix://u:p@/tmp/redis.sock?db=1", hotkey.Config{WriteSampleRate: 0.5, TopN: 3}},
		"fragment":  {"redis://h?track_key_top_n=3#x", "redis://h#x", hotkey.Config{WriteSampleRate: 0.5, TopN: 3}},
		"encoded":   {"redis://h?track%5Fkey_reads_name=a%26b", "redis://h", hotkey.Config{WriteSampleRate: 0.5, TopN: 9, ReadsKey: "a&b"}},
		"no query":  {"redis://h", "redis://h", base},
		"the other": {"redis://h?track_key=1", "redis://h?track_key=1", base},
		"all others": {
			"redis://h?track_key_window=30&track_key_flush_interval=500ms&track_key_flush_timeout=1s&track_key_ttl=1h&track_key_max_samples_per_second=-1&track_key_max_key_len=64&track_key_writes_name=w&track_key_half_life=-1&track_key_max_members=50", "redis://h",
			hotkey.Config{
				WriteSampleRate: 0.5, TopN: 9, Window: 30 * time.Second, FlushInterval: 500 * time.Millisecond, FlushTimeout: time.Second,
				TTL: time.Hour, MaxSamplesPerSecond: -1, MaxKeyLen: 64, WritesKey: "w", HalfLife: -1, MaxMembers: 50,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, rest, err := hotkey.ConfigFromURL(c.url, base)
			if err != nil {
				t.Fatal(err)
			}
			if rest != c.rest {
				t.Errorf("the rest is %q, want %q", rest, c.rest)
			}
			if d := cmp.Diff(c.want, cfg); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

func TestTheRestOfAURLOpensAClient(t *testing.T) {
	_, rest, err := hotkey.ConfigFromURL("redis://:pw@localhost:6379/2?track_key_reads_sample_rate=0.01&max_open_conns=3&track_key_ttl=1h", hotkey.Config{})
	if err != nil {
		t.Fatal(err)
	}
	db, err := driver.Open(rest)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if o := db.Unwrap().(*redis.Client).Options(); o.DB != 2 || o.Password != "pw" {
		t.Errorf("database %d, password %q", o.DB, o.Password)
	}
}

func TestConfigFromURLNamesAllThatIsWrongAndNoPassword(t *testing.T) {
	for name, c := range map[string]struct {
		url  string
		want []string
	}{
		"several": {
			"redis://:hunter2@h?track_key_reads_sample_rate=x&track_key_writes_sample_rate=1.5&track_key_window=soon&track_key_top_n=many&track_key_redas=1&db=1",
			[]string{
				`track_key_reads_sample_rate is "x"; allowed are 0, and 1e-9 to 1`, `track_key_writes_sample_rate is "1.5"`, `track_key_window is "soon"; allowed are durations`,
				`track_key_top_n is "many"; allowed are whole numbers`, "track_key_redas is unknown",
			},
		},
		"ranges":       {"redis://:hunter2@h?track_key_window=1ms&track_key_max_key_len=1", []string{"Window is 1ms", "MaxKeyLen is 1"}},
		"not a number": {"redis://:hunter2@h?track_key_reads_sample_rate=NaN", []string{`"NaN"`}},
		"negative":     {"redis://:hunter2@h?track_key_reads_sample_rate=-0.1", []string{`"-0.1"`}},
		"percent":      {"redis://:hunter2@h?track_key_reads_sample_rate=%zz", []string{"track_key_reads_sample_rate isn't percent-encoded"}},
		"no URL":       {"redis://:hunter2/[@h", []string{"can't be parsed"}},
		"names":        {"redis://:hunter2@h?track_key_reads_name=a&track_key_writes_name=a", []string{"WritesKey is a"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, rest, err := hotkey.ConfigFromURL(c.url, hotkey.Config{})
			if !errors.Is(err, hotkey.ErrConfig) || rest != "" {
				t.Fatalf("%q, %v, want an ErrConfig", rest, err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error\n%v\ndoesn't say %q", err, want)
				}
			}
			if n := strings.Count(err.Error(), "\n") + 1; n != len(c.want) {
				t.Errorf("%d errors, want %d:\n%v", n, len(c.want), err)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error %q shows the password", err)
			}
		})
	}
}
