// Package hotkey finds the keys that a program reads and writes most.
//
//	cfg := hotkey.Config{
//		ReadSampleRate:  0.01,
//		WriteSampleRate: 0.01,
//		Sink:            hotkey.OwnClient, // nil: nothing is written to Redis
//	}
//	db, err := driver.Open(url, hotkey.Option(cfg, func(t *hotkey.Tracker) {
//		http.Handle("/debug/hotkeys", t.Handler())
//	}))
//
// By hand, for any go-redis client, a tracker ([New]) is an observer: give it to
// hooks.New, attach that hook, and close the tracker before the client.
//
// A [Tracker] samples the commands of the clients that its hook is attached to
// and counts their keys, those that are read and those that are written apart.
// What a command does with each of its keys is what the server's COMMAND
// GETKEYSANDFLAGS says. [Tracker.Top] gives the keys of the last window,
// [Config.OnHot] tells of single ones, and every few seconds the most frequent
// ones are added to two sorted sets in Redis, which [Tracker.Global], or ZREVRANGE
// on any client, reads: they sum up what all programs with the same sets saw.
//
// # The sorted sets
//
// A set is bounded ([Config.MaxMembers]), and its scores are halved with each
// [Config.HalfLife], so that what is used now passes what was used last week. A key
// that a full set has no room for isn't lost: what all programs count of it adds up,
// in a second set, until that is more than the lowest score, which then makes room
// and waits in its turn. Where that set is full too, of higher counts, the key's count
// waits in the program. All of it is one script (EVAL) for each class and flush, of
// the commands PEXPIRE, SET, DEL, ZADD, ZCARD, ZINCRBY, ZRANGE, ZREM,
// ZREMRANGEBYRANK, ZREMRANGEBYSCORE, ZSCORE and ZUNIONSTORE, which a user with an ACL
// needs the right to. Sets that are shared with Baseplate's clients
// ([Config.WithBaseplateNames]) are only added to.
//
// [Tracker.Collector] exports the first few for Prometheus: by name those that are
// allowed, by a keyed hash others.
//
// # What the numbers say
//
// A sampled command stands for 1/p commands, p being the rate of the sampling.
// The counts come from Filtered Space-Saving sketches of constant size, which may
// take a key's count for too high; [Count] has bounds. At a rate of 1 the bounds
// always hold the truth; below that they allow for the chance in the sampling and
// hold it 9 times in 10 or more of the keys that are listed. [Config.OnHot] goes by the
// lower bound.
//
// A key is listed, on the page and by the metric too, only if the count says more
// than that the key was used: if at least five samples and half of its count are
// surely its own, and those are more than chance would give to any key if all were
// used alike, or up to a quarter more. Where no key is hot none is listed. Only of
// keys that are so few that each is counted (about 200 with the default TopN) all are
// that have five samples, and of many keys used alike, and far more than all others,
// those are that chance has favoured.
//
// Added to the sets is the part of a count that the sketch vouches for, times 1/p, if
// that part is at least half: at a rate of 1 never more than there was, below that
// right but for the chance in the sampling. More samples are all that helps: with
// 20,000 in a window the first 32 keys of common workloads are right up to neighbours
// in rank, with 2,000 the first few are.
//
// A key gets into the sets by the same rule, over as many windows as it takes: what says
// too little in one waits, and is added with the rest once it says something, since what
// is little in a window may be much in an hour. Of each class 2*TopN keys wait, those with
// the most samples, for 360 windows at most; what is forgotten then is little, and in no
// statistics. What waits at [Tracker.Close] is added if so few keys were used that all
// are counted. So a set has no key that was used once or twice, and a new one is in it
// after five samples at the earliest.
//
// A command counts once, when it ends, however it has ended and however often it
// was tried. Keys that a script touches without declaring them are unknown, as are
// those of commands that the command table doesn't have. WATCH neither reads nor
// writes.
//
// # Concurrency
//
// Everything may be used by several goroutines at once. A Tracker has two
// goroutines of its own, which [Tracker.Close] ends: one for the windows, one for
// the flushes. It has none if both rates are 0.
//
// # Failure
//
// Nothing that happens to a flush is felt by the user's commands. A sink that is
// slow or hangs delays the next flush; the windows go on, and what they leave is
// kept, added up, up to 4*TopN keys of each class. What doesn't fit is dropped and
// counted in [Stats]. Counts that surely weren't added are kept for the next
// flush; those whose outcome isn't known, because a reply was lost, are never sent
// again, by the tracker or by go-redis, and are counted in Stats too. So at a
// sample rate of 1 a sorted set never has too much, and at lower rates only by the
// chance in the sampling.
//
// # Cost
//
// A command that isn't sampled costs a random number and a comparison, and so does
// each command of a batch. One that is takes the lock of a fraction of the sketch
// for each of its keys; of a command with more than 1,024 the first are
// counted, and the others are in Stats as skipped.
// [Config.MaxSamplesPerSecond] bounds what a class spends. With the default
// configuration a Tracker has up to 140 KiB of memory, less than 128 KB with keys of up to
// 64 bytes, and 100 KB with short ones; what waits for a flush comes on top.
//
// # Limits
//
// A name that is longer than [Config.MaxKeyLen] is cut and ends in a hash of the whole.
//
// Keys are data: Top, the Handler's pages, OnHot and the sorted sets show them as
// they are, or as [Config.Normalize] leaves them; values and other arguments never
// get there. The Handler has no authentication. No metric has keys in it, but what
// [CollectorConfig] allows by name, and hashes.
package hotkey
