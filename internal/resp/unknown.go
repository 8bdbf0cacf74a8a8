package resp

import "bytes"

// UnknownCommand reports whether the reply, of which the beginning is enough, says
// that there is no such command, or no such subcommand.
func UnknownCommand(reply []byte) bool {
	const unknown = "-ERR unknown "
	return len(reply) > len(unknown) && bytes.EqualFold(reply[:len(unknown)], []byte(unknown))
}
