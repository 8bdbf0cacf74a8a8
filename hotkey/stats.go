package hotkey

// Stats says what a tracker has done so far.
type Stats struct {
	Reads  ClassStats `json:"reads"`
	Writes ClassStats `json:"writes"`
	Flush  FlushStats `json:"flush"`
}

// ClassStats is about one class. It is zero if that isn't tracked.
type ClassStats struct {
	// SampleRate is that of the live window.
	SampleRate float64 `json:"sample_rate"`
	// Samples is how many keys were counted.
	Samples uint64 `json:"samples"`
	// Skipped is how many keys of sampled commands weren't, since each had more
	// than 1,024.
	Skipped uint64 `json:"skipped"`
}

// FlushStats is about flushes. It is zero without a sink.
type FlushStats struct {
	// Flushes were tried, and Failed of them at least in part.
	Flushes uint64 `json:"flushes"`
	Failed  uint64 `json:"failed"`

	// What follows are sums of what was, or was to be, added to scores.

	// Written was added.
	Written uint64 `json:"written"`
	// Pending waits for the next flush; what a full set has no room for yet is among
	// it.
	Pending uint64 `json:"pending"`
	// Dropped was never added: there was no room for it to wait, or no time when
	// the tracker was closed.
	Dropped uint64 `json:"dropped"`
	// Outranked is what there still was no room for in a full set when the tracker
	// was closed.
	Outranked uint64 `json:"outranked"`
	// Unknown was sent once, and the reply was lost.
	Unknown uint64 `json:"unknown"`

	// LastError is the class of the last failure, as [hooks.ErrorType] has it.
	LastError string `json:"last_error,omitempty"`
}

// Stats returns what the tracker has done so far. It does no I/O.
func (t *Tracker) Stats() Stats {
	var s Stats
	if c := t.classes[Reads]; c != nil {
		s.Reads = c.stats()
	}
	if c := t.classes[Writes]; c != nil {
		s.Writes = c.stats()
	}
	if t.pending != nil {
		s.Flush = t.pending.snapshot()
	}
	return s
}
