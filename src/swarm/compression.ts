/**
 * zstd on the wire: whether, and how.
 *
 * A block is compressed only when that makes it smaller, and only when the link is slower than zstd. The requester decides, because it
 * is the one that measures the link, and says so in WANT. What was compressed is kept in a small cache for the next requester: one
 * boot is asked for by many.
 *
 * The 1,368 blocks that a Debian boot touches, by level (Node 24, one core; inflating takes 600 to 700 MB/s after all of them):
 *
 *     level    1      3      5      6      9      12     15     19
 *     bytes    1.020  1      0.982  0.975  0.971  0.970  0.929  0.921
 *     MB/s     307    339    166    125    93     39     17     6
 *
 * So level 6 is worth its time as long as there is time, and what is above is not on the thread that serves. All levels read alike.
 */

import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { BLOCK_SIZE_BYTES } from '../cluster.ts'
import type { Clock } from '../environment.ts'
import { RowanError } from '../errors.ts'

/** Where compressing with one core still keeps up with the link. */
const ZSTD_PAYS_BELOW_BYTES_PER_SECOND = 200e6
/** On a near link the bytes cost next to nothing, and both ends often share their cores. */
const ZSTD_PAYS_NEAR_BELOW_BYTES_PER_SECOND = 30e6
const NEAR_RTT_MS = 20

const QUICK_LEVEL = 3
const THOROUGH_LEVEL = 6
/** The thorough level may take this share of the time, and so much at once: about 400 blocks. */
const THOROUGH_SHARE = 0.1
const THOROUGH_BURST_MS = 200

export interface LinkMeasurement {
  /** Or this peer's own network. */
  loopback: boolean
  /** Undefined before the first answer. */
  rttMs: number | undefined
  /** Undefined before the first block. */
  rateBytesPerSecond: number | undefined
}

/**
 * Whether blocks should cross this link compressed. A loopback address with a long round trip is a tunnel, and treated as what it
 * leads to.
 */
export function zstdPays({ loopback, rttMs, rateBytesPerSecond }: LinkMeasurement): boolean {
  const near = loopback && (rttMs === undefined || rttMs < NEAR_RTT_MS)
  if (rateBytesPerSecond === undefined) return !near
  return rateBytesPerSecond < (near ? ZSTD_PAYS_NEAR_BELOW_BYTES_PER_SECOND : ZSTD_PAYS_BELOW_BYTES_PER_SECOND)
}

/** The block in fewer bytes, or undefined where zstd does not help. */
export function compressBlock(block: Uint8Array, level = QUICK_LEVEL): Uint8Array | undefined {
  const compressed = zstdCompressSync(block, { params: { [constants.ZSTD_c_compressionLevel]: level } })
  return compressed.byteLength < block.byteLength ? compressed : undefined
}

/**
 * The plain 64 KiB of a block as it came over the wire. Never inflates past them, whatever the bytes claim.
 *
 * @throws BLOCK_INVALID when it is not exactly one block
 */
export function plainBlock(body: Uint8Array, compressed: boolean): Uint8Array {
  const block = compressed ? inflate(body) : body
  if (block.byteLength !== BLOCK_SIZE_BYTES) {
    throw new RowanError('BLOCK_INVALID', `a block of ${block.byteLength} bytes instead of ${BLOCK_SIZE_BYTES}`)
  }
  return block
}

function inflate(body: Uint8Array): Uint8Array {
  try {
    return zstdDecompressSync(body, { maxOutputLength: BLOCK_SIZE_BYTES })
  } catch (cause) {
    throw new RowanError('BLOCK_INVALID', `a compressed block does not inflate to one block: ${String(cause)}`, {
      cause
    })
  }
}

/** Compressed blocks by the hash of their plain bytes, least recently used out first. */
export class CompressedCache {
  readonly #limitBytes: number
  readonly #clock: Pick<Clock, 'monotonicMs'>
  readonly #entries = new Map<string, Uint8Array | undefined>()
  #bytes = 0
  /** What the thorough level may still take. */
  #thoroughMs = THOROUGH_BURST_MS
  #countedMs: number

  constructor(limitBytes: number, clock: Pick<Clock, 'monotonicMs'>) {
    this.#limitBytes = limitBytes
    this.#clock = clock
    this.#countedMs = clock.monotonicMs()
  }

  get bytes(): number {
    return this.#bytes
  }

  /** The compressed form of `block`, or undefined where zstd does not help; compresses at most once while it is remembered. */
  compressed(hash: Uint8Array, block: Uint8Array): Uint8Array | undefined {
    const key = Buffer.from(hash.buffer, hash.byteOffset, hash.byteLength).toString('latin1')
    const known = this.#entries.get(key)
    if (known !== undefined || this.#entries.has(key)) {
      this.#entries.delete(key)
      this.#entries.set(key, known)
      return known
    }
    const compressed = this.#compress(block)
    this.#entries.set(key, compressed)
    this.#bytes += cost(compressed)
    for (const [oldest, bytes] of this.#entries) {
      if (this.#bytes <= this.#limitBytes) break
      this.#entries.delete(oldest)
      this.#bytes -= cost(bytes)
    }
    return compressed
  }

  #compress(block: Uint8Array): Uint8Array | undefined {
    const startMs = this.#clock.monotonicMs()
    const earnedMs = (startMs - this.#countedMs) * THOROUGH_SHARE
    this.#thoroughMs = Math.min(THOROUGH_BURST_MS, this.#thoroughMs + earnedMs)
    this.#countedMs = startMs
    if (this.#thoroughMs <= 0) return compressBlock(block)
    const compressed = compressBlock(block, THOROUGH_LEVEL)
    this.#thoroughMs -= this.#clock.monotonicMs() - startMs
    return compressed
  }
}

const ENTRY_BYTES = 128

function cost(compressed: Uint8Array | undefined): number {
  return ENTRY_BYTES + (compressed?.byteLength ?? 0)
}
