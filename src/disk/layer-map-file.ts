/**
 * The map of a layer on disk.
 *
 *     0        identity (512 bytes), zeros up to 4 KiB
 *     4096     in the first format presence: one bit for each page that has a record; not used any more
 *     …        records, one place for each page: the 1,024 words of the page in 9 pieces
 *     …        directory, at the next 4 KiB: two bits for each page, the state of all its sectors, or that they differ
 *
 * All of it is in pieces of 512 bytes that stand alone and are each old or new after a power loss (layer-map-pieces.ts).
 *
 * A page has a record only if its sectors differ: one whose sectors are all absent, data or zero is two bits. So a trim
 * of 8 TiB is 288 KiB of directory, where a record for each page would be 4.8 GB. The place of a record is fixed, so the
 * file never moves anything, its size never changes (a file that was cut short is noticed), and a page can be read alone.
 * If the records are no more than may stay in memory, all are read at open, and damage is noticed there; else each when it
 * is asked for.
 *
 * **A record that the directory does not point at means nothing**: it is old, or torn. So it is written and made durable
 * *before* the directory says that the sectors differ (`prepare`). The other way round, a power loss would show what a page was
 * long ago. A record that the directory points at is overwritten in place: each of its pieces is old or new. `write` does that, and
 * writes the directory.
 *
 * A file of the first format, which had a record for each page with anything in it, is taken over before it is first
 * written to: a directory is put behind the records, made durable, and then the identity says that it counts. Until then it is
 * left as it is.
 *
 * Owns: the map file. Does not decide when to write it (layer-checkpoints.ts).
 */
import { asRowanError, RowanError } from '../errors.ts'
import type { LayerFile } from './layer-files.ts'
import {
  checkIdentity,
  checkSize,
  checksumSeed,
  encodeIdentity,
  type LayerIdentity,
  readIdentity
} from './layer-identity.ts'
import {
  type FrozenPage,
  type LayerMap,
  SECTOR_ABSENT,
  SECTOR_BYTES,
  SECTORS_PER_PAGE,
  type SectorState,
  uniformPage,
  uniformState,
  WORDS_PER_PAGE
} from './layer-map.ts'
import { MapPieces, PIECE_BYTES, PIECE_WORDS, piecesFor } from './layer-map-pieces.ts'

const RECORD_BYTES = piecesFor(WORDS_PER_PAGE) * PIECE_BYTES
const PRESENCE_OFFSET = 4096
/** Records of neighbouring pages that are read or written with one call (288 KiB). */
const MAX_RECORDS_PER_CALL = 64
/** In the directory, beside the states of sectors: the page has a record. */
const DIFFER = 3
const PAGES_PER_WORD = 16
/**
 * A merge may write while somebody reads: the same disk's thread, or, for an export, another one. Whole sectors are promised for power losses
 * alone; a reader gets half of what is being written (measured on ext4: within a piece, 116 of 40,000 reads of a record that is written all the
 * time). What is damaged stays so, however often it is read: 0.2 ms.
 */
const MAX_READS = 64

export class LayerMapFile {
  readonly #file: LayerFile
  readonly #identity: LayerIdentity
  readonly #pieces: MapPieces
  readonly #pageCount: number
  readonly #directory: Int32Array
  readonly #changedPieces = new Set<number>()
  readonly #record = Buffer.alloc(RECORD_BYTES)
  /** Whether the directory is in the file on the disk, and the identity says so, for certain. */
  #isTakenOver = true

  private constructor(file: LayerFile, identity: LayerIdentity) {
    this.#file = file
    this.#identity = identity
    // That of the first format also in files of the second, whose records may be older.
    this.#pieces = new MapPieces(file.path, checksumSeed(encodeIdentity('map', identity, 1)))
    this.#pageCount = pageCountOf(identity.sizeBytes)
    this.#directory = new Int32Array(directoryPieces(this.#pageCount) * PIECE_WORDS)
  }

  static sizeBytes(diskBytes: number): number {
    const pages = pageCountOf(diskBytes)
    return directoryPosition(pages) + directoryPieces(pages) * PIECE_BYTES
  }

  static create(file: LayerFile, identity: LayerIdentity): void {
    const bytes = encodeIdentity('map', identity)
    file.writeSync(bytes, 0, bytes.length, 0)
  }

  /** LAYER_CORRUPT, naming the file, for a wrong size, identity, or directory. */
  static open(file: LayerFile, identity: LayerIdentity): LayerMapFile {
    const isFirst = readIdentity(file, 0)?.format === 1
    const sizeBytes = LayerMapFile.sizeBytes(identity.sizeBytes)
    const firstBytes = recordPosition(pageCountOf(identity.sizeBytes), pageCountOf(identity.sizeBytes))
    // One that was being taken over is as long as it came.
    if (!isFirst || file.sizeBytes > sizeBytes) checkSize(file, sizeBytes)
    else if (file.sizeBytes < firstBytes) checkSize(file, firstBytes)
    checkIdentity(file, 0, 'map', identity, isFirst ? 1 : undefined)
    const mapFile = new LayerMapFile(file, identity)
    if (isFirst) mapFile.#readPresence()
    else mapFile.#readDirectory()
    return mapFile
  }

