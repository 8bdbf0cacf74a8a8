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

func (c *respClient) call(args ...string) (string, error) {
	if _, err := c.conn.Write(appendCommand(nil, args...)); err != nil {
		return "", err
	}
	return readText(c.r)
}

// appendCommand appends a request.
func appendCommand(b []byte, args ...string) []byte {
	b = fmt.Appendf(b, "*%d\r\n", len(args))
	for _, a := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(a), a)
	}
	return b
}

// readText reads one reply as text.
func readText(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSuffix(line, "\r\n")
	if line == "" {
		return "", fmt.Errorf("empty reply line")
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
		return "", fmt.Errorf("unexpected reply %q", line)
	}
}

func readBulk(r *bufio.Reader, line string) (string, error) {
	n, err := strconv.Atoi(line[1:])
	if err != nil {
		return "", err
	}
	if n < 0 {
		return "(nil)", nil
	}
	b := make([]byte, n+2)
	if _, err := io.ReadFull(r, b); err != nil {
		return "", err
	}
	return string(b[:n]), nil
}

func readAggregate(r *bufio.Reader, line string) (string, error) {
	n, err := strconv.Atoi(line[1:])
	if err != nil {
		return "", err
	}
	if n < 0 {
		return "(nil)", nil
	}
	if line[0] == '%' {
		n *= 2
	}
	parts := make([]string, n)
	for i := range parts {
		if parts[i], err = readText(r); err != nil {
			return "", err
		}
	}
	return strings.Join(parts, "\n"), nil
}
