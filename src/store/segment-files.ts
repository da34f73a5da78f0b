/**
 * The pool's files (segment-layout.ts), as the pool writes and reads them.
 *
 * Reads for a guest are synchronous: 151,000 a second from the page cache, behind NBD, against 47,000 through libuv's
 * threads. Writes and fdatasync use those threads, so that the event loop goes on. There is one fdatasync at a time, and it starts
 * early: once 32 MiB of a segment are not yet on disk. So the disk writes while a publisher still hashes, and the
 * sync behind 674 MB takes 15 ms instead of 240.
 *
 * What a failed fdatasync could not write Linux keeps in its cache as if it had been, until it needs the memory; then the slot reads
 * as whatever was there before, and no later sync tells. So which slots nothing is known of is remembered, and told then.
 *
 * Owns: the files and their descriptors. Does not own: which slot holds what.
 */
import {
  close,
  closeSync,
  fdatasync,
  fsync,
  mkdirSync,
  open,
  openSync,
  read,
  readdirSync,
  statSync,
  unlinkSync,
  writev
} from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { BLOCK_SIZE_BYTES } from '../cluster.ts'
import { asRowanError, type RowanError } from '../errors.ts'
import { forgetCached } from '../page-cache.ts'
import {
  positionOf,
  readSlotSync,
  SLOTS_PER_SEGMENT,
  segmentFailed,
  segmentOf,
  segmentPath,
  warmSlot
} from './segment-layout.ts'

export { SLOTS_PER_SEGMENT } from './segment-layout.ts'

/** Files kept open: 64 GiB of the pool. Beyond, the one not used for longest is closed. */
export const MAX_OPEN_SEGMENTS = 256
/** Blocks in one writev. Linux takes 1,024 buffers; 4 MiB are enough to be fast and short enough to share the disk. */
const MAX_BLOCKS_PER_WRITE = 64
const EARLY_SYNC_BYTES = 32 * 1024 * 1024

const openAsync = promisify(open)
const closeAsync = promisify(close)
const readAsync = promisify(read)
const writevAsync = promisify(writev)
const fdatasyncAsync = promisify(fdatasync)
const fsyncAsync = promisify(fsync)

interface OpenSegment {
  fd: number
  /** Asynchronous calls that use `fd`: it must not be closed under them. */
  users: number
}

export class SegmentFiles {
  readonly #directory: string
  /** The first is the one that was opened, or used asynchronously, longest ago. */
  readonly #open = new Map<number, OpenSegment>()
  /** Slots written to a segment since its last fdatasync began. */
  readonly #unsynced = new Map<number, Set<number>>()
  /** Slots of which the fdatasync waits, or is under way. */
  readonly #underWay = new Set<ReadonlySet<number>>()
  readonly #failureListeners = new Set<(slots: readonly number[]) => void>()
  /** Calls of fdatasync that wait or are under way, by segment. */
  readonly #syncing = new Map<number, number>()
  #folderChanged = false
  #syncs: Promise<void> = Promise.resolve()
  #earlySyncs = 0
  #failure: RowanError | undefined

  /** Throws HOME_UNUSABLE. */
  constructor(directory: string) {
    this.#directory = directory
    try {
      mkdirSync(directory, { recursive: true, mode: 0o700 })
    } catch (error) {
      throw asRowanError(error, 'HOME_UNUSABLE', `${directory} cannot be made`)
    }
  }

