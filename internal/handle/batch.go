package handle

import (
	"bytes"
	"slices"
	"time"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/internal/lent"
	"github.com/everpool/everpool/internal/resp"
	"github.com/everpool/everpool/internal/wiring"
	"github.com/everpool/everpool/pooler"
)

const (
	// gatherUpTo is how many bytes of a request are gathered before they are
	// sent, and kept to be sent again. What is larger streams through, uncopied
	// from where an argument says that it will be.
	gatherUpTo = 64 << 10

	// gatherAtOnce is how much of a single Write is copied before it is looked
	// at. It is go-redis's buffer for pipelines.
	gatherAtOnce = 128 << 10

	// keepBuffer is the largest buffer that an idle handle keeps.
	keepBuffer = 4 << 10

	// maxShared is how many commands of a pipeline may go on a shared connection at a
	// time. More would keep everybody behind them waiting.
	maxShared = 1000

	// maxMoves bounds how often a batch goes on another connection because the
	// last one has died with the batch unsent.
	maxMoves = 8
)

// batch is everything that is written to a handle from one moment without an
// outstanding reply to the next: one command, or a pipeline. It is the unit of
// leasing, of sending again, and of telling what a lost connection means: go-redis
// repeats a pipeline as a whole.
//
// A batch knows what was asked, what is owed, and what of it may run again. It has
// no lock and does no I/O: both are its handle's.
type batch struct {
	scan  resp.RequestScanner
	req   []byte // what was written and not sent yet, or may be sent again; in own, or lent
	own   []byte // memory
	plan  []run  // commands in req[sent:]
	owed  []run  // commands that were sent
	out   []byte // replies that the handle gives itself, before those of a connection
	reply []byte // of the command that is being answered, where it is remembered

	progress

	// What most batches need is here, next to the rest: with many handles
	// each separate piece of memory is a cache miss.
	run0 [2]run
	req0 [256]byte
}

// progress is how far a batch has come. The zero value is its beginning.
type progress struct {
	sent     int            // of req
	scanned  int            // of req: where the unfinished command begins
	answered int            // of owed: runs that are done
	outRead  int            // of out
	moves    int            // on another connection, unsent
	waits    int            // in vain, after which it waited again
	effect   command.Effect // the worst of what was sent
	size     int64          // bytes of replies that have come on a lease
	begun    command.Facts  // of the command that was sent in part
	quits    bool           // it has a QUIT that was answered
	partial  bool           // there is one
	cut      bool           // its end hasn't been sent: it may be here, and wait for what is behind it
	all      bool           // req is all of the batch, and was sent in one piece
	streamed bool           // some of it went before its command was complete
	flushed  bool           // something of it was handed to a connection, to be run
	resent   bool
	got      bool          // bytes of a reply were handed to the caller
	unknown  bool          // the caller was told that the outcome is unknown
	large    bool          // it leases its connection only since its replies were large
	notes    int           // of out: how much of its beginning isn't replies
	waited   time.Duration // for a connection, while anybody listens
	told     wiring.Course // of what it has gone through
	shaking  bool          // it is part of go-redis's handshake

	redirected bool     // what comes is inside a transaction that was sent elsewhere
	refusal    *refusal // what isn't passed on yet; nil: nothing
}

// init makes an empty batch.
func (b *batch) init() {
	b.plan, b.owed, b.own = b.run0[:0:1], b.run0[1:1:2], b.req0[:0]
	b.req = b.own
}

// begin begins a new batch. The one before must be over.
func (b *batch) begin() {
	b.clear()
	if cap(b.out) > keepBuffer {
		b.out = nil
	}
	if cap(b.owed)+cap(b.plan) > 64 {
		b.plan, b.owed = b.run0[:0:1], b.run0[1:1:2]
	}
	b.out, b.plan, b.owed = b.out[:0], b.plan[:0], b.owed[:0]
	b.progress = progress{}
}

// idle reports whether nothing is under way.
func (b *batch) idle() bool {
	return !b.unanswered() && len(b.plan) == 0 && !b.partial && b.sent == len(b.req) && !b.hasOut() && b.refusal == nil
}

// push puts a push of the handle's own in front of the replies.
func (b *batch) push(frame []byte) {
	b.out = slices.Insert(b.out, b.outRead, frame...)
	b.notes += len(frame)
}

// firstName is the name of the first command that has no reply yet, "" if there is none.
func (b *batch) firstName() string {
	if !b.unanswered() {
		return ""
	}
	return b.owed[b.answered].name()
}

// unanswered reports whether replies are owed.
func (b *batch) unanswered() bool { return b.answered < len(b.owed) }

// hasOut reports whether there are replies of the handle's own to be read.
func (b *batch) hasOut() bool { return b.outRead < len(b.out) }

// course is what the batch has gone through.
func (b *batch) course() wiring.Course {
	c := wiring.Course{Waited: b.waited, Moved: b.moves}
	if b.resent {
		c.Resent = 1
	}
	return c
}

