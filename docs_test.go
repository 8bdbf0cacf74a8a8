package everpool_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/redis/go-redis/v9"
)

// speaking are the packages whose errors reach a program.
var speaking = []string{
	"internal/gather", "internal/poolview", "internal/handle", "internal/session", "internal/topology",
	"driver", "pooler", "hooks", "otelhooks", "promhooks", "hotkey", "debugpage",
	"internal/guard", "internal/resp", "internal/tracking",
}

// unseen are texts that no caller, event, log or page ever has, and why.
var unseen = map[string]string{
	"everpool: interrupted":                                               "wakes the driver's own reader",
	"everpool: nothing to receive":                                        "a mistake of pooler's callers that the driver doesn't make",
	"everpool: the rider is on another shared connection":                 "the same",
	"everpool: the Dialer was asked, not told to dial":                    "answers the driver's own question",
	"everpool: the node doesn't serve just now":                           "go-redis drops an idle handle for it, and says nothing",
	"everpool: the server refuses the session":                            "the same",
	"everpool: a replica that is away, or stale, is asked for a pipeline": "the same",
	"hooks: the operation has panicked":                                   "observers see its class; the panic itself goes on",
}

var verbs = regexp.MustCompile(`%(\[\d+\])?[+#]?[a-zA-Z]`)

// pattern is a format as the page has it: an ellipsis for what differs, and nothing for
// what is wrapped around or inside.
func pattern(format string) string {
	text := verbs.ReplaceAllString(format, "…")
	text = strings.TrimPrefix(text, "…: ")
	return strings.Trim(strings.TrimSuffix(text, "…"), " :,;")
}

// words are what a text is told by.
var words = regexp.MustCompile(`[A-Za-z]{4,}`)

// texts collects the texts of errors in a package's source, by where they are.
func texts(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", dir, len(files), err)
	}
	set := token.NewFileSet()
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		take := func(e ast.Expr) {
			if text, ok := literal(e); ok && words.MatchString(pattern(text)) {
				found[pattern(text)] = set.Position(e.Pos()).String()
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if len(n.Args) > 0 && makesError(n.Fun) {
					take(n.Args[0])
				}
			case *ast.KeyValueExpr: // SetupError's hint, and resp's reasons
				if key, ok := n.Key.(*ast.Ident); ok && (key.Name == "Hint" || key.Name == "text" && dir == "internal/resp") {
					take(n.Value)
				}
			case *ast.FuncDecl: // a method Error, and the functions that find hints
				if name := n.Name.Name; n.Body != nil && (n.Recv != nil && name == "Error" || strings.HasPrefix(name, "hintAt")) {
					ast.Inspect(n.Body, func(n ast.Node) bool {
						if e, ok := n.(*ast.BasicLit); ok {
							take(e)
						}
						return true
					})
				}
			case *ast.BasicLit: // hints that are kept in tables and constants
				if text, ok := literal(n); ok && (strings.HasSuffix(text, "?") || strings.HasPrefix(text, "this is a")) {
					take(n)
				}
			}
			return true
		})
	}
	return found
}

// makesError reports whether a call's first argument is the text of an error.
func makesError(fun ast.Expr) bool {
	switch f := fun.(type) {
	case *ast.Ident:
		return f.Name == "complaint"
	case *ast.SelectorExpr:
		on, _ := f.X.(*ast.Ident)
		if on == nil {
			return f.Sel.Name == "add" // o.wrong.add
		}
		switch on.Name + "." + f.Sel.Name {
		case "errors.New", "fmt.Errorf", "wrong.add", "c.add":
			return true
		}
	}
	return false
}

// literal is the value of a string that is written in the source, in pieces or in one.
func literal(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		text, err := strconv.Unquote(e.Value)
		return text, err == nil
	case *ast.BinaryExpr:
		left, ok := literal(e.X)
		right, ok2 := literal(e.Y)
		return left + right, ok && ok2
	}
	return "", false
}

// section is what stands under a heading of a page, to the next one of its rank.
func section(t *testing.T, page, heading string) string {
	t.Helper()
	_, rest, ok := strings.Cut(read(t, page), "\n"+heading+"\n")
	if !ok {
		t.Fatalf("%s has no %q", page, heading)
	}
	rank, _, _ := strings.Cut(heading, " ")
	rest, _, _ = strings.Cut(rest, "\n"+rank+" ")
	return rest
}

// An operator who has an error's text finds it, whatever it is.
func TestOperationsHasTheTextOfEveryError(t *testing.T) {
	page := section(t, "docs/operations.md", "## By error message")
	for _, dir := range speaking {
		for text, at := range texts(t, dir) {
			if _, ok := unseen[text]; !ok && !strings.Contains(page, text) {
				t.Errorf("%s: %q isn't in it", at, text)
			}
		}
	}
}

// A text that was taken out of the source is taken off the list, too.
func TestWhatIsUnseenIsInTheSource(t *testing.T) {
	all := make(map[string]string)
	for _, dir := range speaking {
		maps.Copy(all, texts(t, dir))
	}
	for text := range unseen {
		if all[text] == "" {
			t.Errorf("no error has the text %q", text)
		}
	}
}

