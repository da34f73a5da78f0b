/**
 * The file of a layer's log: two areas that take turns, and where in them the next frame goes.
 *
 *     0        identity (512 bytes), zeros up to 4 KiB
 *     4096     area A: header, at 512 the mark of a failed layer, zeros up to 4 KiB; then frames
 *     …        area B
 *
 * Each use of an area is a **generation**. Its header says which boot it is of, where the generation before it ended, and
 * from which one on generations are still needed. A frame's checksum is seeded by the header and covers its place, so nothing
 * that an older generation left can pass, and reading ends at the first frame that fails. Whatever a sync covered lies
 * before that: frames are only ever appended.
 *
 * Space is made with zeros in front of the frames, in growing steps: a sync of blocks that are there is one write of the
 * disk, a sync of new ones a transaction of the file system as well (measured on ext4: 230 against 320 µs).
 *
 * Owns: the file, the headers, the place behind the last frame. Which generations count, and what frames say, is
 * layer-log.ts's business.
 */
import { crc32 } from 'node:zlib'
import { RowanError } from '../errors.ts'
import type { LayerFile } from './layer-files.ts'
import { FrameReader, MAX_FRAME_BYTES, sealFrame } from './layer-log-frames.ts'
import { SECTOR_BYTES } from './layer-map.ts'

export const BOOT_ID_BYTES = 64
const AREAS_OFFSET = 4096
const HEADER_REGION_BYTES = 4096
const HEADER_BYTES = 512
const FIRST_STEP_BYTES = 64 * 1024
const LARGEST_STEP_BYTES = 1024 * 1024

/** A generation, as the header of its area says. */
export interface LogArea {
  place: 0 | 1
  generation: number
  bootId: string
  /** Generations below this one are in the map file. */
  oldestNeeded: number
  /** Where the generation before this one ended. */
  previousEnd: number
  failed: boolean
  seed: number
}

export class LogAreas {
  readonly #file: LayerFile
  readonly #identitySeed: number
  readonly #bootId: string
  readonly #areaBytes: number
  readonly #areas: [LogArea | undefined, LogArea | undefined]
  /** Where the newest generation is; in an empty log there is none yet. */
  #current: 0 | 1
  #position = 0
  readonly #madeBytes: [number, number] = [0, 0]

