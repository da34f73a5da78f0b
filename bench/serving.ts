/**
 * What a guest feels of its peer's other work: p99 of local 4-KiB reads, idle, while eight peers download, while it hashes.
 *
 *     npm run bench -- serving [--rounds 3] [--seconds 5] [--mb 256]
 *
 * One process is the peer: libp2p, pool, swarm, and a machine's disk, served by a thread of its own; in the column `main
 * thread` by the thread that does all the rest, which is how it was before and what the thread is worth. What the peer could
 * give to eight downloaders is measured first; then they together are limited to half of it. They stand for other
 * hosts, so they run at the lowest priority. The last row is a peer that spends half its time in bursts of 50 ms, as when a
 * download is hashed and inflated. Reads come 500 a second, one at a time, as those of a guest that works, and are all local.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { measureFio } from './lib/load.ts'
import { describeMachine, saveResults, table } from './lib/report.ts'
import type { Downloaded, Hosted, HostOrder } from './lib/serving-processes.ts'
import { median } from './lib/stats.ts'

const DOWNLOADERS = 8
/** In so many processes: each has a core's worth of decryption to do at most. */
const DOWNLOADER_PROCESSES = 2
const READS_PER_SECOND = 500
/** Against the same peer when it is idle. */
const GOAL = 3

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '5' },
    mb: { type: 'string', default: '256' },
    short: { type: 'boolean', default: false }
  }
})
const rounds = options.short ? 1 : Number(options.rounds)
const seconds = options.short ? 2 : Number(options.seconds)
const MODES = ['thread', 'main'] as const
const LOADS = ['idle', 'eight downloaders', 'bursts'] as const
type Mode = (typeof MODES)[number]
type Load = (typeof LOADS)[number]

const machine = await describeMachine(['fio'])
const folder = await mkdtemp(join(tmpdir(), 'rw-'))
const children = new Set<ChildProcess>()
try {
  const capacity = await measureCapacity()
  console.log(`eight downloaders get ${Math.round(capacity / 1e6)} MB/s together; from now on half of it\n`)
  const measured = new Map<string, number[]>()
  const rates: number[] = []
  for (let round = 1; round <= rounds; round++) {
    for (const mode of MODES) {
      const host = await startHost(mode, capacity / 2)
      for (const load of LOADS) {
        const { p99Us, bytesPerSecond } = await measureUnder(host, load)
        measured.set(`${mode} ${load}`, [...(measured.get(`${mode} ${load}`) ?? []), p99Us])
        if (load === 'eight downloaders') rates.push(bytesPerSecond)
        console.log(`round ${round}  ${mode.padEnd(7)} ${load.padEnd(18)} p99 ${Math.round(p99Us)} µs`)
      }
      await end(host.process)
    }
  }
  await report(capacity, median(rates), measured)
} finally {
  for (const child of children) child.kill('SIGKILL')
  await rm(folder, { recursive: true, force: true })
}

async function report(capacity: number, served: number, measured: Map<string, number[]>): Promise<void> {
  const p99Us = (mode: Mode, load: Load) => median(measured.get(`${mode} ${load}`) ?? [])
  const ratio = (mode: Mode, load: Load) => p99Us(mode, load) / p99Us(mode, 'idle')
  const cell = (mode: Mode, load: Load) => `${Math.round(p99Us(mode, load))} µs  ${ratio(mode, load).toFixed(2)}×`
  const rows = LOADS.map(load => {
    const verdict = load === 'idle' ? '' : ratio('thread', load) < GOAL ? 'ok' : 'HIGH'
    return [load, cell('thread', load), cell('main', load), load === 'idle' ? '' : `< ${GOAL}×`, verdict]
  })
  console.log(`\n${table([['p99 of local reads', 'own thread', 'main thread', 'goal', ''], ...rows])}`)
  await saveResults('serving', {
    settings: {
      rounds,
      seconds,
      megabytes: Number(options.mb),
      downloaders: DOWNLOADERS,
      readsPerSecond: READS_PER_SECOND
    },
    machine,
    capacityBytesPerSecond: capacity,
    servedBytesPerSecond: served,
    rows: LOADS.flatMap(load =>
      MODES.map(mode => ({ load, mode, p99Us: p99Us(mode, load), ratioToIdle: ratio(mode, load), goal: GOAL }))
    )
  })
}

/** What the peer gives when nothing limits it and no guest reads, in bytes a second. */
async function measureCapacity(): Promise<number> {
  const host = await startHost('thread', undefined)
  const stop = await startDownloads(host)
  await pause(seconds * 1000)
  const rate = await stop()
  await end(host.process)
  return rate
}

async function measureUnder(host: Host, load: Load): Promise<{ p99Us: number; bytesPerSecond: number }> {
  const stop = load === 'eight downloaders' ? await startDownloads(host) : async () => 0
  host.process.send({ bursts: load === 'bursts' } satisfies HostOrder)
  const reads = { pattern: 'randread', blockBytes: 4096, queue: 1, perSecond: READS_PER_SECOND }
  const { p99Us } = await measureFio(`nbd+unix:///disk?socket=${host.socketPath}`, reads, seconds)
  return { p99Us, bytesPerSecond: await stop() }
}

interface Host extends Hosted {
  process: ChildProcess
}

async function startHost(mode: Mode, maxUploadBytesPerSecond: number | undefined): Promise<Host> {
  const child = start('host', mode, `${maxUploadBytesPerSecond ?? 0}`, options.mb, join(folder, 'host'))
  return { process: child, ...(await message<Hosted>(child)) }
}

/** @returns ends them, and tells how much they got together, in bytes a second */
async function startDownloads({ image, hint }: Hosted): Promise<() => Promise<number>> {
  const each = DOWNLOADERS / DOWNLOADER_PROCESSES
  const processes = Array.from({ length: DOWNLOADER_PROCESSES }, () =>
    start('download', `${each}`, JSON.stringify({ image, hint }))
  )
  await Promise.all(processes.map(child => message(child)))
  return async () => {
    const results = processes.map(child => message<Downloaded>(child))
    for (const child of processes) child.send('stop')
    const rate = (await Promise.all(results)).reduce((sum, { bytesPerSecond }) => sum + bytesPerSecond, 0)
    await Promise.all(processes.map(end))
    return rate
  }
}

function start(...args: string[]): ChildProcess {
  const child = fork(join(import.meta.dirname, 'lib/serving-processes.ts'), args, { execArgv: process.execArgv })
  children.add(child)
  child.once('exit', () => children.delete(child))
  return child
}

async function end(child: ChildProcess): Promise<void> {
  if (!children.has(child)) return
  const exited = new Promise(resolve => child.once('exit', resolve))
  child.send({ stop: true } satisfies HostOrder)
  await exited
}

function message<T>(child: ChildProcess): Promise<T> {
  return new Promise((resolve, reject) => {
    child.once('message', value => resolve(value as T))
    child.once('exit', code => reject(new Error(`a process ended with ${code}`)))
  })
}

async function pause(ms: number): Promise<void> {
  await new Promise(resolve => setTimeout(resolve, ms))
}
