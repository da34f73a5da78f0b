/**
 * Blocks: 64 KiB of an image each; the last one is padded with zeros where the image ends inside it.
 */
import { BLOCK_SIZE_BYTES } from '../cluster.ts'

/** What a block is compared with. Never written to. */
const ZERO_BLOCK = Buffer.alloc(BLOCK_SIZE_BYTES)

/**
 * Whether all bytes are zero, at the speed of memory: `Buffer.compare` is a memcmp that ends at the first difference
 * (44 GB/s on zeros in the cache here, where a loop over 64-bit words of a typed array gave 4 to 7 GB/s).
 */
export function isZero(bytes: Uint8Array): boolean {
  const lengthBytes = bytes.byteLength
  // Nearly every block with data is told by one of these two, without a call into native code.
  if (lengthBytes === 0) return true
  if (bytes[0] !== 0 || bytes[lengthBytes - 1] !== 0) return false
  if (lengthBytes === BLOCK_SIZE_BYTES) return Buffer.compare(bytes, ZERO_BLOCK) === 0
  for (let at = 0; at < lengthBytes; at += BLOCK_SIZE_BYTES) {
    const part = bytes.subarray(at, at + BLOCK_SIZE_BYTES)
    if (Buffer.compare(part, ZERO_BLOCK.subarray(0, part.byteLength)) !== 0) return false
  }
  return true
}

/** How many blocks an image of `sizeBytes` has, a short last one included. */
export function blockCount(sizeBytes: number): number {
  return Math.ceil(sizeBytes / BLOCK_SIZE_BYTES)
}
