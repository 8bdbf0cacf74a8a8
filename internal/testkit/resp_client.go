package testkit

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// respClient is the smallest RESP2 client that serves [Server.Do]: what the
// tests check with must not be what they check.
type respClient struct {
	conn net.Conn
	r    *bufio.Reader
}

func newRespClient(conn net.Conn) *respClient {
	return &respClient{conn: conn, r: bufio.NewReader(conn)}
}

// call is [respClient.ask] with the reply as text.
func (c *respClient) call(args ...string) (string, error) {
	reply, err := c.ask(args...)
	if err != nil {
		return "", err
	}
	return replyText(reply), nil
}

// ask sends a command and returns the reply as [readReply] does.
func (c *respClient) ask(args ...string) (any, error) {
	if _, err := c.conn.Write(appendCommand(nil, args...)); err != nil {
		return nil, err
	}
	return readReply(c.r)
}

// appendCommand appends a request.
func appendCommand(b []byte, args ...string) []byte {
	b = fmt.Appendf(b, "*%d\r\n", len(args))
	for _, a := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(a), a)
	}
	return b
}

// replyText is a reply as text, with one element of an aggregate per line.
func replyText(reply any) string {
	elements, ok := reply.([]any)
	if !ok {
		return reply.(string)
	}
	lines := make([]string, len(elements))
	for i, e := range elements {
		lines[i] = replyText(e)
	}
	return strings.Join(lines, "\n")
}

// readReply reads one reply: an aggregate as []any, keys and values of a map in
// turn, and anything else as a string, with the "-" of an error.
func readReply(r *bufio.Reader) (any, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimSuffix(line, "\r\n")
	if line == "" {
		return nil, fmt.Errorf("empty reply line")
	}
	switch line[0] {
	case '+', ':', ',', '#', '(':
		return line[1:], nil
	case '-':
		return line, nil
	case '_':
		return "(nil)", nil
	case '$', '=':
		return readBulk(r, line)
	case '*', '~', '>', '%':
		return readAggregate(r, line)
	default:
		return nil, fmt.Errorf("unexpected reply %q", line)
	}
}

func readBulk(r *bufio.Reader, line string) (any, error) {
	n, err := strconv.Atoi(line[1:])
	if err != nil {
		return nil, err
	}
	if n < 0 {
		return "(nil)", nil
	}
	b := make([]byte, n+2)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	return string(b[:n]), nil
}

func readAggregate(r *bufio.Reader, line string) (any, error) {
	n, err := strconv.Atoi(line[1:])
	if err != nil {
		return nil, err
	}
	if n < 0 {
		return "(nil)", nil
	}
	if line[0] == '%' {
		n *= 2
	}
	elements := make([]any, n)
	for i := range elements {
		if elements[i], err = readReply(r); err != nil {
			return nil, err
		}
	}
	return elements, nil
}
