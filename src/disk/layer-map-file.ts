/**
 * The map of a layer on disk.
 *
 *     0        identity (512 bytes), zeros up to 4 KiB
 *     4096     presence: one bit for each page that has a record
 *     …        records, one place for each page: the 1,024 words of the page in 9 pieces
 *
 * All of it is in **pieces of 512 bytes that stand alone**: checksum, own number, 456 bytes of content. At power loss a
 * disk leaves each sector old or new, so each piece is valid whatever was torn, and each pair of bits in it says what
 * was true at one flush or at the next, for which the data is durable already. A checksum over a whole page would turn
 * a torn page into a corrupt one; without any, a rotten map would silently show old data. A piece of zeros is a hole:
 * all its sectors are absent.
 *
 * The place of a record is fixed, so the file never moves anything, its size never changes (a file that was cut short
 * is noticed), and a page can be read alone. The presence bits tell which of up to a million places have something: if
 * those are no more than may stay in memory, all are read at open, and damage is noticed there; else each when it is
 * asked for. A bit without its record reads as absent, so a bit is made durable *before* its record is written
 * (`writePresence`, then `sync`, then `write`). The other way round, a record that outlives a power loss without its bit would be
 * overlooked, and come back from the dead when the page is next written and torn.
 *
 * Owns: the map file. Does not decide when to write it (layer.ts).
 */
import { endianness } from 'node:os'
import { crc32 } from 'node:zlib'
import { RowanError } from '../errors.ts'
import type { LayerFile } from './layer-files.ts'
import { checkIdentity, checkSize, checksumSeed, encodeIdentity, type LayerIdentity } from './layer-identity.ts'
import { type FrozenPage, type LayerMap, SECTOR_BYTES, SECTORS_PER_PAGE, WORDS_PER_PAGE } from './layer-map.ts'

export const PIECE_BYTES = 512
const CONTENT_OFFSET = 8
const CONTENT_WORDS = 114
const CONTENT_BITS = CONTENT_WORDS * 32
const PIECES_PER_PAGE = Math.ceil(WORDS_PER_PAGE / CONTENT_WORDS)
const RECORD_BYTES = PIECES_PER_PAGE * PIECE_BYTES
const PRESENCE_OFFSET = 4096
/** Records of neighbouring pages that are read or written with one call (288 KiB). */
const MAX_RECORDS_PER_CALL = 64

export class LayerMapFile {
  readonly #file: LayerFile
  readonly #seed: number
  readonly #pageCount: number
  readonly #presence: Int32Array
  readonly #changedPresence = new Set<number>()
  readonly #record = Buffer.alloc(RECORD_BYTES)

  private constructor(file: LayerFile, identity: LayerIdentity) {
    this.#file = file
    this.#seed = checksumSeed(encodeIdentity('map', identity))
    this.#pageCount = pageCountOf(identity.sizeBytes)
    this.#presence = new Int32Array(presencePieces(this.#pageCount) * CONTENT_WORDS)
  }

  static sizeBytes(diskBytes: number): number {
    const pages = pageCountOf(diskBytes)
    return recordPosition(pages, pages)
  }

  static create(file: LayerFile, identity: LayerIdentity): void {
    const bytes = encodeIdentity('map', identity)
    file.writeSync(bytes, 0, bytes.length, 0)
  }

  /** LAYER_CORRUPT, naming the file, for a wrong size, identity, or content. */
  static open(file: LayerFile, identity: LayerIdentity): LayerMapFile {
    checkSize(file, LayerMapFile.sizeBytes(identity.sizeBytes))
    checkIdentity(file, 0, 'map', identity)
    const mapFile = new LayerMapFile(file, identity)
    mapFile.#readPresence()
    return mapFile
  }

  /** Whether a page has a record; without one all its sectors are absent. */
  hasPage(page: number): boolean {
    return this.#isPresent(page)
  }

