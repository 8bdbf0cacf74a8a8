package session

import (
	"fmt"
	"testing"

	"github.com/everpool/everpool/internal/command"
)

// Sessions hold credentials. A client that goes through any number of them keeps few.
func TestAClientForgetsSessionsThatAreForgotten(t *testing.T) {
	m, who := NewMemory(), &Identity{}
	for i := range 2000 {
		to := m.Extend(m.root, fmt.Appendf(nil, "*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$7\r\nn%06d\r\n", i), []byte("+OK\r\n"), command.SlotName, who)
		if to == nil {
			t.Fatal(i)
		}
	}
	kept := len(who.let)
	if kept > maxSessions*4 {
		t.Errorf("%d sessions kept, %d remembered", kept, len(m.states))
	}
}

// Another node's handles are told what this one's server says now, not what the one before
// it didn't know.
func TestWhatTheServerKnowsByNowIsLent(t *testing.T) {
	m, who := NewMemory(), &Identity{}
	frame := []byte("*3\r\n$6\r\nCLIENT\r\n$8\r\nNO-TOUCH\r\n$2\r\nON\r\n")
	m.Refuse(m.root, frame, []byte("-ERR unknown subcommand 'NO-TOUCH'\r\n"))
	m.Extend(m.root, frame, []byte("+OK\r\n"), command.SlotName, who)
	if reply, refused := m.Lend("", frame, who); refused || string(reply) != "+OK\r\n" {
		t.Errorf("%q is lent, as of a command that isn't known: %t", reply, refused)
	}
}

// After a step that was in vain the handle that has waited longest takes it, before any that
// comes later; when it has led somewhere all go on, and nobody's turn is left behind.
func TestAStepInVainIsTakenByTheNextInTheLine(t *testing.T) {
	m, who := NewMemory(), &Identity{}
	frame := []byte("*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n")
	ask := func(turn <-chan struct{}) Answer { return m.Ask(m.root, frame, who, turn) }
	is := func(a Answer, goesOn bool) {
		t.Helper()
		select {
		case <-a.Wait:
			if !goesOn {
				t.Fatal("its turn has come")
			}
		default:
			if goesOn {
				t.Fatal("its turn hasn't come")
			}
		}
	}
	if ask(nil).Wait != nil {
		t.Fatal("the first one waits")
	}
	first, second, third, fourth := ask(nil), ask(nil), ask(nil), ask(nil)
	if again := ask(second.Wait); again.Wait != second.Wait {
		t.Fatal("who asks again loses its place")
	}
	m.GiveUp(m.root, frame, who, second.Wait)
	m.Finish(m.root, frame, who)
	is(first, true)
	is(third, false)
	late := ask(nil)
	if late.Wait == nil {
		t.Fatal("one that comes later takes the step")
	}
	if ask(first.Wait).Wait != nil {
		t.Fatal("the first in the line waits again")
	}
	m.GiveUp(m.root, frame, who, first.Wait) // it takes the step, and waits no more
	m.Finish(m.root, frame, who)
	is(second, false)
	is(third, true)
	m.GiveUp(m.root, frame, who, third.Wait) // its time is over as its turn comes
	is(fourth, true)
	is(late, false)
	if ask(fourth.Wait).Wait != nil {
		t.Fatal("the next in the line waits again")
	}
	m.Extend(m.root, frame, []byte("+OK\r\n"), command.SlotProto, who)
	m.Finish(m.root, frame, who)
	is(late, true)
	if a := ask(late.Wait); a.To == nil || len(m.root.flights) != 0 {
		t.Errorf("it leads to %v, with %d steps under way", a.To, len(m.root.flights))
	}
}

// The reply to a step that was given up may come yet, and is known before the next handle has
// taken its turn: that one needn't take the step, and all others go on with it. Its turn was
// left behind, so that nobody did for a second.
func TestAStepThatIsKnownBeforeItsTurnIsTakenKeepsNobody(t *testing.T) {
	m, who := NewMemory(), &Identity{}
	frame := []byte("*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n")
	ask := func(turn <-chan struct{}) Answer { return m.Ask(m.root, frame, who, turn) }
	if ask(nil).Wait != nil {
		t.Fatal("the first one waits")
	}
	first, second := ask(nil), ask(nil)
	m.Finish(m.root, frame, who) // by a handle that takes in the reply yet
	m.Extend(m.root, frame, []byte("+OK\r\n"), command.SlotProto, who)
	<-first.Wait
	if a := ask(first.Wait); a.Wait != nil || a.Reply == nil {
		t.Errorf("whose turn it is waits: %v, or takes the step: %v", a.Wait != nil, a.Reply == nil)
	}
	select {
	case <-second.Wait:
	default:
		t.Error("the next one waits")
	}
	if a := ask(nil); a.Wait != nil || a.Reply == nil {
		t.Errorf("a later one waits: %v, or takes the step: %v", a.Wait != nil, a.Reply == nil)
	}
	m.GiveUp(m.root, frame, who, first.Wait)
}
