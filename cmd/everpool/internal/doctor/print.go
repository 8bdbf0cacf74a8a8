package doctor

import (
	"encoding/json"
	"fmt"
	"io"
)

// WriteText writes a finding as one line.
func WriteText(w io.Writer, f Finding) error {
	_, err := fmt.Fprintf(w, "%-8s %-12s %s", f.Status, f.Check, f.Text)
	if err == nil && f.Advice != "" {
		_, err = fmt.Fprintf(w, " -> %s", f.Advice)
	}
	if err == nil {
		_, err = fmt.Fprintln(w)
	}
	return err
}

// Report is an examination as JSON.
type Report struct {
	Healthy  bool      `json:"healthy"` // nothing has failed
	Findings []Finding `json:"findings"`
}

// WriteJSON writes a report.
func WriteJSON(w io.Writer, r Report) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}
