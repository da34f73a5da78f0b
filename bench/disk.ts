/**
 * The disk behind its NBD server, side by side with qemu-nbd (qcow2 overlay) and nbdkit --filter=cow.
 *
 *     npm run bench -- disk [--short] [--rounds 3] [--seconds 3] [--size 1024] [--only 'random read']
 *
 * The same load on each in turn, round after round, each round with fresh overlays; medians of the rounds, and the
 * ratio to the better of the others. All files are read once before a row, so that the page cache is warm (each has files of
 * its own, and a server must not warm those of the next); it is dropped before each measurement of the row that is called
 * cold. After what writes there is a rest: what a server then does in the background must not be measured in the turn of the next.
 * Nothing else should run on the machine.
 */
import { randomFillSync } from 'node:crypto'
import { mkdir, mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { endProcesses } from '../test/tools/processes.ts'
import { layerRowText, measureLayers } from './lib/layer-row.ts'
import { type Measured, measureFio, measureFua } from './lib/load.ts'
import { CONTENDERS, missingTools, type NbdServerUnderTest } from './lib/nbd-servers.ts'
import { dropPageCache, fillPageCache } from './lib/page-cache.ts'
import { describeMachine, saveResults, table } from './lib/report.ts'
import { median } from './lib/stats.ts'

/** Longer than rowan waits before it flushes what a still guest wrote, and than that takes. */
const REST_MS = 4000
const KIB = 1024
const MIB = 1024 * KIB

interface Row {
  name: string
  /** Least ratio to the better of the others that is wanted. */
  goal: number
  /** Large requests are told in bytes. */
  unit: 'IOPS' | 'MB/s'
  /** Those it is compared with, if not all: nbdkit's cow ignores FUA by design. */
  against?: string[]
  /** Nothing of image, pool and overlays is in memory when it begins. */
  cold?: boolean
  /** It leaves something to be synced. */
  writes?: boolean
  measure(uri: string, seconds: number): Promise<Measured>
}

const fioRow = (
  name: string,
  goal: number,
  unit: Row['unit'],
  pattern: string,
  blockBytes: number,
  queue: number
): Row => ({
  name,
  goal,
  unit,
  measure: (uri, seconds) => measureFio(uri, { pattern, blockBytes, queue }, seconds)
})

const ROWS: Row[] = [
  fioRow('4k random read, queue 32', 1.8, 'IOPS', 'randread', 4 * KIB, 32),
  fioRow('4k random read, queue 1', 1, 'IOPS', 'randread', 4 * KIB, 1),
  fioRow('64k random read, queue 8', 0.9, 'MB/s', 'randread', 64 * KIB, 8),
  fioRow('1 MiB read, queue 4', 0.9, 'MB/s', 'read', MIB, 4),
  { ...fioRow('4k random read, queue 32, cold', 0.8, 'IOPS', 'randread', 4 * KIB, 32), cold: true },
  { ...fioRow('4k random write, queue 32', 3, 'IOPS', 'randwrite', 4 * KIB, 32), writes: true },
  {
    name: '4k write + FUA, queue 1',
    goal: 1,
    unit: 'IOPS',
    against: ['qemu-nbd'],
    writes: true,
    measure: (uri, seconds) => measureFua(uri, 4 * KIB, seconds)
  }
]

const LAYERS_ROW = '4k random read, 16 layers'
const HEAD = ['', ...Object.keys(CONTENDERS), 'ratio', 'goal', 'p99', 'RSS']

const { values: options } = parseArgs({
  options: {
    short: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    size: { type: 'string' },
    only: { type: 'string' }
  }
})
const rounds = Number(options.rounds ?? (options.short ? 1 : 3))
const seconds = Number(options.seconds ?? (options.short ? 1 : 3))
const sizeBytes = Number(options.size ?? (options.short ? 256 : 1024)) * MIB
const rows = ROWS.filter(row => row.name.includes(options.only ?? ''))

const missing = missingTools()
if (missing.length > 0) {
  console.error(`error: not installed: ${missing.join(', ')} (apt-get install fio python3-libnbd qemu-utils nbdkit)`)
  process.exit(1)
}

const machine = await describeMachine(['fio', 'qemu-nbd', 'nbdkit'])
const folder = await mkdtemp(join(tmpdir(), 'rw-'))
try {
  const image = join(folder, 'image.raw')
  await writeImage(image, sizeBytes)
  const results = await compare(image)
  const layers = LAYERS_ROW.includes(options.only ?? '')
    ? await measureLayers(folder, { rounds, seconds, sizeBytes: Math.min(sizeBytes, 256 * MIB) })
    : []
  console.log(`\n${table([HEAD, ...rows.map(row => cells(row, results))])}`)
  for (const row of layers) console.log(`\n${layerRowText(row)}`)
  await saveResults('disk', {
    settings: { rounds, seconds, sizeBytes },
    machine,
    rows: rows.map(row => summary(row, results)),
    layers
  })
} finally {
  await endProcesses()
  await rm(folder, { recursive: true, force: true })
}

/** Row, contender, and what each round measured. */
type Results = Map<Row, Map<string, (Measured & { memoryBytes: number })[]>>

async function compare(image: string): Promise<Results> {
  const results: Results = new Map(rows.map(row => [row, new Map(Object.keys(CONTENDERS).map(name => [name, []]))]))
  for (let round = 1; round <= rounds; round++) {
    const roundFolder = join(folder, `round${round}`)
    await mkdir(roundFolder)
    const servers: [string, NbdServerUnderTest][] = []
    for (const [name, begin] of Object.entries(CONTENDERS)) servers.push([name, await begin(image, roundFolder)])
    for (const row of rows) {
      if (row.cold !== true) await fillPageCache(folder)
      for (const [name, server] of servers) {
        if (row.cold === true) await dropPageCache(folder)
        const measured = await row.measure(server.uri, seconds)
        results
          .get(row)
          ?.get(name)
          ?.push({ ...measured, memoryBytes: await server.memoryBytes() })
        if (row.writes === true) await new Promise(resolve => setTimeout(resolve, REST_MS))
        console.log(`round ${round}  ${row.name.padEnd(30)} ${name.padEnd(9)} ${shown(row, figureOf(row, measured))}`)
      }
    }
    for (const [, server] of servers) await server.stop()
    await rm(roundFolder, { recursive: true })
  }
  return results
}

function summary(row: Row, results: Results) {
  const medians = Object.fromEntries(
    Object.keys(CONTENDERS).map(name => {
      const measured = results.get(row)?.get(name) ?? []
      const of = (pick: (one: (typeof measured)[number]) => number) => median(measured.map(pick))
      const value = of(one => figureOf(row, one))
      return [name, { value, p99Us: of(one => one.p99Us), memoryBytes: of(one => one.memoryBytes) }]
    })
  )
  const others = row.against ?? Object.keys(CONTENDERS).filter(name => name !== 'rowan')
  const best = Math.max(...others.map(name => medians[name]!.value))
  return {
    name: row.name,
    unit: row.unit,
    goal: row.goal,
    against: others,
    medians,
    ratio: medians.rowan!.value / best
  }
}

function cells(row: Row, results: Results): string[] {
  const { name, medians, ratio, goal } = summary(row, results)
  const { p99Us, memoryBytes } = medians.rowan!
  const figures = Object.values(medians).map(({ value }) => shown(row, value))
  const verdict = `${ratio.toFixed(2)}× ${ratio >= goal ? 'ok' : 'LOW'}`
  return [name, ...figures, verdict, `≥ ${goal}×`, `${Math.round(p99Us)} µs`, `${Math.round(memoryBytes / MIB)} MiB`]
}

function figureOf(row: Row, measured: Measured): number {
  return row.unit === 'IOPS' ? measured.iops : measured.bytesPerSecond / 1e6
}

function shown(row: Row, value: number): string {
  return `${Math.round(value).toLocaleString('en')} ${row.unit}`
}

/** All data: zeros and holes would be answered without a read. */
async function writeImage(path: string, size: number): Promise<void> {
  const file = await open(path, 'w')
  const chunk = Buffer.alloc(MIB)
  for (let at = 0; at < size; at += MIB) await file.write(randomFillSync(chunk), 0, MIB, at)
  await file.sync()
  await file.close()
}
