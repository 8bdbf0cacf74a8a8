package driver

import (
	"fmt"
	"testing"

	"github.com/everpool/everpool/internal/command"
)

// A client keeps every session that it was ever let into, those that the node has
// forgotten among them, with their credentials.
func TestAClientForgetsSessionsThatAreForgotten(t *testing.T) {
	m, who := newMemory(), &client{}
	for i := range 2000 {
		to := m.extend(m.root, fmt.Appendf(nil, "*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$7\r\nn%06d\r\n", i), []byte("+OK\r\n"), command.SlotName, who)
		if to == nil {
			t.Fatal(i)
		}
	}
	kept := len(who.let)
	if kept > maxSessions*4 {
		t.Errorf("%d sessions kept, %d remembered", kept, len(m.states))
	}
}
