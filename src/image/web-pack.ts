/**
 * An image as files for any web server: what lies below a web seed's URL.
 *
 *     IMAGE/root          the image's root
 *     IMAGE/node-L-P      the index node at position P of level L
 *     IMAGE/pack-P        the data blocks of page P of the index: up to 1,024 of them
 *     IMAGE/profile       a boot profile (boot-profile.ts), if the exporter had one to give
 *
 * A pack is a *range index* and behind it the blocks, one after the other: each as zstd where that is smaller, else plain. The range
 * index is 16 bytes (a magic number, a version, the page, the number of blocks) and then four bytes for each block of the page: its
 * length in the pack. 0 is a block of zeros, which is not stored; 65,536 a plain block; all between is zstd. Where a block begins
 * follows from the lengths before it. All numbers are little-endian. A page without data has no pack. Another version of the format
 * would have other file names, so that a peer of today finds nothing there instead of what it cannot read.
 *
 * Nothing of this needs to be believed: the root has the image's id for its hash, the nodes and blocks have theirs. Only the range
 * index has none; one that lies leads to bytes that have no right hash. A profile is advice, or the release names its hash.
 */
import { BLOCK_SIZE_BYTES, INDEX_FANOUT } from '../cluster.ts'
import { RowanError } from '../errors.ts'

const MAGIC = 0x6b70_7772 // "rwpk"
const VERSION = 1
const HEADER_BYTES = 16

export function rootFile(image: string): string {
  return `${image}/root`
}

export function nodeFile(image: string, level: number, position: number): string {
  return `${image}/node-${level}-${position}`
}

export function packFile(image: string, page: number): string {
  return `${image}/pack-${page}`
}

export function profileFile(image: string): string {
  return `${image}/profile`
}

/** Of a page with so many blocks. */
export function rangeIndexBytes(blocks: number): number {
  return HEADER_BYTES + 4 * blocks
}

/** @param lengths - of each block of the page in the pack */
export function encodeRangeIndex(page: number, lengths: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(rangeIndexBytes(lengths.length))
  const view = new DataView(bytes.buffer)
  view.setUint32(0, MAGIC, true)
  view.setUint32(4, VERSION, true)
  view.setUint32(8, page, true)
  view.setUint32(12, lengths.length, true)
  for (const [block, length] of lengths.entries()) view.setUint32(HEADER_BYTES + 4 * block, length, true)
  return bytes
}

/** @throws WEB_SEED_INVALID, and nothing else, unless `bytes` are a range index of this page with so many blocks */
export function decodeRangeIndex(bytes: Uint8Array, expected: { page: number; blocks: number }): RangeIndex {
  const { page, blocks } = expected
  if (blocks < 1 || blocks > INDEX_FANOUT || bytes.byteLength !== rangeIndexBytes(blocks)) {
    throw invalid(page, `${bytes.byteLength} bytes for ${blocks} blocks`)
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (view.getUint32(0, true) !== MAGIC) throw invalid(page, 'another magic number')
  if (view.getUint32(4, true) !== VERSION) throw invalid(page, `the unknown version ${view.getUint32(4, true)}`)
  if (view.getUint32(8, true) !== page) throw invalid(page, `the number of page ${view.getUint32(8, true)}`)
  if (view.getUint32(12, true) !== blocks)
    throw invalid(page, `${view.getUint32(12, true)} blocks instead of ${blocks}`)
  const offsets = new Uint32Array(blocks + 1)
  offsets[0] = bytes.byteLength
  for (let block = 0; block < blocks; block++) {
    const length = view.getUint32(HEADER_BYTES + 4 * block, true)
    if (length > BLOCK_SIZE_BYTES) throw invalid(page, `a block of ${length} bytes`)
    offsets[block + 1] = offsets[block]! + length
  }
  if (offsets[blocks] === bytes.byteLength) throw invalid(page, 'no data, and such a pack is never written')
  return new RangeIndex(offsets)
}

/** Where the blocks of one page lie in their pack. */
export class RangeIndex {
  readonly #offsets: Uint32Array

  constructor(offsets: Uint32Array) {
    this.#offsets = offsets
  }

  /** How many blocks the page has. */
  get blocks(): number {
    return this.#offsets.length - 1
  }

  /** @param index - of the block in its page */
  start(index: number): number {
    return this.#offsets[index]!
  }

  end(index: number): number {
    return this.#offsets[index + 1]!
  }

  /** 0 for a block of zeros. */
  length(index: number): number {
    return this.end(index) - this.start(index)
  }
}

function invalid(page: number, what: string): RowanError {
  return new RowanError('WEB_SEED_INVALID', `the range index of pack ${page} has ${what}`)
}
