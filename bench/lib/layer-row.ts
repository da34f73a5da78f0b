/**
 * The rows that compare rowan with itself: reads of a disk with several layers against those of a disk with one.
 *
 * In small pieces the kernel's page cache costs more with many files, whatever rowan does: each file has a page table of
 * its own, in which little is near anything else. So there are two sizes of pieces.
 */
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { start } from '../../test/tools/processes.ts'
import { measureFio } from './load.ts'
import { median } from './stats.ts'

const SERVE = join(import.meta.dirname, '../tools/serve-layers.ts')
const LAYERS = 16
const PIECES = [
  { name: '64 KiB', bytes: 64 * 1024 },
  { name: '1 MiB', bytes: 1024 * 1024 }
]
/** A tick of the times in /proc. */
const TICK_US = 10_000

export interface LayerRow {
  name: string
  goal: number
  /** Medians of the rounds, in IOPS. */
  one: number
  many: number
  /** The median of the rounds' ratios. */
  ratio: number
  /** Processor time of the server for one read, medians; less moved by what else the machine does. */
  oneCpuUs: number
  manyCpuUs: number
}

interface Round {
  iops: number
  cpuUs: number
}

/** Both disks are served by one process; the rounds take turns in which comes first. */
export async function measureLayers(
  folder: string,
  options: { rounds: number; seconds: number; sizeBytes: number }
): Promise<LayerRow[]> {
  const rows: LayerRow[] = []
  for (const piece of PIECES) rows.push(await measurePieces(join(folder, `pieces-${piece.bytes}`), piece, options))
  return rows
}

export function layerRowText({ name, ratio, goal, oneCpuUs, manyCpuUs }: LayerRow): string {
  const cpu = `${oneCpuUs.toFixed(1)} and ${manyCpuUs.toFixed(1)} µs of processor a read`
  return `${name}: ${ratio.toFixed(2)}×, goal ≥ ${goal}× (with 1 and ${LAYERS}: ${cpu})`
}

async function measurePieces(
  folder: string,
  piece: { name: string; bytes: number },
  { rounds, seconds, sizeBytes }: { rounds: number; seconds: number; sizeBytes: number }
): Promise<LayerRow> {
  const socket = `${folder}.sock`
  const args = [socket, folder, String(sizeBytes), String(LAYERS), String(piece.bytes)]
  const server = start(process.execPath, [SERVE, ...args])
  await server.waitForOutput(/ready/, { timeoutMs: 300_000 })
  const load = { pattern: 'randread', blockBytes: 4096, queue: 32 }
  const measure = async (layers: number): Promise<Round> => {
    const before = await cpuUsOf(server.pid)
    const { iops } = await measureFio(`nbd+unix:///${layers}?socket=${socket}`, load, seconds)
    return { iops, cpuUs: ((await cpuUsOf(server.pid)) - before) / (iops * seconds) }
  }
  const measured: { one: Round; many: Round }[] = []
  for (let round = 0; round < rounds; round++) {
    if (round % 2 === 0) {
      const one = await measure(1)
      measured.push({ one, many: await measure(LAYERS) })
    } else {
      const many = await measure(LAYERS)
      measured.push({ one: await measure(1), many })
    }
  }
  await server.stop()
  await rm(folder, { recursive: true })
  return {
    name: `4k random read, queue 32, ${LAYERS} layers in pieces of ${piece.name} against 1`,
    goal: 0.95,
    one: median(measured.map(({ one }) => one.iops)),
    many: median(measured.map(({ many }) => many.iops)),
    ratio: median(measured.map(({ one, many }) => many.iops / one.iops)),
    oneCpuUs: median(measured.map(({ one }) => one.cpuUs)),
    manyCpuUs: median(measured.map(({ many }) => many.cpuUs))
  }
}

/** User and system time of a process so far. */
async function cpuUsOf(pid: number): Promise<number> {
  const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).split(') ')[1]!.split(' ')
  return (Number(fields[11]) + Number(fields[12])) * TICK_US
}
