package browser

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

var screenshots = flag.String("screenshots", "", "`directory` to write pictures of the page to")

// limit bounds the whole test, so that a browser that hangs is an error with a name.
const limit = 2 * time.Minute

// testbench is the program, started for the test.
type testbench struct {
	url    string
	report string
	cmd    *exec.Cmd
	output io.Reader
}

// start builds the program and runs it until it is interrupted.
func start(t *testing.T, args ...string) *testbench {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "testbench")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = ".." // the module that the program is in
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b := &testbench{report: filepath.Join(dir, "report.html")}
	b.cmd = exec.Command(program, append([]string{"-listen", "127.0.0.1:0", "-duration", "0", "-report", b.report}, args...)...)
	b.cmd.Stderr = os.Stderr
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.cmd.Process.Kill() }) // it has ended, as a rule
	lines := bufio.NewReader(out)
	for b.url == "" {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("it has ended: %v", err)
		}
		b.url = regexp.MustCompile(`http://[^/]+/`).FindString(line)
	}
	b.output = lines
	return b
}

// end interrupts the program and returns what it has printed, when it has ended.
func (b *testbench) end() (string, error) {
	if err := b.cmd.Process.Signal(os.Interrupt); err != nil {
		return "", err
	}
	out, err := io.ReadAll(b.output)
	return string(out), errors.Join(err, b.cmd.Wait())
}

// open starts a browser, and fails the test for what the page complains of.
func open(t *testing.T) context.Context {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("chromium isn't installed")
		}
		t.Skip("chromium isn't installed")
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.Flag("force-color-profile", "srgb"))...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	var mu sync.Mutex
	var complaints []string
	err = chromedp.Listen(ctx, func(event any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			complaints = append(complaints, e.ExceptionDetails.Text)
		case *log.EventEntryAdded:
			if e.Entry.Level == log.EntryLevelError {
				complaints = append(complaints, e.Entry.Text)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range complaints {
			t.Errorf("the page complains: %s", c)
		}
	})
	return ctx
}

// do has the browser do something.
func do[T any](ctx context.Context, t *testing.T, what string, action chromedp.Action[T]) T {
	t.Helper()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return value
}

// await waits until an expression holds in the page.
func await(ctx context.Context, t *testing.T, expression string) {
	t.Helper()
	do(ctx, t, "waiting for "+expression, chromedp.Poll[chromedp.Void](expression, chromedp.WithPollingInterval(50*time.Millisecond)))
}

// ask returns an expression's value in the page.
func ask[T any](ctx context.Context, t *testing.T, expression string) T {
	t.Helper()
	return do(ctx, t, expression, chromedp.Evaluate[T](expression))
}

// look sets the window's width and the colours that the browser prefers.
func look(ctx context.Context, t *testing.T, width int64, scheme string) {
	t.Helper()
	do(ctx, t, "the window", chromedp.EmulateViewport(width, 900))
	_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

const (
	pictures = `[...document.querySelectorAll(".u-wrap canvas")].map(c => c.toDataURL())`
	feedback = `document.getElementById("feedback").textContent`
	more     = `document.getElementById("more").checkVisibility() && document.getElementById("window").pathname === "/debug/everpool"`
	samples  = `Number(document.body.dataset.samples ?? 0)`
)

func TestThePageMovesObeysAndEndsWithAReport(t *testing.T) {
	ctx := open(t)
	b := start(t, "-wave", "100", "-faults", "kill@4s+1.5s,freeze@9s+1s")
	do(ctx, t, "opening", chromedp.Navigate(b.url))

	// It moves.
	await(ctx, t, samples+" >= 3")
	before := ask[[]string](ctx, t, pictures)
	await(ctx, t, samples+" >= 6")
	after := ask[[]string](ctx, t, pictures)
	if len(before) != 6 || len(after) != 6 {
		t.Fatalf("there are %d plots, then %d; want 6", len(before), len(after))
	}
	for i := range before {
		if before[i] == after[i] {
			t.Errorf("plot %d doesn't move", i)
		}
	}

	// Faults of the schedule are shown, and those of the buttons obeyed.
	await(ctx, t, feedback+`.startsWith("kill is over after")`)
	press(ctx, t, "reset")
	await(ctx, t, feedback+` === "reset, by button: done"`)
	press(ctx, t, "slow")
	await(ctx, t, feedback+`.startsWith("slow, by button")`)
	await(ctx, t, `[...document.querySelectorAll("button")].every(b => b.disabled)`) // one fault at a time
	await(ctx, t, feedback+`.startsWith("slow is over after")`)
	await(ctx, t, feedback+`.startsWith("freeze is over after")`)

	// It fits narrow windows, and both colours are different ones.
	backgrounds := make(map[string]bool)
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{1280, 400} {
			look(ctx, t, width, scheme)
			await(ctx, t, samples+" > "+fmt.Sprint(ask[int](ctx, t, samples)+1))
			if wide := ask[int64](ctx, t, "document.documentElement.scrollWidth"); wide > width {
				t.Errorf("at %d it is %d wide", width, wide)
			}
			backgrounds[ask[string](ctx, t, "getComputedStyle(document.body).backgroundColor")] = true
			picture(ctx, t, fmt.Sprintf("testbench-%d-%s.png", width, scheme))
		}
	}
	if len(backgrounds) != 2 {
		t.Errorf("light and dark have the backgrounds %v", backgrounds)
	}
	for _, text := range []string{"calls that succeeded", "writes run twice", "unknown outcome", "latency p99"} {
		if !ask[bool](ctx, t, fmt.Sprintf("document.getElementById('totals').innerText.includes(%q)", text)) {
			t.Errorf("the table has no row %q", text)
		}
	}
	if hot := ask[string](ctx, t, "document.getElementById('hot').innerText"); !strings.Contains(hot, "article:0") {
		t.Errorf("the hot keys are %q", hot)
	}

	if !ask[bool](ctx, t, more) {
		t.Error("the page doesn't lead to the window into the pool")
	}

	// In the end there is a verdict, on the page and in the report.
	out, err := b.end()
	if err != nil {
		t.Fatalf("%v; it printed:\n%s", err, out)
	}
	await(ctx, t, `document.getElementById("verdict").className === "passed"`)
	await(ctx, t, `document.getElementById("clock").textContent.startsWith("ended after")`)
	do(ctx, t, "opening the report", chromedp.Navigate("file://"+b.report))
	await(ctx, t, `document.getElementById("verdict").className === "passed"`)
	if ask[bool](ctx, t, more) {
		t.Error("the report leads to what is gone")
	}
	if n := ask[int](ctx, t, samples); n < 10 {
		t.Errorf("the report has %d samples", n)
	}
	if plots := ask[[]string](ctx, t, pictures); len(plots) != 6 {
		t.Errorf("the report has %d plots", len(plots))
	}
	picture(ctx, t, "report.png")
}

// press clicks a fault's button, as soon as it can be.
func press(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	button := fmt.Sprintf(`[...document.querySelectorAll("button")].find(b => b.textContent === %q)`, name)
	await(ctx, t, "!"+button+".disabled")
	ask[chromedp.Void](ctx, t, button+".click()")
}

// picture writes a picture of the window, if pictures are wanted.
func picture(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	if *screenshots == "" {
		return
	}
	png := do(ctx, t, "the picture "+name, chromedp.CaptureScreenshot())
	if err := os.WriteFile(filepath.Join(*screenshots, name), png, 0o644); err != nil {
		t.Fatal(err)
	}
}
