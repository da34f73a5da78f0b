/**
 * The log of a layer: what was acknowledged or flushed and is not in the map file yet.
 *
 * It is a row of **frames**, each of which is one append (layer-log-frames.ts) and says some of this:
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
 * The frames lie in two areas of the file that take turns (layer-log-areas.ts). Each use of one is a **generation**, which
 * names where the one before it ended. A checkpoint (layer.ts) begins one, brings all older ones into the map file, and
 * says `obsolete`; only then their area is free.
 *
 * Owns: what is to be appended yet, how far the log is durable and to be believed. Knows nothing of what the entries mean
 * to the map (layer.ts).
 */
import { RowanError } from '../errors.ts'
import type { LayerFile } from './layer-files.ts'
import { checkIdentity, checkSize, checksumSeed, encodeIdentity, type LayerIdentity } from './layer-identity.ts'
import { BOOT_ID_BYTES, type LogArea, LogAreas } from './layer-log-areas.ts'
import { contentLength, ENTRY, ENTRY_BYTES, FRAME_HEADER_BYTES, readEntries, writeEntry } from './layer-log-frames.ts'
import { SECTOR_BYTES, SECTOR_DATA, type SectorState } from './layer-map.ts'
import type { SyncPlace } from './sync-place.ts'

/** What a log says about a run of sectors. */
export interface LogRecord {
  start: number
  count: number
  state: SectorState
}

/** A place between two frames. */
interface LogMark {
  generation: number
  position: number
}

export interface SectorRange {
  start: number
  count: number
}

