package hotkey_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/everpool/everpool/hotkey"
)

func get(t *testing.T, tracker *hotkey.Tracker, target string, accept ...string) *httptest.ResponseRecorder {
	t.Helper()
	return request(t, tracker, http.MethodGet, target, accept...)
}

func request(t *testing.T, tracker *hotkey.Tracker, method, target string, accept ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	for _, a := range accept {
		r.Header.Add("Accept", a)
	}
	w := httptest.NewRecorder()
	tracker.Handler().ServeHTTP(w, r)
	return w
}

const golden = `{
  "source": "local",
  "classes": [
    {
      "class": "reads",
      "tracked": true,
      "sample_rate": 1,
      "window": {
        "start": "2000-01-01T00:00:00Z",
        "seconds": 10,
        "samples": 52,
        "complete": true
      },
      "keys": [
        {
          "key": "user:1",
          "rate": 4,
          "count": 40,
          "lower": 40,
          "upper": 40,
          "share": 0.7692307692307693,
          "commands": [
            {
              "command": "GET",
              "share": 1
            }
          ],
          "misses": 0
        },
        {
          "key": "\u003cscript\u003ealert(1)\u003c/script\u003e",
          "rate": 0.7,
          "count": 7,
          "lower": 7,
          "upper": 7,
          "share": 0.1346153846153846,
          "commands": [
            {
              "command": "GET",
              "share": 1
            }
          ],
          "misses": 0
        },
        {
          "key": "\"\\xff\\x00\"",
          "quoted": true,
          "rate": 0.5,
          "count": 5,
          "lower": 5,
          "upper": 5,
          "share": 0.09615384615384616,
          "commands": [
            {
              "command": "GET",
              "share": 1
            }
          ],
          "misses": 0
        }
      ]
    },
    {
      "class": "writes",
      "tracked": false,
      "keys": []
    }
  ],
  "flush": {
    "flushes": 0,
    "failed": 0,
    "written": 0,
    "pending": 52,
    "dropped": 0,
    "outranked": 0,
    "unknown": 0
  }
}
`

func TestTheHandlersJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := newTracker(t, hotkey.Config{ReadSampleRate: 1, MaxSamplesPerSecond: -1, Sink: newScript(t), FlushInterval: time.Hour})
		read(tracker, "user:1", 40)
		read(tracker, "<script>alert(1)</script>", 7)
		read(tracker, "\xff\x00", 5)
		time.Sleep(15 * time.Second)
		w := get(t, tracker, "/?format=json")
		if d := cmp.Diff(golden, w.Body.String()); d != "" || w.Code != http.StatusOK {
			t.Errorf("%d, -want +got\n%s", w.Code, d)
		}
		if got := w.Header().Get("Content-Type"); got != "application/json" {
			t.Errorf("the type is %q", got)
		}
		var one struct {
			Classes []struct{ Keys []hotkey.Count }
		}
		if err := json.Unmarshal(get(t, tracker, "/?n=1", "application/json").Body.Bytes(), &one); err != nil {
			t.Fatal(err)
		}
		if got := counts(one.Classes[0].Keys); got != "user:1=40" {
			t.Errorf("with n=1: %s", got)
		}
	})
}

