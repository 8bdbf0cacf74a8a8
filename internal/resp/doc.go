// Package resp finds where RESP requests and replies begin and end, without parsing them.
//
//	var s resp.ReplyScanner
//	n, done, err := s.Scan(p) // p[:n] belongs to the reply; if done, it ends there
//
// A [ReplyScanner] frames what a server sends (RESP2 and RESP3, attributes and
// pushes included), a [RequestScanner] what a client sends. Both are
// incremental: bytes may come in any pieces, none is looked at twice, and no
// byte after the end of a frame is looked at.
//
// # Strictness
//
// A connection that several callers share survives only what is understood to
// the last byte. So a scanner accepts what servers and go-redis send and read,
// and nothing that two parsers could frame differently: line ends are CRLF
// only, lengths have no sign (but for the null "-1" of replies), and the
// streamed types of RESP3, which no server sends and go-redis can't read, are
// errors. Requests are judged as the server would: one that gets no reply
// ("*0"), and one for which the server closes the connection (inline rubbish, a
// length with a leading zero, a null argument), must never reach a connection
// that others use.
//
// # Concurrency
//
// A scanner belongs to one goroutine at a time. The zero values are ready.
//
// # Failure
//
// Every error is an [*Error] with the offset of the first byte that was wrong.
// A scanner that failed stays failed until Reset, because after a framing error
// there is no place in the stream that is known to be a boundary. Misuse by the
// caller (to skip what isn't there) panics: the alternative is to be silently
// one byte off.
//
// # Cost
//
// Tens of nanoseconds for a small frame, and no allocation but 4 bytes for each aggregate
// inside others, whose memory a scanner keeps; bodies of bulk strings are stepped over.
// Nothing that a peer announces is trusted for memory.
//
// # Limits
//
// Bulk strings of 512 MiB, 1<<26 elements in an aggregate of a reply (a pair is
// two), 10,000 aggregates inside each other (a server's scripts reach 8,000, and who
// reads them calls itself for each), 512 MiB in a line, 1<<24 arguments in a request.
// [Error.Limit] tells these apart from malformed input.
package resp
