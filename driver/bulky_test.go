package driver_test

import (
	"strings"
	"testing"

	"github.com/everpool/everpool/driver"
)

// A server runs one command of more than 16 KiB on each connection in a turn of its loop.
// On few shared connections many callers' would take many turns.
func TestLargeCommandsHaveAConnectionToThemselves(t *testing.T) {
	for name, c := range map[string]struct {
		size, commands int
		leased         bool
	}{
		"small":                      {100, 1, false},
		"a read of the server's":     {16<<10 - 100, 1, false},
		"more":                       {16 << 10, 1, true},
		"a pipeline of small ones":   {300, 100, false},
		"a pipeline of large ones":   {20 << 10, 3, true},
		"a pipeline on more than 64": {20 << 10, 5, true},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, driver.Config{}, func(t *lab) {
				v := t.handle()
				v.do("SET warm v", "+OK")
				before := t.stats().Leased
				set := "SET k " + strings.Repeat("v", c.size)
				v.write(strings.Repeat(frames(set), c.commands))
				v.want(strings.TrimSpace(strings.Repeat("+OK ", c.commands)))
				if leased := t.stats().Leased > before; leased != c.leased {
					t.Errorf("leased: %t, want %t", leased, c.leased)
				}
			})
		})
	}
}

// One that comes behind others of its pipeline, which have been sent, stays with them: it
// would have to wait for all their replies.
func TestALargeCommandStaysWithThePipelineThatItEnds(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		v := t.handle()
		v.do("SET warm v", "+OK")
		before := t.stats().Leased
		v.write(frames("GET warm"))
		v.write(frames("SET k " + strings.Repeat("v", 20<<10)))
		v.want("$1 v +OK")
		if leased := t.stats().Leased; leased != before {
			t.Errorf("%d leases", leased-before)
		}
	})
}