// pending returns the commands whose replies are to come.
func (b *batch) pending() []run { return b.owed[b.answered:] }

// any reports whether the batch has a command like that, sent or not.
func (b *batch) any(like func(run) bool) bool {
	return slices.ContainsFunc(b.plan, like) || slices.ContainsFunc(b.owed, like)
}

// sticks reports whether go-redis would keep an error on some of the batch's
// commands after a later try: it has several, and they don't only read, as far as
// is known of one that isn't finished.
func (b *batch) sticks() bool {
	if b.any(beginsTransaction) {
		return true
	}
	n, worst := 0, command.Read
	if b.scanned < len(b.req) {
		n, worst = 1, command.Unsafe
	}
	for _, runs := range [...][]run{b.plan, b.owed} {
		for _, r := range runs {
			n += int(r.n)
			worst = max(worst, r.effect)
		}
	}
	return n > 1 && worst != command.Read
}

// take adds bytes of commands. For more than an idle handle keeps it borrows memory.
func (b *batch) take(p []byte) {
	switch n := len(b.req) + len(p); {
	case n <= cap(b.req):
	case n <= keepBuffer:
		b.own = make([]byte, 0, min(max(2*cap(b.own), n), keepBuffer))
		b.req = append(b.own, b.req...)
	case cap(b.req) <= keepBuffer: // its own, which it keeps
		b.req = append(lent.Buffer(n), b.req...)
	default:
		b.req = lent.Grow(b.req, len(p))
	}
	b.req = append(b.req, p...)
}

// clear forgets what was taken, which is over, and gives back what was lent for it.
func (b *batch) clear() {
	if cap(b.req) > keepBuffer {
		lent.Back(b.req)
		b.req = b.own
	}
	b.req, b.sent, b.scanned = b.req[:0], 0, 0
}

// allAnswered notes that all that is owed is here, after which nothing is sent again.
func (b *batch) allAnswered() {
	b.answered = len(b.owed)
	if !b.scan.InCommand() && b.sent == len(b.req) {
		b.clear()
	}
}

// lookalike is what is known of a command, and of all that begin like it.
type lookalike struct {
	facts command.Facts
	like  []byte // nil: the next one may differ
}

// lookalikes are the last command, and the one of another kind before it: many
// pipelines have two kinds in turn.
type lookalikes [2]lookalike

// inspect makes the command that buf begins with the last one.
func (l *lookalikes) inspect(buf []byte, scan *resp.RequestScanner) {
	if l[0].matches(buf) {
		return
	}
	if l[0], l[1] = l[1], l[0]; l[0].matches(buf) {
		return
	}
	l[0] = lookalike{facts: command.Inspect(buf, scan.Args(), scan.NumArgs())}
	if l[0].facts.Fixed {
		l[0].like = buf[:scan.Arg(0).End]
	}
}

func (l *lookalike) matches(buf []byte) bool { return l.like != nil && bytes.HasPrefix(buf, l.like) }

// next finds the next complete command of what was taken and what it needs, and
// returns its length: 0 if there is none.
func (b *batch) next(l *lookalikes) (int, error) {
	if b.scanned == len(b.req) {
		return 0, nil
	}
	buf := b.req[b.scanned:]
	n, done, err := b.scan.Next(buf)
	if err != nil || !done {
		return 0, err
	}
	if b.partial {
		l[0], b.partial = lookalike{facts: b.begun}, false
	} else {
		l.inspect(buf, &b.scan)
	}
	return n, nil
}

// add plans the command of n bytes that comes next.
func (b *batch) add(f *command.Facts, n int) {
	if last := len(b.plan) - 1; last < 0 || !b.plan[last].extend(f, b.scanned, b.scanned+n) {
		b.plan = append(b.plan, newRun(f, b.scanned, b.scanned+n))
	}
	b.scanned += n
}

// due says what of the batch is to be sent now: what is complete, and the beginning
// of a command that is too large to gather. What else is unfinished waits for its
// rest: it can't be answered before that anyway.
func (b *batch) due() (complete, part bool) {
	unfinished := len(b.req) - max(b.scanned, b.sent)
	if unfinished == 0 || b.scanned-b.sent >= gatherUpTo {
		return true, false
	}
	part = b.partial || int64(unfinished)+b.scan.BodyRemaining() >= gatherUpTo
	return part, part
}

// shareable reports whether the planned commands may go on a shared connection:
// they are complete, leave nothing behind, don't block, and are no more than
// others can wait for. A whole transaction is one piece.
func (b *batch) shareable() bool {
	if len(b.plan) == 0 || b.partial || len(b.req)-b.sent > gatherUpTo || b.scanned != len(b.req) {
		return false
	}
	inner := b.plan
	if inner[0].kind == asking {
		inner = inner[1:]
	}
	tx := len(inner) > 2 && inner[0].kind == multi && inner[len(inner)-1].kind == exec
	if tx {
		inner = inner[1 : len(inner)-1]
	}
	replies := 0
	for i := range inner {
		r := &inner[i]
		// ASKING is about the command that follows it, in the same piece.
		if last := i == len(inner)-1; (r.kind != plain || !r.share) && (r.kind != asking || tx || last) {
			return false
		}
		replies += int(r.n)
	}
	return len(inner) > 0 && replies <= maxShared
}

