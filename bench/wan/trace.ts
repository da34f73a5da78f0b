/**
 * What a boot reads, and when, if its disk is here: recorded once, and what follows from it for a boot over a line.
 *
 * The guest boots from a machine of rowan's whose image is all in the pool; each read is noted on the way. From this come the
 * floor (what even a perfect prefetch must wait), the bytes that the guest reads, and what a client without a guest replays.
 */
import { readFileSync } from 'node:fs'
import { mkdtemp, open, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { BLOCK_SIZE_BYTES } from '../../src/cluster.ts'
import type { BlockDevice } from '../../src/disk/block-device.ts'
import { isZero } from '../../src/image/block.ts'
import { sha256, toHex } from '../../src/image/hash.ts'
import { NbdServer } from '../../src/nbd/server.ts'
import { lineLog, systemClock } from '../../src/node/system.ts'
import { compressBlock } from '../../src/swarm/compression.ts'
import { boot } from '../../test/tools/boot.ts'
import type { LineKind } from '../../test/tools/line.ts'
import { openLocalMachine } from '../../test/tools/local-machine.ts'
import { BOOT_TIMEOUT_MS, MEMORY_MB, READY } from './guest.ts'

/** One read of the guest; times in ms since its disk was opened. */
export interface TracedRead {
  startMs: number
  endMs: number
  offset: number
  length: number
}

export interface BootTrace {
  image: string
  sizeBytes: number
  modifiedMs: number
  /** From the start of QEMU to the guest's word. */
  wallSeconds: number
  reads: TracedRead[]
}

/** The trace of a former run if it is of the same image, else a new one, which takes a boot. */
export async function bootTrace(image: string, file: string): Promise<BootTrace> {
  const { size, mtimeMs } = await stat(image)
  try {
    const kept = JSON.parse(readFileSync(file, 'utf8')) as BootTrace
    if (kept.sizeBytes === size && kept.modifiedMs === mtimeMs) return kept
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  console.log('recording a local boot …')
  const { reads, wallSeconds } = await record(image)
  const trace = { image: basename(image), sizeBytes: size, modifiedMs: mtimeMs, wallSeconds, reads }
  await writeFile(file, JSON.stringify(trace))
  return trace
}

async function record(image: string): Promise<{ reads: TracedRead[]; wallSeconds: number }> {
  const folder = await mkdtemp(join(tmpdir(), 'rw-'))
  const log = lineLog('warn')
  const machine = await openLocalMachine({ clock: systemClock, log }, folder, image)
  const reads: TracedRead[] = []
  let openedMs = 0
  recordReads(machine.disk, reads, () => performance.now() - openedMs)
  const socketPath = join(folder, 'nbd.sock')
  const exports = {
    list: () => ['disk'],
    open: () => {
      if (openedMs === 0) openedMs = performance.now()
      return { device: machine.disk, name: 'disk', description: 'the recorded disk' }
    }
  }
  const server = new NbdServer(
    { exports, clock: systemClock, log },
    { listeners: [{ kind: 'unix', path: socketPath }] }
  )
  await server.start()
  try {
    const startMs = performance.now()
    const guest = boot({ disk: `nbd+unix:///disk?socket=${socketPath}`, memoryMb: MEMORY_MB })
    await guest.waitFor(READY, BOOT_TIMEOUT_MS)
    const wallSeconds = (performance.now() - startMs) / 1000
    const until = reads.length
    await guest.powerOff()
    return { reads: reads.slice(0, until), wallSeconds }
  } finally {
    await server.stop()
    await machine.close()
    await rm(folder, { recursive: true, force: true })
  }
}

/** From now on, every read of the disk is noted. */
function recordReads(disk: BlockDevice, reads: TracedRead[], nowMs: () => number): void {
  const readDisk = disk.read.bind(disk)
  disk.read = (offset, target) => {
    const read = { startMs: nowMs(), endMs: 0, offset, length: target.length }
    reads.push(read)
    const pending = readDisk(offset, target)
    read.endMs = nowMs()
    return pending?.then(() => {
      read.endMs = nowMs()
    })
  }
}

/** A block that the boot needs: when for the first time, and what it costs on a line. Zero blocks cost nothing. */
export interface FirstTouch {
  block: number
  atMs: number
  wireBytes: number
}

/** In the order of first touch, without zero blocks and twins. */
export async function firstTouches(trace: BootTrace, image: string): Promise<FirstTouch[]> {
  const file = await open(image)
  const touches: FirstTouch[] = []
  const seen = new Set<number | string>()
  try {
    for (const { startMs, offset, length } of trace.reads) {
      const last = Math.floor((offset + length - 1) / BLOCK_SIZE_BYTES)
      for (let block = Math.floor(offset / BLOCK_SIZE_BYTES); block <= last; block++) {
        if (seen.has(block)) continue
        seen.add(block)
        const bytes = Buffer.alloc(BLOCK_SIZE_BYTES)
        await file.read(bytes, 0, BLOCK_SIZE_BYTES, block * BLOCK_SIZE_BYTES)
        const content = toHex(sha256(bytes))
        if (isZero(bytes) || seen.has(content)) continue
        seen.add(content)
        const wireBytes = (compressBlock(bytes) ?? bytes).byteLength
        touches.push({ block, atMs: startMs, wireBytes })
      }
    }
  } finally {
    await file.close()
  }
  return touches
}

/** Round trips from `attach` to the first block that the design allows. */
const SETUP_ROUND_TRIPS = 9

/**
 * What a boot over this line must wait for its disk even with a perfect prefetch, in seconds: the largest, over the moments t of
 * the boot, of setup + compressed bytes demanded until t / rate - t.
 */
export function floorSeconds(touches: FirstTouch[], { rttMs, downMbit }: LineKind): number {
  const bytesPerMs = (downMbit * 1e6) / 8 / 1000
  let bytes = 0
  let floorMs = 0
  for (const { atMs, wireBytes } of touches) {
    bytes += wireBytes
    floorMs = Math.max(floorMs, SETUP_ROUND_TRIPS * rttMs + (bytesPerMs === 0 ? 0 : bytes / bytesPerMs) - atMs)
  }
  return floorMs / 1000
}

export function bytesRead(trace: BootTrace): number {
  return trace.reads.reduce((sum, { length }) => sum + length, 0)
}

/** The blocks of an image that are neither zero nor twins of earlier ones. */
export async function distinctBlocks(image: string): Promise<number[]> {
  const file = await open(image)
  const seen = new Set<string>()
  const blocks: number[] = []
  try {
    const bytes = Buffer.alloc(BLOCK_SIZE_BYTES)
    const { size } = await file.stat()
    for (let block = 0; block * BLOCK_SIZE_BYTES < size; block++) {
      await file.read(bytes, 0, BLOCK_SIZE_BYTES, block * BLOCK_SIZE_BYTES)
      if (isZero(bytes)) continue
      const hash = toHex(sha256(bytes))
      if (seen.has(hash)) continue
      seen.add(hash)
      blocks.push(block)
    }
  } finally {
    await file.close()
  }
  return blocks
}
