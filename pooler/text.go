package pooler

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/everpool/everpool/internal/safeaddr"
)

// MarshalText returns what String does.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalText returns what String does.
func (k EventKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// String returns "answered", "failed", "unknown" or "abandoned".
func (o Outcome) String() string { return nameOf(o, "answered", "failed", "unknown", "abandoned") }

// String returns "move" or "resend".
func (a Again) String() string { return nameOf(a, "move", "resend") }

func nameOf[T ~uint8](v T, names ...string) string {
	if int(v) < len(names) {
		return names[v]
	}
	return strconv.Itoa(int(v))
}

// String says how the node is, in a line.
func (n NodeStatus) String() string {
	s := &n.Stats
	state := n.State.String()
	if n.Silent {
		state = "silent"
	}
	text := fmt.Sprintf("%s is %s: %d connections, %d of them idle; %d requests, %d of them waiting",
		safeaddr.Of(n.Addr), state, s.OpenConnections, s.Idle, s.InFlight, s.Waiting)
	if s.LastDialError != "" {
		text += "; " + s.LastDialError
	}
	return text
}

// LogValue is a group of what isn't zero, without the settings.
func (n NodeStatus) LogValue() slog.Value { return withoutZeros(n.attrs()) }

// MarshalJSON returns an object of all fields, by names as in "open_connections". Times
// that are lengths are seconds, and are called so. Addr has no part of a password in it.
func (n NodeStatus) MarshalJSON() ([]byte, error) {
	settings := slog.Attr{Key: "settings", Value: slog.GroupValue(n.Settings...)}
	return json.Marshal(object(append(n.attrs(), settings)))
}

func (n *NodeStatus) attrs() []slog.Attr {
	return []slog.Attr{
		slog.String("addr", safeaddr.Of(n.Addr)), slog.String("network", n.Network), slog.Bool("tls", n.TLS),
		slog.String("state", n.State.String()), slog.Time("since", n.Since), slog.Bool("silent", n.Silent),
		slog.Int("handles", n.Handles), slog.String("topology", n.Topology), slog.String("role", n.Role), slog.Int("slots", n.Slots.Count()), slog.String("slot_ranges", n.Slots.String()),
		slog.Any("stats", n.Stats), slog.Any("events", n.Events),
	}
}

// MarshalJSON returns an object of the event's fields that aren't zero, and of how often
// it has happened, and since when.
func (h Happening) MarshalJSON() ([]byte, error) {
	return json.Marshal(object(append(h.Event.LogValue().Group(), slog.Time("first", h.First), slog.Int("times", h.Times))))
}

// String says what has happened, when and how often, in a line.
func (h Happening) String() string {
	return fmt.Sprint(h.Event.LogValue(), " x", h.Times)
}

// String is what isn't zero, by name, in a line.
func (s Stats) String() string { return s.LogValue().String() }

// LogValue is a group of what isn't zero.
func (s Stats) LogValue() slog.Value { return withoutZeros(s.attrs()) }

// MarshalJSON returns an object of all fields, as that of a [NodeStatus] is.
func (s Stats) MarshalJSON() ([]byte, error) { return json.Marshal(object(s.attrs())) }

func (s *Stats) attrs() []slog.Attr {
	return []slog.Attr{
		slog.Int("max_open_connections", s.MaxOpenConnections), slog.Int("open_connections", s.OpenConnections),
		slog.Int("in_use", s.InUse), slog.Int("idle", s.Idle), slog.Int64("wait_count", s.WaitCount),
		slog.Duration("wait_duration", s.WaitDuration), slog.Int64("max_idle_closed", s.MaxIdleClosed),
		slog.Int64("max_idle_time_closed", s.MaxIdleTimeClosed), slog.Int64("max_lifetime_closed", s.MaxLifetimeClosed),
		slog.String("state", s.State.String()), slog.Time("since", s.Since), slog.Int("dialing", s.Dialing), slog.Int("draining", s.Draining),
		slog.Int("waiting", s.Waiting), slog.Int("awaiting", s.Awaiting), slog.Int("pinned", s.Pinned), slog.Int("streams", s.Streams),
		slog.Duration("oldest_waiter", s.OldestWaiter), slog.Duration("oldest_exchange", s.OldestExchange),
		slog.Int("sessions", s.Sessions), slog.Int("lanes", s.Lanes), slog.Any("lane_stats", s.LaneStats), held(s.Holders),
		slog.Int64("admitted", s.Admitted), slog.Int64("in_flight", s.InFlight), slog.Int64("answered", s.Answered),
		slog.Int64("failed", s.Failed), slog.Int64("sent_away", s.SentAway), slog.Int64("abandoned", s.Abandoned), slog.Int64("shared", s.Shared), slog.Int64("leased", s.Leased),
		slog.Int64("moved", s.Moved), slog.Int64("resent", s.Resent), slog.Int64("unknown", s.Unknown),
		slog.Int64("wait_timeouts", s.WaitTimeouts), slog.Int64("dials", s.Dials), slog.Int64("dial_errors", s.DialErrors),
		slog.String("last_dial_error", s.LastDialError), slog.Int64("heals", s.Heals), slog.Int64("pushes_dropped", s.PushesDropped),
		counts("closes", s.Closes), counts("pins", s.Pins),
	}
}

// MarshalJSON returns an object of all fields, as that of a [NodeStatus] is.
func (l LaneStats) MarshalJSON() ([]byte, error) {
	return json.Marshal(object([]slog.Attr{
		slog.Uint64("conn", l.Conn), slog.Int("in_flight", l.InFlight), slog.Int("forsaken", l.Forsaken), slog.Duration("oldest", l.Oldest), slog.Duration("silence", l.Silence),
		slog.Int("unwritten", l.Unwritten), slog.Int("entering", l.Entering), slog.Bool("yielding", l.Yielding),
	}))
}

func held(by []Holder) slog.Attr {
	var all []slog.Attr
	for _, h := range by {
		all = append(all, slog.Group(h.What, slog.Int("conns", h.Conns), slog.Duration("oldest", h.Oldest)))
	}
	return slog.Attr{Key: "holders", Value: slog.GroupValue(all...)}
}

func counts[K ~string](name string, n map[K]int64) slog.Attr {
	var all []slog.Attr
	for _, k := range slices.Sorted(maps.Keys(n)) {
		all = append(all, slog.Int64(string(k), n[k]))
	}
	return slog.Attr{Key: name, Value: slog.GroupValue(all...)}
}

// LogValue is a group of the fields of the event that aren't zero.
func (ev Event) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.String("kind", ev.Kind.String()), slog.String("node", safeaddr.Of(ev.Node)), slog.Time("time", ev.Time), slog.Uint64("conn", ev.Conn),
		slog.String("reason", string(ev.Reason)), slog.String("pin", ev.Pin), slog.Duration("duration", ev.Duration),
	}
	if ev.Kind == EventState {
		attrs = append(attrs, slog.String("state", ev.State.String()), slog.String("previous", ev.Previous.String()))
	}
	if ev.Err != nil {
		attrs = append(attrs, slog.String("error", ev.Err.Error()))
	}
	return withoutZeros(attrs)
}

