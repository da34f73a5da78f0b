/**
 * The log of a layer: what was acknowledged or flushed and is not in the map file yet.
 *
 *     0        identity (512 bytes), zeros up to 4 KiB
 *     4096     area A: header, at 512 the mark of a failed layer, zeros up to 4 KiB; then frames
 *     …        area B
 *
 * A **frame** is one append: checksum, its length, its place in the area, and entries of 16 bytes:
 *
 *     data      these sectors are in the data file. True for the page cache at once, for the disk once a barrier says so
 *     zero      these sectors are zero
 *     content   these sectors are data, and their bytes follow behind the entries
 *     barrier   all that the data file held when the log ended *there* is durable
 *     obsolete  older generations are in the map file and must not be read any more
 *
 * It serves two readers. A daemon that starts after another one died *under the same kernel* replays all entries: what
 * was written is in the page cache. After a *power loss* (another boot id) an entry `data` counts only before a barrier,
 * `zero` and `content` stand for themselves, and `content` behind the last barrier is put into the data file again. So a
 * small flush is one append and one sync of this file alone, whose blocks are all there and lie in a row, and a large
 * one is a sync of the data file and then a barrier; neither waits for the map file.
 *
 * Two areas take turns. Each use of one is a **generation**, which names where the one before it ended. A checkpoint
 * (layer.ts) begins one, brings all older ones into the map file, and says `obsolete`; only then their area is free. A
 * frame's checksum is seeded by the header and covers its place, so nothing that an older generation left can pass, and
 * reading ends at the first frame that fails. Whatever a sync covered lies before that: frames are only ever appended.
 *
 * Space is made with zeros in front of the frames, in growing steps: a sync of blocks that are there is one write of the
 * disk, a sync of new ones a transaction of the file system as well (measured on ext4: 230 against 320 µs).
 *
 * Owns: the log file. Knows nothing of what the entries mean to the map (layer.ts).
 */
import { crc32 } from 'node:zlib'
import { RowanError } from '../errors.ts'
import type { LayerFile } from './layer-files.ts'
import { checkIdentity, checkSize, checksumSeed, encodeIdentity, type LayerIdentity } from './layer-identity.ts'
import { FRAME_HEADER_BYTES, FrameReader, MAX_FRAME_BYTES, sealFrame } from './layer-log-frames.ts'
import { SECTOR_BYTES, SECTOR_DATA, type SectorState } from './layer-map.ts'

/** What a log says about a run of sectors. */
export interface LogRecord {
  start: number
  count: number
  state: SectorState
}

/** A place between two frames. */
export interface LogMark {
  generation: number
  position: number
}

export interface SectorRange {
  start: number
  count: number
}

const ENTRY = { data: 1, zero: 2, content: 3, barrier: 4, obsolete: 5 } as const
const ENTRY_BYTES = 16
const MAX_COUNT = 2 ** 32 - 1
const AREAS_OFFSET = 4096
const HEADER_REGION_BYTES = 4096
const HEADER_BYTES = 512
const BOOT_ID_BYTES = 64
/** A million scattered writes, or 3,500 flushes of 4 KiB, before a checkpoint is due. */
export const DEFAULT_LOG_AREA_BYTES = 16 * 1024 * 1024
/** Kept in each area for barriers and `obsolete`, of which there is at most one for each other frame. */
const CONTROL_ROOM_BYTES = 512
/** Entries that wait for `settle`, with their header; more are appended by themselves. */
const PENDING_BYTES = 16 * 1024
const FIRST_STEP_BYTES = 64 * 1024
const LARGEST_STEP_BYTES = 1024 * 1024

interface Area {
  generation: number
  bootId: string
  /** Generations below this one are in the map file. */
  oldestNeeded: number
  /** Where the generation before this one ended. */
  previousEnd: number
  failed: boolean
  seed: number
}

/** What a scan of an area found. */
interface Scan {
  end: LogMark
  barrier: LogMark
  obsoleteBelow: number
  /** Frames that say something about sectors. */
  frames: number
}

const NOWHERE: LogMark = { generation: 0, position: 0 }

