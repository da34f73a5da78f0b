/**
 * The frames of a layer's log: how one is sealed, and how they are read again.
 *
 *     0   checksum of the rest, seeded by the header of the area
 *     4   length of the frame
 *     8   its place in the area
 *     12  number of entries
 *     16  entries of 16 bytes, then their content
 */
import { crc32 } from 'node:zlib'
import type { LayerFile } from './layer-files.ts'

export const FRAME_HEADER_BYTES = 16
/** What a reader keeps in memory; so no frame is longer. */
export const MAX_FRAME_BYTES = 256 * 1024

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
