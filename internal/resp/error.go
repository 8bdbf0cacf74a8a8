package resp

import "fmt"

// Limits on what a peer may announce or send.
const (
	maxBulk     = 512 << 20 // of one bulk string: proto-max-bulk-len's default
	maxElements = 1 << 26   // of one aggregate in a reply, a pair being two
	maxDepth    = 10_000    // of aggregates inside each other, attributes included
	maxLine     = maxBulk   // of a line that isn't a length, without type byte and CRLF
	maxNumber   = 29        // of an integer or length line: 32 bytes with type byte and CRLF
	maxCount    = 1 << 24   // of arguments in a request
)

// Error says what was wrong and at which byte of the stream. It never contains
// payload: at most the one byte that stands where a type byte should.
type Error struct {
	Offset int64  // of the first wrong byte, since the scanner was made or Reset
	Reason string // constant text, but for a quoted type byte
	Limit  bool   // well-formed so far, but too long, too many or too deep
}

// Error returns the reason, and not the offset: the texts of the same mistake are
// the same.
func (e *Error) Error() string { return "resp: " + e.Reason }

// reason is why a scanner failed. A scanner keeps it, rather than an error, so
// that it contains no pointers.
type reason uint8

const (
	fine reason = iota

	// Both directions.
	badCR
	badLF
	bareLF
	badLength
	emptyLength
	badBodyEnd
	bulkTooLong
	numberTooLong

	// Replies.
	badReplyType
	streamed
	negativeLength
	badInteger
	badDouble
	badBool
	nestedPush
	nestedAttribute
	lineTooLong
	tooManyElements
	tooDeep

	// Requests.
	inlineCommand
	emptyLine
	badArgumentType
	noArguments
	negativeCount
	nullArgument
	leadingZero
	tooManyArguments
)

var reasons = [...]struct {
	text  string
	limit bool
}{
	badCR:         {text: "CRLF expected"},
	badLF:         {text: "CR without LF"},
	bareLF:        {text: "LF without CR"},
	badLength:     {text: "length is not a number"},
	emptyLength:   {text: "length is empty"},
	badBodyEnd:    {text: "bulk string doesn't end with CRLF"},
	bulkTooLong:   {text: "bulk string longer than 512 MiB", limit: true},
	numberTooLong: {text: "number line longer than 32 bytes", limit: true},

	badReplyType:    {text: "unknown reply type"},
	streamed:        {text: "streamed RESP3 type"},
	negativeLength:  {text: "negative length"},
	badInteger:      {text: "integer is not a number"},
	badDouble:       {text: "double is not a number"},
	badBool:         {text: "boolean is neither t nor f"},
	nestedPush:      {text: "push inside another reply"},
	nestedAttribute: {text: "attribute inside an attribute"},
	lineTooLong:     {text: "line longer than 512 MiB", limit: true},
	tooManyElements: {text: "aggregate of more than 1<<26 elements", limit: true},
	tooDeep:         {text: "more than 10,000 aggregates inside each other", limit: true},

	inlineCommand:    {text: "inline command"},
	emptyLine:        {text: "empty inline command gets no reply"},
	badArgumentType:  {text: "argument is not a bulk string"},
	noArguments:      {text: "command without arguments gets no reply, and a count has no leading zero"},
	negativeCount:    {text: "negative count of arguments gets no reply"},
	nullArgument:     {text: "null or negative argument"},
	leadingZero:      {text: "length with a leading zero"},
	tooManyArguments: {text: "command of more than 1<<24 arguments", limit: true},
}

// fault is what a scanner remembers of its failure.
type fault struct {
	offset int64
	why    reason
	got    byte // told only where a type byte was expected
}

// err makes the error anew each time: equal, not identical.
func (f fault) err() error {
	e := &Error{Offset: f.offset, Reason: reasons[f.why].text, Limit: reasons[f.why].limit}
	switch f.why {
	case badReplyType, badArgumentType, inlineCommand:
		e.Reason += fmt.Sprintf(" (%+q)", f.got)
	}
	return e
}
