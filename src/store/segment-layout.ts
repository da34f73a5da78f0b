/**
 * Where a slot lies: segment files of 4,096 slots of 64 KiB (256 MiB), `00000.seg`, `00001.seg`, …
 */
import { read, readSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { BLOCK_SIZE_BYTES } from '../cluster.ts'
import { asRowanError, RowanError } from '../errors.ts'

const readAsync = promisify(read)

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

/** Fills `target` from `offsetInBlock` of the block in `slot`, of which `fd` is the segment's file. */
export function readSlotSync(fd: number, slot: number, offsetInBlock: number, target: Uint8Array): void {
  const lengthBytes = target.byteLength
  if (offsetInBlock < 0 || offsetInBlock + lengthBytes > BLOCK_SIZE_BYTES) {
    throw new RowanError('INTERNAL', `${lengthBytes} bytes at ${offsetInBlock} reach out of a block`)
  }
  const position = positionOf(slot) + offsetInBlock
  let done = readSync(fd, target, 0, lengthBytes, position)
  while (done < lengthBytes) {
    const more = readSync(fd, target, done, lengthBytes - done, position + done)
    if (more === 0) throw new Error('the file ends before the slot does')
    done += more
  }
}

/** As `readSlotSync`, on libuv's threads; what there is, if the file ends before. */
export async function readSlot(fd: number, slot: number, offsetInBlock: number, target: Uint8Array): Promise<void> {
  await readAsync(fd, target, 0, target.byteLength, positionOf(slot) + offsetInBlock)
}

/** STORE_IO, naming the file and what was done. */
export function segmentFailed(directory: string, segment: number, doing: string, error: unknown): RowanError {
  return asRowanError(error, 'STORE_IO', `${segmentPath(directory, segment)}: ${doing} failed`)
}
