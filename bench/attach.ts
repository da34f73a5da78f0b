/**
 * What a machine's disk costs: time from attach to a disk that is served, for a machine that exists, and memory of each.
 *
 *     npm run bench -- attach [--count 20]
 *
 * The first start of a peer compiles the thread's code and keeps it; the row `later` is every other one. Each disk is
 * opened, served, read from over NBD, and closed, one after the other; then so many at a time, for their memory.
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { DiskThread } from '../src/machine/disk-thread.ts'
import { startDiskThread } from '../src/node/disk-thread.ts'
import { lineLog, readBootId, systemClock } from '../src/node/system.ts'
import { localSettings, NOBODY, openLocalStore, writeSampleImage } from '../test/tools/local-machine.ts'
import { NbdClient } from '../test/tools/nbd-client.ts'
import { describeMachine, saveResults, table } from './lib/report.ts'
import { median } from './lib/stats.ts'

const GOAL_MS = 200
const IMAGE_BYTES = 64 * 1024 * 1024
/** Until compiled code was written down. */
const COMPILED_AFTER_MS = 6_000

const { values: options } = parseArgs({
  options: { count: { type: 'string', default: '20' }, short: { type: 'boolean' } }
})
const count = options.short === true ? 3 : Number(options.count)
const machine = await describeMachine([])
const folder = await mkdtemp(join(tmpdir(), 'rw-'))
const log = lineLog('warn')
try {
  const raw = join(folder, 'image.raw')
  await writeSampleImage(raw, IMAGE_BYTES)
  const { image, pool, close } = await openLocalStore(log, join(folder, 'store'), raw)
  const compiled = join(folder, 'compiled')
  const bootId = readBootId()

  async function attach(name: string): Promise<{ disk: DiskThread; ms: number; socketPath: string }> {
    const socketPath = join(folder, `${name}.sock`)
    const own = join(folder, name)
    await mkdir(own, { recursive: true })
    const startMs = performance.now()
    const disk = await DiskThread.open(
      {
        ...{ image, pool, source: NOBODY, log, clock: systemClock, bootId, touches: { touched: () => undefined } },
        startThread: input => startDiskThread(input, { compiledFolder: compiled })
      },
      { disk: localSettings(own), socketPath, name, description: 'bench' }
    )
    await disk.serve()
    return { disk, ms: performance.now() - startMs, socketPath }
  }

  async function once(): Promise<{ ms: number; cpuMs: number }> {
    const before = process.cpuUsage()
    const { disk, ms, socketPath } = await attach('machine')
    const used = process.cpuUsage(before)
    const client = await NbdClient.open(socketPath, '')
    await client.bytes(0, 4096)
    await client.disconnect()
    if (!isCompiled) await new Promise(resolve => setTimeout(resolve, COMPILED_AFTER_MS))
    isCompiled = true
    await disk.close()
    return { ms, cpuMs: (used.user + used.system) / 1000 }
  }

  let isCompiled = false
  // Makes the machine.
  const first = await once()
  const later: (typeof first)[] = []
  for (let round = 0; round < count; round++) later.push(await once())

  const before = process.memoryUsage.rss()
  const disks = []
  for (let number = 0; number < count; number++) disks.push((await attach(`m${number}`)).disk)
  const bytesEach = (process.memoryUsage.rss() - before) / count
  await Promise.all(disks.map(disk => disk.close()))
  await close()

  const laterMs = later.map(({ ms }) => ms)
  const laterMedianMs = median(laterMs)
  const laterCpuMs = median(later.map(({ cpuMs }) => cpuMs))
  const ms = (value: number) => `${Math.round(value)} ms`
  const verdict = laterMedianMs <= GOAL_MS ? 'ok' : 'HIGH'
  console.log(
    table([
      ['attach of a machine that exists', 'measured', 'goal', ''],
      ['first, nothing compiled', ms(first.ms), '', ''],
      [`later, median of ${count}`, ms(laterMedianMs), `≤ ${GOAL_MS} ms`, verdict],
      ['later, slowest', ms(Math.max(...laterMs)), '', ''],
      ['first, time of processors', ms(first.cpuMs), '', ''],
      ['later, time of processors', ms(laterCpuMs), '', ''],
      ['memory of each', `${Math.round(bytesEach / 2 ** 20)} MiB`, '', '']
    ])
  )
  await saveResults('attach', { machine, count, first, laterMedianMs, laterCpuMs, later, bytesEach, goalMs: GOAL_MS })
} finally {
  await rm(folder, { recursive: true, force: true })
}
