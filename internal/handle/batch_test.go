package handle

import (
	"bytes"
	"testing"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/internal/lent"
	"github.com/everpool/everpool/internal/resp"
)

// Several rules keep a batch from being sent twice or on the wrong connection, and
// most situations meet more than one of them. Here each stands alone.

// addCommand adds a command to the batch.
func (b *batch) addCommand(t *testing.T, args ...string) {
	t.Helper()
	b.take(resp.AppendCommand(nil, args...))
	n, err := b.next(new(lookalikes))
	if err != nil || n == 0 {
		t.Fatalf("%q: %d, %v", args, n, err)
	}
	f := command.Inspect(b.req[b.scanned:], b.scan.Args(), b.scan.NumArgs())
	b.add(&f, n)
}

// sendOnLease does what is done when the planned commands are sent on a lease.
func (b *batch) sendOnLease(bound bool) {
	b.prepare(bound)
	end := len(b.req)
	b.owe()
	b.flushed = true
	b.trim(end)
}

// sentRead is a handle whose batch, a GET, was sent, and might be sent again.
func sentRead(t *testing.T) *handle {
	t.Helper()
	h := new(handle)
	h.b.init()
	h.b.addCommand(t, "GET", "k")
	h.b.sendOnLease(false)
	if !h.b.again() || !h.lossLocked(died, true).free {
		t.Fatal("a lost GET is not sent again")
	}
	return h
}

func TestALossIsNotFreeWhileTheHandleKeepsItsConnection(t *testing.T) {
	for name, keep := range map[string]func(h *handle){
		"pinned":                     func(h *handle) { h.carried.pin = command.PinTracking },
		"inside MULTI":               func(h *handle) { h.carried.inMulti = true },
		"watching":                   func(h *handle) { h.carried.watching = true },
		"asking":                     func(h *handle) { h.carried.asking = true },
		"in the middle of a command": func(h *handle) { h.b.partial = true },
		"moved often enough":         func(h *handle) { h.b.moves = maxMoves },
	} {
		h := sentRead(t)
		keep(h)
		if l := h.lossLocked(died, false); l.free {
			t.Errorf("%s: %+v", name, l)
		}
	}
}

func TestABatchGoesOnAnotherConnectionOnlyWholeAndUnseen(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, b *batch)
		got    bool
	}{
		"a byte of a reply was seen": {func(_ *testing.T, b *batch) { b.got = true }, true},
		"more was written":           {func(_ *testing.T, b *batch) { b.take([]byte("*1\r\n")) }, false},
		"more was planned":           {func(t *testing.T, b *batch) { b.addCommand(t, "GET", "k") }, false},
		"more was sent":              {func(t *testing.T, b *batch) { b.addCommand(t, "GET", "k"); b.sendOnLease(false) }, false},
	} {
		b := &sentRead(t).b
		c.change(t, b)
		if l := b.loss(died, true); l.free || l.got != c.got {
			t.Errorf("%s: %+v", name, l)
		}
	}
}

func TestWhatIsKeptToBeSentAgainIsAllOfItsBatch(t *testing.T) {
	for name, c := range map[string]struct {
		before func(t *testing.T, b *batch)
		bound  bool
	}{
		"on a connection that is kept":     {func(*testing.T, *batch) {}, true},
		"behind what was sent":             {func(_ *testing.T, b *batch) { b.flushed = true }, false},
		"behind a part that was sent":      {func(_ *testing.T, b *batch) { b.streamed = true }, false},
		"behind what was answered":         {func(t *testing.T, b *batch) { b.addCommand(t, "SELECT", "1"); b.addCommand(t, "GET", "k"); b.skip() }, false},
		"with what changes the connection": {func(t *testing.T, b *batch) { b.addCommand(t, "WATCH", "k") }, false},
		"with what asks about it":          {func(t *testing.T, b *batch) { b.addCommand(t, "WAIT", "0", "0") }, false},
	} {
		var b batch
		b.init()
		c.before(t, &b)
		b.addCommand(t, "GET", "k")
		b.sendOnLease(c.bound)
		if b.again() {
			t.Errorf("%s: it would be sent again", name)
		}
	}
}

// Once is enough for a read that is lost; whoever writes is never sent again.
func TestASharedConnectionMayOnlyGiveUpWhatMayBeSentAgain(t *testing.T) {
	for name, change := range map[string]func(b *batch){
		"not all of it is here": func(b *batch) { b.all = false },
		"it was sent twice":     func(b *batch) { b.resent = true },
		"it writes":             func(b *batch) { b.effect = command.Idempotent },
	} {
		b := &sentRead(t).b
		if !b.exchange(b.owed, 0).Again {
			t.Fatal("a GET is kept where nothing is heard")
		}
		change(b)
		if b.exchange(b.owed, 0).Again {
			t.Errorf("%s, and it would be given up", name)
		}
	}
}

