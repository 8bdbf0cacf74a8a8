package poolview

// MaxGone is maxGone.
const MaxGone = maxGone

// Len is how much is kept.
func (c *Counters[S, K]) Len() int { return len(c.sources) + len(c.sums) }

// Table is the table.
func Table() []Metric { return table }

// OTelType is the metric's type in OpenTelemetry's words.
func (m *Metric) OTelType() string {
	switch {
	case m.Kind == Histogram:
		return "histogram"
	case m.Kind == Counter:
		return "counter"
	case m.Unit == "s":
		return "gauge"
	}
	return "updowncounter"
}
