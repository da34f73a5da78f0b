/**
 * The pending log: map changes that were acknowledged but are not in the map file yet.
 *
 *     0        identity (512 bytes), zeros up to 4 KiB
 *     4096     area A: header (512 bytes), records of 24 bytes
 *     …        area B
 *
 * It is never synced. Its only reader is a daemon that starts after another one died, under the same kernel: then all
 * that was written is in the page cache, and replaying the records in order onto any state of the map file since the
 * log began gives the map as it was. An area's header carries the kernel's boot id; under another boot id the data that
 * the records speak of may never have reached the disk, and they are ignored.
 *
 * Two areas take turns. A flush begins by starting a new generation of records in the other area; when the flush is
 * done, all older generations are durable, and the area they lie in is free. So writes that arrive during a flush lose
 * nothing, and nothing has to be moved or cut. A record's checksum is seeded by its area's header and covers its index:
 * whatever an older generation left behind does not pass for a record of this one. Reading ends at the first that fails.
 *
 * Owns: the log file. Knows nothing of what the records mean to the map (layer.ts).
 */
import { crc32 } from 'node:zlib'
import { RowanError } from '../errors.ts'
import type { LayerFile } from './layer-files.ts'
import { checkIdentity, checkSize, checksumSeed, encodeIdentity, type LayerIdentity } from './layer-identity.ts'
import type { SectorState } from './layer-map.ts'

export interface LogRecord {
  start: number
  count: number
  state: SectorState
}

const AREAS_OFFSET = 4096
const HEADER_BYTES = 512
const RECORD_BYTES = 24
const BOOT_ID_BYTES = 64
/** 6 MiB for each area: a gigabyte of scattered 4-KiB writes, replayed in a fraction of a second. */
export const DEFAULT_LOG_AREA_RECORDS = 262_144
const READ_RECORDS = 4096

interface Area {
  generation: number
  bootId: string
  /** The layer failed in this generation: no record of this or an older one is to be believed. */
  failed: boolean
  seed: number
}

export class LayerLog {
  readonly areaRecords: number
  readonly #file: LayerFile
  readonly #identitySeed: number
  readonly #bootId: string
  readonly #areas: [Area | undefined, Area | undefined]
  readonly #record = Buffer.alloc(RECORD_BYTES)
  readonly #checkedRecord = this.#record.subarray(4)
  #current: 0 | 1 = 0
  #records = 0
  #otherIsFree = true

  private constructor(file: LayerFile, identity: LayerIdentity, bootId: string, areaRecords: number) {
    this.areaRecords = areaRecords
    this.#file = file
    this.#identitySeed = checksumSeed(encodeIdentity('log', identity))
    this.#bootId = bootId
    this.#areas = [this.#readHeader(0), this.#readHeader(1)]
  }

  static sizeBytes(areaRecords: number): number {
    return AREAS_OFFSET + 2 * areaBytes(areaRecords)
  }

  static create(file: LayerFile, identity: LayerIdentity): void {
    const bytes = encodeIdentity('log', identity)
    file.writeSync(bytes, 0, bytes.length, 0)
  }

  /** LAYER_CORRUPT, naming the file, for a wrong size or identity. Call `replay` or `discard` before anything else. */
  static open(file: LayerFile, identity: LayerIdentity, bootId: string, areaRecords: number): LayerLog {
    if (Buffer.byteLength(bootId) > BOOT_ID_BYTES) {
      throw new RowanError('LIMIT_EXCEEDED', `the boot id is longer than ${BOOT_ID_BYTES} bytes: ${bootId}`)
    }
    checkSize(file, LayerLog.sizeBytes(areaRecords))
    checkIdentity(file, 0, 'log', identity)
    return new LayerLog(file, identity, bootId, areaRecords)
  }

  /** What the newest generation says: it is of this boot, of another one (or there is none), or of a failed layer. */
  get condition(): 'same-boot' | 'other-boot' | 'failed' {
    const newest = this.#newest()
    if (newest === undefined) return 'other-boot'
    if (newest.failed) return 'failed'
    return newest.bootId === this.#bootId ? 'same-boot' : 'other-boot'
  }

