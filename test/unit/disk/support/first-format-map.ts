/**
 * Writes a layer's map as the first release of rowan did: a bit for each page with anything in it, and a record for each of those.
 */
import { crc32 } from 'node:zlib'
import type { LayerFile } from '../../../../src/disk/layer-files.ts'
import { checksumSeed, encodeIdentity, type LayerIdentity } from '../../../../src/disk/layer-identity.ts'

const PAGE_SECTORS = 16_384
const PIECE_BYTES = 512
const CONTENT_BYTES = 456
const PIECES_PER_PAGE = 9

function layout({ sizeBytes }: LayerIdentity) {
  const pages = Math.ceil(Math.ceil(sizeBytes / 512) / PAGE_SECTORS)
  const presencePieces = Math.ceil(pages / (CONTENT_BYTES * 8))
  const recordsAt = 4096 + Math.ceil((presencePieces * PIECE_BYTES) / 4096) * 4096
  return { pages, presencePieces, recordsAt, sizeBytes: recordsAt + pages * PIECES_PER_PAGE * PIECE_BYTES }
}

export function firstFormatMapBytes(identity: LayerIdentity): number {
  return layout(identity).sizeBytes
}

/**
 * @param pages - the 1,024 words of each page that has a record; undefined for one whose record never reached the disk
 */
export function writeFirstFormatMap(
  file: LayerFile,
  identity: LayerIdentity,
  pages: ReadonlyMap<number, Int32Array | undefined>
): void {
  const { presencePieces, recordsAt } = layout(identity)
  const identityBytes = encodeIdentity('map', identity, 1)
  const seed = checksumSeed(identityBytes)
  file.writeSync(identityBytes, 0, PIECE_BYTES, 0)
  const writePieces = (position: number, content: Buffer) => {
    for (let piece = 0; piece * CONTENT_BYTES < content.length; piece++) {
      const bytes = Buffer.alloc(PIECE_BYTES)
      content.copy(bytes, 8, piece * CONTENT_BYTES, (piece + 1) * CONTENT_BYTES)
      bytes.writeUInt32LE(position / PIECE_BYTES + piece, 4)
      bytes.writeUInt32LE(crc32(bytes.subarray(4), seed), 0)
      file.writeSync(bytes, 0, PIECE_BYTES, position + piece * PIECE_BYTES)
    }
  }
  const presence = Buffer.alloc(presencePieces * CONTENT_BYTES)
  for (const [page, words] of pages) {
    presence[page >>> 3]! |= 1 << (page & 7)
    if (words === undefined) continue
    const record = Buffer.alloc(words.length * 4)
    for (const [index, word] of words.entries()) record.writeInt32LE(word, index * 4)
    writePieces(recordsAt + page * PIECES_PER_PAGE * PIECE_BYTES, record)
  }
  writePieces(4096, presence)
}
