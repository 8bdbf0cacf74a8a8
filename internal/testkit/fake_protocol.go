package testkit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// protocolError is what a server answers before it closes the connection.
type protocolError string

// Error returns the server's words.
func (e protocolError) Error() string { return string(e) }

const (
	maxArgs    = 1 << 20
	maxBulk    = 512 << 20
	maxInline  = 64 << 10
	trustBytes = 64 << 10 // allocated on the word of the client
)

// readRequest reads one command, in the form of an array or inline. Empty
// ones are skipped without an answer, as servers do.
func readRequest(r *bufio.Reader) ([]string, error) {
	for {
		line, err := readLine(r)
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(line, "*") {
			if args := strings.Fields(line); len(args) > 0 {
				return args, nil
			}
			continue
		}
		n, err := strconv.Atoi(line[1:])
		if err != nil || n > maxArgs {
			return nil, protocolError("invalid multibulk length")
		}
		if n > 0 {
			return readArgs(r, n)
		}
	}
}

func readArgs(r *bufio.Reader, n int) ([]string, error) {
	args := make([]string, 0, min(n, 64))
	for range n {
		line, err := readLine(r)
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(line, "$") {
			return nil, protocolError(fmt.Sprintf("expected '$', got '%.1s'", line))
		}
		size, err := strconv.Atoi(line[1:])
		if err != nil || size < 0 || size > maxBulk {
			return nil, protocolError("invalid bulk length")
		}
		var b bytes.Buffer
		b.Grow(min(size, trustBytes))
		if _, err := io.CopyN(&b, r, int64(size)); err != nil {
			return nil, err
		}
		if _, err := r.Discard(2); err != nil { // servers don't look at it either
			return nil, err
		}
		args = append(args, b.String())
	}
	return args, nil
}

func readLine(r *bufio.Reader) (string, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if err == nil {
			return strings.TrimRight(string(line), "\r\n"), nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return "", err
		}
		if len(line) > maxInline {
			return "", protocolError("too big inline request")
		}
	}
}

// ReplySimple returns "+s", for a [Handler], as do the other Reply functions.
func ReplySimple(s string) []byte { return []byte("+" + s + "\r\n") }

// ReplyError returns "-s".
func ReplyError(s string) []byte { return []byte("-" + s + "\r\n") }

// ReplyInt returns ":n".
func ReplyInt(n int64) []byte { return fmt.Appendf(nil, ":%d\r\n", n) }

// ReplyBulk returns s as a bulk string.
func ReplyBulk(s string) []byte { return fmt.Appendf(nil, "$%d\r\n%s\r\n", len(s), s) }

// ReplyArray returns an array of replies.
func ReplyArray(replies ...[]byte) []byte { return aggregate('*', len(replies), replies) }

// ReplyPush returns a RESP3 push of replies.
func ReplyPush(replies ...[]byte) []byte { return aggregate('>', len(replies), replies) }

func aggregate(kind byte, n int, replies [][]byte) []byte {
	b := fmt.Appendf(nil, "%c%d\r\n", kind, n)
	for _, r := range replies {
		b = append(b, r...)
	}
	return b
}

func bulks(ss []string) [][]byte {
	var out [][]byte
	for _, s := range ss {
		out = append(out, ReplyBulk(s))
	}
	return out
}

// null returns the null of the connection's protocol.
func (c *FakeConn) null() []byte {
	if c.session.Proto == 3 {
		return []byte("_\r\n")
	}
	return []byte("$-1\r\n")
}

// nullArray is the null where RESP2 has one of its own for arrays.
func (c *FakeConn) nullArray() []byte {
	if c.session.Proto == 3 {
		return []byte("_\r\n")
	}
	return []byte("*-1\r\n")
}

// message returns an out-of-band message: a push in RESP3, else an array.
func (c *FakeConn) message(replies ...[]byte) []byte {
	if c.session.Proto == 3 {
		return ReplyPush(replies...)
	}
	return ReplyArray(replies...)
}
