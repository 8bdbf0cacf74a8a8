package command_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/everpool/everpool/internal/command"
)

// notCommands are what the scan of go-redis's source takes for a command's name
// though it isn't one.
var notCommands = map[string]string{
	"and": "BITOP's operator", "or": "BITOP's operator", "xor": "BITOP's operator",
	"not": "BITOP's operator", "diff": "BITOP's operator", "diff1": "BITOP's operator",
	"andor": "BITOP's operator", "one": "BITOP's operator",

	"CAPACITY": "option of BF.INSERT", "cas": "option of VADD", "count": "option of VSIM",
	"FIELDS": "clause of FT.AGGREGATE", "FILTER": "clause of TS.MGET", "LATEST": "option of TS.MGET",
	"limit": "option of XTRIM", "redirect": "option of CLIENT TRACKING", "LOAD": "clause of FT.AGGREGATE",
	"store": "option of SORT", "frommember": "option of GEOSEARCH", "withcoord": "option of GEOSEARCH",
	"nosave": "option of SHUTDOWN", "justid": "option of XCLAIM", "ele": "VSIM's form of a vector",

	"HANDSHAKE_FAILED": "a metric's error class",
}

func TestEveryCommandOfGoRedisIsInTheTable(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/redis/go-redis/v9").Output()
	if err != nil {
		t.Fatal(err)
	}
	sent := sentBy(t, strings.TrimSpace(string(out)))
	used := map[string]bool{}
	for words, where := range sent {
		if notCommands[words.name] != "" {
			used[words.name] = true
			continue
		}
		var sub []byte
		if words.sub != "" {
			sub = []byte(words.sub)
		}
		if command.Lookup([]byte(words.name), sub) != nil {
			continue
		}
		if sub == nil && command.IsContainer([]byte(words.name)) {
			continue // the subcommand isn't a literal here
		}
		t.Errorf("%s %s (%s) isn't in the table", words.name, words.sub, where)
	}
	for n := range notCommands {
		if !used[n] {
			t.Errorf("go-redis doesn't have %q any more: take it from the exclusions", n)
		}
	}
	// That the scan sees something at all.
	for _, w := range []literal{
		{"get", ""},
		{"client", "setname"},
		{"multi", ""},
		{"subscribe", ""},
		{"JSON.SET", ""},
		{"himport", "prepare"},
		{"client", "maint_notifications"},
		{"CMS.MERGE", ""},
		{"asking", ""},
		{"readonly", ""},
		{"msetex", ""},
	} {
		if sent[w] == "" {
			t.Errorf("the scan doesn't find %v", w)
		}
	}
	t.Logf("%d commands and forms of commands, %d exclusions", len(sent)-len(notCommands), len(notCommands))
}

// literal is the first two arguments of a command; sub is empty if the second
// isn't a literal.
type literal struct{ name, sub string }

var commandName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.]*$`)

// sentBy finds what looks like a command in the package's source: literals after
// a context in a call, in the first places of an []any, those assigned to x[0]
// and x[1], and in the first append of a function.
func sentBy(t *testing.T, dir string) map[literal]string {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no source in %q: %v", dir, err)
	}
	found := map[literal]string{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
				scan(f.Body, func(args []ast.Expr) {
					if w, ok := literals(args); ok {
						found[w] = filepath.Base(file)
					}
				})
			}
		}
	}
	return found
}

func scan(body *ast.BlockStmt, found func([]ast.Expr)) {
	var assigned [2]ast.Expr
	appended := false
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			switch {
			case len(n.Args) < 2:
			case ident(n.Fun) == "append" && !appended:
				appended = true
				found(n.Args[1:])
			case ident(n.Args[0]) == "ctx":
				found(n.Args[1:])
			}
		case *ast.CompositeLit:
			if a, ok := n.Type.(*ast.ArrayType); ok && isAny(a.Elt) {
				appended = appended || len(n.Elts) > 0 // further ones are its options
				found(n.Elts)
			}
		case *ast.AssignStmt:
			for i, l := range n.Lhs {
				x, ok := l.(*ast.IndexExpr)
				if !ok || len(n.Lhs) != len(n.Rhs) {
					continue
				}
				if b, ok := x.Index.(*ast.BasicLit); ok && (b.Value == "0" || b.Value == "1") {
					appended = true
					assigned[b.Value[0]-'0'] = n.Rhs[i]
				}
			}
		}
		return true
	})
	found(assigned[:])
}

func ident(e ast.Expr) string {
	if i, ok := e.(*ast.Ident); ok {
		return i.Name
	}
	return ""
}

func isAny(e ast.Expr) bool {
	_, ok := e.(*ast.InterfaceType)
	return ok || ident(e) == "any"
}

func literals(args []ast.Expr) (w literal, ok bool) {
	if len(args) > 0 {
		w.name = str(args[0])
	}
	if len(args) > 1 && command.IsContainer([]byte(w.name)) {
		w.sub = str(args[1])
	}
	return w, commandName.MatchString(w.name)
}

func str(e ast.Expr) string {
	b, ok := e.(*ast.BasicLit)
	if !ok || b.Kind != token.STRING {
		return ""
	}
	s, _ := strconv.Unquote(b.Value)
	return s
}
