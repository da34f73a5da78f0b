/**
 * Publishing a first and a second version of an image, side by side with sha256sum and zstd -3.
 *
 *     npm run bench -- publish [--image FILE [--second FILE]] [--folder DIR] [--rounds 3]
 *
 * Each round publishes into a fresh home, by the real store, keys and publisher but without a network; everything is
 * durable on disk when the clock stops. `MB/s` counts the data of the image: holes and zero blocks are not among it.
 * Medians of the rounds. Without --image a disk of 1 GiB with 512 MiB of data is made. The files are read once before,
 * so that all start from the page cache. Nothing else should run on the machine.
 */
import { spawnSync } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdtemp, open, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { BLOCK_SIZE_BYTES } from '../src/cluster.ts'
import { ApplianceMemory } from '../src/directory/appliance-memory.ts'
import { lineLog, systemClock } from '../src/node/system.ts'
import { Publisher } from '../src/release/publisher.ts'
import { PublisherKeys } from '../src/release/publisher-keys.ts'
import { Catalog } from '../src/store/catalog.ts'
import { Images } from '../src/store/images.ts'
import { Pool } from '../src/store/pool.ts'
import { findTool } from '../test/tools/need.ts'
import { describeMachine, saveResults, table } from './lib/report.ts'
import { median } from './lib/stats.ts'

const MB = 1e6
const HEAD = ['', 's', 'MB/s of data', 'new blocks', 'longest pause, ms', 'peak RSS, MB']

interface Row {
  name: string
  seconds: number
  dataMegabytes: number
  newBlocks?: number
  /** The longest time for which the event loop, which also serves guests' disks, did nothing else. */
  longestPauseMs?: number
  peakRssMegabytes?: number
}

const { values: options } = parseArgs({
  options: {
    image: { type: 'string' },
    second: { type: 'string' },
    folder: { type: 'string', default: tmpdir() },
    rounds: { type: 'string', default: '3' }
  }
})

await main()

