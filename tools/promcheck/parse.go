package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// parse fills in what the query asks for.
func (q *Query) parse() error {
	if strings.Contains(q.Expr, "$") {
		return errors.New("a variable that isn't known")
	}
	expr, err := parser.ParseExpr(q.Expr)
	if err != nil {
		return err
	}
	q.Selectors, q.Labels = []Selector{}, []string{}
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			s := Selector{Metric: n.Name, Labels: []string{}}
			for _, m := range n.LabelMatchers {
				if m.Name != labels.MetricName {
					s.Labels = append(s.Labels, m.Name)
				}
			}
			slices.Sort(s.Labels)
			q.Selectors = append(q.Selectors, s)
		case *parser.AggregateExpr:
			q.Labels = append(q.Labels, n.Grouping...)
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				q.Labels = append(q.Labels, n.VectorMatching.MatchingLabels...)
				q.Labels = append(q.Labels, n.VectorMatching.Include...)
			}
		}
		return nil
	})
	slices.Sort(q.Labels)
	q.Labels = slices.Compact(q.Labels)
	for _, s := range q.Selectors {
		if s.Metric == "" {
			return fmt.Errorf("a selector without a metric: %v", s.Labels)
		}
	}
	return nil
}
