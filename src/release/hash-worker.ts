/**
 * The thread that reads an image: skips holes, drops zero blocks, hashes the rest.
 *
 * It fills chunks of shared memory and posts, for each, what is in it; the main thread (hasher.ts) gives a chunk back
 * once its blocks are stored. So no block is copied between threads, at most all chunks are in flight, and the main
 * thread does nothing that takes long. SHA-256 is the bound: about 1.5 GB/s on one core. Its imports are light, because
 * a thread must load them before it starts.
 */
import { hash } from 'node:crypto'
import { readSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { BLOCK_SIZE_BYTES, HASH_NAME, HASH_SIZE_BYTES } from '../cluster.ts'
import { isZero } from '../image/block.ts'
import { type BlockRange, dataRanges } from './data-ranges.ts'

export interface HashWorkerInput {
  fd: number
  sizeBytes: number
  /** The extents in JSON (see data-ranges.ts); undefined: read everything. */
  map: Uint8Array | undefined
  /** Equal in size, each a whole number of blocks. */
  chunks: SharedArrayBuffer[]
}

export type HashWorkerMessage =
  | {
      kind: 'blocks'
      chunk: number
      /** For each block with data, in order: how many zero blocks of the image lie before it since the last one. */
      zerosBefore: Uint32Array
      /** Its place in the chunk, counted in blocks. */
      places: Uint8Array
      /** Its hash. */
      hashes: Uint8Array
    }
  /** The image is read up to here; for progress in long runs of zeros. */
  | { kind: 'passed'; blocks: number }
  | { kind: 'end'; zerosBefore: number }
  | { kind: 'failed'; code: 'IMAGE_CHANGED' | 'IMAGE_UNREADABLE'; says: string }

/** A chunk that was stored comes back by its number. */
export type HashWorkerReply = number

/** Progress is said at least this often (256 MiB). */
const BLOCKS_BETWEEN_REPORTS = 4096

class ReadFailed extends Error {
  readonly code: 'IMAGE_CHANGED' | 'IMAGE_UNREADABLE'
  constructor(code: 'IMAGE_CHANGED' | 'IMAGE_UNREADABLE', says: string) {
    super(says)
    this.code = code
  }
}

const port = parentPort!
const { fd, sizeBytes, map, chunks } = workerData as HashWorkerInput
const views = chunks.map(chunk => new Uint8Array(chunk))
const blocksPerChunk = views[0]!.length / BLOCK_SIZE_BYTES
const free = views.map((_, index) => index)
let wake: (() => void) | undefined

port.on('message', (chunk: HashWorkerReply) => {
  free.push(chunk)
  wake?.()
})

async function freeChunk(): Promise<number> {
  while (free.length === 0) {
    await new Promise<void>(resolve => {
      wake = resolve
    })
  }
  return free.shift()!
}

/** Reads blocks `from` to `to` into `target`; the end of the image is padded with zeros. */
function readBlocks(from: number, to: number, target: Uint8Array): void {
  const start = from * BLOCK_SIZE_BYTES
  const wanted = Math.min(to * BLOCK_SIZE_BYTES, sizeBytes) - start
  for (let got = 0; got < wanted; ) {
    let count: number
    try {
      count = readSync(fd, target, got, wanted - got, start + got)
    } catch (error) {
      throw new ReadFailed('IMAGE_UNREADABLE', `cannot read at byte ${start + got}: ${(error as Error).message}`)
    }
    if (count === 0) throw new ReadFailed('IMAGE_CHANGED', `ends at byte ${start + got}, and had ${sizeBytes} at first`)
    got += count
  }
  target.fill(0, wanted)
}

async function hashAll(): Promise<void> {
  const all: BlockRange[] = [{ from: 0, to: Math.ceil(sizeBytes / BLOCK_SIZE_BYTES) }]
  const json = map === undefined ? undefined : new TextDecoder('latin1').decode(map)
  const ranges = (json && dataRanges(json, sizeBytes, BLOCK_SIZE_BYTES)) || all
  const end = all[0]!.to

  let chunk = await freeChunk()
  let place = 0
  let found = 0
  let zeros = 0
  let next = 0 // every block before this one is accounted for
  let reported = 0
  const zerosBefore = new Uint32Array(blocksPerChunk)
  const places = new Uint8Array(blocksPerChunk)
  const hashes = new Uint8Array(blocksPerChunk * HASH_SIZE_BYTES)

  const report = () => {
    if (found > 0) {
      port.postMessage({
        kind: 'blocks',
        chunk,
        zerosBefore: zerosBefore.slice(0, found),
        places: places.slice(0, found),
        hashes: hashes.slice(0, found * HASH_SIZE_BYTES)
      } satisfies HashWorkerMessage)
    }
    port.postMessage({ kind: 'passed', blocks: next } satisfies HashWorkerMessage)
    reported = next
  }

  for (const { from, to } of ranges) {
    zeros += from - next
    next = from
    while (next < to) {
      const count = Math.min(blocksPerChunk - place, to - next)
      const view = views[chunk]!.subarray(place * BLOCK_SIZE_BYTES, (place + count) * BLOCK_SIZE_BYTES)
      readBlocks(next, next + count, view)
      const foundBefore = found
      for (let index = 0; index < count; index++) {
        const block = view.subarray(index * BLOCK_SIZE_BYTES, (index + 1) * BLOCK_SIZE_BYTES)
        if (isZero(block)) {
          zeros++
          continue
        }
        zerosBefore[found] = zeros
        places[found] = place + index
        hashes.set(hash(HASH_NAME, block, 'buffer'), found * HASH_SIZE_BYTES)
        zeros = 0
        found++
      }
      next += count
      if (found > foundBefore) place += count // else the same room again
      if (place === blocksPerChunk) {
        report()
        chunk = await freeChunk()
        place = 0
        found = 0
      } else if (found === 0 && next - reported >= BLOCKS_BETWEEN_REPORTS) report()
    }
  }
  zeros += end - next
  next = end
  report()
  port.postMessage({ kind: 'end', zerosBefore: zeros } satisfies HashWorkerMessage)
}

// The main thread ends this one once it has all it wants.
try {
  await hashAll()
} catch (error) {
  if (!(error instanceof ReadFailed)) throw error
  port.postMessage({ kind: 'failed', code: error.code, says: error.message } satisfies HashWorkerMessage)
}