async function main(): Promise<void> {
  const machine = await describeMachine(['sha256sum', 'zstd'].filter(tool => findTool(tool) !== undefined))
  const folder = await mkdtemp(join(resolve(options.folder), 'rowan-bench-'))
  try {
    const first = options.image === undefined ? await makeImage(folder) : resolve(options.image)
    const second = options.second === undefined ? await makeSecond(first, folder) : resolve(options.second)
    for (const file of [first, second]) await readOnce(file)
    const rounds: Row[][] = []
    for (let round = 0; round < Number(options.rounds); round++) {
      const published = await publishBoth(first, second, folder)
      rounds.push([...published, ...others(first, folder, published[0]!.dataMegabytes)])
    }
    const rows = rounds[0]!.map((_, index) => middle(rounds.map(round => round[index]!)))
    console.log(table([HEAD, ...rows.map(cells)]))
    const { size } = await stat(first)
    await saveResults('publish', {
      machine,
      image: { file: basename(first), sizeBytes: size },
      rounds: rounds.length,
      rows
    })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function publishBoth(first: string, second: string, folder: string): Promise<Row[]> {
  const home = await mkdtemp(join(folder, 'home-'))
  const log = lineLog('warn')
  const catalog = await Catalog.open(join(home, 'catalog'))
  const pool = await Pool.open({ directory: join(home, 'pool'), catalog, log }, { quotaBytes: 2 ** 40 })
  const images = new Images({ catalog, pool, log })
  const memory = await ApplianceMemory.open({ catalog, log })
  const keys = await PublisherKeys.open(join(home, 'keys'), { clock: systemClock, log })
  const directory = {
    findLatest: async () => ({}),
    putLatest: async () => ({ asked: 0, kept: 0 }),
    announceReplica: () => {}
  }
  const publisher = await Publisher.open(
    { keys, catalog, pool, images, directory, memory, clock: systemClock, log },
    { latestTtlMs: 7 * 24 * 3600_000, temporaryFolder: join(home, 'tmp') }
  )
  const rows: Row[] = []
  for (const [version, path] of [
    ['v1', first],
    ['v2', second]
  ] as const) {
    const pauses = watchPauses()
    const answer = await publisher.publish({ path, name: 'bench', version })
    const dataMegabytes = ((answer.blocks - answer.zeroBlocks) * BLOCK_SIZE_BYTES) / MB
    rows.push({
      name: `rowan publish ${version}`,
      seconds: answer.seconds,
      dataMegabytes,
      newBlocks: answer.newBlocks,
      longestPauseMs: pauses(),
      peakRssMegabytes: (process.resourceUsage().maxRSS * 1024) / MB
    })
  }
  await publisher.stop()
  images.close()
  await pool.close()
  await catalog.close()
  await rm(home, { recursive: true, force: true })
  return rows
}

/** Programs beside which publishing should not look slow; those that are not installed are left out. */
function others(image: string, folder: string, dataMegabytes: number): Row[] {
  const output = join(folder, 'output')
  const programs = [
    { tool: 'sha256sum', name: 'sha256sum', command: ['sha256sum', image] },
    {
      tool: 'zstd',
      name: 'zstd -3, synced',
      command: ['sh', '-c', 'zstd -3 -q -f -o "$1" "$0" && sync "$1"', image, output]
    }
  ]
  return programs
    .filter(({ tool }) => findTool(tool) !== undefined)
    .map(({ name, command }) => {
      const startedMs = performance.now()
      const { status } = spawnSync(command[0]!, command.slice(1), { stdio: ['ignore', 'ignore', 'inherit'] })
      if (status !== 0) throw new Error(`${name} ended with ${status}`)
      return { name, seconds: (performance.now() - startedMs) / 1000, dataMegabytes }
    })
}

/** Returns how to end the watch, with the longest pause in milliseconds. */
function watchPauses(): () => number {
  let longest = 0
  let last = performance.now()
  const look = () => {
    const now = performance.now()
    longest = Math.max(longest, now - last - 1)
    last = now
  }
  const timer = setInterval(look, 1)
  return () => {
    look()
    clearInterval(timer)
    return longest
  }
}

async function makeImage(folder: string): Promise<string> {
  const path = join(folder, 'v1.raw')
  const file = await open(path, 'w')
  const part = Buffer.alloc(8 * 1024 * 1024)
  for (let index = 0; index < 64; index++) {
    await file.write(randomFillSync(part), 0, part.length, index * 2 * part.length)
  }
  await file.truncate(1024 ** 3)
  await file.close()
  return path
}

/** The first image with 100 blocks changed. */
async function makeSecond(first: string, folder: string): Promise<string> {
  const path = join(folder, 'v2.raw')
  const { status } = spawnSync('cp', ['--sparse=always', first, path])
  if (status !== 0) throw new Error(`cannot copy ${first} to ${path}`)
  const { size } = await stat(path)
  const file = await open(path, 'r+')
  for (let index = 0; index < 100; index++) {
    const block = Math.floor((index * size) / 100 / BLOCK_SIZE_BYTES)
    await file.write(randomFillSync(Buffer.alloc(1000)), 0, 1000, block * BLOCK_SIZE_BYTES)
  }
  await file.close()
  return path
}

async function readOnce(path: string): Promise<void> {
  for await (const _ of createReadStream(path, { highWaterMark: 4 * 1024 * 1024 })) {
    // Into the page cache is all that is wanted.
  }
}

/** The round in the middle, by seconds; memory and pauses are the worst of all. */
function middle(rounds: Row[]): Row {
  const worst = (values: (number | undefined)[]) => Math.max(...values.map(value => value ?? 0))
  const [row] = rounds as [Row]
  const seconds = median(rounds.map(round => round.seconds))
  if (row.newBlocks === undefined) return { ...row, seconds }
  return {
    ...row,
    seconds,
    longestPauseMs: worst(rounds.map(round => round.longestPauseMs)),
    peakRssMegabytes: worst(rounds.map(round => round.peakRssMegabytes))
  }
}

function cells({ name, seconds, dataMegabytes, newBlocks, longestPauseMs, peakRssMegabytes }: Row): string[] {
  return [
    name,
    seconds.toFixed(2),
    (dataMegabytes / seconds).toFixed(0),
    newBlocks?.toString() ?? '',
    longestPauseMs?.toFixed(1) ?? '',
    peakRssMegabytes?.toFixed(0) ?? ''
  ]
}