  /** The segments that exist, with the slots that lie wholly in the file. */
  list(): Map<number, number> {
    const segments = new Map<number, number>()
    try {
      for (const file of readdirSync(this.#directory).sort()) {
        const digits = /^(\d{5,6})\.seg$/.exec(file)?.[1]
        if (digits === undefined) continue
        const { size } = statSync(join(this.#directory, file))
        segments.set(Number(digits), Math.min(SLOTS_PER_SEGMENT, Math.floor(size / BLOCK_SIZE_BYTES)))
      }
    } catch (error) {
      throw asRowanError(error, 'HOME_UNUSABLE', `${this.#directory} cannot be read`)
    }
    return segments
  }

  /** Set once an fdatasync has failed: what was written before may be lost, and trying again would not tell. */
  get failure(): RowanError | undefined {
    return this.#failure
  }

  /** Called once, when an fdatasync has failed, with the slots that it and later ones were to make durable. */
  onFailure(listener: (slots: readonly number[]) => void): void {
    this.#failureListeners.add(listener)
  }

  /** What was written by a process before this one may not be on the disk yet: the next sync sees to these segments, too. */
  mustSync(segments: Iterable<number>): void {
    for (const segment of segments) if (!this.#unsynced.has(segment)) this.#unsynced.set(segment, new Set())
  }

  /** See forgetCached. */
  async dropCache(segments: Iterable<number>): Promise<void> {
    for (const segment of segments) await forgetCached(this.#path(segment))
  }

  /** Fills `target` from `offsetInBlock` of the block in `slot`. Throws STORE_IO. */
  readSync(slot: number, offsetInBlock: number, target: Uint8Array): void {
    const segment = segmentOf(slot)
    try {
      const { fd } = this.#open.get(segment) ?? this.#openSegment(segment, false)
      readSlotSync(fd, slot, offsetInBlock, target)
    } catch (error) {
      throw this.#failed(error, segment, 'read')
    }
  }

  /** Brings a part of a block into the page cache; of a segment that was read before, else it is done at once. */
  warm(slot: number, offsetInBlock: number, lengthBytes: number, done: () => void): void {
    const fd = this.#open.get(segmentOf(slot))?.fd
    if (fd === undefined) done()
    else warmSlot(fd, slot, offsetInBlock, lengthBytes, done)
  }

  /** As readSync, of the whole block, on libuv's threads. */
  async read(slot: number, target: Uint8Array): Promise<void> {
    const segment = segmentOf(slot)
    const position = positionOf(slot)
    await this.#use(segment, 'read', async fd => {
      for (let done = 0; done < target.byteLength; ) {
        const { bytesRead } = await readAsync(fd, target, done, target.byteLength - done, position + done)
        if (bytesRead === 0) throw new Error('the file ends before the slot does')
        done += bytesRead
      }
    })
  }

  /**
   * Writes blocks into slots that follow each other, `slot` being the first. Throws DISK_FULL or STORE_IO; then some of
   * the slots may have been written.
   */
  async write(slot: number, blocks: readonly Uint8Array[]): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure
    for (let done = 0; done < blocks.length; ) {
      const segment = segmentOf(slot + done)
      const first = (slot + done) % SLOTS_PER_SEGMENT
      const count = Math.min(blocks.length - done, SLOTS_PER_SEGMENT - first, MAX_BLOCKS_PER_WRITE)
      const part = blocks.slice(done, done + count)
      const slots = part.map((_, index) => slot + done + index)
      // Before it is written: a sync that fails meanwhile may have failed for it.
      this.#noteWritten(segment, slots)
      await this.#use(segment, 'write', fd => writeAll(fd, part, first * BLOCK_SIZE_BYTES))
      this.#noteWritten(segment, slots)
      this.#syncEarly(segment)
      done += count
    }
  }

  /** What was written before the call survives power loss afterwards. Throws STORE_IO, from then on always. */
  async sync(): Promise<void> {
    for (const segment of this.#unsynced.keys()) this.#startSync(segment)
    const isFolderChanged = this.#folderChanged
    this.#folderChanged = false
    await this.#syncs
    if (isFolderChanged && this.#failure === undefined) await this.#syncFolder()
    if (this.#failure !== undefined) throw this.#failure
  }

  /**
   * Removes the file of a segment that holds nothing any more. False while a call still uses it: try again later.
   *
   * Throws STORE_IO.
   */
  unlink(segment: number): boolean {
    const file = this.#open.get(segment)
    if ((file !== undefined && file.users > 0) || this.#syncing.has(segment)) return false
    this.#unsynced.delete(segment)
    this.#open.delete(segment)
    try {
      if (file !== undefined) closeSync(file.fd)
      unlinkSync(this.#path(segment))
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) {
        throw this.#failed(error, segment, 'unlink')
      }
    }
    this.#folderChanged = true
    return true
  }

  /** No call may be under way. */
  async close(): Promise<void> {
    await this.#syncs
    for (const { fd } of this.#open.values()) closeSync(fd)
    this.#open.clear()
  }

  #noteWritten(segment: number, slots: readonly number[]): void {
    const unsynced = this.#unsynced.get(segment)
    if (unsynced === undefined) this.#unsynced.set(segment, new Set(slots))
    else for (const slot of slots) unsynced.add(slot)
  }

  #syncEarly(segment: number): void {
    const unsyncedBytes = (this.#unsynced.get(segment)?.size ?? 0) * BLOCK_SIZE_BYTES
    if (unsyncedBytes < EARLY_SYNC_BYTES || this.#earlySyncs > 0) return
    this.#earlySyncs++
    this.#startSync(segment)
    this.#syncs = this.#syncs.then(() => {
      this.#earlySyncs--
    })
  }

  /** Puts an fdatasync behind those under way. Never rejects: a failure is kept for sync() and write() to throw. */
  #startSync(segment: number): void {
    const slots = this.#unsynced.get(segment) ?? new Set()
    this.#unsynced.delete(segment)
    this.#syncing.set(segment, (this.#syncing.get(segment) ?? 0) + 1)
    this.#underWay.add(slots)
    this.#syncs = this.#syncs.then(async () => {
      try {
        if (this.#failure === undefined) await this.#use(segment, 'sync', fdatasyncAsync)
        if (this.#failure === undefined) this.#underWay.delete(slots)
      } catch (error) {
        this.#fail(asRowanError(error, 'STORE_IO'))
      } finally {
        const others = this.#syncing.get(segment)! - 1
        if (others === 0) this.#syncing.delete(segment)
        else this.#syncing.set(segment, others)
      }
    })
  }

  #fail(error: RowanError): void {
    if (this.#failure !== undefined) return
    this.#failure = error
    const slots = [...this.#underWay, ...this.#unsynced.values()].flatMap(some => [...some])
    this.#underWay.clear()
    for (const listener of this.#failureListeners) listener(slots)
  }

  /** Without it a new segment's name might be lost with the power. */
  async #syncFolder(): Promise<void> {
    try {
      const fd = await openAsync(this.#directory, 'r')
      try {
        await fsyncAsync(fd)
      } finally {
        await closeAsync(fd)
      }
    } catch (error) {
      this.#fail(asRowanError(error, 'STORE_IO', `${this.#directory} cannot be synced`))
    }
  }

  async #use<T>(segment: number, doing: 'read' | 'write' | 'sync', call: (fd: number) => Promise<T>): Promise<T> {
    let file: OpenSegment | undefined
    try {
      file = this.#open.get(segment) ?? this.#openSegment(segment, doing === 'write')
      file.users++
      // Behind the others, so that it is closed last.
      this.#open.delete(segment)
      this.#open.set(segment, file)
      return await call(file.fd)
    } catch (error) {
      throw this.#failed(error, segment, doing)
    } finally {
      if (file !== undefined) file.users--
    }
  }

  #openSegment(segment: number, mayCreate: boolean): OpenSegment {
    if (this.#open.size >= MAX_OPEN_SEGMENTS) {
      for (const [other, { fd, users }] of this.#open) {
        if (users > 0) continue
        this.#open.delete(other)
        closeSync(fd)
        break
      }
    }
    const path = this.#path(segment)
    let fd: number
    try {
      fd = openSync(path, 'r+')
    } catch (error) {
      if (!mayCreate || !(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error
      fd = openSync(path, 'wx+', 0o600)
      this.#folderChanged = true
    }
    const file = { fd, users: 0 }
    this.#open.set(segment, file)
    return file
  }

  #path(segment: number): string {
    return segmentPath(this.#directory, segment)
  }

  #failed(error: unknown, segment: number, doing: string): RowanError {
    return segmentFailed(this.#directory, segment, doing, error)
  }
}

async function writeAll(fd: number, blocks: readonly Uint8Array[], position: number): Promise<void> {
  let left: readonly Uint8Array[] = blocks
  let at = position
  while (left.length > 0) {
    const { bytesWritten } = await writevAsync(fd, left, at)
    if (bytesWritten === 0) throw new Error('the system wrote no byte, and gave no reason')
    at += bytesWritten
    left = without(left, bytesWritten)
  }
}

/** What is left to write after a write that may have been short. */
function without(buffers: readonly Uint8Array[], bytes: number): readonly Uint8Array[] {
  let skip = bytes
  for (const [index, buffer] of buffers.entries()) {
    if (skip < buffer.byteLength) return [buffer.subarray(skip), ...buffers.slice(index + 1)]
    skip -= buffer.byteLength
  }
  return []
}
