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