// LogValue is a group of the settings in force, by the names of the fields: see
// [Config.Limits]. What is off and what has no bound is called so.
func (c Config) LogValue() slog.Value {
	c = c.Limits()
	bound := func(name string, n int) slog.Attr {
		switch n {
		case 0:
			return slog.String(name, "none")
		case unlimited:
			return slog.String(name, "no bound")
		}
		return slog.Int(name, n)
	}
	period := func(name string, d time.Duration) slog.Attr {
		switch d {
		case 0:
			return slog.String(name, "off")
		case math.MaxInt64:
			return slog.String(name, "never")
		}
		return slog.Duration(name, d)
	}
	return slog.GroupValue(
		bound("MaxOpenConns", c.MaxOpenConns), bound("SharedConns", c.SharedConns), bound("MinIdleConns", c.MinIdleConns),
		bound("MaxIdleConns", c.MaxIdleConns), bound("MaxConcurrentDials", c.MaxConcurrentDials), bound("MaxWaiters", c.MaxWaiters),
		period("ConnMaxIdleTime", c.ConnMaxIdleTime), period("ConnMaxLifetime", c.ConnMaxLifetime),
		period("ConnMaxLifetimeJitter", c.ConnMaxLifetimeJitter), period("DialTimeout", c.DialTimeout), period("WaitTimeout", c.WaitTimeout),
		period("HealthCheckInterval", c.HealthCheckInterval), period("HealthCheckTimeout", c.HealthCheckTimeout),
		period("SilenceAfter", c.SilenceAfter), period("FailFastAfter", c.FailFastAfter),
		period("BackoffMin", c.BackoffMin), period("BackoffMax", c.BackoffMax),
	)
}

// withoutZeros makes a group of what says something.
func withoutZeros(attrs []slog.Attr) slog.Value {
	return slog.GroupValue(slices.DeleteFunc(attrs, func(a slog.Attr) bool {
		switch v := a.Value.Resolve(); v.Kind() {
		case slog.KindGroup:
			return len(v.Group()) == 0
		case slog.KindAny:
			switch all := v.Any().(type) {
			case []Happening:
				return len(all) == 0
			case []LaneStats:
				return len(all) == 0
			}
		case slog.KindTime:
			return v.Time().IsZero()
		case slog.KindString:
			return v.String() == ""
		case slog.KindBool:
			return !v.Bool()
		case slog.KindDuration:
			return v.Duration() == 0
		case slog.KindInt64:
			return v.Int64() == 0
		case slog.KindUint64:
			return v.Uint64() == 0
		}
		return false
	})...)
}

// object is what attributes are in JSON.
func object(attrs []slog.Attr) map[string]any {
	all := make(map[string]any, len(attrs))
	for _, a := range attrs {
		switch a.Value.Kind() {
		case slog.KindDuration:
			all[a.Key+"_seconds"] = a.Value.Duration().Seconds()
		case slog.KindGroup:
			all[a.Key] = object(a.Value.Group())
		default:
			all[a.Key] = a.Value.Any()
		}
	}
	return all
}
