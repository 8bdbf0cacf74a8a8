package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// entry is a command on its way to the table.
type entry struct {
	name               string
	arity              int64
	flags              map[string]bool
	keys               []spec
	container, module  bool
	redis, valkey      bool
	class, pin, effect string
	rule, slots, tx    string
	blocking           bool
}

// spec is a key specification, with the words that COMMAND uses.
type spec struct {
	mode                         string
	notKey, incomplete, variable bool
	begin, find, keyword         string
	at, last, limit, step        int
	numAt, firstKey              int
}

// start runs a server on a free port with nothing of its own on disk.
func start(ctx context.Context, binary string) (addr string, pid int, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", 0, nil, err
	}
	addr = l.Addr().String()
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	if err := l.Close(); err != nil {
		return "", 0, nil, err
	}
	dir, err := os.MkdirTemp("", "everpool-gen-")
	if err != nil {
		return "", 0, nil, err
	}
	cmd := exec.CommandContext(ctx, binary, "--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "")
	if err := cmd.Start(); err != nil {
		_ = os.RemoveAll(dir)
		return "", 0, nil, err
	}
	return addr, cmd.Process.Pid, func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	}, nil
}

// ask returns a server's version and what it answers to COMMAND. pid is the
// server's, to notice that another one got the port first; 0 if not known.
func ask(ctx context.Context, addr string, pid int) (version string, all []*entry, err error) {
	rdb := redis.NewClient(&redis.Options{
		Addr: addr, Protocol: 2, DisableIdentity: true,
		// A server just started may not listen yet.
		DialerRetries: 200, DialerRetryTimeout: 20 * time.Millisecond, DialTimeout: 10 * time.Second,
	})
	defer func() { _ = rdb.Close() }()
	info, err := rdb.Info(ctx, "server").Result()
	if err != nil {
		return "", nil, err
	}
	for line := range strings.Lines(info) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), ":")
		if k == "process_id" && pid != 0 && v != strconv.Itoa(pid) {
			return "", nil, fmt.Errorf("%s is another server, process %s", addr, v)
		}
		if k == "valkey_version" || k == "redis_version" && version == "" {
			version = v
		}
	}
	reply, err := rdb.Do(ctx, "COMMAND").Slice()
	if err != nil {
		return "", nil, err
	}
	for _, c := range reply {
		if all, err = parse(all, c); err != nil {
			return "", nil, err
		}
	}
	return version, all, nil
}

// parse reads name, arity, flags, first, last, step, categories, tips, key
// specs, subcommands.
func parse(all []*entry, reply any) ([]*entry, error) {
	c, ok := reply.([]any)
	if !ok || len(c) < 10 {
		return nil, fmt.Errorf("unexpected answer to COMMAND: %v", reply)
	}
	e := &entry{name: strings.ToUpper(strings.ReplaceAll(text(c[0]), "|", " ")), arity: number(c[1]), flags: map[string]bool{}}
	for _, f := range list(c[2]) {
		e.flags[text(f)] = true
	}
	for _, k := range list(c[8]) {
		e.keys = append(e.keys, parseSpec(k))
	}
	subs := list(c[9])
	e.container = len(subs) > 0
	all = append(all, e)
	var err error
	for _, s := range subs {
		if all, err = parse(all, s); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func parseSpec(reply any) spec {
	m := dict(reply)
	var s spec
	for _, f := range list(m["flags"]) {
		switch f := text(f); f {
		case "RO", "RW", "OW", "RM":
			s.mode = f
		case "not_key":
			s.notKey = true
		case "incomplete":
			s.incomplete = true
		case "variable_flags":
			s.variable = true
		}
	}
	b, f := dict(m["begin_search"]), dict(m["find_keys"])
	s.begin, s.find = text(b["type"]), text(f["type"])
	b, f = dict(b["spec"]), dict(f["spec"])
	s.keyword = text(b["keyword"])
	s.at = int(number(b["index"]) + number(b["startfrom"])) // one of them
	s.last, s.limit, s.step = int(number(f["lastkey"])), int(number(f["limit"])), int(number(f["keystep"]))
	s.numAt, s.firstKey = int(number(f["keynumidx"])), int(number(f["firstkey"]))
	return s
}

func list(v any) []any { l, _ := v.([]any); return l }

func text(v any) string { s, _ := v.(string); return s }

func number(v any) int64 {
	switch v := v.(type) {
	case int64:
		return v
	case string:
		n, _ := strconv.ParseInt(v, 10, 64)
		return n
	}
	return 0
}

func dict(v any) map[string]any {
	m, l := map[string]any{}, list(v)
	for i := 0; i+1 < len(l); i += 2 {
		m[text(l[i])] = l[i+1]
	}
	return m
}
