/**
 * The root of an image: its size and the hash of the top of its index. An image's id is the hash of the root's bytes.
 */
import { HASH_SIZE_BYTES } from '../cluster.ts'
import { RowanError } from '../errors.ts'
import { blockCount } from './block.ts'
import { heightOf } from './geometry.ts'
import { type Hash, sha256, toHex } from './hash.ts'
import { checkSize } from './names.ts'
import { ImageRoot as RootMessage } from './proto/index.js'

export interface ImageRoot {
  sizeBytes: number
  /** All of them, zero ones included. */
  blocks: number
  zeroBlocks: number
  /** The level of the top node: 0, 1 or 2. */
  height: number
  /** Undefined when every block is zero. */
  top: Hash | undefined
}

/** Block size, hash and tree are the cluster's; another value for any of them would be another format. */
const FORMAT = 1

/** A format, a size, a count and a hash, with their tags and lengths. */
export const MAX_ROOT_BYTES = 2 + 9 + 9 + 2 + HASH_SIZE_BYTES

/** A root from what is not implied by the size. Throws INDEX_INVALID if the numbers contradict each other. */
export function makeImageRoot(sizeBytes: number, zeroBlocks: number, top: Hash | undefined): ImageRoot {
  try {
    checkSize(sizeBytes)
  } catch (cause) {
    throw new RowanError('INDEX_INVALID', `an image's root gives a size of ${sizeBytes} bytes`, { cause })
  }
  const blocks = blockCount(sizeBytes)
  if (!Number.isSafeInteger(zeroBlocks) || zeroBlocks < 0 || zeroBlocks > blocks) {
    throw new RowanError('INDEX_INVALID', `an image's root gives ${zeroBlocks} zero blocks of ${blocks}`)
  }
  if ((zeroBlocks === blocks) !== (top === undefined)) {
    throw new RowanError('INDEX_INVALID', `an image's root with ${zeroBlocks} zero blocks of ${blocks} and a wrong top`)
  }
  if (top !== undefined && top.byteLength !== HASH_SIZE_BYTES) {
    throw new RowanError('INDEX_INVALID', `an image's root names its top by ${top.byteLength} bytes`)
  }
  return { sizeBytes, blocks, zeroBlocks, height: heightOf(blocks), top }
}

export function encodeImageRoot(root: ImageRoot): Uint8Array {
  return RootMessage.encode({
    format: FORMAT,
    sizeBytes: root.sizeBytes,
    zeroBlocks: root.zeroBlocks,
    ...(root.top === undefined ? {} : { top: new Uint8Array(root.top) })
  })
}

/** Throws INDEX_INVALID, and nothing else, unless `bytes` are the one encoding of a coherent root. */
export function decodeImageRoot(bytes: Uint8Array): ImageRoot {
  if (bytes.byteLength > MAX_ROOT_BYTES) {
    throw new RowanError(
      'INDEX_INVALID',
      `an image's root of ${bytes.byteLength} bytes; the limit is ${MAX_ROOT_BYTES}`
    )
  }
  let message: RootMessage
  try {
    message = RootMessage.decode(bytes)
  } catch (cause) {
    throw new RowanError('INDEX_INVALID', "an image's root cannot be read", { cause })
  }
  if (message.format !== FORMAT) {
    throw new RowanError('INDEX_INVALID', `an image of format ${message.format}; this program knows format ${FORMAT}`)
  }
  const root = makeImageRoot(message.sizeBytes, message.zeroBlocks, message.top)
  if (Buffer.compare(bytes, encodeImageRoot(root)) !== 0) {
    throw new RowanError('INDEX_INVALID', "an image's root is not in its canonical encoding")
  }
  return root
}

/** 64 hex digits. */
export function imageIdOf(rootBytes: Uint8Array): string {
  return toHex(sha256(rootBytes))
}