  get path(): string {
    return this.#file.path
  }

  /** Whether a page has anything in it; if not, all its sectors are absent. */
  hasPage(page: number): boolean {
    return this.#entry(page) !== SECTOR_ABSENT
  }

  /** The numbers of the pages that have anything in them, ascending. */
  *pages(): Generator<number> {
    for (const [index, word] of this.#directory.entries()) {
      if (word === 0) continue
      for (let at = 0; at < PAGES_PER_WORD; at++) {
        if (((word >>> (at * 2)) & 3) !== SECTOR_ABSENT) yield index * PAGES_PER_WORD + at
      }
    }
  }

  /** The state of all sectors of a page; undefined if they differ, or that is not known. */
  uniformState(page: number): SectorState | undefined {
    const entry = this.#entry(page)
    return entry === DIFFER ? undefined : (entry as SectorState)
  }

  /** The words of a page, not to be written to. LAYER_CORRUPT, STORE_IO. */
  readPage(page: number): Int32Array {
    const uniform = this.uniformState(page)
    if (uniform !== undefined) return uniformPage(uniform)
    return wholeRead(() => {
      this.#file.readSync(this.#record, 0, RECORD_BYTES, this.#positionOf(page))
      return this.#decodePage(page, this.#record, 0)
    })
  }

  /** Puts every page into the map that has anything in it; if those to be read are too many to stay there, it will ask for each. */
  load(map: LayerMap): void {
    const records: number[] = []
    for (const page of this.pages()) {
      const uniform = this.uniformState(page)
      if (uniform === undefined) records.push(page)
      else map.load(page, uniformPage(uniform))
    }
    if (records.length > map.maxCleanPages) for (const page of records) map.leaveAway(page)
    else this.#loadRecords(map, records)
  }

  /** All that is in the file, as to be written again: what is in the cache may not be on disk. */
  markAllChanged(map: LayerMap): void {
    for (const page of this.pages()) map.markChanged(page * SECTORS_PER_PAGE, page * SECTORS_PER_PAGE + 1)
    this.writeDirectoryAgain()
  }

  /** The next `prepare` writes all of the directory: what the cache says of it may not be on the disk. */
  writeDirectoryAgain(): void {
    this.#isTakenOver = false
  }

