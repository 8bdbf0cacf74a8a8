package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/everpool/everpool/hotkey"
)

// printer is a span exporter that prints the first span of each name, in a line.
type printer struct {
	out  io.Writer
	left int
	seen map[string]bool
}

// ExportSpans prints them.
func (p *printer) ExportSpans(_ context.Context, spans []sdktrace.ReadOnlySpan) error {
	for _, span := range spans {
		if p.left == 0 || p.seen[span.Name()] {
			continue
		}
		p.left--
		p.seen[span.Name()] = true
		fmt.Fprintf(p.out, "  %-14s %8s  %s\n", span.Name(), span.EndTime().Sub(span.StartTime()).Round(time.Microsecond), attributes(span.Attributes()))
	}
	return nil
}

// Shutdown does nothing.
func (p *printer) Shutdown(context.Context) error { return nil }

func attributes(all []attribute.KeyValue) string {
	var parts []string
	for _, a := range all {
		parts = append(parts, string(a.Key)+"="+a.Value.String())
	}
	return strings.Join(parts, " ")
}

// report prints what OpenTelemetry's metrics and the hot-key tracker say.
func (s *service) report() error {
	var all metricdata.ResourceMetrics
	if err := s.reader.Collect(context.Background(), &all); err != nil {
		return fmt.Errorf("collecting the metrics: %w", err)
	}
	var lines []string
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					lines = append(lines, fmt.Sprintf("  %s\t%s\t%d times, %s on average", m.Name, labels(p.Attributes), p.Count, seconds(p.Sum/float64(p.Count))))
				}
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					lines = append(lines, fmt.Sprintf("  %s\t%s\t%d", m.Name, labels(p.Attributes), p.Value))
				}
			}
		}
	}
	slices.Sort(lines)
	fmt.Fprint(s.out, "\nWhat OpenTelemetry has measured:\n\n")
	table := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, strings.Join(lines, "\n"))
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprint(s.out, "\nThe keys that were read most:\n\n")
	for _, c := range s.keys.Top(hotkey.Reads, 5) {
		fmt.Fprintf(s.out, "  %-18s %6.0f times a second, %d to %d times in the window\n", c.Key, c.Rate, c.Lower, c.Upper)
	}
	return nil
}

// labels leaves out what is the same everywhere.
func labels(set attribute.Set) string {
	var parts []string
	for _, a := range set.ToSlice() {
		switch a.Key {
		case "db.system.name", "db.namespace", "server.address", "server.port", "db.client.connection.pool.name", "everpool.node":
		default:
			parts = append(parts, a.Value.String())
		}
	}
	return strings.Join(parts, " ")
}

func seconds(s float64) time.Duration {
	return time.Duration(s * float64(time.Second)).Round(time.Microsecond)
}