// Those who come from go-redis's own pool find each option.
func TestTheMigrationPageHasEveryOption(t *testing.T) {
	page := section(t, "docs/migration.md", "### Each option")
	for _, f := range reflect.VisibleFields(reflect.TypeFor[redis.Options]()) {
		if f.IsExported() && !strings.Contains(page, "`"+f.Name+"`") {
			t.Errorf("redis.Options.%s isn't in it", f.Name)
		}
	}
}

// What the page shows is run as an example.
func TestTheMigrationPageShowsTheExamples(t *testing.T) {
	source := read(t, "example_test.go")
	shown := fences(read(t, "docs/migration.md"), "go")
	if len(shown) < 5 {
		t.Fatalf("%d pieces of code", len(shown))
	}
	for _, code := range shown {
		var want strings.Builder
		for line := range strings.Lines(code) {
			if strings.TrimSpace(line) != "" {
				want.WriteString("\t")
			}
			want.WriteString(line)
		}
		if !strings.Contains(strings.NewReplacer(
			`"redis://" + addr + "`, `"redis://localhost:6379`,
			`"redis://" + addr`, `"redis://localhost:6379"`,
			`"redis://"+addr`, `"redis://localhost:6379"`,
			`addr,`, `"localhost:6379",`,
		).Replace(source), want.String()) {
			t.Errorf("no example has these lines:\n%s", want.String())
		}
	}
}

// The two lines of the README's first screen are the example's.
func TestTheReadmesTwoLinesAreTheExamples(t *testing.T) {
	source := strings.ReplaceAll(read(t, "driver/example_test.go"), "addr}", `"localhost:6379"}`)
	lines := 0
	for _, block := range fences(read(t, "README.md"), "diff") {
		for line := range strings.Lines(block) {
			if code, ok := strings.CutPrefix(line, "+"); ok {
				lines++
				code, _, _ = strings.Cut(code, " //")
				if !strings.Contains(source, "\t"+strings.TrimSpace(code)+"\n") {
					t.Errorf("the example hasn't the line %q", code)
				}
			}
		}
	}
	if lines != 2 {
		t.Errorf("%d lines", lines)
	}
}

// pages are all texts that people read.
func pages(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, glob := range []string{"*.md", "docs/*.md", "docs/*/*.md"} {
		found, err := filepath.Glob(glob)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	if len(all) < 8 {
		t.Fatalf("only %d pages: %v", len(all), all)
	}
	return all
}

var (
	links    = regexp.MustCompile(`(?:\]\(|src="|srcset=")([^)"\s]+)`)
	headings = regexp.MustCompile("(?m)^#+ (.*)$")
	targets  = regexp.MustCompile(`(?m)^([a-z][a-z-]*):`)
	makes    = regexp.MustCompile("(?m)(?:`|^)(?:sudo )?make ([a-z-]+)")
	packages = regexp.MustCompile(`go (?:run|test)[^\n` + "`" + `]* (\./[a-z/]+)`)
)

// anchor is what a heading's link is.
func anchor(heading string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(heading) {
		switch {
		case r == ' ':
			b.WriteByte('-')
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Links within the repository lead somewhere, to the very heading.
func TestLinksLeadSomewhere(t *testing.T) {
	for _, page := range pages(t) {
		for _, link := range links.FindAllStringSubmatch(read(t, page), -1) {
			target, fragment, _ := strings.Cut(link[1], "#")
			if strings.Contains(target, "://") {
				continue // nothing is asked of the network
			}
			to := page
			if target != "" {
				to = filepath.Join(filepath.Dir(page), target)
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: %s: %v", page, link[1], err)
				continue
			}
			if fragment == "" {
				continue
			}
			found := false
			for _, h := range headings.FindAllStringSubmatch(read(t, to), -1) {
				found = found || anchor(h[1]) == fragment
			}
			if !found {
				t.Errorf("%s: %s has no heading for #%s", page, to, fragment)
			}
		}
	}
}

// Commands that pages name exist.
func TestCommandsOfThePagesExist(t *testing.T) {
	known := make(map[string]bool)
	for _, m := range targets.FindAllStringSubmatch(read(t, "Makefile"), -1) {
		known[m[1]] = true
	}
	for _, page := range pages(t) {
		text := read(t, page)
		for _, m := range makes.FindAllStringSubmatch(text, -1) {
			if !known[m[1]] {
				t.Errorf("%s: there is no make %s", page, m[1])
			}
		}
		for _, m := range packages.FindAllStringSubmatch(text, -1) {
			_, here := os.Stat(m[1])
			_, inBench := os.Stat(filepath.Join("bench", m[1]))
			_, inTools := os.Stat(filepath.Join("tools", m[1]))
			if here != nil && inBench != nil && inTools != nil {
				t.Errorf("%s: there is no package %s", page, m[1])
			}
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// fences returns what a page has in fences of a language.
func fences(page, language string) (all []string) {
	for _, after := range strings.Split(page, "\n```"+language+"\n")[1:] {
		code, _, _ := strings.Cut(after, "```")
		all = append(all, code)
	}
	return all
}
