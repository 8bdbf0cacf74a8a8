package otelhooks

import (
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/everpool/everpool/hooks"
)

// defaultPort is not worth an attribute.
const defaultPort = 6379

// describe appends what is known of an operation by its name and its target.
func describe(dst []attribute.KeyValue, op *hooks.Operation) []attribute.KeyValue {
	t := op.Target
	dst = append(dst, semconv.DBSystemNameRedis, semconv.DBOperationName(op.Name))
	if t.Network != "" { // else nothing is known of the client
		dst = append(dst, semconv.DBNamespace(strconv.Itoa(t.DB)))
	}
	if t.Addr != "" {
		dst = append(dst, semconv.ServerAddress(t.Host))
	}
	if t.Port != 0 && t.Port != defaultPort {
		dst = append(dst, semconv.ServerPort(t.Port))
	}
	return dst
}

// appendPeer appends which node it was, if that is known.
func appendPeer(dst []attribute.KeyValue, peer *hooks.Target) []attribute.KeyValue {
	if peer == nil || peer.Addr == "" {
		return dst
	}
	dst = append(dst, semconv.NetworkPeerAddress(peer.Host))
	if peer.Port != 0 {
		dst = append(dst, semconv.NetworkPeerPort(peer.Port))
	}
	return dst
}

// appendError appends the class of an error.
func appendError(dst []attribute.KeyValue, errorType string) []attribute.KeyValue {
	if errorType == "" {
		return dst
	}
	dst = append(dst, semconv.ErrorTypeKey.String(errorType))
	if isReply(errorType) {
		dst = append(dst, semconv.DBResponseStatusCode(errorType))
	}
	return dst
}

// isReply reports whether the type is the prefix of a server's reply: those are
// in upper case, and none of the hooks package's own begins with a capital.
func isReply(errorType string) bool {
	return errorType != "" && 'A' <= errorType[0] && errorType[0] <= 'Z'
}

// ending is what is known of an operation at its end and wasn't at its
// beginning. It is nil for a command of a single server that went well.
func ending(op *hooks.Operation) []attribute.KeyValue {
	grouped := op.Target.Addr == ""
	procedure := procedureOf(op)
	if !grouped && len(op.Cmds) < 2 && procedure == "" && op.Outcome != hooks.Error {
		return nil
	}
	attrs := make([]attribute.KeyValue, 0, 6)
	if grouped {
		attrs = appendPeer(attrs, op.Peer())
	}
	if len(op.Cmds) >= 2 {
		attrs = append(attrs, semconv.DBOperationBatchSize(len(op.Cmds)))
	}
	if procedure != "" {
		attrs = append(attrs, semconv.DBStoredProcedureName(procedure))
	}
	return appendError(attrs, op.ErrorType)
}

// procedureOf is the script's digest or the function's name that a single command
// calls by it. It is "" for anything else, and for what can be neither: it may be
// what nobody should see.
func procedureOf(op *hooks.Operation) string {
	if op.Kind != hooks.Single || op.Command == nil {
		return ""
	}
	switch op.Command.Name {
	case "EVALSHA", "EVALSHA_RO":
		if s := argument(op.Cmds[0]); len(s) == 40 && consistsOf(s, "0123456789abcdefABCDEF") {
			return s
		}
	case "FCALL", "FCALL_RO":
		if s := argument(op.Cmds[0]); len(s) <= 128 && consistsOf(s, wordChars) {
			return s
		}
	}
	return ""
}

// wordChars are what a function's name may have.
const wordChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"

// argument is the first one, if it is a string.
func argument(cmd redis.Cmder) string {
	if args := cmd.Args(); len(args) > 1 {
		s, _ := args[1].(string)
		return s
	}
	return ""
}

func consistsOf(s, chars string) bool {
	return strings.Trim(s, chars) == ""
}
