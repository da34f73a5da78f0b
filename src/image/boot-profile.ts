/**
 * A boot profile: the blocks of an image that a boot touches, in the order of first touch. Advice, never trusted.
 *
 * The bytes, all numbers as LEB128 of up to four bytes, none with a needless last byte:
 *
 *     format (1) | count | count × ( zigzag(block - block before), milliseconds since the one before )
 *
 * Neighbours are mostly read one after another, so an entry takes two to three bytes: 4 KB for a Debian boot of 1,382 blocks. There is one
 * encoding, so that equal profiles have equal hashes. The decoder knows how many blocks the image has, and refuses a profile that names
 * another, or one twice.
 */
import { BLOCK_SIZE_BYTES } from '../cluster.ts'
import { RowanError } from '../errors.ts'

export interface ProfileEntry {
  block: number
  /** Since the first touch of the boot; never less than that of the entry before. */
  atMs: number
}

export type BootProfile = readonly ProfileEntry[]

/** 1 GiB of touched blocks; a Debian boot touches 86 MiB. */
export const MAX_PROFILE_ENTRIES = 1024 ** 3 / BLOCK_SIZE_BYTES
export const MAX_PROFILE_BYTES = 64 * 1024
/** No boot takes longer, as far as a profile is concerned. */
export const MAX_PROFILE_MS = 60 * 60 * 1000

const FORMAT = 1
/** 2^28: more than the blocks of the largest image, doubled by the zigzag. */
const MAX_NUMBER_BYTES = 4

/**
 * Leaves out what is beyond the bounds; what is before it stays useful.
 *
 * @param entries - as they were recorded: blocks in any order, each once, times that do not go back
 */
export function encodeProfile(entries: BootProfile): Uint8Array {
  const written: number[] = []
  let count = 0
  let last: ProfileEntry = { block: 0, atMs: 0 }
  for (const { block, atMs } of entries) {
    const wholeMs = Math.max(last.atMs, Math.min(MAX_PROFILE_MS, Math.round(atMs)))
    const before = written.length
    put(written, zigzag(block - last.block))
    put(written, wholeMs - last.atMs)
    if (written.length > MAX_PROFILE_BYTES - 1 - MAX_NUMBER_BYTES || count === MAX_PROFILE_ENTRIES) {
      written.length = before
      break
    }
    count++
    last = { block, atMs: wholeMs }
  }
  const head = [FORMAT]
  put(head, count)
  return Uint8Array.from([...head, ...written])
}

/**
 * @param blocks - of the image
 * @throws PROFILE_INVALID
 */
export function decodeProfile(bytes: Uint8Array, blocks: number): BootProfile {
  if (bytes.byteLength > MAX_PROFILE_BYTES) {
    throw invalid(`${bytes.byteLength} bytes; ${MAX_PROFILE_BYTES} are allowed`)
  }
  if (bytes[0] !== FORMAT) throw invalid(`the format ${bytes[0]}, which is not ${FORMAT}`)
  const reader = new Reader(bytes, 1)
  const count = reader.next()
  if (count > MAX_PROFILE_ENTRIES) throw invalid(`${count} entries; ${MAX_PROFILE_ENTRIES} are allowed`)
  // Each takes two bytes at least: nothing is made that the bytes cannot fill.
  if (count * 2 > reader.left) throw invalid(`${count} entries in ${reader.left} bytes`)
  const seen = new Set<number>()
  const entries: ProfileEntry[] = []
  let block = 0
  let atMs = 0
  for (let index = 0; index < count; index++) {
    block += unzigzag(reader.next())
    atMs += reader.next()
    if (block < 0 || block >= blocks) throw invalid(`block ${block}, and the image has ${blocks}`)
    if (atMs > MAX_PROFILE_MS) throw invalid(`a boot of ${atMs} ms`)
    if (seen.has(block)) throw invalid(`block ${block} twice`)
    seen.add(block)
    entries.push({ block, atMs })
  }
  if (reader.left > 0) throw invalid(`${reader.left} bytes behind its last entry`)
  return entries
}

class Reader {
  readonly #bytes: Uint8Array
  #at: number

  constructor(bytes: Uint8Array, at: number) {
    this.#bytes = bytes
    this.#at = at
  }

  get left(): number {
    return this.#bytes.byteLength - this.#at
  }

  next(): number {
    let value = 0
    for (let index = 0; index < MAX_NUMBER_BYTES; index++) {
      const byte = this.#bytes[this.#at++]
      if (byte === undefined) throw invalid('an end in the middle of a number')
      value += (byte & 0x7f) * 2 ** (7 * index)
      if (byte >= 0x80) continue
      if (byte === 0 && index > 0) throw invalid('a number with a needless byte')
      return value
    }
    throw invalid(`a number of more than ${MAX_NUMBER_BYTES} bytes`)
  }
}

function put(bytes: number[], value: number): void {
  let rest = value
  while (rest >= 0x80) {
    bytes.push((rest & 0x7f) | 0x80)
    rest = Math.floor(rest / 0x80)
  }
  bytes.push(rest)
}

function zigzag(value: number): number {
  return value >= 0 ? 2 * value : -2 * value - 1
}

function unzigzag(value: number): number {
  return value % 2 === 0 ? value / 2 : -(value + 1) / 2
}

function invalid(what: string): RowanError {
  return new RowanError('PROFILE_INVALID', `a boot profile has ${what}`)
}
