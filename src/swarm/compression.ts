/**
 * zstd on the wire: whether, and how.
 *
 * A block is compressed (level 3) only when that makes it smaller, and only when the link is slower than zstd, which does 269 MB/s
 * here and 556 MB/s back. The requester decides, because it is the one that measures the link, and says so in WANT. What was
 * compressed is kept in a small cache for the next requester: one boot is asked for by many.
 */

import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { BLOCK_SIZE_BYTES } from '../cluster.ts'
import { RowanError } from '../errors.ts'

/** Where compressing with one core still keeps up with the link. */
const ZSTD_PAYS_BELOW_BYTES_PER_SECOND = 200e6
/** On a near link the bytes cost next to nothing, and both ends often share their cores. */
const ZSTD_PAYS_NEAR_BELOW_BYTES_PER_SECOND = 30e6
const NEAR_RTT_MS = 20

const OPTIONS = { params: { [constants.ZSTD_c_compressionLevel]: 3 } }

export interface LinkMeasurement {
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
export function compressBlock(block: Uint8Array): Uint8Array | undefined {
  const compressed = zstdCompressSync(block, OPTIONS)
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
  readonly #entries = new Map<string, Uint8Array | undefined>()
  #bytes = 0

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes
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
    const compressed = compressBlock(block)
    this.#entries.set(key, compressed)
    this.#bytes += cost(compressed)
    for (const [oldest, bytes] of this.#entries) {
      if (this.#bytes <= this.#limitBytes) break
      this.#entries.delete(oldest)
      this.#bytes -= cost(bytes)
    }
    return compressed
  }
}

const ENTRY_BYTES = 128

function cost(compressed: Uint8Array | undefined): number {
  return ENTRY_BYTES + (compressed?.byteLength ?? 0)
}
