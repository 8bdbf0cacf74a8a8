package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// counted plays what happens to a counter; values count from its base.
func counted(found int64, happen ...func(*counter)) account {
	c := newCounter("key", 3)
	for _, h := range happen {
		h(c)
	}
	return c.settle(c.base + found)
}

func ack(value int64) func(*counter) { return func(c *counter) { c.ack(c.base + value) } }
func unknown(c *counter)             { c.fail(true) }
func failed(c *counter)              { c.fail(false) }

func TestACountersAccount(t *testing.T) {
	for _, test := range []struct {
		name string
		got  account
		want account
	}{
		{"all is well", counted(2, ack(1), ack(2)), account{Acked: 2, Found: 2}},
		{"a failure that hasn't run", counted(2, ack(1), failed, ack(2)), account{Acked: 2, Found: 2}},
		{"an unknown outcome that has run", counted(3, ack(1), unknown, ack(3)), account{Acked: 2, Unknown: 1, Found: 3}},
		{"one that hasn't", counted(2, ack(1), unknown, ack(2)), account{Acked: 2, Unknown: 1, Found: 2}},
		{"one that runs later than the next", counted(4, unknown, ack(1), ack(2), ack(4)), account{Acked: 3, Unknown: 1, Found: 4}},
		{"one that runs in the end", counted(2, ack(1), unknown), account{Acked: 1, Unknown: 1, Found: 2}},

		{"a lost write, seen by the next", counted(2, ack(1), ack(2), ack(2)), account{Acked: 3, Found: 2, Lost: 1}},
		{"a lost write, seen in the end", counted(1, ack(1), ack(2)), account{Acked: 2, Found: 1, Lost: 1}},
		{"lost, though there was an unknown outcome", counted(1, ack(1), unknown, ack(2)), account{Acked: 2, Unknown: 1, Found: 1, Lost: 1}},
		{"run twice, seen by its own reply", counted(2, ack(2)), account{Acked: 1, Found: 2, Twice: 1}},
		{"run twice, seen in the end", counted(2, ack(1)), account{Acked: 1, Found: 2, Twice: 1}},
		{"a failure that has run", counted(2, ack(1), failed), account{Acked: 1, Found: 2, Twice: 1}},
		{"one unknown outcome that has run twice", counted(3, unknown, ack(3)), account{Acked: 1, Unknown: 1, Found: 3, Twice: 1}},
		{"one unknown outcome explains one run only", counted(4, unknown, ack(2), ack(4)), account{Acked: 2, Unknown: 1, Found: 4, Twice: 1}},
		{"a reply of another counter", counted(2, ack(1), ack(span+7)), account{Acked: 2, Found: 2, Foreign: 1}},
		{"a reply of the counter before", counted(2, ack(1), ack(7-span)), account{Acked: 2, Found: 2, Foreign: 1}},
		{"a lost key, seen by the next", counted(1, ack(1), ack(2), func(c *counter) { c.ack(1) }), account{Acked: 3, Found: 1, Lost: 2}},
		{"a lost key, seen in the end", counted(-newCounter("key", 3).base, ack(1), ack(2)), account{Acked: 2, Lost: 2}},
	} {
		if diff := cmp.Diff(test.want, test.got); diff != "" {
			t.Errorf("%s:\n%s", test.name, diff)
		}
		violated := test.want.Lost+test.want.Twice+test.want.Foreign > 0
		if test.got.sound() == violated {
			t.Errorf("%s: sound is %v", test.name, test.got.sound())
		}
		if a := test.got; a.sound() && (a.Acked > a.Found || a.Found > a.Acked+a.Unknown) {
			t.Errorf("%s: it is called sound: %+v", test.name, a)
		}
	}
}

func TestTheItemsAccount(t *testing.T) {
	pushed := func(what told, found ...string) account {
		l := newItems()
		l.note("a", toldDone)
		l.note("b", what)
		return l.settle(found)
	}
	for _, test := range []struct {
		name string
		got  account
		want account
	}{
		{"all is well", pushed(toldDone, "b", "a"), account{Acked: 2, Found: 2}},
		{"an unknown outcome that has run", pushed(toldUnknown, "a", "b"), account{Acked: 1, Unknown: 1, Found: 2}},
		{"one that hasn't", pushed(toldUnknown, "a"), account{Acked: 1, Unknown: 1, Found: 1}},
		{"a failure that hasn't run", pushed(toldFailed, "a"), account{Acked: 1, Found: 1}},
		{"a lost item", pushed(toldDone, "a"), account{Acked: 2, Found: 1, Lost: 1}},
		{"an item twice", pushed(toldDone, "a", "b", "a"), account{Acked: 2, Found: 3, Twice: 1}},
		{"an unknown outcome twice", pushed(toldUnknown, "a", "b", "b"), account{Acked: 1, Unknown: 1, Found: 3, Twice: 1}},
		{"a failure that has run", pushed(toldFailed, "a", "b"), account{Acked: 1, Found: 2, Twice: 1}},
		{"an item that nobody pushed", pushed(toldDone, "a", "b", "c"), account{Acked: 2, Found: 3, Foreign: 1}},
		{"one lost, another twice", pushed(toldDone, "a", "a"), account{Acked: 2, Found: 2, Lost: 1, Twice: 1}},
	} {
		if diff := cmp.Diff(test.want, test.got); diff != "" {
			t.Errorf("%s:\n%s", test.name, diff)
		}
	}
}

// What counts against a run, by driver.
func TestTheVerdictIsAboutEverpoolAndAboutLostWritesOfEither(t *testing.T) {
	for _, test := range []struct {
		account account
		ours    bool // it fails the run if everpool's
		stocks  bool // if go-redis's own pool's
	}{
		{account{Acked: 5, Unknown: 2, Found: 6}, false, false},
		{account{Lost: 1}, true, true},
		{account{Twice: 1}, true, false},
		{account{Torn: 1}, true, false},
		{account{Foreign: 1}, true, false},
	} {
		if got := len(faultsOf(driverEverpool, test.account)) > 0; got != test.ours {
			t.Errorf("everpool with %+v: fails the run: %v", test.account, got)
		}
		if got := len(faultsOf(driverStock, test.account)) > 0; got != test.stocks {
			t.Errorf("stock with %+v: fails the run: %v", test.account, got)
		}
	}
}