// go-redis keeps an error on the commands behind one whose reply is lost in the next
// try. Of what is not finished the worst is to be expected.
func TestAnErrorSticksToSeveralCommandsThatDoNotOnlyRead(t *testing.T) {
	get, incr, multi := []string{"GET", "k"}, []string{"INCR", "n"}, []string{"MULTI"}
	for _, c := range []struct {
		sent, planned [][]string
		unfinished    string
		want          bool
	}{
		{planned: [][]string{get}},
		{planned: [][]string{incr}},
		{planned: [][]string{get, get}},
		{planned: [][]string{get, incr}, want: true},
		{planned: [][]string{incr, get}, want: true},
		{planned: [][]string{multi}, want: true},
		{planned: [][]string{multi, get}, want: true},
		{sent: [][]string{get}, planned: [][]string{get}},
		{sent: [][]string{get}, planned: [][]string{incr}, want: true},
		{sent: [][]string{incr}, planned: [][]string{get}, want: true},
		{sent: [][]string{get, incr}, want: true},
		{unfinished: "*2\r\n$3\r\nGET"},
		{planned: [][]string{get}, unfinished: "*2\r\n$3\r\nGET", want: true},
		{sent: [][]string{get}, unfinished: "*2\r\n$3\r\nGET", want: true},
	} {
		var b batch
		b.init()
		for _, args := range c.sent {
			b.addCommand(t, args...)
		}
		if len(c.sent) > 0 {
			b.sendOnLease(false)
		}
		for _, args := range c.planned {
			b.addCommand(t, args...)
		}
		b.take([]byte(c.unfinished))
		if got := b.loss(refused, false).sticks; got != c.want {
			t.Errorf("%q sent, %q planned, %q unfinished: %t", c.sent, c.planned, c.unfinished, got)
		}
	}
}

// The memory that a batch keeps for its next request is never lent to another one, however it
// has grown.
func TestABatchKeepsItsOwnMemoryToItself(t *testing.T) {
	for _, first := range []int{10, 1000, 1 << 10, 3000, keepBuffer, keepBuffer + 1, 20_000} {
		var b batch
		b.init()
		for range 3 {
			b.begin()
			for _, n := range []int{first, 1 << 10, keepBuffer, 30_000, 100_000} {
				b.take(bytes.Repeat([]byte("a"), n))
			}
			b.begin()
			if cap(b.req) > keepBuffer {
				t.Errorf("%d bytes are kept", cap(b.req))
			}
			b.take(bytes.Repeat([]byte("a"), first))
			want := bytes.Clone(b.req)
			for n := 1; n <= lent.Most; n *= 2 {
				other := lent.Buffer(n)
				clear(other[:cap(other)])
			}
			if !bytes.Equal(b.req, want) {
				t.Fatalf("first %d bytes: others write into what it has taken", first)
			}
		}
	}
}

// Once all that it is owed has come a batch keeps nothing that is lent, although a handle may be
// idle for long then; but what was written of the next command stays.
func TestABatchThatIsOverGivesBackWhatIsLent(t *testing.T) {
	value := string(bytes.Repeat([]byte("a"), 2*keepBuffer))
	for name, next := range map[string]string{"whole": "", "and part of another command": "*2\r\n$3\r\nGET\r\n$1\r\n"} {
		for _, cmd := range [][]string{{"ECHO", value}, {"SET", "k", value}} {
			var b batch
			b.init()
			b.addCommand(t, cmd...)
			b.prepare(false)
			b.owe()
			b.sent = len(b.req) // as of what is shared
			if next != "" {
				b.take([]byte(next))
				if _, err := b.next(new(lookalikes)); err != nil {
					t.Fatal(err)
				}
			}
			b.allAnswered()
			switch kept := string(b.req[b.sent:]); {
			case b.unanswered() || kept != next:
				t.Errorf("%s, %s: %d replies to come, %q to be sent", cmd[0], name, replies(b.pending()), kept)
			case next == "" && cap(b.req) > keepBuffer:
				t.Errorf("%s, %s: %d bytes are kept", cmd[0], name, cap(b.req))
			}
		}
	}
}

// The next caller would take it for the answer to its own request.
func TestABatchIsNotOverWhileARefusalIsHeldBack(t *testing.T) {
	b := &sentRead(t).b
	b.allAnswered()
	if !b.idle() {
		t.Fatal("it isn't over though all is answered")
	}
	b.refusal = new(refusal)
	if b.idle() {
		t.Error("it is over with a refusal to be passed on")
	}
	if b.begin(); !b.idle() {
		t.Error("the next one begins with the refusal")
	}
}