  /** @param bootId - of the generations that are begun; at most BOOT_ID_BYTES */
  constructor(file: LayerFile, identitySeed: number, bootId: string, areaBytes: number) {
    this.#file = file
    this.#identitySeed = identitySeed
    this.#bootId = bootId
    this.#areaBytes = areaBytes
    const [a, b] = [this.#readHeader(0), this.#readHeader(1)]
    this.#areas = [a, b]
    this.#current = b !== undefined && (a === undefined || b.generation >= a.generation) ? 1 : 0
  }

  /** Of the whole file. */
  static sizeBytes(areaBytes: number): number {
    return areaPosition(2, areaBytes)
  }

  /** The newest generation, which takes the frames. */
  get newest(): LogArea | undefined {
    return this.#areas[this.#current]
  }

  /** The one in the other area. */
  get older(): LogArea | undefined {
    return this.#areas[otherPlace(this.#current)]
  }

  /** Where in the newest generation the next frame goes. */
  get position(): number {
    return this.#position
  }

  /** The frames of a generation, from its first one. */
  frames(area: LogArea): FrameReader {
    return new FrameReader(this.#file, this.#framesPosition(area.place), this.#areaBytes, area.seed)
  }

  /** Goes on behind frames that were found. */
  goOnAt(position: number): void {
    this.#position = position
  }

  /** Begins a generation in the other area, whatever is there. */
  begin({ needsOlder }: { needsOlder: boolean }): void {
    const generation = (this.newest?.generation ?? 0) + 1
    const place = otherPlace(this.#current)
    const oldestNeeded = needsOlder ? generation - 1 : generation
    const header = { place, generation, bootId: this.#bootId, oldestNeeded, previousEnd: this.#position, failed: false }
    this.#areas[place] = { ...header, seed: this.#writeHeader(header) }
    this.#current = place
    this.#position = 0
  }

  /** Appends a frame whose entries and content are in place. LIMIT_EXCEEDED, DISK_FULL, STORE_IO: nothing was appended. */
  append(frame: Buffer, entries: number): void {
    if (this.#position + frame.length > this.#areaBytes || frame.length > MAX_FRAME_BYTES) {
      throw new RowanError('LIMIT_EXCEEDED', `${this.#file.path}: no room for ${frame.length} bytes`)
    }
    this.makeSpace(this.#position + frame.length)
    sealFrame(frame, entries, this.#position, this.newest!.seed)
    this.#file.writeSync(frame, 0, frame.length, this.#framesPosition(this.#current) + this.#position)
    this.#position += frame.length
  }

  /** Zeros where frames will be; all there may be is what an older generation left. */
  makeSpace(upTo: number): void {
    const made = this.#madeBytes[this.#current]
    if (upTo <= made) return
    const from = Math.max(made, this.#position)
    const step = Math.min(Math.max(FIRST_STEP_BYTES, from), LARGEST_STEP_BYTES)
    const end = Math.min(Math.max(upTo, from + step), this.#areaBytes)
    this.#file.writeSync(Buffer.alloc(end - from), 0, end - from, this.#framesPosition(this.#current) + from)
    this.#madeBytes[this.#current] = end
  }

  get file(): Pick<LayerFile, 'sync' | 'syncSync' | 'allocatedBytes'> {
    return this.#file
  }

  /** Of the newest generation, only what was flushed is to be believed when the file is opened again. */
  markFailed(): void {
    const bytes = Buffer.alloc(HEADER_BYTES)
    bytes.writeUInt32LE(failedMark(this.newest!.seed), 0)
    this.#file.writeSync(bytes, 0, HEADER_BYTES, areaPosition(this.#current, this.#areaBytes) + HEADER_BYTES)
  }

  close(): void {
    this.#file.close()
  }

  #framesPosition(place: 0 | 1): number {
    return areaPosition(place, this.#areaBytes) + HEADER_REGION_BYTES
  }

  /** checksum (4), zero (1), length of the boot id (1), generation (6), boot id (64), oldest needed (6), previous end (6). */
  #writeHeader(area: Omit<LogArea, 'seed'>): number {
    const bytes = Buffer.alloc(HEADER_BYTES)
    bytes.writeUInt8(bytes.write(area.bootId, 12, BOOT_ID_BYTES), 5)
    bytes.writeUIntLE(area.generation, 6, 6)
    bytes.writeUIntLE(area.oldestNeeded, 12 + BOOT_ID_BYTES, 6)
    bytes.writeUIntLE(area.previousEnd, 18 + BOOT_ID_BYTES, 6)
    const seed = crc32(bytes.subarray(4), this.#identitySeed)
    bytes.writeUInt32LE(seed, 0)
    this.#file.writeSync(bytes, 0, HEADER_BYTES, areaPosition(area.place, this.#areaBytes))
    return seed
  }

  /** undefined: never used, or torn while it was written, which happens before any frame that it heads is flushed. */
  #readHeader(place: 0 | 1): LogArea | undefined {
    const bytes = Buffer.alloc(2 * HEADER_BYTES)
    this.#file.readSync(bytes, 0, bytes.length, areaPosition(place, this.#areaBytes))
    const header = bytes.subarray(0, HEADER_BYTES)
    const seed = header.readUInt32LE(0)
    const bootIdLength = header.readUInt8(5)
    if (crc32(header.subarray(4), this.#identitySeed) !== seed || bootIdLength > BOOT_ID_BYTES) return undefined
    return {
      place,
      generation: header.readUIntLE(6, 6),
      bootId: header.toString('utf8', 12, 12 + bootIdLength),
      oldestNeeded: header.readUIntLE(12 + BOOT_ID_BYTES, 6),
      previousEnd: header.readUIntLE(18 + BOOT_ID_BYTES, 6),
      failed: bytes.readUInt32LE(HEADER_BYTES) === failedMark(seed),
      seed
    }
  }
}

function otherPlace(place: 0 | 1): 0 | 1 {
  return place === 0 ? 1 : 0
}

/** Each header in sectors of its own, so that power loss leaves it old or new. */
function areaPosition(place: number, areaBytes: number): number {
  return AREAS_OFFSET + place * (HEADER_REGION_BYTES + Math.ceil(areaBytes / SECTOR_BYTES) * SECTOR_BYTES)
}

/** Of this header alone: a generation that power loss undid comes again with the same number. */
function failedMark(seed: number): number {
  return crc32('failed', seed)
}