/** Sectors that one entry can speak of: 2 TiB. */
const MAX_COUNT = 2 ** 32 - 1
/** A million scattered writes, or 3,500 flushes of 4 KiB, before a checkpoint is due. */
export const DEFAULT_LOG_AREA_BYTES = 16 * 1024 * 1024
/** Kept in each area for barriers and `obsolete`, of which there is at most one for each other frame. */
const CONTROL_ROOM_BYTES = 512
/** Entries that wait for `settle`, with their header; more are appended by themselves. */
const PENDING_BYTES = 16 * 1024

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
  readonly #areas: LogAreas
  readonly #areaBytes: number
  readonly #diskBytes: number
  /** The generations to be read, oldest first. */
  readonly #live: LogArea[] = []
  readonly #condition: 'same-boot' | 'other-boot' | 'failed'
  #barrier = NOWHERE
  #otherIsFree = true
  /** Behind the last frame that says something about sectors. */
  #contentEnd = NOWHERE
  readonly #pending = Buffer.alloc(PENDING_BYTES)
  #pendingBytes = FRAME_HEADER_BYTES
  /** Of the last entry that is pending, to join the next one to it. */
  #lastEnd = -1
  #lastCount = 0
  #lastKind = 0
  #appended = 0
  #synced = 0

  private constructor(file: LayerFile, identity: LayerIdentity, bootId: string, areaBytes: number) {
    this.#areas = new LogAreas(file, checksumSeed(encodeIdentity('log', identity)), bootId, areaBytes)
    this.#areaBytes = areaBytes
    this.#diskBytes = identity.sizeBytes
    this.#condition = this.#examine(bootId)
  }

  static sizeBytes(areaBytes: number): number {
    return LogAreas.sizeBytes(areaBytes)
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
    for (const area of this.#live) {
      this.#read(area, (kind, start, count) => {
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
    for (const area of this.#live) {
      this.#read(area, (kind, start, count, position, bytes) => {
        if (kind > ENTRY.content) return
        found = true
        const isDurable = isBefore({ generation: area.generation, position }, this.#barrier)
        if (kind === ENTRY.data && !isDurable) return
        apply(recordOf(kind, start, count))
        if (kind === ENTRY.content && !isDurable) restore(start * SECTOR_BYTES, bytes)
      })
    }
    return found
  }

  /** Begins a generation of this boot, with which all older ones end. To be synced first if there was something in them. */
  begin(): void {
    this.#areas.begin({ needsOlder: false })
    this.#otherIsFree = true
  }

  /** How full the area is that is being filled, 0 to 1. */
  get fill(): number {
    return 1 - this.roomBytes / (this.#areaBytes - CONTROL_ROOM_BYTES)
  }

  /** Bytes that may still be appended to it. */
  get roomBytes(): number {
    return this.#areaBytes - CONTROL_ROOM_BYTES - this.#areas.position - this.#pendingBytes
  }

  /** Whether sectors were spoken of that no checkpoint has brought into the map file. */
  get hasContent(): boolean {
    return !this.#otherIsFree || this.#contentEnd.generation === this.#areas.newest?.generation
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
    const entriesBytes = Math.ceil(count / MAX_COUNT) * ENTRY_BYTES
    if (this.#pendingBytes + entriesBytes > PENDING_BYTES) this.settle()
    // A full disk is noticed here, where the change can still be refused.
    this.#areas.makeSpace(this.#areas.position + this.#pendingBytes + entriesBytes)
    for (let noted = 0; noted < count; noted += this.#lastCount) {
      this.#lastCount = Math.min(count - noted, MAX_COUNT)
      writeEntry(pending, this.#pendingBytes, state, start + noted, this.#lastCount)
      this.#pendingBytes += ENTRY_BYTES
    }
    this.#lastEnd = start + count
    this.#lastKind = state
  }

  /** Appends what was noted: one write, however much it is. If it throws, all is still to be settled. */
  settle(): void {
    if (this.#pendingBytes === FRAME_HEADER_BYTES) return
    const entries = (this.#pendingBytes - FRAME_HEADER_BYTES) / ENTRY_BYTES
    this.#append(this.#pending.subarray(0, this.#pendingBytes), entries)
    this.#nothingIsPending()
  }

  /** Bytes that the content of some ranges takes. */
  static contentBytes(ranges: readonly SectorRange[]): number {
    return ranges.reduce((sum, { count }) => sum + ENTRY_BYTES + count * SECTOR_BYTES, FRAME_HEADER_BYTES)
  }

  /** Appends what was noted and the content of ranges, which `read` puts into place: one write. Flushed with the next sync. */
  appendContent(
    ranges: readonly SectorRange[],
    read: (target: Buffer, offset: number, lengthBytes: number, position: number, index: number) => void
  ): void {
    const lengths = ranges.map(({ start, count }) => contentLength(start, count, this.#diskBytes))
    const notedEnd = this.#pendingBytes
    const entriesEnd = notedEnd + ranges.length * ENTRY_BYTES
    const frame = Buffer.alloc(lengths.reduce((sum, length) => sum + length, entriesEnd))
    this.#pending.copy(frame, 0, 0, notedEnd)
    let at = entriesEnd
    for (const [index, { start, count }] of ranges.entries()) {
      writeEntry(frame, notedEnd + index * ENTRY_BYTES, ENTRY.content, start, count)
      read(frame, at, lengths[index]!, start * SECTOR_BYTES, index)
      at += lengths[index]!
    }
    this.#append(frame, (entriesEnd - FRAME_HEADER_BYTES) / ENTRY_BYTES)
    this.#nothingIsPending()
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
    if (!this.#otherIsFree || this.#areas.position === 0) return
    this.#areas.begin({ needsOlder: true })
    this.#otherIsFree = false
  }

  /** The older generations are in the map file. Their area is free once this is synced: then call `freeOlder`. */
  appendObsolete(): void {
    if (!this.#otherIsFree) this.#appendControl(ENTRY.obsolete, this.#areas.newest!.generation, 0)
  }

  freeOlder(): void {
    this.#otherIsFree = true
  }

  /** What it takes on the host's disk. */
  get allocatedBytes(): number {
    return this.#areas.file.allocatedBytes
  }

  /** All that was appended is durable. */
  get isSynced(): boolean {
    return this.#synced === this.#appended && this.#pendingBytes === FRAME_HEADER_BYTES
  }

  /** All that was appended before the call is durable when it is done. @param place - where; aside, if absent */
  async sync(place?: SyncPlace): Promise<void> {
    const appended = this.#appended
    await (place === undefined ? this.#areas.file.sync() : place.sync(this.#areas.file))
    this.#synced = Math.max(this.#synced, appended)
  }

  /** As `sync`, in this thread, before it returns. */
  syncHere(place: SyncPlace): void {
    place.syncHere(this.#areas.file)
    this.#synced = this.#appended
  }

  /** The layer failed: of this log only what was flushed is to be believed when the layer is opened again. */
  markFailed(): void {
    this.#areas.markFailed()
  }

  close(): void {
    this.#areas.close()
  }

  /** Finds what is to be read and how far it is to be believed. */
  #examine(bootId: string): 'same-boot' | 'other-boot' | 'failed' {
    const { newest, older } = this.#areas
    if (newest === undefined) return 'other-boot'
    const scans: Scan[] = []
    const scan = this.#scan(newest)
    let whole = true
    if (Math.max(newest.oldestNeeded, scan.obsoleteBelow) < newest.generation) {
      if (older?.generation === newest.generation - 1) {
        this.#live.push(older)
        scans.push(this.#scan(older))
      }
      // Otherwise the end of the older generation never reached the disk, so what comes after it was not flushed.
      whole = scans[0]?.end.position === newest.previousEnd
    }
    if (whole) {
      this.#live.push(newest)
      scans.push(scan)
    }
    for (const { barrier, end, frames } of scans) {
      if (isBefore(this.#barrier, barrier)) this.#barrier = barrier
      if (frames > 0) this.#contentEnd = end
    }
    this.#areas.goOnAt(scan.end.position)
    if (newest.failed || (older?.failed === true && scans.length === 2)) return 'failed'
    return whole && newest.bootId === bootId ? 'same-boot' : 'other-boot'
  }

  #scan(area: LogArea): Scan {
    const scan: Scan = { end: NOWHERE, barrier: NOWHERE, obsoleteBelow: 0, frames: 0 }
    const position = this.#read(area, (kind, start, count) => {
      if (kind === ENTRY.obsolete) scan.obsoleteBelow = Math.max(scan.obsoleteBelow, start)
      else if (kind !== ENTRY.barrier) scan.frames++
      else if (isBefore(scan.barrier, { generation: start, position: count })) {
        scan.barrier = { generation: start, position: count }
      }
    })
    return { ...scan, end: { generation: area.generation, position } }
  }

  /** Calls back for each entry with the place of its frame. @returns where the frames end */
  #read(
    area: LogArea,
    entry: (kind: number, start: number, count: number, position: number, content: Buffer) => void
  ): number {
    const reader = this.#areas.frames(area)
    for (let frame = reader.next(); frame !== undefined; frame = reader.next()) {
      const { position } = frame
      readEntries(frame, this.#diskBytes, (kind, start, count, content) => entry(kind, start, count, position, content))
    }
    return reader.position
  }

  #nothingIsPending(): void {
    this.#contentEnd = this.#here
    this.#pendingBytes = FRAME_HEADER_BYTES
    this.#lastEnd = -1
  }

  get #here(): LogMark {
    return { generation: this.#areas.newest!.generation, position: this.#areas.position }
  }

  #appendControl(kind: number, start: number, count: number): void {
    const frame = Buffer.alloc(FRAME_HEADER_BYTES + ENTRY_BYTES)
    writeEntry(frame, FRAME_HEADER_BYTES, kind, start, count)
    this.#append(frame, 1)
  }

  #append(frame: Buffer, entries: number): void {
    this.#areas.append(frame, entries)
    this.#appended++
  }
}

function recordOf(kind: number, start: number, count: number): LogRecord {
  return { start, count, state: kind === ENTRY.content ? SECTOR_DATA : (kind as SectorState) }
}

function isBefore(one: LogMark, other: LogMark): boolean {
  return one.generation < other.generation || (one.generation === other.generation && one.position < other.position)
}
