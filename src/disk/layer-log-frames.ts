/**
 * The frames of a layer's log: what one looks like, how one is sealed, and how they are read again.
 *
 *     0   checksum of the rest, seeded by the header of the area
 *     4   length of the frame
 *     8   its place in the area
 *     12  number of entries
 *     16  entries of 16 bytes, then their content
 *
 * An entry: first sector or generation (6), kind (1), zero (1), number of sectors or place in the area (4), zeros.
 */
import { crc32 } from 'node:zlib'
import type { LayerFile } from './layer-files.ts'
import { SECTOR_BYTES } from './layer-map.ts'

export const FRAME_HEADER_BYTES = 16
/** What a reader keeps in memory; so no frame is longer. */
export const MAX_FRAME_BYTES = 256 * 1024

/** Kinds of entries; what they mean stands in layer-log.ts. */
export const ENTRY = { data: 1, zero: 2, content: 3, barrier: 4, obsolete: 5 } as const
export const ENTRY_BYTES = 16

export function writeEntry(bytes: Buffer, at: number, kind: number, start: number, count: number): void {
  bytes.writeUIntLE(start, at, 6)
  bytes.writeUInt8(kind, at + 6)
  bytes.writeUInt32LE(count, at + 8)
}

/** Bytes that the content of some sectors takes; the disk's last one may be short. */
export function contentLength(start: number, count: number, diskBytes: number): number {
  return Math.max(0, Math.min(count * SECTOR_BYTES, diskBytes - start * SECTOR_BYTES))
}

/** Calls back for each entry of a frame, in order; `content` is empty but for entries that have some. */
export function readEntries(
  { bytes, entries }: Frame,
  diskBytes: number,
  entry: (kind: number, start: number, count: number, content: Buffer) => void
): void {
  let contentAt = FRAME_HEADER_BYTES + entries * ENTRY_BYTES
  for (let index = 0; index < entries; index++) {
    const at = FRAME_HEADER_BYTES + index * ENTRY_BYTES
    const kind = bytes.readUInt8(at + 6)
    const start = bytes.readUIntLE(at, 6)
    const count = bytes.readUInt32LE(at + 8)
    const length = kind === ENTRY.content ? contentLength(start, count, diskBytes) : 0
    entry(kind, start, count, bytes.subarray(contentAt, contentAt + length))
    contentAt += length
  }
}

/** Fills in the header of a frame whose entries and content are in place. */
export function sealFrame(frame: Buffer, entries: number, position: number, seed: number): void {
  frame.writeUInt32LE(frame.length, 4)
  frame.writeUInt32LE(position, 8)
  frame.writeUInt32LE(entries, 12)
  frame.writeUInt32LE(crc32(frame.subarray(4), seed), 0)
}

export interface Frame {
  /** Valid until the next one is asked for. */
  bytes: Buffer
  entries: number
  position: number
}

/** Reads the frames of one area, up to the first that is not whole. */
export class FrameReader {
  /** Behind the last frame, in the area. */
  position = 0
  readonly #file: LayerFile
  readonly #start: number
  readonly #areaBytes: number
  readonly #seed: number
  readonly #window: Buffer
  #windowStart = 0
  #windowEnd = 0

  /** @param start - of the area's first frame in the file */
  constructor(file: LayerFile, start: number, areaBytes: number, seed: number) {
    this.#file = file
    this.#start = start
    this.#areaBytes = areaBytes
    this.#seed = seed
    this.#window = Buffer.allocUnsafe(Math.min(MAX_FRAME_BYTES, areaBytes))
  }

  next(): Frame | undefined {
    const { position } = this
    const header = this.#at(position, FRAME_HEADER_BYTES)
    if (header === undefined || header.readUInt32LE(8) !== position) return undefined
    const length = header.readUInt32LE(4)
    if (length < FRAME_HEADER_BYTES) return undefined
    const bytes = this.#at(position, length)
    if (bytes === undefined || crc32(bytes.subarray(4), this.#seed) !== bytes.readUInt32LE(0)) return undefined
    this.position += length
    return { bytes, entries: bytes.readUInt32LE(12), position }
  }

  /** Some bytes of the area, or undefined where there are not so many. */
  #at(position: number, length: number): Buffer | undefined {
    if (length > this.#window.length || position + length > this.#areaBytes) return undefined
    if (position + length > this.#windowEnd) {
      const count = Math.min(this.#window.length, this.#areaBytes - position)
      this.#file.readSync(this.#window, 0, count, this.#start + position)
      this.#windowStart = position
      this.#windowEnd = position + count
    }
    return this.#window.subarray(position - this.#windowStart, position - this.#windowStart + length)
  }
}