  /** The numbers of the pages that have a record, ascending. */
  *pages(): Generator<number> {
    for (const [index, word] of this.#presence.entries()) {
      if (word === 0) continue
      for (let bit = 0; bit < 32; bit++) if (((word >>> bit) & 1) === 1) yield index * 32 + bit
    }
  }

  /** The words of a page that has a record. LAYER_CORRUPT, STORE_IO. */
  readPage(page: number): Int32Array {
    this.#file.readSync(this.#record, 0, RECORD_BYTES, this.#positionOf(page))
    return this.#decodePage(page, this.#record, 0)
  }

  /** Puts every page that has a record into the map; if they are too many to stay there, it will ask for each. */
  load(map: LayerMap): void {
    if (this.#presentPages() > map.maxCleanPages) {
      for (const page of this.pages()) map.leaveAway(page)
      return
    }
    const bytes = Buffer.alloc(Math.min(MAX_RECORDS_PER_CALL, this.#pageCount) * RECORD_BYTES)
    for (let page = 0; page < this.#pageCount; ) {
      if (!this.#isPresent(page)) {
        page++
        continue
      }
      let count = 1
      while (count < MAX_RECORDS_PER_CALL && page + count < this.#pageCount && this.#isPresent(page + count)) count++
      this.#file.readSync(bytes, 0, count * RECORD_BYTES, this.#positionOf(page))
      for (let index = 0; index < count; index++) {
        map.load(page + index, this.#decodePage(page + index, bytes, index * RECORD_BYTES))
      }
      page += count
    }
  }

  /** Every page with a record, and the presence bits, as to be written again: what is in the cache may not be on disk. */
  markAllChanged(map: LayerMap): void {
    for (let page = 0; page < this.#pageCount; page++) {
      if (this.#isPresent(page)) map.markChanged(page * SECTORS_PER_PAGE, page * SECTORS_PER_PAGE + 1)
    }
    for (let piece = 0; piece < presencePieces(this.#pageCount); piece++) this.#changedPresence.add(piece)
  }

  /** Sets the presence bits of pages. Returns whether there is something to sync before they are written. */
  async writePresence(pages: readonly FrozenPage[]): Promise<boolean> {
    for (const page of pages) this.#setPresent(page.number)
    const changed = this.#changedPresence.size > 0
    for (const piece of this.#changedPresence) {
      const bytes = Buffer.alloc(PIECE_BYTES)
      const words = this.#presence.subarray(piece * CONTENT_WORDS, (piece + 1) * CONTENT_WORDS)
      const position = PRESENCE_OFFSET + piece * PIECE_BYTES
      this.#encodePiece(position, bytes, 0, words)
      await this.#file.write(bytes, position)
      this.#changedPresence.delete(piece)
    }
    return changed
  }

  /** Writes pages, ascending by number, whose presence is durable. Durable after `sync`. */
  async write(pages: readonly FrozenPage[]): Promise<void> {
    for (let first = 0; first < pages.length; ) {
      let count = 1
      while (
        count < MAX_RECORDS_PER_CALL &&
        first + count < pages.length &&
        pages[first + count]!.number === pages[first]!.number + count
      ) {
        count++
      }
      const bytes = Buffer.alloc(count * RECORD_BYTES)
      for (let index = 0; index < count; index++) this.#encodePage(pages[first + index]!, bytes, index * RECORD_BYTES)
      await this.#file.write(bytes, this.#positionOf(pages[first]!.number))
      first += count
    }
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

  #presentPages(): number {
    let count = 0
    for (const _ of this.pages()) count++
    return count
  }

  #isPresent(page: number): boolean {
    return ((this.#presence[page >>> 5]! >>> (page & 31)) & 1) === 1
  }

  #setPresent(page: number): void {
    if (this.#isPresent(page)) return
    this.#presence[page >>> 5]! |= 1 << (page & 31)
    this.#changedPresence.add(Math.floor(page / CONTENT_BITS))
  }

  #readPresence(): void {
    const pieces = presencePieces(this.#pageCount)
    const bytes = Buffer.alloc(pieces * PIECE_BYTES)
    this.#file.readSync(bytes, 0, bytes.length, PRESENCE_OFFSET)
    for (let piece = 0; piece < pieces; piece++) {
      const words = this.#presence.subarray(piece * CONTENT_WORDS, (piece + 1) * CONTENT_WORDS)
      this.#decodePiece(PRESENCE_OFFSET + piece * PIECE_BYTES, bytes, piece * PIECE_BYTES, words)
    }
  }

  #encodePage(page: FrozenPage, bytes: Buffer, offset: number): void {
    for (let piece = 0; piece < PIECES_PER_PAGE; piece++) {
      const words = page.words.subarray(piece * CONTENT_WORDS, (piece + 1) * CONTENT_WORDS)
      const inRecord = piece * PIECE_BYTES
      this.#encodePiece(this.#positionOf(page.number) + inRecord, bytes, offset + inRecord, words)
    }
  }

  #decodePage(page: number, bytes: Buffer, offset: number): Int32Array {
    const words = new Int32Array(WORDS_PER_PAGE)
    for (let piece = 0; piece < PIECES_PER_PAGE; piece++) {
      const part = words.subarray(piece * CONTENT_WORDS, (piece + 1) * CONTENT_WORDS)
      const inRecord = piece * PIECE_BYTES
      this.#decodePiece(this.#positionOf(page) + inRecord, bytes, offset + inRecord, part)
    }
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

  /** checksum of the rest (4), the piece's place in the file in 512 bytes (4), words (little-endian), zeros. */
  #encodePiece(position: number, bytes: Buffer, offset: number, words: Int32Array): void {
    bytes.writeUInt32LE(position / PIECE_BYTES, offset + 4)
    bytes.set(littleEndian(words), offset + CONTENT_OFFSET)
    bytes.writeUInt32LE(crc32(bytes.subarray(offset + 4, offset + PIECE_BYTES), this.#seed), offset)
  }

  #decodePiece(position: number, bytes: Buffer, offset: number, words: Int32Array): void {
    const piece = bytes.subarray(offset, offset + PIECE_BYTES)
    const checksum = piece.readUInt32LE(0)
    if (checksum === 0 && HOLE.equals(piece)) return
    if (crc32(piece.subarray(4), this.#seed) !== checksum || piece.readUInt32LE(4) !== position / PIECE_BYTES) {
      throw new RowanError('LAYER_CORRUPT', `${this.#file.path}: the 512 bytes at ${position} are damaged`)
    }
    const content = piece.subarray(CONTENT_OFFSET, CONTENT_OFFSET + words.byteLength)
    if (isBigEndian) content.swap32()
    bytesOf(words).set(content)
  }
}

const HOLE = Buffer.alloc(PIECE_BYTES)

/** Words are copied as bytes, which halved the time to open a large layer; nearly all hosts are little-endian, as the file is. */
const isBigEndian = endianness() === 'BE'

function bytesOf(words: Int32Array): Buffer {
  return Buffer.from(words.buffer as ArrayBuffer, words.byteOffset, words.byteLength)
}

function littleEndian(words: Int32Array): Buffer {
  return isBigEndian ? bytesOf(words.slice()).swap32() : bytesOf(words)
}

function pageCountOf(diskBytes: number): number {
  return Math.ceil(Math.ceil(diskBytes / SECTOR_BYTES) / SECTORS_PER_PAGE)
}

function presencePieces(pageCount: number): number {
  return Math.ceil(pageCount / CONTENT_BITS)
}

function recordPosition(page: number, pageCount: number): number {
  const presenceBytes = Math.ceil((presencePieces(pageCount) * PIECE_BYTES) / 4096) * 4096
  return PRESENCE_OFFSET + presenceBytes + page * RECORD_BYTES
}
