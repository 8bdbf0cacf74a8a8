package testkit

import (
	"path"
	"slices"
	"strings"
)

// topics returns the connection's channels or, for the P commands, patterns.
func (c *FakeConn) topics(command string) map[string]bool {
	if strings.HasPrefix(strings.ToUpper(command), "P") {
		return c.session.patterns
	}
	return c.session.channels
}

// confirmLocked is the answer to each subscribed or unsubscribed topic.
func (c *FakeConn) confirmLocked(kind string, topic []byte) []byte {
	n := len(c.session.channels) + len(c.session.patterns)
	return c.message(ReplyBulk(kind), topic, ReplyInt(int64(n)))
}

// cmdSubscribe is SUBSCRIBE and PSUBSCRIBE: one frame per topic.
func (c *FakeConn) cmdSubscribe(args []string) []byte {
	topics := c.topics(args[0])
	var frames []byte
	for _, t := range args[1:] {
		topics[t] = true
		frames = append(frames, c.confirmLocked(strings.ToLower(args[0]), ReplyBulk(t))...)
	}
	return frames
}

// cmdUnsubscribe is UNSUBSCRIBE and PUNSUBSCRIBE: one frame per topic, or one
// with null if there was none.
func (c *FakeConn) cmdUnsubscribe(args []string) []byte {
	topics := c.topics(args[0])
	names := args[1:]
	if len(names) == 0 {
		for t := range topics {
			names = append(names, t)
		}
		slices.Sort(names)
	}
	kind := strings.ToLower(args[0])
	if len(names) == 0 {
		return c.confirmLocked(kind, c.null())
	}
	var frames []byte
	for _, t := range names {
		delete(topics, t)
		frames = append(frames, c.confirmLocked(kind, ReplyBulk(t))...)
	}
	return frames
}

func (c *FakeConn) cmdPublish(args []string) []byte {
	return ReplyInt(int64(c.f.publishLocked(args[1], args[2])))
}

// Publish publishes from outside, and returns how many got the message.
func (f *Fake) Publish(channel, message string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.publishLocked(channel, message)
}

func (f *Fake) publishLocked(channel, message string) int {
	n := 0
	for _, c := range f.conns {
		if c.session.channels[channel] {
			c.sendLocked(c.message(ReplyBulk("message"), ReplyBulk(channel), ReplyBulk(message)))
			n++
		}
		for pattern := range c.session.patterns {
			if ok, err := path.Match(pattern, channel); err == nil && ok {
				c.sendLocked(c.message(ReplyBulk("pmessage"), ReplyBulk(pattern), ReplyBulk(channel), ReplyBulk(message)))
				n++
			}
		}
	}
	return n
}
