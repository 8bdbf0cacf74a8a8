package pooler_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/everpool/everpool/pooler"
)

// snake is a field's name in JSON.
func snake(field string) string {
	var b strings.Builder
	for i, r := range field {
		if unicode.IsUpper(r) && i > 0 && !(field == "TLS") {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// All fields are in JSON, those to come too, and in the log, but for zeros.
func TestAllFieldsAreInJSONAndInTheLog(t *testing.T) {
	full := pooler.NodeStatus{Settings: []slog.Attr{slog.Duration("DialTimeout", time.Second), slog.String("Retry", "safe")}, Stats: pooler.Stats{LaneStats: make([]pooler.LaneStats, 1), Closes: map[pooler.CloseReason]int64{pooler.CloseIdle: 1}, Pins: map[string]int64{"watch": 1}}}
	fill := func(of reflect.Value) {
		for _, f := range of.Fields() {
			switch f.Interface().(type) {
			case time.Time:
				f.Set(reflect.ValueOf(time.Unix(1, 0)))
			case string:
				f.SetString("text")
			case pooler.Slots:
				f.Set(reflect.ValueOf(pooler.Slots{{7, 8}}))
			case bool:
				f.SetBool(true)
			case int, int64, time.Duration:
				f.SetInt(1)
			case uint64:
				f.SetUint(1)
			}
		}
	}
	fill(reflect.ValueOf(&full).Elem())
	fill(reflect.ValueOf(&full.Stats).Elem())
	fill(reflect.ValueOf(&full.Stats.LaneStats[0]).Elem())
	for name, v := range map[string]any{"full": full, "zero": pooler.NodeStatus{}} {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		stats, _ := got["stats"].(map[string]any)
		lanes, _ := stats["lane_stats"].([]any)
		check := func(in map[string]any, of reflect.Type) {
			for field := range of.Fields() {
				key := snake(field.Name)
				if field.Type == reflect.TypeFor[time.Duration]() {
					key += "_seconds"
				}
				if _, ok := in[key]; !ok {
					t.Errorf("%s: %s isn't in %s", name, key, text)
				}
			}
			if len(in) != of.NumField() {
				t.Errorf("%s: %d fields, want %d", name, len(in), of.NumField())
			}
		}
		if _, ok := got["slot_ranges"]; !ok {
			t.Errorf("%s: no slot_ranges", name)
		}
		delete(got, "slot_ranges") // what a person reads of the slots
		check(got, reflect.TypeFor[pooler.NodeStatus]())
		check(stats, reflect.TypeFor[pooler.Stats]())
		for _, l := range lanes {
			check(l.(map[string]any), reflect.TypeFor[pooler.LaneStats]())
		}
		if (name == "full") != (len(lanes) == 1) {
			t.Errorf("%s: lanes %v", name, lanes)
		}
		settings, _ := got["settings"].(map[string]any)
		if name == "full" && (settings["DialTimeout_seconds"] != 1.0 || settings["Retry"] != "safe") {
			t.Errorf("%s: settings %v", name, settings)
		}
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "node", full, "zero", pooler.NodeStatus{})
	for _, want := range []string{"node.addr=text", "node.stats.wait_duration=1ns", "node.stats.closes.idle=1", "node.state=up", "zero.state=up"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%s isn't in %s", want, &log)
		}
	}
	for _, not := range []string{"zero.handles", "zero.stats.dials", "zero.stats.lane_stats", "zero.settings", "zero.since"} {
		if strings.Contains(log.String(), not) {
			t.Errorf("%s is in %s", not, &log)
		}
	}
}

// Who gives a URL for an address finds no part of its password anywhere.
func TestNoTextHasAPassword(t *testing.T) {
	const addr = "redis://user:hunter2@h:1"
	n := pooler.NodeStatus{Addr: addr, Events: []pooler.Happening{{Event: pooler.Event{Node: addr}, Times: 1}}}
	text, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "node", n, "event", pooler.Event{Node: n.Addr})
	for _, s := range []string{string(text), log.String(), n.String()} {
		if strings.Contains(s, "hunter2") || !strings.Contains(s, "h:1") {
			t.Error(s)
		}
	}
}

func TestTextsOfValues(t *testing.T) {
	happened := pooler.Happening{Event: pooler.Event{Kind: pooler.EventState, Err: errors.New("no"), Duration: time.Second}, Times: 3}
	if got, err := json.Marshal(happened); err != nil || string(got) != `{"duration_seconds":1,"error":"no","first":"0001-01-01T00:00:00Z","kind":"state","previous":"up","state":"up","times":3}` {
		t.Errorf("%s, %v", got, err)
	}
	for want, v := range map[string]any{
		`"suspect"`: pooler.StateSuspect, `"retire"`: pooler.EventRetire, `{"down":1}`: map[pooler.State]int{pooler.StateDown: 1},
	} {
		if got, err := json.Marshal(v); string(got) != want || err != nil {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
	}
	n := pooler.NodeStatus{
		Addr: "h:1", State: pooler.StateDown,
		Stats: pooler.Stats{OpenConnections: 4, Idle: 1, InFlight: 3, Waiting: 2, LastDialError: "refused"},
	}
	if got, want := n.String(), "h:1 is down: 4 connections, 1 of them idle; 3 requests, 2 of them waiting; refused"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := (pooler.NodeStatus{Addr: "h:1", Silent: true}).String(); !strings.HasPrefix(got, "h:1 is silent:") {
		t.Error(got)
	}
	for want, got := range map[string]string{
		"[kind=dial error=no] x3":                             pooler.Happening{Event: pooler.Event{Kind: pooler.EventDial, Err: errors.New("no")}, Times: 3}.String(),
		"[open_connections=4 state=up waiting=2 in_flight=3]": fmt.Sprint(pooler.Stats{OpenConnections: 4, InFlight: 3, Waiting: 2}),
		"unknown": pooler.Unknown.String(), "resend": pooler.Resend.String(), "9": pooler.Outcome(9).String(),
		"[kind=state node=h:1 duration=1s state=up previous=down error=no]": pooler.Event{
			Kind: pooler.EventState, Node: "h:1", Previous: pooler.StateDown, Duration: time.Second, Err: errors.New("no"),
		}.LogValue().String(),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	settings := pooler.Config{MaxWaiters: -1, SharedConns: -1, FailFastAfter: -1, SilenceAfter: -1}.LogValue().String()
	for _, want := range []string{"MaxWaiters=no bound", "SharedConns=none", "FailFastAfter=never", "SilenceAfter=off", "WaitTimeout=5s"} {
		if !strings.Contains(settings, want) {
			t.Errorf("%s isn't in %s", want, settings)
		}
	}
}
