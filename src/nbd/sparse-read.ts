/**
 * How a read is cut where parts of it are known to be zeros: those need not be read, sent or received.
 */
import type { Extent } from '../disk/block-device.ts'

/** Parts of one reply: each costs the client a header, and this server a look. */
export const MAX_READ_PIECES = 16
/** A shorter hole is sent as data: what it would save is not worth a chunk. */
const MIN_HOLE_BYTES = 4096

/** A part of a read: a hole, or bytes to be read. */
export interface ReadPiece {
  offset: number
  lengthBytes: number
  isHole: boolean
}

/**
 * The pieces of a read, in order and without a gap; undefined where it is data from end to end.
 *
 * @param extents - of the range from its start on; what they leave off is taken for data
 */
export function readPieces(extents: Extent[], offset: number, lengthBytes: number): ReadPiece[] | undefined {
  // Most reads: nothing to cut.
  if (!extents.some(extent => extent.isZero)) return undefined
  const pieces: ReadPiece[] = []
  const end = offset + lengthBytes
  let at = offset
  const add = (bytes: number, isHole: boolean) => {
    const last = pieces.at(-1)
    if (last?.isHole === isHole) last.lengthBytes += bytes
    else pieces.push({ offset: at, lengthBytes: bytes, isHole })
    at += bytes
  }
  for (const extent of extents) {
    add(extent.lengthBytes, extent.isZero && (extent.lengthBytes >= MIN_HOLE_BYTES || extents.length === 1))
  }
  if (at < end) add(end - at, false)
  return pieces.some(piece => piece.isHole) ? pieces : undefined
}
