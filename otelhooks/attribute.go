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
	return appendServer(dst, t)
}

// appendServer appends what the server was configured as.
func appendServer(dst []attribute.KeyValue, t *hooks.Target) []attribute.KeyValue {
	if t.Addr != "" {
		dst = append(dst, semconv.ServerAddress(t.Host))
	}
	if t.Port != 0 && t.Port != defaultPort {
		dst = append(dst, semconv.ServerPort(t.Port))
	}
	return dst
}

// appendNode appends which of several nodes it was, if that is known: by its address,
// or by its name where it was announced by one, since network.peer.address is none.
func appendNode(dst []attribute.KeyValue, t *hooks.Target) []attribute.KeyValue {
	switch {
	case t == nil:
		return dst
	case !t.IsAddress():
		return appendServer(dst, t)
	}
	return appendPeer(dst, t)
}

// appendPeer appends the address of a target that is one.
func appendPeer(dst []attribute.KeyValue, t *hooks.Target) []attribute.KeyValue {
	dst = append(dst, semconv.NetworkPeerAddress(t.Host))
	if t.Port != 0 {
		dst = append(dst, semconv.NetworkPeerPort(t.Port))
	}
	return dst
}

// appendError appends the class of an error.
func appendError(dst []attribute.KeyValue, errorType string) []attribute.KeyValue {
	if errorType == "" {
		return dst
	}
	dst = append(dst, semconv.ErrorTypeKey.String(errorType))
	if hooks.IsReply(errorType) {
		dst = append(dst, semconv.DBResponseStatusCode(errorType))
	}
	return dst
}

// ending is what is known of an operation at its end and wasn't at its beginning,
// but for the peer of a client of one server. It is nil for a command that went well.
func ending(op *hooks.Operation) []attribute.KeyValue {
	grouped := op.Target.Addr == ""
	procedure := procedureOf(op)
	if !grouped && len(op.Cmds) < 2 && procedure == "" && op.Outcome == hooks.OK {
		return nil
	}
	attrs := make([]attribute.KeyValue, 0, 6)
	if grouped && op.Reached() {
		attrs = appendNode(attrs, op.Peer())
	}
	if len(op.Cmds) >= 2 {
		attrs = append(attrs, semconv.DBOperationBatchSize(len(op.Cmds)))
	}
	if procedure != "" {
		attrs = append(attrs, semconv.DBStoredProcedureName(procedure))
	}
	if op.Outcome == hooks.Miss {
		attrs = append(attrs, outcomeKey.String(hooks.Miss.String()))
	}
	return appendError(attrs, op.ErrorType)
}

// outcomeKey says how a command has ended; on spans only that it was a miss, which
// nothing else says.
const outcomeKey = attribute.Key("everpool.outcome")

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
