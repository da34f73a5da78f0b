/**
 * Where a slot lies: segment files of 4,096 slots of 64 KiB (256 MiB), `00000.seg`, `00001.seg`, …
 */
import { read, readSync } from 'node:fs'
import { join } from 'node:path'
import { BLOCK_SIZE_BYTES } from '../cluster.ts'
import { asRowanError, RowanError } from '../errors.ts'

/** Read into by many at a time, and never looked at. */
export const NOWHERE = Buffer.allocUnsafeSlow(BLOCK_SIZE_BYTES)

export const SLOTS_PER_SEGMENT = 4096

export function segmentPath(directory: string, segment: number): string {
  return join(directory, `${String(segment).padStart(5, '0')}.seg`)
}

export function segmentOf(slot: number): number {
  return Math.floor(slot / SLOTS_PER_SEGMENT)
}

/** In the segment's file, in bytes. */
export function positionOf(slot: number): number {
  return (slot % SLOTS_PER_SEGMENT) * BLOCK_SIZE_BYTES
}

/** Fills `target` from `offsetInBlock` of the block in `slot` on, of which `fd` is the segment's file; it may reach into later slots. */
export function readSlotSync(fd: number, slot: number, offsetInBlock: number, target: Uint8Array): void {
  const lengthBytes = target.byteLength
  const position = positionOf(slot) + offsetInBlock
  if (offsetInBlock < 0 || position + lengthBytes > SLOTS_PER_SEGMENT * BLOCK_SIZE_BYTES) {
    throw new RowanError('INTERNAL', `${lengthBytes} bytes at ${offsetInBlock} reach out of a segment`)
  }
  let done = readSync(fd, target, 0, lengthBytes, position)
  while (done < lengthBytes) {
    const more = readSync(fd, target, done, lengthBytes - done, position + done)
    if (more === 0) throw new Error('the file ends before the slot does')
    done += more
  }
}

/** As `readSlotSync`, on libuv's threads. Calls `done` with whether all of `target` was filled. */
export function readSlot(
  fd: number,
  slot: number,
  offsetInBlock: number,
  target: Uint8Array,
  done: (isRead: boolean) => void
): void {
  const lengthBytes = target.byteLength
  // A callback, not a promise: this is done for every read of a cold disk, and a promise takes as long as the rest.
  read(fd, target, 0, lengthBytes, positionOf(slot) + offsetInBlock, (error, count) => {
    done(error === null && count === lengthBytes)
  })
}

/** Brings a part of a block into the page cache, on libuv's threads, and calls `done`, whatever came of it. */
export function warmSlot(fd: number, slot: number, offsetInBlock: number, lengthBytes: number, done: () => void): void {
  read(fd, NOWHERE, 0, lengthBytes, positionOf(slot) + offsetInBlock, () => done())
}

/** STORE_IO, naming the file and what was done. */
export function segmentFailed(directory: string, segment: number, doing: string, error: unknown): RowanError {
  return asRowanError(error, 'STORE_IO', `${segmentPath(directory, segment)}: ${doing} failed`)
}