export class LayerLog {
  readonly #file: LayerFile
  readonly #areaBytes: number
  readonly #diskBytes: number
  readonly #identitySeed: number
  readonly #bootId: string
  readonly #areas: [Area | undefined, Area | undefined]
  /** The places to be read, oldest first. */
  readonly #live: (0 | 1)[] = []
  readonly #condition: 'same-boot' | 'other-boot' | 'failed'
  #barrier = NOWHERE
  #current: 0 | 1 = 0
  #position = 0
  #otherIsFree = true
  /** Behind the last frame that says something about sectors. */
  #contentEnd = NOWHERE
  readonly #madeBytes: [number, number] = [0, 0]
  readonly #pending = Buffer.alloc(PENDING_BYTES)
  #pendingBytes = FRAME_HEADER_BYTES
  /** Of the last entry that is pending, to join the next one to it. */
  #lastEnd = -1
  #lastCount = 0
  #lastKind = 0
  #appended = 0
  #synced = 0

  private constructor(file: LayerFile, identity: LayerIdentity, bootId: string, areaBytes: number) {
    this.#file = file
    this.#areaBytes = areaBytes
    this.#diskBytes = identity.sizeBytes
    this.#identitySeed = checksumSeed(encodeIdentity('log', identity))
    this.#bootId = bootId
    this.#areas = [this.#readHeader(0), this.#readHeader(1)]
    this.#condition = this.#examine()
  }

  static sizeBytes(areaBytes: number): number {
    return areaPosition(2, areaBytes)
  }

  static create(file: LayerFile, identity: LayerIdentity): void {
    const bytes = encodeIdentity('log', identity)
    file.writeSync(bytes, 0, bytes.length, 0)
  }

  /** LAYER_CORRUPT, naming the file, for a wrong size or identity. Call `replay` or `recover` and `begin` before else. */
  static open(file: LayerFile, identity: LayerIdentity, bootId: string, areaBytes: number): LayerLog {
    if (Buffer.byteLength(bootId) > BOOT_ID_BYTES) {
      throw new RowanError('LIMIT_EXCEEDED', `the boot id is longer than ${BOOT_ID_BYTES} bytes: ${bootId}`)
    }
    checkSize(file, LayerLog.sizeBytes(areaBytes))
    checkIdentity(file, 0, 'log', identity)
    return new LayerLog(file, identity, bootId, areaBytes)
  }

  /** Whose log it is: of this boot; of another one, or of nobody yet; of a layer that failed. */
  get condition(): 'same-boot' | 'other-boot' | 'failed' {
    return this.#condition
  }

