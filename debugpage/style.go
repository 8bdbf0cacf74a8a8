package debugpage

// style is all of the page's looks. Narrow screens get tables as lists, each cell with its
// column's name.
const style = `
:root { color-scheme: light dark; --text: #1c2128; --soft: #59636e; --line: #d8dee4; --back: #f6f8fa; --card: #fff; --link: #0757b8;
  --good: #1a7f37; --good-back: #e6f6ea; --warn: #8a5a00; --warn-back: #fff6dd; --bad: #b4232c; --bad-back: #ffebec;
  --idle: #9dadbd; --used: #2f81f7; --shared: #1a9c8c; --pinned: #a371f7; --draining: #db7b1d }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ed; --soft: #9aa5b1; --line: #343b44; --back: #0f1317; --card: #181d23; --link: #7db6ff;
  --good: #5fd07f; --good-back: #12261a; --warn: #eec05a; --warn-back: #2a2210; --bad: #ff8087; --bad-back: #331619;
  --idle: #6b7885; --used: #4b93f8; --shared: #2fb6a5; --pinned: #b48cf9; --draining: #e59142 } }
* { box-sizing: border-box }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 76rem; padding: 1.2rem 1rem 3rem; color: var(--text); background: var(--back) }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2rem 0 .6rem } h3 { font-size: 1rem; margin: 0 0 .7rem }
h1, h2, h3, li, dd { overflow-wrap: anywhere } h3 .soft { font-weight: normal } h2 small, h3 small { color: var(--soft); font-weight: normal; font-size: .9rem } a { color: var(--link) }
header { display: flex; flex-wrap: wrap; justify-content: space-between; align-items: baseline; gap: .2rem 1.5rem; margin-bottom: .9rem }
nav { display: flex; flex-wrap: wrap; gap: .1rem 1rem; color: var(--soft) }
.soft { color: var(--soft) } .mono { font-family: ui-monospace, monospace; font-size: .93em }
.verdict { border-left: .3rem solid; border-radius: .4rem; padding: .7rem 1rem; margin: 0 } .verdict h2 { margin: 0; font-size: 1.15rem } .verdict p { margin: .15rem 0 0; color: var(--soft) }
.verdict ul { margin: .4rem 0 0; padding: 0; list-style: none; color: var(--text) } .verdict li { padding: .25rem 0 } .verdict li + li { border-top: 1px solid var(--line) }
.verdict.well { border-color: var(--good); background: var(--good-back) } .verdict.warning { border-color: var(--warn); background: var(--warn-back) } .verdict.bad { border-color: var(--bad); background: var(--bad-back) }
.well h2, .state.up { color: var(--good) } .warning h2, .state.suspect, .state.silent, li.warning b { color: var(--warn) } .bad h2, .state.down, li.bad b { color: var(--bad) }
.state { font-weight: 600; white-space: nowrap } .state::before { content: ""; display: inline-block; width: .6em; height: .6em; border-radius: 50%; background: currentColor; margin-right: .35em }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .9rem 1rem; margin: 0 0 .9rem } .card:target { outline: 2px solid var(--link) }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(12.5rem, 1fr)); gap: .6rem 1.2rem; margin: 0 0 1rem }
dt { color: var(--soft); font-size: .85rem } dd { margin: 0; font-variant-numeric: tabular-nums } dl .wide { grid-column: 1 / -1 } dd.alert { color: var(--bad) }
.bar { display: flex; height: .7rem; border-radius: .35rem; overflow: hidden; background: var(--line); margin: .25rem 0 .3rem } .bar i { min-width: 2px }
.legend span { margin-right: 1rem; white-space: nowrap; display: inline-block } .legend i { display: inline-block; width: .7em; height: .7em; border-radius: .15em; margin-right: .35em }
.idle { background: var(--idle) } .used { background: var(--used) } .shared { background: var(--shared) } .pinned { background: var(--pinned) } .draining { background: var(--draining) }
.tables { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 1rem 2rem; align-items: start } .tables div table + table { margin-top: 1rem }
table { border-collapse: collapse; width: 100% }
th, td { padding: .2rem .5rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; font-variant-numeric: tabular-nums; white-space: nowrap }
tr:last-child td { border-bottom: 0 } th { color: var(--soft); font-weight: 600; font-size: .85rem } th:first-child, td:first-child, .words { text-align: left } th:first-child, td:first-child { padding-left: 0 } th:last-child, td:last-child { padding-right: 0 }
td:first-child { white-space: normal; overflow-wrap: anywhere } tr.none td { color: var(--soft) }
.events { margin-top: 1rem } .lanes { margin-bottom: 1rem } .events .state { white-space: normal }
@media (max-width: 640px) {
  .events td { white-space: normal }
  .rows thead { display: none } .rows, .rows tbody { display: block } .rows tr { display: grid; grid-template-columns: 1fr 1fr; gap: .05rem 1rem; border-bottom: 1px solid var(--line); padding: .5rem 0 } .rows tr:last-child { border: 0 }
  .rows td { display: flex; justify-content: space-between; gap: .6rem; border: 0; padding: 0; text-align: right } .rows td::before { content: attr(data-name); color: var(--soft) }
  .lanes tr.none td:not(:first-child) { display: none }
  .rows td:first-child { grid-column: 1 / -1; font-weight: 600 } .rows td:first-child::before { display: none } .rows td.long { grid-column: 1 / -1 } dl { grid-template-columns: 1fr 1fr; gap: .6rem .8rem }
}
`
