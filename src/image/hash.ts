/**
 * The one hash: SHA-256 of plain bytes identifies a block, a node of an index and an image.
 */
import { hash } from 'node:crypto'
import { HASH_NAME, HASH_SIZE_BYTES } from '../cluster.ts'
import { RowanError } from '../errors.ts'

/** 32 bytes. */
export type Hash = Uint8Array

const HEX_HASH = /^[0-9a-f]{64}$/

/** The one-shot form is native and runs at about 1.5 GB/s a core on 64-KiB blocks, twice the speed of `createHash`. */
export function sha256(bytes: Uint8Array): Hash {
  return hash(HASH_NAME, bytes, 'buffer')
}

/** 64 lower-case hex digits. */
export function toHex(bytes: Hash): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')
}

/** The 32 bytes that 64 lower-case hex digits stand for. Throws RECORD_INVALID for any other text. */
export function fromHex(text: string): Hash {
  if (!HEX_HASH.test(text)) {
    throw new RowanError('RECORD_INVALID', `not a hash of 64 lower-case hex digits: ${quote(text)}`)
  }
  return Buffer.from(text, 'hex')
}

export function sameHash(a: Hash, b: Hash): boolean {
  return a.byteLength === HASH_SIZE_BYTES && Buffer.compare(a, b) === 0
}

/** A text from outside as it may stand in a message: quoted, its control characters escaped, cut at 80 characters. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text)
}
