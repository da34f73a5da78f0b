/**
 * The pieces of 512 bytes that the map file of a layer is made of: checksum (4), own number (4), 456 bytes of content.
 *
 * At power loss a disk leaves each sector old or new, so a piece is valid whatever was torn: what it says was true at one
 * flush or at the next. A checksum over a whole page would turn a torn page into a corrupt one; without any, a rotten map
 * would silently show old data. A piece of zeros is a hole, and says nothing: all its words are 0.
 */
import { endianness } from 'node:os'
import { crc32 } from 'node:zlib'
import { RowanError } from '../errors.ts'

export const PIECE_BYTES = 512
const CONTENT_OFFSET = 8
/** Words of 4 bytes in a piece. */
export const PIECE_WORDS = 114

const HOLE = Buffer.alloc(PIECE_BYTES)

/** How many pieces so many words take. */
export function piecesFor(words: number): number {
  return Math.ceil(words / PIECE_WORDS)
}

/** Words are copied as bytes, which halved the time to open a large layer; nearly all hosts are little-endian, as the file is. */
const isBigEndian = endianness() === 'BE'

export class MapPieces {
  readonly #path: string
  readonly #seed: number

  /**
   * @param path - of the file, for messages
   * @param seed - of the checksums, so that nothing of another layer can pass
   */
  constructor(path: string, seed: number) {
    this.#path = path
    this.#seed = seed
  }

  /** Pieces in a row, as many as the words take. `position`: in the file. */
  encode(position: number, words: Int32Array, bytes: Buffer, offset: number): void {
    for (let piece = 0; piece < piecesFor(words.length); piece++) {
      const at = offset + piece * PIECE_BYTES
      const part = words.subarray(piece * PIECE_WORDS, (piece + 1) * PIECE_WORDS)
      bytes.writeUInt32LE(position / PIECE_BYTES + piece, at + 4)
      bytes.set(isBigEndian ? bytesOf(part.slice()).swap32() : bytesOf(part), at + CONTENT_OFFSET)
      bytes.writeUInt32LE(crc32(bytes.subarray(at + 4, at + PIECE_BYTES), this.#seed), at)
    }
  }

  /** Fills `words`, which are 0, from as many pieces as they take. LAYER_CORRUPT for one that is damaged. */
  decode(position: number, words: Int32Array, bytes: Buffer, offset: number): void {
    for (let piece = 0; piece < piecesFor(words.length); piece++) {
      const at = offset + piece * PIECE_BYTES
      const checksum = bytes.readUInt32LE(at)
      if (checksum === 0 && HOLE.equals(bytes.subarray(at, at + PIECE_BYTES))) continue
      const number = position / PIECE_BYTES + piece
      const found = crc32(bytes.subarray(at + 4, at + PIECE_BYTES), this.#seed)
      if (found !== checksum || bytes.readUInt32LE(at + 4) !== number) {
        throw new RowanError('LAYER_CORRUPT', `${this.#path}: the 512 bytes at ${number * PIECE_BYTES} are damaged`)
      }
      const part = words.subarray(piece * PIECE_WORDS, (piece + 1) * PIECE_WORDS)
      const content = bytes.subarray(at + CONTENT_OFFSET, at + CONTENT_OFFSET + part.byteLength)
      if (isBigEndian) content.swap32()
      bytesOf(part).set(content)
    }
  }
}

function bytesOf(words: Int32Array): Buffer {
  return Buffer.from(words.buffer as ArrayBuffer, words.byteOffset, words.byteLength)
}