  /** Calls `apply` with each record in order, oldest first, and goes on behind the last. Only for `same-boot`. */
  replay(apply: (record: LogRecord) => void): void {
    const newest = this.#newest()
    if (newest === undefined) throw new RowanError('INTERNAL', `${this.#file.path}: nothing to replay`)
    this.#current = this.#areas[0] === newest ? 0 : 1
    const other = otherPlace(this.#current)
    const older = this.#areas[other]
    const olderCounts = older !== undefined && older.bootId === this.#bootId && !older.failed
    if (olderCounts) this.#replayArea(other, older, apply)
    this.#records = this.#replayArea(this.#current, newest, apply)
    this.#otherIsFree = !olderCounts
  }

  /** Forgets all records and begins a generation of this boot. For `other-boot` and, once all is durable, `failed`. */
  discard(): void {
    const newest = this.#newest()
    const place = this.#areas[0] === newest ? 1 : 0
    this.#begin(place, (newest?.generation ?? 0) + 1)
    this.#otherIsFree = true
  }

  /** Records in the area that is being filled. */
  get records(): number {
    return this.#records
  }

  /** Appends one record; there must be room. Throws what the file throws, and then nothing was appended. */
  append(start: number, count: number, state: SectorState): void {
    if (this.#records >= this.areaRecords) {
      throw new RowanError('LIMIT_EXCEEDED', `${this.#file.path}: more than ${this.areaRecords} records`)
    }
    const record = this.#record
    record.writeUInt16LE(RECORD_BYTES, 4)
    record.writeUInt8(state, 6)
    record.writeUInt32LE(this.#records, 8)
    record.writeUIntLE(start, 12, 6)
    record.writeUInt32LE(count, 20)
    record.writeUInt32LE(crc32(this.#checkedRecord, this.#areas[this.#current]!.seed), 0)
    this.#file.writeSync(record, 0, RECORD_BYTES, this.#recordPosition(this.#current, this.#records))
    this.#records++
  }

  /** A flush begins: records from now on go to a new generation, if the other area is free to take it. */
  beginFlush(): void {
    if (!this.#otherIsFree || this.#records === 0) return
    this.#begin(otherPlace(this.#current), this.#areas[this.#current]!.generation + 1)
    this.#otherIsFree = false
  }

  /** The flush is done: all that was appended before it began is durable elsewhere. */
  endFlush(): void {
    this.#otherIsFree = true
  }

  /** The layer failed: the log must not be believed when the layer is opened again. */
  markFailed(): void {
    this.#writeHeader(this.#current, { ...this.#areas[this.#current]!, failed: true })
  }

  close(): void {
    this.#file.close()
  }

  #newest(): Area | undefined {
    const [a, b] = this.#areas
    if (a === undefined || b === undefined) return a ?? b
    return a.generation > b.generation ? a : b
  }

  #begin(place: 0 | 1, generation: number): void {
    this.#writeHeader(place, { generation, bootId: this.#bootId, failed: false, seed: 0 })
    this.#current = place
    this.#records = 0
  }

  #replayArea(place: 0 | 1, area: Area, apply: (record: LogRecord) => void): number {
    const bytes = Buffer.alloc(Math.min(READ_RECORDS, this.areaRecords) * RECORD_BYTES)
    for (let index = 0; index < this.areaRecords; ) {
      const count = Math.min(READ_RECORDS, this.areaRecords - index)
      this.#file.readSync(bytes, 0, count * RECORD_BYTES, this.#recordPosition(place, index))
      for (let inBuffer = 0; inBuffer < count; inBuffer++, index++) {
        const record = decodeRecord(
          bytes.subarray(inBuffer * RECORD_BYTES, (inBuffer + 1) * RECORD_BYTES),
          index,
          area.seed
        )
        if (record === undefined) return index
        apply(record)
      }
    }
    return this.areaRecords
  }

  #recordPosition(place: 0 | 1, index: number): number {
    return AREAS_OFFSET + place * areaBytes(this.areaRecords) + HEADER_BYTES + index * RECORD_BYTES
  }

  #headerPosition(place: 0 | 1): number {
    return AREAS_OFFSET + place * areaBytes(this.areaRecords)
  }

  /** checksum (4), failed (1), length of the boot id (1), generation (6), boot id (64), zeros. */
  #writeHeader(place: 0 | 1, area: Area): void {
    const bytes = Buffer.alloc(HEADER_BYTES)
    bytes.writeUInt8(area.failed ? 1 : 0, 4)
    bytes.writeUInt8(bytes.write(area.bootId, 12, BOOT_ID_BYTES), 5)
    bytes.writeUIntLE(area.generation, 6, 6)
    const seed = crc32(bytes.subarray(4), this.#identitySeed)
    bytes.writeUInt32LE(seed, 0)
    this.#file.writeSync(bytes, 0, HEADER_BYTES, this.#headerPosition(place))
    this.#areas[place] = { ...area, seed }
  }

  /** undefined: never used, or torn while it was written, which happens before any record that it heads is acknowledged. */
  #readHeader(place: 0 | 1): Area | undefined {
    const bytes = Buffer.alloc(HEADER_BYTES)
    this.#file.readSync(bytes, 0, HEADER_BYTES, this.#headerPosition(place))
    const seed = bytes.readUInt32LE(0)
    const bootIdLength = bytes.readUInt8(5)
    if (crc32(bytes.subarray(4), this.#identitySeed) !== seed || bootIdLength > BOOT_ID_BYTES) return undefined
    return {
      failed: bytes.readUInt8(4) !== 0,
      bootId: bytes.toString('utf8', 12, 12 + bootIdLength),
      generation: bytes.readUIntLE(6, 6),
      seed
    }
  }
}

/** A record, or undefined where the log ends. */
function decodeRecord(bytes: Buffer, index: number, seed: number): LogRecord | undefined {
  if (bytes.readUInt16LE(4) !== RECORD_BYTES || bytes.readUInt32LE(8) !== index) return undefined
  if (crc32(bytes.subarray(4), seed) !== bytes.readUInt32LE(0)) return undefined
  return { state: bytes.readUInt8(6) as SectorState, start: bytes.readUIntLE(12, 6), count: bytes.readUInt32LE(20) }
}

function areaBytes(areaRecords: number): number {
  return HEADER_BYTES + areaRecords * RECORD_BYTES
}

function otherPlace(place: 0 | 1): 0 | 1 {
  return place === 0 ? 1 : 0
}