func TestThePageEscapesKeysAndHasNothingFromElsewhere(t *testing.T) {
	tracker := newTracker(t, hotkey.Config{ReadSampleRate: 1, Client: "<shop>"})
	read(tracker, "<script>alert(1)</script>", 5)
	read(tracker, `"'><img src=x onerror=alert(1)>`, 6)
	read(tracker, "turn\u202eed", 7)
	w := get(t, tracker, "/", "text/html,application/xhtml+xml,application/json;q=0.1")
	body := w.Body.String()
	for _, want := range []string{
		"<!DOCTYPE html>", "&lt;script&gt;alert(1)&lt;/script&gt;", "&lt;img src=x onerror=alert(1)&gt;", `&#34;turn\u202eed&#34;`,
		"Not tracked", "The first window, not complete yet", "18 samples at 100 %", "</html>", "of &lt;shop&gt;",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, bad := range []string{"<script", "<img", "\u202e", "http:", "https:", "src=\"", "<shop", "Flushes"} {
		if strings.Contains(body, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	h := w.Header()
	if h.Get("Content-Type") != "text/html; charset=utf-8" || h.Get("X-Content-Type-Options") != "nosniff" ||
		h.Get("Cache-Control") != "no-store" || !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("headers %v", h)
	}
	if t.Failed() {
		t.Log(body)
	}
}

func TestTheHandlerRefusesWhatItDoesNotServe(t *testing.T) {
	tracker := newTracker(t, everything())
	for _, c := range []struct {
		method, target string
		code           int
	}{
		{"GET", "/", 200},
		{"HEAD", "/", 200},
		{"HEAD", "/?format=json", 200},
		{"POST", "/", 405},
		{"DELETE", "/?format=json", 405},
		{"OPTIONS", "/", 405},
		{"GET", "/?format=xml", 400},
		{"GET", "/?n=0", 400},
		{"GET", "/?n=32", 200},
		{"GET", "/?n=33", 400},
		{"GET", "/?source=redis&n=1001", 400},
		{"GET", "/?sort=lower&order=asc&refresh=3600", 200},
		{"GET", "/?sort=size", 400},
		{"GET", "/?souce=redis", 400},
		{"GET", "/?order=up", 400},
		{"GET", "/?refresh=0", 400},
		{"GET", "/?refresh=3601", 400},
		{"GET", "/?n=x", 400},
		{"GET", "/?source=file", 400},
		{"GET", "/?source=redis", 404},
	} {
		w := request(t, tracker, c.method, c.target)
		if w.Code != c.code {
			t.Errorf("%s %s: %d, want %d", c.method, c.target, w.Code, c.code)
		}
		if c.method == "HEAD" && (w.Body.Len() > 0 || w.Header().Get("Content-Length") == "") {
			t.Errorf("HEAD: %d bytes, headers %v", w.Body.Len(), w.Header())
		}
		if c.code == 405 && w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: headers %v", c.method, w.Header())
		}
	}
}

func TestAllThatIsWrongWithARequestIsToldAtOnce(t *testing.T) {
	w := get(t, newTracker(t, everything()), "/?n=33&sort=size&refresh=x&souce=redis")
	for _, want := range []string{`n is "33"; allowed is 1 to 32`, `sort is "size"; allowed are count, key, lower, upper`, `refresh is "x"; allowed is 1 to 3600`, `"souce" is unknown; allowed are source, n, `} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("no %q in %s", want, w.Body)
		}
	}
}

// Whatever a key has in it, the page has the same elements and attributes.
func TestNoKeyChangesThePagesMarkup(t *testing.T) {
	elements := func(keys ...string) []string {
		cfg := everything()
		cfg.TTL, cfg.Sink = time.Hour, newClient(t, miniredis.RunT(t).Addr())
		tracker := newTracker(t, cfg)
		for _, key := range keys {
			read(tracker, key, 10)
			write(tracker, key, 10)
		}
		if err := tracker.Close(); err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, target := range []string{"/?sort=key&order=desc", "/?source=redis"} {
			all = append(all, markup(get(t, tracker, target).Body.String())...)
		}
		return all
	}
	hostile := []string{
		"<script>alert(1)</script>", `"><svg onload=alert(1)>`, `' onmouseover='alert(1)`, "</td></tr></table>", "</style><script>", "<!--", "]]>",
		"&lt;b&gt;", "javascript:alert(1)", "\x00", "\xff\"<b>", "\u2028<b>", "${7*7}{{.}}", "`",
	}
	var harmless []string
	for i := range hostile {
		harmless = append(harmless, fmt.Sprint("key:", i))
	}
	if d := cmp.Diff(elements(harmless...), elements(hostile...)); d != "" {
		t.Errorf("-harmless +hostile\n%s", d)
	}
}

// markup is what a page has of tags, with their attributes.
func markup(page string) []string { return regexp.MustCompile(`<[^>]*>?`).FindAllString(page, -1) }

func TestThePageIsSortedRefreshedAndReadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := newTracker(t, everything())
		read(tracker, "b", 1_234_567)
		read(tracker, "a", 20)
		read(tracker, "c", 30)
		time.Sleep(11 * time.Second)
		for target, want := range map[string]string{
			"/": "b c a", "/?order=asc": "a c b", "/?sort=key": "a b c", "/?sort=key&order=desc": "c b a", "/?sort=upper&n=2": "b c", "/?sort=lower&order=asc": "a c b",
		} {
			var v struct {
				Classes []struct{ Keys []hotkey.Count }
			}
			if err := json.Unmarshal(get(t, tracker, target, "application/json").Body.Bytes(), &v); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, k := range v.Classes[0].Keys {
				got = append(got, k.Key)
			}
			if got := strings.Join(got, " "); got != want {
				t.Errorf("%s: %s, want %s", target, got, want)
			}
		}
		body := get(t, tracker, "/?n=2&sort=key&refresh=7").Body.String()
		for _, want := range []string{
			`<meta http-equiv="refresh" content="7">`, ">1,234,567<", ">123,456.7<", ">100.0 %<", "prefers-color-scheme: dark", "max-width: 640px",
			`aria-sort="ascending"><a href="?n=2&amp;order=desc&amp;refresh=7&amp;sort=key">key</a>`,
			`<a href="?format=json&amp;n=2&amp;sort=key">JSON</a>`, `<a href="?n=2&amp;sort=key">Stop the refresh every 7 s</a>`, "No key was used.",
		} {
			if !strings.Contains(body, want) {
				t.Errorf("the page lacks %q", want)
			}
		}
		if t.Failed() {
			t.Log(body)
		}
	})
}

func TestThePageSaysThatNothingIsHot(t *testing.T) {
	tracker := newTracker(t, everything())
	for i := range 1000 {
		read(tracker, fmt.Sprint("key:", i), 1)
	}
	if body := get(t, tracker, "/").Body.String(); !strings.Contains(body, "Nothing is hot") || strings.Contains(body, "<table") {
		t.Errorf("the page:\n%s", body)
	}
	if body := get(t, tracker, "/?format=json").Body.String(); strings.Count(body, `"keys": []`) != 2 {
		t.Errorf("the JSON:\n%s", body)
	}
}

func TestTheHandlerShowsTheSetsInRedis(t *testing.T) {
	server := miniredis.RunT(t)
	cfg := everything()
	cfg.Sink = newClient(t, server.Addr())
	tracker := newTracker(t, cfg)
	if _, err := server.ZAdd(hotkey.DefaultWritesKey, 12, "<b>"); err != nil {
		t.Fatal(err)
	}
	want := `{"source":"redis","classes":[{"class":"reads","tracked":true,"set":"everpool-hot-key-tracker-reads","keys":[]},` +
		`{"class":"writes","tracked":true,"set":"everpool-hot-key-tracker-writes","keys":[{"key":"<b>","count":12}]}]}`
	var got, wanted any
	for from, to := range map[string]*any{get(t, tracker, "/?source=redis&format=json").Body.String(): &got, want: &wanted} {
		if err := json.Unmarshal([]byte(from), to); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(wanted, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if body := get(t, tracker, "/?source=redis").Body.String(); !strings.Contains(body, `>&lt;b&gt;</td><td class="" data-name="score">12</td></tr>`) {
		t.Errorf("the page:\n%s", body)
	}
	server.SetError("ERR secret")
	if w := get(t, tracker, "/?source=redis"); w.Code != http.StatusBadGateway || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("with an error: %d %s", w.Code, w.Body)
	}
}

// With a package of templates, which calls methods by name, the linker keeps every
// exported method of every type in the program, and the program becomes twice as large.
func TestNoTemplatesAreLinkedIntoPrograms(t *testing.T) {
	deps, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.Lines(string(deps)) {
		if strings.HasSuffix(strings.TrimSpace(dep), "/template") {
			t.Errorf("%s is linked", strings.TrimSpace(dep))
		}
	}
}
