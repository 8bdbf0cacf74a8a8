package doctor

import (
	"strings"
	"testing"
)

func TestWhatAServerRepeatsInPartIsCutOff(t *testing.T) {
	var s secrets
	s.add("hunter2 and more")
	got := s.clean("ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'ann' 'hunter2 an")
	if strings.Contains(got, "hunter2") || !strings.Contains(got, "unknown command 'HELLO'") {
		t.Errorf("clean has left %q", got)
	}
}

func TestWhatIsShownIsOneLine(t *testing.T) {
	if got := (secrets{}).clean("a\r\nb\x1b[31mc"); strings.ContainsAny(got, "\r\n\x1b") {
		t.Errorf("clean has left %q", got)
	}
}
