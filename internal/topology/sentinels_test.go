package topology

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/everpool/everpool/internal/handle"
	"github.com/everpool/everpool/pooler"
)

// released counts how often a pool was asked who may wait.
type released struct {
	pooler.Pooler
	times int
}

func (r *released) Release(pooler.Places) { r.times++ }

// go-redis waits for all sentinels that it has asked, so nothing waits for a silent one
// while another may answer. If none does there is nothing better than to wait.
func TestWhoWaitsForASilentSentinel(t *testing.T) {
	const limit = time.Second
	silent, gone := pooler.Illness{Since: time.Now(), Silent: true}, pooler.Illness{Since: time.Now()}
	for _, row := range []struct {
		what string
		of   []string
		hear func(heed func(pooler.Event))
		ill  pooler.Illness
		want bool
	}{
		{"the others are well", []string{"a", "b", "c"}, func(func(pooler.Event)) {}, silent, false},
		{"one of the others is well", []string{"a", "b", "c"}, func(heed func(pooler.Event)) {
			heed(pooler.Event{Kind: pooler.EventSilent, Node: "b"})
		}, silent, false},
		{"the others are silent", []string{"a", "b", "c"}, func(heed func(pooler.Event)) {
			heed(pooler.Event{Kind: pooler.EventSilent, Node: "b"})
			heed(pooler.Event{Kind: pooler.EventSilent, Node: "c"})
		}, silent, true},
		{"the others have been silent some time ago", []string{"a", "b"}, func(heed func(pooler.Event)) {
			heed(pooler.Event{Kind: pooler.EventSilent, Node: "b"})
			time.Sleep(limit)
		}, silent, false},
		{"the others are down", []string{"a", "b"}, func(heed func(pooler.Event)) {
			heed(pooler.Event{Kind: pooler.EventState, State: pooler.StateDown, Node: "b"})
			time.Sleep(time.Hour)
		}, silent, true},
		{"the others were down", []string{"a", "b"}, func(heed func(pooler.Event)) {
			heed(pooler.Event{Kind: pooler.EventState, State: pooler.StateDown, Node: "b"})
			heed(pooler.Event{Kind: pooler.EventState, State: pooler.StateUp, Node: "b"})
		}, silent, false},
		{"there are no others", []string{"a"}, func(func(pooler.Event)) {}, silent, true},
		{"it is gone itself", []string{"a"}, func(func(pooler.Event)) {}, gone, false},
	} {
		t.Run(row.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := AtSentinels{NewSentinels(Home{}, new(Ailing), "m", false, row.of)}
				pool := new(released)
				heard := 0
				row.hear(func(ev pooler.Event) {
					if ev.Time = time.Now(); ev.Kind == pooler.EventSilent {
						heard++
					}
					s.Heed(&member{Node: handle.Node{Pool: pool}}, ev, limit)
				})
				if got := s.Here("a", -1, row.ill); got != row.want {
					t.Errorf("waits: %t, want %t", got, row.want)
				}
				if pool.times != heard {
					t.Errorf("asked %d times who may wait, want %d", pool.times, heard)
				}
			})
		})
	}
}
