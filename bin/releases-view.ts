/**
 * `rowan releases` as a person reads it: who uses each version, how that went, who serves it, and what becomes of it.
 */
import type { ReleaseRow } from '../src/node/command-results.ts'
import { spellDuration } from '../src/release/spell.ts'
import { shortAppliance, table } from './text.ts'

const BAR_CELLS = 10
const HISTORY_CELLS = 16
const STEPS = '▁▂▃▄▅▆▇█'
/** Nobody could say. */
const GAP = '·'

type Sharers = ReleaseRow['sharers']
type Sample = ReleaseRow['history'][number]

/** @param nowMs - wall time, for ages */
export function releasesText(rows: readonly ReleaseRow[], nowMs: number): string {
  if (rows[0] === undefined) return 'no releases'
  const most = Math.max(1, ...rows.map(({ sharers }) => sharers.count ?? 0))
  const cells = rows.map(row => [
    row.version,
    channelsText(row),
    spellDuration(Math.max(0, nowMs - Date.parse(row.published))),
    `${bar((row.sharers.count ?? 0) / most)} ${sharersText(row.sharers)}`,
    sparkline(row.history),
    replicasText(row),
    collectionText(row.collection)
  ])
  const header = ['VERSION', 'CHANNELS', 'AGE', 'SHARERS', 'HISTORY', 'REPLICAS', 'COLLECTION']
  // Columns that say nothing of any version only push the others apart.
  const isSaid = header.map((_, column) => cells.some(row => row[column] !== ''))
  const said = (row: string[]) => row.filter((_, column) => isSaid[column])
  const { appliance, expired, expires } = rows[0]
  const day = expires.slice(0, 16).replace('T', ' ')
  const note = `the record of it expired on ${day} UTC: there may be newer versions; peers take it only with --allow-expired\n`
  return `${shortAppliance(appliance)}\n${expired ? note : ''}${table(said(header), cells.map(said))}`
}

function channelsText({ channels, rollout }: ReleaseRow): string {
  const named = channels.map(name => (rollout[name] === undefined ? name : `${name} ${rollout[name]} %`))
  return named.join(', ') || '-'
}

function sharersText({ count, exact, error }: Sharers): string {
  if (count === null) return '?'
  if (exact) return String(count)
  const about = `~${count.toLocaleString('en')}`
  return error === undefined ? about : `${about} ±${Math.round(error * 100)} %`
}

function replicasText({ replicas, complete }: ReleaseRow): string {
  const partial = replicas - complete
  return partial === 0 ? `${complete} full` : `${complete} full, ${partial} partial`
}

function collectionText(collection: ReleaseRow['collection']): string {
  if (collection === null) return ''
  const { action, why, earliestSeconds } = collection
  if (action === 'remove') return 'goes with the next `rowan gc`'
  const when = earliestSeconds === null ? 'stays' : `in ${spellDuration(earliestSeconds * 1000)} at the earliest`
  return `${when}: ${why.join('; ')}`
}

/** A part of the most, from 0 to 1; what is not nothing shows. */
export function bar(part: number): string {
  const full = part <= 0 ? 0 : Math.min(BAR_CELLS, Math.max(1, Math.round(part * BAR_CELLS)))
  return '█'.repeat(full) + '░'.repeat(BAR_CELLS - full)
}

/** The samples in the order of their time, the greatest of each cell; a cell without any, or without an answer, is a dot. */
export function sparkline(samples: readonly Sample[]): string {
  const first = samples[0]
  const last = samples.at(-1)
  if (first === undefined || last === undefined) return ''
  const startMs = Date.parse(first.at)
  const spanMs = Date.parse(last.at) - startMs
  const cellCount = Math.min(HISTORY_CELLS, samples.length)
  const cells = Array.from({ length: cellCount }, () => -1)
  for (const { at, count } of samples) {
    const place =
      spanMs <= 0 ? cellCount - 1 : Math.floor(((Date.parse(at) - startMs) / spanMs) * (cellCount - 1) + 0.5)
    cells[place] = Math.max(cells[place] ?? -1, count ?? -1)
  }
  const most = Math.max(1, ...cells)
  return cells.map(count => (count < 0 ? GAP : STEPS[Math.round((count / most) * (STEPS.length - 1))])).join('')
}
