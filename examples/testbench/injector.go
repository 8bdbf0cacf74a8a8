package main

import (
	"context"
	"fmt"
	"time"
)

// injector injects the faults, one at a time: those of the schedule, and those that
// somebody asks for meanwhile.
type injector struct {
	top     servers
	nets    []*network
	journal *journal
	out     *terminal
	asked   chan faultKind
}

// ask injects a fault now. The error says why it can't be.
func (in *injector) ask(kind faultKind) error {
	if _, err := usualLength(kind); err != nil {
		return err
	}
	if !in.top.can(kind) {
		return fmt.Errorf("there is no %s with %s", kind, in.top.about())
	}
	select {
	case in.asked <- kind:
		return nil
	default:
		return errBusy
	}
}

var errBusy = fmt.Errorf("another fault is under way: one at a time")

// run injects faults until ctx is done. What has begun is ended.
func (in *injector) run(ctx context.Context, s schedule) {
	for n := 0; ctx.Err() == nil; {
		f, at, ok := s.nth(n)
		var due <-chan time.Time
		if ok {
			due = time.After(time.Until(in.journal.began.Add(at)))
		}
		select {
		case <-ctx.Done():
		case <-due:
			n++
			in.inject(ctx, f, "schedule")
		case kind := <-in.asked:
			length, _ := usualLength(kind) // ask has seen to the error
			in.inject(ctx, fault{kind: kind, length: length}, "button")
		}
	}
}

// inject injects one fault and notes when it began and when it was over.
func (in *injector) inject(ctx context.Context, f fault, by string) {
	entry := faultEntry{Kind: "fault", At: in.journal.since(), Fault: string(f.kind), By: by, Length: f.length.Seconds()}
	in.journal.add(entry)
	in.out.note(faultLine(f, by))
	err := in.befall(ctx, f)
	entry.Kind, entry.At = "faultOver", in.journal.since()
	if err != nil {
		entry.Error = err.Error()
		in.out.note(fmt.Sprintf("%s: %v", f.kind, err))
	} else if f.length > 0 {
		in.out.note(fmt.Sprintf("%s is over", f.kind))
	}
	in.journal.add(entry)
}

func faultLine(f fault, by string) string {
	if f.length == 0 {
		return fmt.Sprintf("%s (%s)", f.kind, by)
	}
	return fmt.Sprintf("%s for %s (%s)", f.kind, f.length, by)
}

// slowness is how much longer everything takes in each direction.
const slowness = 20 * time.Millisecond

// befall does it, and undoes it when its time is over or ctx is done.
func (in *injector) befall(ctx context.Context, f fault) error {
	switch f.kind {
	case faultKill:
		return in.kill(ctx, f.length)
	case faultFailover:
		return in.top.failover(context.WithoutCancel(ctx), in.cut) // a half one would be a mess
	case faultReset:
		in.each((*network).reset)
	case faultSilence:
		in.each((*network).silence)
	case faultFreeze:
		in.each(func(n *network) { n.freeze(true) })
		pause(ctx, f.length)
		in.each(func(n *network) { n.freeze(false) })
	case faultSlow:
		in.each(func(n *network) { n.delay(slowness) })
		pause(ctx, f.length)
		in.each(func(n *network) { n.delay(0) })
	}
	return nil
}

// kill takes a server away for a while.
func (in *injector) kill(ctx context.Context, length time.Duration) error {
	addr, revive, err := in.top.kill(ctx, in.cut)
	if err != nil {
		return err
	}
	in.each(func(n *network) { n.refuse(addr, true) })
	pause(ctx, length)
	defer in.each(func(n *network) { n.refuse(addr, false) })
	// It must come back though the run is over: what was written is in there.
	reviving, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	return revive(reviving)
}

// cut keeps all clients from a server, or lets them get there again.
func (in *injector) cut(addr string, on bool) {
	in.each(func(n *network) {
		n.refuse(addr, on)
		if on {
			n.proxies[addr].Reset()
		}
	})
}

func (in *injector) each(do func(*network)) {
	for _, n := range in.nets {
		do(n)
	}
}

// pause waits for the given time or until ctx is done.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
