package otelhooks

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
)

// The bounds of db.query.text.
const (
	maxQueryBytes    = 2048
	maxQueryCommands = 32
	maxQueryKey      = 128 // bytes of a key
)

const ellipsis = "..."

// queryText is what db.query.text says: the names of the commands, a "?" for
// every argument, and the keys if they are wanted. A name that isn't in the
// command table isn't shown, since it may be anything.
func queryText(cmds []redis.Cmder, keys bool) string {
	var b []byte
	for i, cmd := range cmds {
		if i > 0 {
			b = append(b, "; "...)
		}
		if i == maxQueryCommands || len(b) > maxQueryBytes {
			b = append(b, ellipsis...)
			break
		}
		b = appendQuery(b, cmd, keys)
	}
	return string(b)
}

// appendQuery appends one command, up to the bound.
func appendQuery(b []byte, cmd redis.Cmder, keys bool) []byte {
	c := hooks.CommandOf(cmd)
	b = append(b, c.Name...)
	var named []hooks.Key
	if keys {
		named = hooks.AppendKeys(nil, cmd)
		slices.SortFunc(named, func(a, b hooks.Key) int { return cmp.Compare(a.Index, b.Index) })
	}
	for i := 1 + strings.Count(c.Name, " "); i < len(cmd.Args()); i++ {
		if len(b) > maxQueryBytes {
			return append(b, " "+ellipsis...)
		}
		for len(named) > 0 && named[0].Index < i {
			named = named[1:]
		}
		b = append(b, ' ')
		if len(named) > 0 && named[0].Index == i {
			b = appendKey(b, named[0].Name)
		} else {
			b = append(b, '?')
		}
	}
	return b
}

// appendKey appends a key as it is, or quoted if it could be taken for something
// else, or couldn't be read.
func appendKey(b []byte, key string) []byte {
	cut := len(key) > maxQueryKey
	if cut {
		key = key[:maxQueryKey]
	}
	odd := func(r rune) bool {
		return !unicode.IsGraphic(r) || unicode.IsSpace(r) || strings.ContainsRune("\"\\;?\uFFFD", r)
	}
	if key == "" || strings.ContainsFunc(key, odd) {
		b = strconv.AppendQuote(b, key)
	} else {
		b = append(b, key...)
	}
	if cut {
		b = append(b, ellipsis...)
	}
	return b
}
