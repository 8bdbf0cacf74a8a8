package pooler_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/everpool/everpool/pooler"
)

// Slots are printed as ranges, of which there may be too many to read.
func TestSlotsArePrintedAsRanges(t *testing.T) {
	var scattered pooler.Slots
	for i := range 20 {
		scattered = append(scattered, [2]int{10 * i, 10 * i})
	}
	for want, c := range map[string]struct {
		slots pooler.Slots
		count int
	}{
		"":                           {nil, 0},
		"7":                          {pooler.Slots{{7, 7}}, 1},
		"0-5460, 10923, 10930-10999": {pooler.Slots{{0, 5460}, {10923, 10923}, {10930, 10999}}, 5532},
		"0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120, 130, 140, 150 and 4 more ranges": {scattered, 20},
	} {
		if got := c.slots.String(); got != want || c.slots.Count() != c.count {
			t.Errorf("%q, %d slots; want %q, %d", got, c.slots.Count(), want, c.count)
		}
	}
	text, err := json.Marshal(pooler.NodeStatus{Slots: pooler.Slots{{0, 5460}, {10923, 10923}}})
	if err != nil || !strings.Contains(string(text), `"slots":5462`) || !strings.Contains(string(text), `"slot_ranges":"0-5460, 10923"`) {
		t.Errorf("%s, %v", text, err)
	}
}
