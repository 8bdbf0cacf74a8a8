package promhooks_test

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"
)

// failing is an operation that fails.
func failing(context.Context, redis.Cmder) error { return errors.New("ERR no") }

// stockStats are what a stock client's PoolStats says.
type stockStats struct{ stats redis.PoolStats }

func (s *stockStats) PoolStats() *redis.PoolStats { return &s.stats }

// declaredReasons are the constants of pooler.CloseReason, read from its source:
// so a new one can't be forgotten.
func declaredReasons(tb testing.TB) []string {
	tb.Helper()
	file := must(parser.ParseFile(token.NewFileSet(), "../pooler/event.go", nil, 0))(tb)
	var reasons []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "CloseReason" {
			reasons = append(reasons, must(strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value))(tb))
		}
		return false
	})
	if len(reasons) < 10 {
		tb.Fatalf("only %q found", reasons)
	}
	return reasons
}
