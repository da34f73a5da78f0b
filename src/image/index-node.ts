/**
 * One node of an index tree, and its bytes.
 *
 * There is exactly one encoding of a node: a child that is all zero is absent (no bit, no hash), a node without any
 * child is not stored at all (it is absent in its parent), and bytes that are not what the encoder would have written
 * are refused. So one image has one id.
 *
 * `PackedNode` is the form to keep in memory: 34 bytes a child, where `children` of an IndexNode are a view each.
 */
import { HASH_SIZE_BYTES, INDEX_FANOUT } from '../cluster.ts'
import { RowanError } from '../errors.ts'
import { MAX_HEIGHT } from './geometry.ts'
import type { Hash } from './hash.ts'
import { IndexNode as NodeMessage } from './proto/index.js'

export interface IndexNode {
  /** 0: the children are blocks. */
  level: number
  /** One for each child, undefined where it is all zero; as many as the image's size says, at most 1,024. */
  children: (Hash | undefined)[]
}

/** A level, a full bitmap and 1,024 hashes, with their tags and lengths. */
export const MAX_NODE_BYTES = 2 + 3 + INDEX_FANOUT / 8 + 4 + INDEX_FANOUT * HASH_SIZE_BYTES

export function encodeIndexNode(node: IndexNode): Uint8Array {
  const here = node.children.filter(child => child !== undefined)
  const present = new Uint8Array(Math.ceil(node.children.length / 8))
  const hashes = new Uint8Array(here.length * HASH_SIZE_BYTES)
  let at = 0
  for (const [index, child] of node.children.entries()) {
    if (child === undefined) continue
    present[index >> 3]! |= 1 << (index & 7)
    hashes.set(child, at)
    at += HASH_SIZE_BYTES
  }
  return encodePacked(node.level, present, hashes)
}

/** The encoding from its parts: a bitmap (least significant bit first) and the hashes of the children in it. */
export function encodePacked(
  level: number,
  present: Uint8Array<ArrayBuffer>,
  hashes: Uint8Array<ArrayBuffer>
): Uint8Array {
  return NodeMessage.encode({ level, present, hashes })
}

/**
 * Throws INDEX_INVALID, and nothing else, unless `bytes` are the one encoding of a node of this level and number of
 * children.
 */
export function decodeIndexNode(bytes: Uint8Array, expected: { level: number; childCount: number }): IndexNode {
  const packed = decodePacked(bytes, expected)
  const children = Array.from({ length: expected.childCount }, (_, index) => packed.hashAt(index))
  return { level: expected.level, children }
}

/** As decodeIndexNode, in the form to keep. */
export function decodePacked(bytes: Uint8Array, expected: { level: number; childCount: number }): PackedNode {
  const { level, childCount } = expected
  if (bytes.byteLength > MAX_NODE_BYTES) throw invalid(`${bytes.byteLength} bytes, the limit is ${MAX_NODE_BYTES}`)
  if (level < 0 || level > MAX_HEIGHT || childCount < 1 || childCount > INDEX_FANOUT) {
    throw invalid(`no node has level ${level} and ${childCount} children`)
  }
  let node: NodeMessage
  try {
    node = NodeMessage.decode(bytes)
  } catch (cause) {
    throw invalid('its bytes cannot be read', cause)
  }
  if (node.level !== level) throw invalid(`level ${node.level} where ${level} was expected`)
  if (node.present.byteLength !== Math.ceil(childCount / 8)) {
    throw invalid(`a bitmap of ${node.present.byteLength} bytes for ${childCount} children`)
  }
  const unused = childCount & 7
  if (unused !== 0 && node.present.at(-1)! >> unused !== 0) {
    throw invalid(`children beyond the ${childCount} that it has`)
  }
  const packed = new PackedNode(level, childCount, node.present, node.hashes)
  if (packed.presentCount === 0) throw invalid('no child, and such a node is never stored')
  if (node.hashes.byteLength !== packed.presentCount * HASH_SIZE_BYTES) {
    throw invalid(`${node.hashes.byteLength} bytes of hashes for ${packed.presentCount} children`)
  }
  // Repeated, unknown or reordered fields and trailing bytes: whatever else could give one node two encodings.
  if (Buffer.compare(bytes, encodePacked(level, node.present, node.hashes)) !== 0) {
    throw invalid('its encoding is not the canonical one')
  }
  return packed
}

/** A decoded node in little memory; `hashAt` takes constant time. */
export class PackedNode {
  readonly level: number
  readonly childCount: number
  readonly presentCount: number
  readonly #present: Uint8Array
  readonly #hashes: Uint8Array
  /** For each byte of the bitmap, the number of bits before it. */
  readonly #before: Uint16Array

  constructor(level: number, childCount: number, present: Uint8Array, hashes: Uint8Array) {
    this.level = level
    this.childCount = childCount
    this.#present = present
    this.#hashes = hashes
    this.#before = new Uint16Array(present.byteLength)
    let bits = 0
    for (let at = 0; at < present.byteLength; at++) {
      this.#before[at] = bits
      bits += bitCount(present[at]!)
    }
    this.presentCount = bits
  }

  has(index: number): boolean {
    return ((this.#present[index >> 3] ?? 0) & (1 << (index & 7))) !== 0
  }

  /** The child's hash, undefined where it is all zero. A view: do not write to it. */
  hashAt(index: number): Hash | undefined {
    const byte = this.#present[index >> 3] ?? 0
    const bit = 1 << (index & 7)
    if ((byte & bit) === 0) return undefined
    const rank = this.#before[index >> 3]! + bitCount(byte & (bit - 1))
    return this.#hashes.subarray(rank * HASH_SIZE_BYTES, (rank + 1) * HASH_SIZE_BYTES)
  }
}

/** Bits set in a byte. */
function bitCount(byte: number): number {
  const pairs = byte - ((byte >> 1) & 0x55)
  const fours = (pairs & 0x33) + ((pairs >> 2) & 0x33)
  return (fours + (fours >> 4)) & 0x0f
}

function invalid(what: string, cause?: unknown): RowanError {
  return new RowanError('INDEX_INVALID', `a node of an index is refused: ${what}`, { cause })
}
