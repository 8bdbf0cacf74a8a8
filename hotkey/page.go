package hotkey

import (
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"unicode"
)

// page is the page for people. It has nothing from elsewhere, and no script.
var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"number":  func(n *float64) string { return fmt.Sprintf("%.1f", *n) },
	"show":    show,
	"percent": func(rate float64) string { return fmt.Sprintf("%.4g %%", 100*rate) },
}).Parse(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Hot keys</title>
<style>
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em; color: #222; background: #fff }
table { border-collapse: collapse; width: 100% }
th, td { padding: .2em .6em; border-bottom: 1px solid #ddd; text-align: right; font-variant-numeric: tabular-nums }
th:first-child, td:first-child { text-align: left; word-break: break-all }
td:first-child { font-family: ui-monospace, monospace; white-space: pre-wrap }
p { color: #555 }
</style>
</head>
<body>
<h1>Hot keys</h1>
<p>{{if eq .Source "local"}}What this process uses. <a href="?source=redis">What all have flushed to Redis</a>{{else}}What all have flushed to Redis. <a href="?">What this process uses</a>{{end}}</p>
{{range .Classes}}<h2>{{.Class}}</h2>
{{if not .Tracked}}<p>Not tracked: the sample rate is 0.</p>
{{else}}{{with .Window}}<p>{{if .Complete}}The last window{{else}}The first window, not complete yet{{end}}: {{printf "%.1f" .Seconds}} s from {{.Start.Format "2006-01-02 15:04:05 MST"}}, {{.Samples}} samples{{end}}{{if .Window}} at {{percent .SampleRate}}.</p>
{{end}}{{if .Set}}<p>The sorted set <code>{{.Set}}</code>.</p>
{{end}}{{if .Keys}}<table>
<thead><tr><th scope="col">key</th>{{if .Window}}<th scope="col">per second</th><th scope="col">count</th><th scope="col">at least</th><th scope="col">at most</th>{{else}}<th scope="col">score</th>{{end}}</tr></thead>
<tbody>
{{range .Keys}}<tr><td>{{show .}}</td>{{with .Rate}}<td>{{number .}}</td>{{end}}<td>{{.Count}}</td>{{with .Lower}}<td>{{.}}</td>{{end}}{{with .Upper}}<td>{{.}}</td>{{end}}</tr>
{{end}}</tbody>
</table>
{{else}}<p>No keys.</p>
{{end}}{{end}}{{end}}{{with .Flush}}<h2>Flushes</h2>
<p>{{.Flushes}} flushes, {{.Failed}} failed{{with .LastError}} (the last: {{.}}){{end}}. Counts: {{.Written}} written, {{.Pending}} waiting, {{.Dropped}} dropped, {{.Unknown}} sent without a reply.</p>
{{end}}</body>
</html>
`))

// show is a key for people's eyes: with nothing in it that can't be seen, or turns
// round what is.
func show(k keyView) string {
	if k.Key == "" || !k.Quoted && strings.ContainsFunc(k.Key, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(k.Key)
	}
	return k.Key
}
