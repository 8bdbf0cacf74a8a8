package main

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
)

// hand is explained in its first lines.
//
//go:embed hand.txt
var hand string

var handFlags = map[rune]string{
	'r': "readonly", 'w': "write", 'a': "admin", 'b': "blocking",
}

// byHand reads hand.
func byHand() ([]*entry, error) {
	var all []*entry
	for line := range strings.Lines(hand) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		e, err := handLine(words)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		all = append(all, e)
	}
	return all, nil
}

func handLine(w []string) (*entry, error) {
	if len(w) < 2 {
		return nil, fmt.Errorf("want a name, flags and keys")
	}
	e := &entry{name: strings.ReplaceAll(w[0], "|", " "), flags: map[string]bool{}}
	for _, f := range w[1] {
		switch {
		case f == 'c':
			e.container = true
		case f == 'm':
			e.module = true
		case handFlags[f] != "":
			e.flags[handFlags[f]] = true
		case f != '-':
			return nil, fmt.Errorf("flag %c", f)
		}
	}
	for _, k := range w[2:] {
		s, err := handKeys(k)
		if err != nil {
			return nil, err
		}
		e.keys = append(e.keys, s)
	}
	return e, nil
}

// handKeys reads RO@1, RO@1..-2, OW@1..-1/3, RO@2#, OW@1#/2.
func handKeys(s string) (spec, error) {
	mode, rest, ok := strings.Cut(s, "@")
	k := spec{mode: mode, begin: "index", find: "range", step: 1}
	rest, step, stepped := strings.Cut(rest, "/")
	var err error
	if stepped && ok {
		k.step, err = strconv.Atoi(step)
	}
	if err != nil || !ok {
		return k, fmt.Errorf("keys %q", s)
	}
	if n, isNum := strings.CutSuffix(rest, "#"); isNum {
		k.find, k.firstKey, rest = "keynum", 1, n
	}
	first, last, ranged := strings.Cut(rest, "..")
	if ranged {
		if k.last, err = strconv.Atoi(last); err != nil {
			return k, err
		}
	}
	k.at, err = strconv.Atoi(first)
	return k, err
}
