package bench

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// memoryConn answers every command from memory, at once: GET with a value, HELLO
// with a map, anything else with OK. It holds no lock, since go-redis writes and
// reads a connection on one goroutine, and it never blocks: to read what nobody
// has asked for is an error.
type memoryConn struct {
	get  []byte // the reply to GET
	wait *gate  // nil: replies are there at once
	owed []byte // letters of the commands that are still to be answered
	done int    // of owed
	read int    // bytes of the reply that is being read

	// The request, as far as it was written.
	line   []byte // the beginning of a line
	args   int    // that the command still has
	skip   int    // bytes of the argument that are still to come
	first  bool   // the next argument is the command's name
	letter byte   // that the name begins with
}

var (
	intReply   = []byte(":1\r\n")
	okReply    = []byte("+OK\r\n")
	helloReply = []byte("%3\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n$5\r\nproto\r\n:3\r\n")
)

func newMemoryConn(get []byte) *memoryConn { return &memoryConn{get: get} }

// bulk is a reply with a value of so many bytes.
func bulk(size int) []byte {
	return fmt.Appendf(nil, "$%d\r\n%s\r\n", size, strings.Repeat("x", size))
}

// Write takes requests in pieces of any size.
func (c *memoryConn) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		if c.skip > 0 {
			rest = c.argument(rest)
			continue
		}
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			c.line = append(c.line, rest...)
			break
		}
		line := rest[:end]
		if len(c.line) > 0 {
			line = append(c.line, line...)
			c.line = c.line[:0]
		}
		rest = rest[end+1:]
		if err := c.header(line); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// header takes the line that begins a command or an argument.
func (c *memoryConn) header(line []byte) error {
	n := 0
	for _, digit := range bytes.TrimRight(line[min(1, len(line)):], "\r") {
		n = n*10 + int(digit-'0')
	}
	switch {
	case len(line) == 0:
		return io.ErrUnexpectedEOF
	case line[0] == '*' && c.args == 0 && n > 0:
		c.args, c.first = n, true
	case line[0] == '$' && c.args > 0:
		c.skip = n + len("\r\n")
	default:
		return fmt.Errorf("no request: %.20q", line)
	}
	return nil
}

// argument takes what there is of an argument, and returns the rest.
func (c *memoryConn) argument(b []byte) []byte {
	n := min(c.skip, len(b))
	if c.first {
		c.letter, c.first = b[0], false
	}
	if c.skip -= n; c.skip == 0 {
		if c.args--; c.args == 0 {
			c.owed = append(c.owed, c.letter)
		}
	}
	return b[n:]
}

// reply answers by the first letter of the command: G is for GET, H for HELLO, I for INCR.
func (c *memoryConn) reply(letter byte) []byte {
	switch letter {
	case 'g', 'G':
		return c.get
	case 'i', 'I':
		return intReply
	case 'h', 'H':
		return helloReply
	}
	return okReply
}

// Read returns replies, as many as fit.
func (c *memoryConn) Read(b []byte) (n int, err error) {
	if c.wait != nil && c.read == 0 && c.done < len(c.owed) {
		c.wait.pass()
	}
	for c.done < len(c.owed) && n < len(b) {
		reply := c.reply(c.owed[c.done])
		copied := copy(b[n:], reply[c.read:])
		n += copied
		if c.read += copied; c.read == len(reply) {
			c.done, c.read = c.done+1, 0
		}
	}
	if c.done == len(c.owed) {
		c.owed, c.done = c.owed[:0], 0
	}
	if n == 0 && len(b) > 0 {
		return 0, io.ErrUnexpectedEOF
	}
	return n, nil
}

func (c *memoryConn) Close() error                     { return nil }
func (c *memoryConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *memoryConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *memoryConn) SetDeadline(time.Time) error      { return nil }
func (c *memoryConn) SetReadDeadline(time.Time) error  { return nil }
func (c *memoryConn) SetWriteDeadline(time.Time) error { return nil }