  /** Calls `apply` with all that was acknowledged, in order, and goes on behind it. Only for `same-boot`. */
  replay(apply: (record: LogRecord) => void): void {
    for (const place of this.#live) {
      this.#current = place
      this.#read(place, (kind, start, count) => {
        if (kind <= ENTRY.content) apply(recordOf(kind, start, count))
      })
    }
    // Nobody knows what the dead daemon had synced: also an "obsolete" may be in the cache alone.
    this.#otherIsFree = false
    this.#appended = 1
  }

  /**
   * Calls `apply` with all that was flushed, in order, and `restore` with content that may not be in the data file. The
   * log stays as it is. For `other-boot` and `failed`.
   *
   * @returns whether there was anything, flushed or not
   */
  recover(apply: (record: LogRecord) => void, restore: (position: number, bytes: Buffer) => void): boolean {
    let found = false
    for (const place of this.#live) {
      const { generation } = this.#areas[place]!
      this.#read(place, (kind, start, count, position, bytes) => {
        if (kind > ENTRY.content) return
        found = true
        const isDurable = isBefore({ generation, position }, this.#barrier)
        if (kind === ENTRY.data && !isDurable) return
        apply(recordOf(kind, start, count))
        if (kind === ENTRY.content && !isDurable) restore(start * SECTOR_BYTES, bytes)
      })
    }
    return found
  }

  /** Begins a generation of this boot, with which all older ones end. To be synced first if there was something in them. */
  begin(): void {
    const newest = newestOf(this.#areas)
    const generation = (newest?.generation ?? 0) + 1
    this.#beginArea(this.#areas[0] === newest ? 1 : 0, generation, generation)
    this.#otherIsFree = true
  }

  /** How full the area is that is being filled, 0 to 1. */
  get fill(): number {
    return 1 - this.roomBytes / (this.#areaBytes - CONTROL_ROOM_BYTES)
  }

  /** Bytes that may still be appended to it. */
  get roomBytes(): number {
    return this.#areaBytes - CONTROL_ROOM_BYTES - this.#position - this.#pendingBytes
  }

  /** Whether sectors were spoken of that no checkpoint has brought into the map file. */
  get hasContent(): boolean {
    return !this.#otherIsFree || this.#contentEnd.generation === this.#areas[this.#current]?.generation
  }

  /** Notes that sectors have a new state; acknowledged once `settle` has returned. If it throws, nothing was noted. */
  add(start: number, count: number, state: SectorState): void {
    const pending = this.#pending
    if (start === this.#lastEnd && state === this.#lastKind && this.#lastCount + count <= MAX_COUNT) {
      this.#lastCount += count
      this.#lastEnd += count
      pending.writeUInt32LE(this.#lastCount, this.#pendingBytes - ENTRY_BYTES + 8)
      return
    }
    if (this.#pendingBytes + ENTRY_BYTES > PENDING_BYTES) this.settle()
    // A full disk is noticed here, where the change can still be refused.
    this.#makeSpace(this.#position + this.#pendingBytes + ENTRY_BYTES)
    writeEntry(pending, this.#pendingBytes, state, start, count)
    this.#pendingBytes += ENTRY_BYTES
    this.#lastEnd = start + count
    this.#lastCount = count
    this.#lastKind = state
  }

  /** Appends what was noted: one write, however much it is. If it throws, all is still to be settled. */
  settle(): void {
    if (this.#pendingBytes === FRAME_HEADER_BYTES) return
    const entries = (this.#pendingBytes - FRAME_HEADER_BYTES) / ENTRY_BYTES
    this.#append(this.#pending.subarray(0, this.#pendingBytes), entries)
    this.#contentEnd = this.#here
    this.#pendingBytes = FRAME_HEADER_BYTES
    this.#lastEnd = -1
  }

  /** Bytes that the content of some ranges takes. */
  static contentBytes(ranges: readonly SectorRange[]): number {
    return ranges.reduce((sum, { count }) => sum + ENTRY_BYTES + count * SECTOR_BYTES, FRAME_HEADER_BYTES)
  }

  /** Appends the content of ranges, which `read` puts into place. Flushed with the next sync. */
  appendContent(
    ranges: readonly SectorRange[],
    read: (target: Buffer, offset: number, lengthBytes: number, position: number) => void
  ): void {
    this.settle()
    const lengths = ranges.map(({ start, count }) => this.#lengthOf(start, count))
    const entriesEnd = FRAME_HEADER_BYTES + ranges.length * ENTRY_BYTES
    const frame = Buffer.alloc(lengths.reduce((sum, length) => sum + length, entriesEnd))
    let at = entriesEnd
    for (const [index, { start, count }] of ranges.entries()) {
      writeEntry(frame, FRAME_HEADER_BYTES + index * ENTRY_BYTES, ENTRY.content, start, count)
      read(frame, at, lengths[index]!, start * SECTOR_BYTES)
      at += lengths[index]!
    }
    this.#append(frame, ranges.length)
    this.#contentEnd = this.#here
  }

  /** The end of what was settled. */
  mark(): LogMark {
    this.settle()
    return this.#here
  }

  /** The data file was made durable after `mark`. */
  appendBarrier(mark: LogMark): void {
    // Nothing was said since the last barrier that this one could vouch for; so they cannot fill the area.
    if (!isBefore(this.#barrier, mark) || !isBefore(this.#barrier, this.#contentEnd)) return
    this.#appendControl(ENTRY.barrier, mark.generation, mark.position)
    this.#barrier = mark
  }

  /** What is added from now on goes to the other area, if that is free. */
  rotate(): void {
    this.settle()
    if (!this.#otherIsFree || this.#position === 0) return
    const { generation } = this.#areas[this.#current]!
    this.#beginArea(otherPlace(this.#current), generation + 1, generation)
    this.#otherIsFree = false
  }

  /** The older generations are in the map file. Their area is free once this is synced: then call `freeOlder`. */
  appendObsolete(): void {
    if (!this.#otherIsFree) this.#appendControl(ENTRY.obsolete, this.#areas[this.#current]!.generation, 0)
  }

  freeOlder(): void {
    this.#otherIsFree = true
  }

  /** All that was appended is durable. */
  get isSynced(): boolean {
    return this.#synced === this.#appended && this.#pendingBytes === FRAME_HEADER_BYTES
  }

  /** All that was appended before the call is durable when it is done. */
  async sync(): Promise<void> {
    const appended = this.#appended
    await this.#file.sync()
    this.#synced = Math.max(this.#synced, appended)
  }

  /** The layer failed: of this log only what was flushed is to be believed when the layer is opened again. */
  markFailed(): void {
    const bytes = Buffer.alloc(HEADER_BYTES)
    bytes.writeUInt32LE(failedMark(this.#areas[this.#current]!.seed), 0)
    this.#file.writeSync(bytes, 0, HEADER_BYTES, this.#areaPosition(this.#current) + HEADER_BYTES)
  }

  close(): void {
    this.#file.close()
  }

  /** Finds what is to be read and how far it is to be believed. */
  #examine(): 'same-boot' | 'other-boot' | 'failed' {
    const newest = newestOf(this.#areas)
    if (newest === undefined) return 'other-boot'
    const place = this.#areas[0] === newest ? 0 : 1
    const older = this.#areas[otherPlace(place)]
    const scans: Scan[] = []
    const scan = this.#scan(place)
    let whole = true
    if (Math.max(newest.oldestNeeded, scan.obsoleteBelow) < newest.generation) {
      if (older?.generation === newest.generation - 1) {
        this.#live.push(otherPlace(place))
        scans.push(this.#scan(otherPlace(place)))
      }
      // Otherwise the end of the older generation never reached the disk, so what comes after it was not flushed.
      whole = scans[0]?.end.position === newest.previousEnd
    }
    if (whole) {
      this.#live.push(place)
      scans.push(scan)
    }
    for (const { barrier, end, frames } of scans) {
      if (isBefore(this.#barrier, barrier)) this.#barrier = barrier
      if (frames > 0) this.#contentEnd = end
    }
    this.#position = scan.end.position
    if (newest.failed || (older?.failed === true && scans.length === 2)) return 'failed'
    return whole && newest.bootId === this.#bootId ? 'same-boot' : 'other-boot'
  }

  #scan(place: 0 | 1): Scan {
    const { generation } = this.#areas[place]!
    const scan: Scan = { end: NOWHERE, barrier: NOWHERE, obsoleteBelow: 0, frames: 0 }
    const position = this.#read(place, (kind, start, count) => {
      if (kind === ENTRY.obsolete) scan.obsoleteBelow = Math.max(scan.obsoleteBelow, start)
      else if (kind !== ENTRY.barrier) scan.frames++
      else if (isBefore(scan.barrier, { generation: start, position: count })) {
        scan.barrier = { generation: start, position: count }
      }
    })
    return { ...scan, end: { generation, position } }
  }

  /** Calls back for each entry with the place of its frame. @returns where the frames end */
  #read(
    place: 0 | 1,
    entry: (kind: number, start: number, count: number, position: number, bytes: Buffer) => void
  ): number {
    const { seed } = this.#areas[place]!
    const reader = new FrameReader(this.#file, this.#areaPosition(place) + HEADER_REGION_BYTES, this.#areaBytes, seed)
    for (let frame = reader.next(); frame !== undefined; frame = reader.next()) {
      const { bytes, entries, position } = frame
      let contentAt = FRAME_HEADER_BYTES + entries * ENTRY_BYTES
      for (let index = 0; index < entries; index++) {
        const at = FRAME_HEADER_BYTES + index * ENTRY_BYTES
        const kind = bytes.readUInt8(at + 6)
        const start = bytes.readUIntLE(at, 6)
        const count = bytes.readUInt32LE(at + 8)
        const length = kind === ENTRY.content ? this.#lengthOf(start, count) : 0
        entry(kind, start, count, position, bytes.subarray(contentAt, contentAt + length))
        contentAt += length
      }
    }
    return reader.position
  }

  /** Bytes of some sectors; the disk's last one may be short. */
  #lengthOf(start: number, count: number): number {
    return Math.max(0, Math.min(count * SECTOR_BYTES, this.#diskBytes - start * SECTOR_BYTES))
  }

  get #here(): LogMark {
    return { generation: this.#areas[this.#current]!.generation, position: this.#position }
  }

  #appendControl(kind: number, start: number, count: number): void {
    const frame = Buffer.alloc(FRAME_HEADER_BYTES + ENTRY_BYTES)
    writeEntry(frame, FRAME_HEADER_BYTES, kind, start, count)
    this.#append(frame, 1)
  }

  #append(frame: Buffer, entries: number): void {
    if (this.#position + frame.length > this.#areaBytes || frame.length > MAX_FRAME_BYTES) {
      throw new RowanError('LIMIT_EXCEEDED', `${this.#file.path}: no room for ${frame.length} bytes`)
    }
    this.#makeSpace(this.#position + frame.length)
    sealFrame(frame, entries, this.#position, this.#areas[this.#current]!.seed)
    const area = this.#areaPosition(this.#current) + HEADER_REGION_BYTES
    this.#file.writeSync(frame, 0, frame.length, area + this.#position)
    this.#position += frame.length
    this.#appended++
  }

  /** Zeros where frames will be; all there may be is what an older generation left. */
  #makeSpace(upTo: number): void {
    const made = this.#madeBytes[this.#current]
    if (upTo <= made) return
    const from = Math.max(made, this.#position)
    const step = Math.min(Math.max(FIRST_STEP_BYTES, from), LARGEST_STEP_BYTES)
    const end = Math.min(Math.max(upTo, from + step), this.#areaBytes)
    const position = this.#areaPosition(this.#current) + HEADER_REGION_BYTES + from
    this.#file.writeSync(Buffer.alloc(end - from), 0, end - from, position)
    this.#madeBytes[this.#current] = end
  }

  #areaPosition(place: 0 | 1): number {
    return areaPosition(place, this.#areaBytes)
  }

  #beginArea(place: 0 | 1, generation: number, oldestNeeded: number): void {
    const header = { generation, bootId: this.#bootId, oldestNeeded, previousEnd: this.#position, failed: false }
    this.#areas[place] = { ...header, seed: this.#writeHeader(place, header) }
    this.#current = place
    this.#position = 0
  }

  /** checksum (4), zero (1), length of the boot id (1), generation (6), boot id (64), oldest needed (6), previous end (6). */
  #writeHeader(place: 0 | 1, area: Omit<Area, 'seed'>): number {
    const bytes = Buffer.alloc(HEADER_BYTES)
    bytes.writeUInt8(bytes.write(area.bootId, 12, BOOT_ID_BYTES), 5)
    bytes.writeUIntLE(area.generation, 6, 6)
    bytes.writeUIntLE(area.oldestNeeded, 12 + BOOT_ID_BYTES, 6)
    bytes.writeUIntLE(area.previousEnd, 18 + BOOT_ID_BYTES, 6)
    const seed = crc32(bytes.subarray(4), this.#identitySeed)
    bytes.writeUInt32LE(seed, 0)
    this.#file.writeSync(bytes, 0, HEADER_BYTES, this.#areaPosition(place))
    return seed
  }

  /** undefined: never used, or torn while it was written, which happens before any frame that it heads is flushed. */
  #readHeader(place: 0 | 1): Area | undefined {
    const bytes = Buffer.alloc(2 * HEADER_BYTES)
    this.#file.readSync(bytes, 0, bytes.length, this.#areaPosition(place))
    const header = bytes.subarray(0, HEADER_BYTES)
    const seed = header.readUInt32LE(0)
    const bootIdLength = header.readUInt8(5)
    if (crc32(header.subarray(4), this.#identitySeed) !== seed || bootIdLength > BOOT_ID_BYTES) return undefined
    return {
      generation: header.readUIntLE(6, 6),
      bootId: header.toString('utf8', 12, 12 + bootIdLength),
      oldestNeeded: header.readUIntLE(12 + BOOT_ID_BYTES, 6),
      previousEnd: header.readUIntLE(18 + BOOT_ID_BYTES, 6),
      failed: bytes.readUInt32LE(HEADER_BYTES) === failedMark(seed),
      seed
    }
  }
}

function recordOf(kind: number, start: number, count: number): LogRecord {
  return { start, count, state: kind === ENTRY.content ? SECTOR_DATA : (kind as SectorState) }
}

/** first sector or generation (6), kind (1), zero (1), number of sectors or place in the area (4), zeros. */
function writeEntry(bytes: Buffer, at: number, kind: number, start: number, count: number): void {
  bytes.writeUIntLE(start, at, 6)
  bytes.writeUInt8(kind, at + 6)
  bytes.writeUInt32LE(count, at + 8)
}

function newestOf([a, b]: readonly [Area | undefined, Area | undefined]): Area | undefined {
  if (a === undefined || b === undefined) return a ?? b
  return a.generation > b.generation ? a : b
}

function isBefore(one: LogMark, other: LogMark): boolean {
  return one.generation < other.generation || (one.generation === other.generation && one.position < other.position)
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