  /**
   * Writes records of pages that have none, and makes them durable. What the directory said before must be.
   *
   * @param pages - those that `write` is to write
   * @param sync - `this.sync`, or what stands for it
   */
  async prepare(pages: readonly FrozenPage[], sync: () => Promise<void> = () => this.sync()): Promise<void> {
    if (pages.length === 0) return
    if (!this.#isTakenOver) await this.#takeOver(sync)
    const recordless = pages.filter(page => hasRecord(page) && this.#entry(page.number) !== DIFFER)
    if (recordless.length === 0) return
    await this.#writeRecords(recordless)
    await sync()
  }

  /** Writes pages, ascending by number, after `prepare`. Durable after `sync`. */
  async write(pages: readonly FrozenPage[]): Promise<void> {
    await this.#writeRecords(pages.filter(page => hasRecord(page) && this.#entry(page.number) === DIFFER))
    for (const { number, words } of pages) this.#setEntry(number, uniformState(words) ?? DIFFER)
    await this.#writeDirectory()
  }

  sync(): Promise<void> {
    return this.#file.sync()
  }

  close(): void {
    this.#file.close()
  }

  #positionOf(page: number): number {
    return recordPosition(page, this.#pageCount)
  }

  #entry(page: number): number {
    return (this.#directory[page >>> 4]! >>> ((page & 15) << 1)) & 3
  }

  #setEntry(page: number, entry: number): void {
    if (this.#entry(page) === entry) return
    const shift = (page & 15) << 1
    this.#directory[page >>> 4] = (this.#directory[page >>> 4]! & ~(3 << shift)) | (entry << shift)
    this.#changedPieces.add(Math.floor(page / (PIECE_WORDS * PAGES_PER_WORD)))
  }

  async #takeOver(sync: () => Promise<void>): Promise<void> {
    for (let piece = 0; piece < directoryPieces(this.#pageCount); piece++) this.#changedPieces.add(piece)
    await this.#writeDirectory()
    await sync()
    await this.#file.write(encodeIdentity('map', this.#identity), 0)
    await sync()
    this.#isTakenOver = true
  }

  #readPresence(): void {
    const presence = new Int32Array(presencePieces(this.#pageCount) * PIECE_WORDS)
    this.#readPieces(PRESENCE_OFFSET, presence)
    for (let page = 0; page < this.#pageCount; page++) {
      if (((presence[page >>> 5]! >>> (page & 31)) & 1) === 1) this.#setEntry(page, DIFFER)
    }
    this.#isTakenOver = false
  }

  #readDirectory(): void {
    this.#readPieces(directoryPosition(this.#pageCount), this.#directory)
  }

  #readPieces(position: number, words: Int32Array): void {
    const bytes = Buffer.alloc(piecesFor(words.length) * PIECE_BYTES)
    wholeRead(() => {
      this.#file.readSync(bytes, 0, bytes.length, position)
      this.#pieces.decode(position, words, bytes, 0)
    })
  }

  /** Writes the pieces that have changed, those in a row with one call. */
  async #writeDirectory(): Promise<void> {
    const changed = [...this.#changedPieces].sort((a, b) => a - b)
    for (const { first, count } of rows(changed, changed.length)) {
      const piece = changed[first]!
      const bytes = Buffer.alloc(count * PIECE_BYTES)
      const position = directoryPosition(this.#pageCount) + piece * PIECE_BYTES
      this.#pieces.encode(
        position,
        this.#directory.subarray(piece * PIECE_WORDS, (piece + count) * PIECE_WORDS),
        bytes,
        0
      )
      await this.#file.write(bytes, position)
      for (let index = 0; index < count; index++) this.#changedPieces.delete(piece + index)
    }
  }

  #loadRecords(map: LayerMap, pages: readonly number[]): void {
    const bytes = Buffer.alloc(Math.min(MAX_RECORDS_PER_CALL, pages.length) * RECORD_BYTES)
    for (const { first, count } of rows(pages, MAX_RECORDS_PER_CALL)) {
      this.#file.readSync(bytes, 0, count * RECORD_BYTES, this.#positionOf(pages[first]!))
      for (let index = 0; index < count; index++) {
        const page = pages[first]! + index
        map.load(page, this.#decodePage(page, bytes, index * RECORD_BYTES))
      }
    }
  }

  async #writeRecords(pages: readonly FrozenPage[]): Promise<void> {
    const numbers = pages.map(({ number }) => number)
    for (const { first, count } of rows(numbers, MAX_RECORDS_PER_CALL)) {
      const bytes = Buffer.alloc(count * RECORD_BYTES)
      for (let index = 0; index < count; index++) {
        const { number, words } = pages[first + index]!
        this.#pieces.encode(this.#positionOf(number), words, bytes, index * RECORD_BYTES)
      }
      await this.#file.write(bytes, this.#positionOf(numbers[first]!))
    }
  }

  #decodePage(page: number, bytes: Buffer, offset: number): Int32Array {
    const words = new Int32Array(WORDS_PER_PAGE)
    this.#pieces.decode(this.#positionOf(page), words, bytes, offset)
    for (const word of words) {
      if ((word & (word >>> 1) & 0x55555555) !== 0) {
        throw new RowanError(
          'LAYER_CORRUPT',
          `${this.#file.path}: page ${page} holds a sector state that does not exist`
        )
      }
    }
    return words
  }
}

/** Reads once more what is not whole, so many times. */
function wholeRead<T>(read: () => T): T {
  for (let reads = 1; ; reads++) {
    try {
      return read()
    } catch (error) {
      if (reads === MAX_READS || asRowanError(error).code !== 'LAYER_CORRUPT') throw error
    }
  }
}

function hasRecord({ words }: FrozenPage): boolean {
  return uniformState(words) === undefined
}

/** Numbers that follow each other, as places in an ascending list. */
function* rows(numbers: readonly number[], maxCount: number): Generator<{ first: number; count: number }> {
  for (let first = 0; first < numbers.length; ) {
    let count = 1
    while (count < maxCount && numbers[first + count] === numbers[first]! + count) count++
    yield { first, count }
    first += count
  }
}

function pageCountOf(diskBytes: number): number {
  return Math.ceil(Math.ceil(diskBytes / SECTOR_BYTES) / SECTORS_PER_PAGE)
}

function presencePieces(pageCount: number): number {
  return piecesFor(Math.ceil(pageCount / 32))
}

function directoryPieces(pageCount: number): number {
  return piecesFor(Math.ceil(pageCount / PAGES_PER_WORD))
}

function recordPosition(page: number, pageCount: number): number {
  return PRESENCE_OFFSET + wholeBlocks(presencePieces(pageCount) * PIECE_BYTES) + page * RECORD_BYTES
}

function directoryPosition(pageCount: number): number {
  return wholeBlocks(recordPosition(pageCount, pageCount))
}

function wholeBlocks(bytes: number): number {
  return Math.ceil(bytes / 4096) * 4096
}