// bulky reports whether the planned commands are so large that they had better be sent on
// a connection of their own. A server reads so much of a connection in each turn of its
// loop, so of larger ones it runs one on each connection in a turn, and where a turn ends
// with an fsync (appendfsync always) many connections get more of them done.
func (b *batch) bulky() bool {
	const turn = 16 << 10
	n := 0
	for i := range b.plan {
		n += int(b.plan[i].n)
	}
	return len(b.req)-b.sent > n*turn
}

// prepare readies the planned commands for a connection of their own: it returns
// how many replies they will have, what they make of their connection, and what the
// first of them pins it for. bound says that the connection carries what another
// lacks.
func (b *batch) prepare(bound bool) (replies int, mode pooler.Mode, pin command.Pin) {
	all := !bound && b.untouched() && len(b.req) <= gatherUpTo
	for i := range b.plan {
		r := &b.plan[i]
		replies += int(r.n)
		mode = max(mode, r.mode())
		b.effect = max(b.effect, r.effect)
		if r.kind == plain && !r.afterWrite {
			continue
		}
		all = false
		if r.kind == pinning && pin == command.PinNone {
			pin = r.pin
		}
		if r.remembered() && r.frame == nil {
			r.frame = bytes.Clone(b.req[r.start:r.end])
		}
	}
	b.all = all
	return replies, mode, pin
}

// rewrite puts another command in the place of the planned one, which is a run by
// itself.
func (b *batch) rewrite(i int, frame []byte) {
	r := &b.plan[i]
	grown := int32(len(frame)) - (r.end - r.start)
	b.req = slices.Replace(b.req, int(r.start), int(r.end), frame...)
	b.scanned += int(grown)
	r.end, r.first = r.end+grown, r.end+grown
	for i++; i < len(b.plan); i++ {
		r = &b.plan[i]
		r.start, r.end, r.first = r.start+grown, r.end+grown, r.first+grown
	}
}

// untouched reports whether nothing of the batch was sent or answered.
func (b *batch) untouched() bool { return !b.flushed && !b.streamed && b.sent == 0 }

// owe turns the planned commands into ones that are owed replies.
func (b *batch) owe() {
	if len(b.owed) == 0 {
		b.owed, b.plan = b.plan, b.owed
		return
	}
	b.owed = append(b.owed, b.plan...)
	b.plan = b.plan[:0]
}

// trim notes that req[:end] was sent, and forgets what won't be sent again.
func (b *batch) trim(end int) {
	b.sent = end
	if b.all && b.sent == len(b.req) && b.effect == command.Read {
		return
	}
	b.all = false
	n := copy(b.req, b.req[b.sent:])
	b.req = b.req[:n]
	b.scanned -= b.sent
	b.sent = 0
	if n == 0 {
		b.clear()
	}
}

// skip takes the answered first command out of the plan and the request.
func (b *batch) skip() {
	b.sent = int(b.plan[0].end)
	b.plan = slices.Delete(b.plan, 0, 1)
	if len(b.plan) == 0 && b.sent == len(b.req) {
		b.clear()
	}
}

// again reports whether all of the batch is here, sent and unseen by its caller, so
// that it could go on another connection.
func (b *batch) again() bool { return b.all && b.sent == len(b.req) && !b.got }

// isAsking reports whether what was sent begins with ASKING.
func (b *batch) isAsking() bool { return len(b.owed) > 0 && b.owed[0].kind == asking }

// replies is how many replies the runs have.
func replies(runs []run) int {
	n := 0
	for _, r := range runs {
		n += int(r.n)
	}
	return n
}

// exchange is the exchange of the commands, which begin at req[from]. It has no deadline
// yet.
func (b *batch) exchange(runs []run, from int) pooler.Exchange {
	reads := b.effect == command.Read
	x := pooler.Exchange{
		Request: b.req[from:], First: int(runs[0].first) - from,
		Transaction: slices.ContainsFunc(runs, beginsTransaction),
		Reads:       reads, Again: reads && b.all && !b.resent,
	}
	for i := range runs {
		x.Replies += int(runs[i].n)
		x.Slow = x.Slow || runs[i].slow
	}
	return x
}

// loss is what is known of the batch when cause keeps it from going on; ran says
// whether the server may have run some of it.
func (b *batch) loss(why cause, ran bool) loss {
	return loss{
		cause: why, ran: ran, got: b.got, free: b.again(), resent: b.resent,
		tx: b.any(beginsTransaction), asks: asksEarlier(b.owed, b.plan), sticks: b.sticks(), effect: b.effect,
	}
}
