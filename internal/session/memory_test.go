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
