/**
 * The history of an appliance's sharers as a drawing: one line for each version, in one SVG file that needs nothing else.
 *
 * It reads in the light and in the dark: the page's colours follow the viewer's, the lines are of a palette that also the
 * colour-blind tell apart (Okabe and Ito, 2008), and each line is named where it ends. Where nobody could say, it is broken;
 * an estimate has a band of two standard errors.
 */
import type { ReleaseRow } from '../src/node/command-results.ts'

const WIDTH = 900
const HEIGHT = 420
const AREA = { left: 64, right: 772, top: 48, bottom: 372 }
/** Versions that have a colour and a name; those that were used the most. */
const MAX_LINES = 8
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#8c6bb1', '#7f7f7f']
const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
const X_LABELS = 6
/** The least distance between two names at the right. */
const NAME_PX = 16

interface Point {
  x: number
  y: number
  /** Of an estimate: the band. */
  low: number
  high: number
}

/** @param rows - of one appliance */
export function historyPlot(rows: readonly ReleaseRow[]): string {
  const lines = rows
    .map(({ version, history }) => ({
      version,
      history,
      most: Math.max(-1, ...history.map(({ count }) => count ?? -1))
    }))
    .filter(({ most }) => most >= 0)
    .sort((a, b) => b.most - a.most)
    .slice(0, MAX_LINES)
  const title = `Who uses ${rows[0]?.appliance.split('/')[1] ?? 'it'}`
  if (lines.length === 0)
    return page(title, `<text class="note" x="${AREA.left}" y="200">No samples yet: one is taken each hour.</text>`)
  const times = lines.flatMap(({ history }) => history.map(({ at }) => Date.parse(at)))
  const [fromMs, toMs] = [times.reduce((a, b) => Math.min(a, b)), times.reduce((a, b) => Math.max(a, b))]
  const spanMs = Math.max(HOUR_MS, toMs - fromMs)
  const top = niceTop(Math.max(1, ...lines.map(({ most }) => most)))
  const x = (ms: number) => AREA.left + ((ms - (toMs - spanMs)) / spanMs) * (AREA.right - AREA.left)
  const y = (count: number) => AREA.bottom - (Math.min(count, top) / top) * (AREA.bottom - AREA.top)
  const body = [grid(top, y), days(toMs - spanMs, spanMs, x)]
  const names: { text: string; colour: string; y: number }[] = []
  for (const [i, { version, history }] of lines.entries()) {
    const colour = COLOURS[i % COLOURS.length]!
    const runs = runsOf(history, x, y)
    for (const run of runs) body.push(drawing(run, colour))
    const last = history.findLast(({ count }) => count !== null)
    const end = runs.at(-1)?.at(-1)
    if (last !== undefined && end !== undefined) names.push({ text: `${version}: ${shown(last)}`, colour, y: end.y })
  }
  body.push(
    ...spread(names).map(
      name => `<text x="${AREA.right + 10}" y="${round(name.y + 4)}" fill="${name.colour}">${escaped(name.text)}</text>`
    )
  )
  return page(title, body.join('\n'))
}

/** Pieces of a line without gaps. */
function runsOf(history: ReleaseRow['history'], x: (ms: number) => number, y: (count: number) => number): Point[][] {
  const runs: Point[][] = [[]]
  for (const { at, count, error = 0 } of history) {
    if (count === null) {
      if (runs.at(-1)!.length > 0) runs.push([])
      continue
    }
    const spread = 2 * error * count
    runs
      .at(-1)!
      .push({ x: x(Date.parse(at)), y: y(count), low: y(Math.max(0, count - spread)), high: y(count + spread) })
  }
  return runs.filter(run => run.length > 0)
}

function drawing(run: readonly Point[], colour: string): string {
  const [only] = run
  if (run.length === 1) return `<circle cx="${round(only!.x)}" cy="${round(only!.y)}" r="3" fill="${colour}"/>`
  const path = (points: { x: number; y: number }[]) =>
    points.map(point => `${round(point.x)},${round(point.y)}`).join(' ')
  const line = `<polyline points="${path([...run])}" fill="none" stroke="${colour}" stroke-width="2" stroke-linejoin="round"/>`
  if (run.every(({ low, high }) => low === high)) return line
  const band = [...run.map(({ x, high }) => ({ x, y: high })), ...run.toReversed().map(({ x, low }) => ({ x, y: low }))]
  return `<polygon points="${path(band)}" fill="${colour}" opacity="0.18"/>\n${line}`
}

function grid(top: number, y: (count: number) => number): string {
  const steps = Math.min(top, 5)
  const lines = Array.from({ length: steps + 1 }, (_, i) => {
    const count = (top / steps) * i
    const at = round(y(count))
    return `<line class="grid" x1="${AREA.left}" x2="${AREA.right}" y1="${at}" y2="${at}"/>
<text class="axis" text-anchor="end" x="${AREA.left - 8}" y="${at + 4}">${count.toLocaleString('en')}</text>`
  })
  return lines.join('\n')
}

function days(startMs: number, spanMs: number, x: (ms: number) => number): string {
  const labels = Array.from({ length: X_LABELS }, (_, i) => {
    const ms = startMs + (spanMs * i) / (X_LABELS - 1)
    const iso = new Date(ms).toISOString()
    const text = spanMs < 2 * DAY_MS ? iso.slice(11, 16) : iso.slice(0, 10)
    return `<text class="axis" text-anchor="middle" x="${round(x(ms))}" y="${AREA.bottom + 22}">${text}</text>`
  })
  return labels.join('\n')
}

/** Moves names apart that would lie on each other. */
function spread<T extends { y: number }>(names: readonly T[]): T[] {
  let free = Number.NEGATIVE_INFINITY
  return names
    .toSorted((a, b) => a.y - b.y)
    .map(name => {
      const y = Math.max(name.y, free)
      free = y + NAME_PX
      return { ...name, y }
    })
}

/** The next of 1, 2 or 5 times a power of ten, above. */
function niceTop(most: number): number {
  const power = 10 ** Math.floor(Math.log10(most))
  return [1, 2, 5, 10].map(step => step * power).find(step => step >= most)!
}

function shown({ count, exact }: ReleaseRow['history'][number]): string {
  return `${exact ? '' : '~'}${(count ?? 0).toLocaleString('en')}`
}

function page(title: string, body: string): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" role="img" aria-label="${escaped(title)}">
<style>
text { font: 12px system-ui, sans-serif }
.page { fill: #ffffff }
.title { font-size: 16px; font-weight: 600; fill: #1a1a1a }
.axis, .note { fill: #595959 }
.grid { stroke: #d9d9d9 }
@media (prefers-color-scheme: dark) {
  .page { fill: #16181d }
  .title { fill: #f0f0f0 }
  .axis, .note { fill: #a8a8a8 }
  .grid { stroke: #363a43 }
}
</style>
<rect class="page" width="${WIDTH}" height="${HEIGHT}"/>
<text class="title" x="${AREA.left}" y="28">${escaped(title)}</text>
${body}
</svg>
`
}

function escaped(text: string): string {
  const entities: Record<string, string> = { '<': '&lt;', '>': '&gt;', '&': '&amp;', '"': '&quot;' }
  return text.replace(/[<>&"]/g, character => entities[character]!)
}

function round(value: number): number {
  return Math.round(value * 10) / 10
}
