/**
 * A first boot over a wide-area link, and what else happens on such a link: side by side with the floor that the link sets.
 *
 *     npm run bench -- wan [--row boot,killed …] [--profile] [--runs N] [--folder DIR] [--list]
 *
 * All rows together take about 15 minutes on a machine that does nothing else, and are kept in bench/results/wan.json with the machine
 * and its load before and after each row. Rows that need a boot profile of the release get it; single rows (`--row`) with `--profile`.
 *
 * Two replicas behind one line (bench/tools/wanlink.mjs), a volunteer that joined but knows no replica, the Debian appliance of
 * examples/debian in DIR (default $ROWAN_APPLIANCES, else .appliances). *Disk wait* is the time with a demand read pending on the
 * network, as `rowan status` tells it; the floor comes from the trace of a local boot, which is recorded once and kept
 * (bench/wan/trace.ts). Wall times drift with the machine; compare them within one run only.
 */
import { existsSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { debianAppliance } from '../test/tools/appliance.ts'
import { removeFolders } from '../test/tools/folders.ts'
import { endProcesses } from '../test/tools/processes.ts'
import { describeMachine, saveResults, table } from './lib/report.ts'
import { BOOT_ROWS } from './wan/boots.ts'
import { HOME_ROWS } from './wan/homes.ts'
import type { Figure, Row } from './wan/rows.ts'
import { bootTrace, firstTouches } from './wan/trace.ts'
import { TRANSFER_ROWS } from './wan/transfers.ts'
import { World } from './wan/world.ts'

const ROWS: Row[] = [...BOOT_ROWS, ...HOME_ROWS, ...TRANSFER_ROWS]

const { values: options } = parseArgs({
  options: {
    row: { type: 'string', multiple: true, default: [] },
    profile: { type: 'boolean', default: false },
    folder: { type: 'string' },
    trace: { type: 'string', default: join(tmpdir(), 'rowan-wan-trace.json') },
    runs: { type: 'string', default: '1' },
    list: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false }
  }
})
const wanted = options.row.flatMap(names => names.split(','))
const unknown = wanted.find(name => !ROWS.some(row => row.name === name))

if (options.list || unknown !== undefined) {
  if (unknown !== undefined) console.error(`error: there is no row ${unknown}\n`)
  console.log(ROWS.map(({ name, about }) => `  ${name.padEnd(12)} ${about}`).join('\n'))
  process.exit(unknown === undefined ? 0 : 2)
}

/** Rows with the kind of release that they are measured with. */
const plan: { withProfile: boolean; rows: Row[] }[] =
  wanted.length > 0
    ? [{ withProfile: options.profile, rows: ROWS.filter(({ name }) => wanted.includes(name)) }]
    : [
        { withProfile: false, rows: options.profile ? [] : ROWS.filter(({ needsProfile }) => needsProfile !== true) },
        { withProfile: true, rows: ROWS.filter(({ needsProfile }) => needsProfile === true) }
      ].filter(({ rows }) => rows.length > 0)

if (options.folder !== undefined) process.env.ROWAN_APPLIANCES = options.folder
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void endProcesses().finally(() => process.exit(1)))
}
const { v1, v2 } = await appliance()
const machine = await describeMachine(['qemu-system-x86_64'])
const results: {
  row: string
  about: string
  withProfile: boolean
  run: number
  loadBefore: number
  loadAfter: number
  figures: Figure[]
  failed?: string
}[] = []
try {
  const trace = await bootTrace(v1, options.trace)
  const touches = await firstTouches(trace, v1)
  for (const { withProfile, rows } of plan) {
    const world = await World.build({ v1, publishArgs: withProfile ? ['--record'] : [] })
    for (const row of rows) {
      for (let run = 1; run <= Number(options.runs); run++) {
        console.log(`\n${row.name}: ${row.about}`)
        const result = { row: row.name, about: row.about, withProfile, run, loadBefore: load(), loadAfter: 0 }
        try {
          const figures = await row.measure({ world, v1, v2, trace, touches })
          results.push({ ...result, loadAfter: load(), figures })
          console.log(table(figures.map(cells)))
        } catch (error) {
          // The other rows are worth having all the same; the exit status tells of this one.
          results.push({ ...result, loadAfter: load(), figures: [], failed: String(error) })
          console.error(`failed: ${error instanceof Error ? error.stack : error}`)
          process.exitCode = 1
        }
      }
    }
    await endProcesses()
  }
} finally {
  await endProcesses()
  await removeFolders()
}
if (wanted.length === 0 || options.keep) await saveResults('wan', { when: new Date().toISOString(), machine, results })

/** Of the last minute. */
function load(): number {
  return Math.round(100 * loadavg()[0]!) / 100
}

async function appliance(): Promise<{ v1: string; v2: string }> {
  const folder = process.env.ROWAN_APPLIANCES
  if (folder !== undefined && existsSync(join(folder, '.complete'))) {
    return { v1: join(folder, 'grid-v1.raw'), v2: join(folder, 'grid-v2.raw') }
  }
  return await debianAppliance()
}

function cells({ name, value, atMost, atLeast, unit }: Figure): string[] {
  const shown = (number: number) =>
    `${number.toFixed(Number.isInteger(number) ? 0 : 2)}${unit === '' ? '' : ` ${unit}`}`
  const goal = atMost !== undefined ? `≤ ${shown(atMost)}` : atLeast !== undefined ? `≥ ${shown(atLeast)}` : ''
  const isMet = value <= (atMost ?? Number.POSITIVE_INFINITY) && value >= (atLeast ?? Number.NEGATIVE_INFINITY)
  return [`  ${name}`, shown(value), goal, goal === '' ? '' : isMet ? 'ok' : 'MISSED']
}
