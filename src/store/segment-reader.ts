/**
 * Reads blocks from the pool's files, in a thread that is not the pool's.
 *
 * Has descriptors of its own, opened when they are needed. The pool says when a segment is about to go: `close` it, then
 * let go of the epoch `afterReads`. So what is read aside was the block's all the time.
 */
import { closeSync, openSync } from 'node:fs'
import { ReadsUnderWay } from './reads-under-way.ts'
import { readSlot, readSlotSync, segmentFailed, segmentOf, segmentPath, warmSlot } from './segment-layout.ts'

/** Files that one reader keeps open: 64 GiB of the pool. Beyond, the one opened first is closed. */
export const MAX_OPEN_SEGMENTS = 256

interface OpenSegment {
  fd: number
  /** Reads aside that use it. */
  reads: number
  /** It is closed as soon as none does: its number may be another file's then. */
  isGoing: boolean
}

export class SegmentReader {
  readonly #directory: string
  readonly #underWay = new ReadsUnderWay()
  /** In the order of opening. */
  readonly #open = new Map<number, OpenSegment>()

  constructor(directory: string) {
    this.#directory = directory
  }

  /** How many files are open. */
  get openFiles(): number {
    return this.#open.size
  }

  /** Fills `target` from `offsetInBlock` of the block in `slot`. Throws STORE_IO. */
  readSync(slot: number, offsetInBlock: number, target: Uint8Array): void {
    const segment = segmentOf(slot)
    try {
      readSlotSync((this.#open.get(segment) ?? this.#openSegment(segment)).fd, slot, offsetInBlock, target)
    } catch (error) {
      throw segmentFailed(this.#directory, segment, 'read', error)
    }
  }

  /** See SlotReader. */
  readAside(slot: number, offsetInBlock: number, target: Uint8Array, done: (isRead: boolean) => void): void {
    const open = this.#open.get(segmentOf(slot))
    if (open === undefined) {
      done(false)
      return
    }
    const batch = this.#underWay.begin()
    open.reads += 1
    readSlot(open.fd, slot, offsetInBlock, target, isRead => {
      open.reads -= 1
      if (open.isGoing) closeUnused(open)
      this.#underWay.end(batch)
      done(isRead)
    })
  }

  /** Calls `run` when all that is being read aside now was read. */
  afterReads(run: () => void): void {
    this.#underWay.after(run)
  }

  /** See SlotReader. Of a segment that was read before; with others it is done at once. */
  warm(slot: number, offsetInBlock: number, lengthBytes: number, done: () => void): void {
    const open = this.#open.get(segmentOf(slot))
    if (open === undefined) done()
    else warmSlot(open.fd, slot, offsetInBlock, lengthBytes, done)
  }

  /** Nothing of this segment is read any more, but for what is under way. */
  close(segment: number): void {
    const open = this.#open.get(segment)
    if (open === undefined) return
    this.#open.delete(segment)
    open.isGoing = true
    closeUnused(open)
  }

  closeAll(): void {
    for (const segment of [...this.#open.keys()]) this.close(segment)
  }

  #openSegment(segment: number): OpenSegment {
    if (this.#open.size >= MAX_OPEN_SEGMENTS) this.#closeOne()
    const path = segmentPath(this.#directory, segment)
    let fd: number
    try {
      fd = openSync(path, 'r')
    } catch (error) {
      // The process has no more descriptors: one of this reader's makes room, as long as it has any.
      if ((error as NodeJS.ErrnoException).code !== 'EMFILE' || this.#open.size === 0) throw error
      this.#closeOne()
      fd = openSync(path, 'r')
    }
    const open = { fd, reads: 0, isGoing: false }
    this.#open.set(segment, open)
    return open
  }

  /** The one opened first of those that can be closed at once, if there is any. */
  #closeOne(): void {
    const segments = [...this.#open.keys()]
    const unused = segments.find(segment => this.#open.get(segment)!.reads === 0)
    this.close(unused ?? segments[0]!)
  }
}

function closeUnused({ fd, reads }: OpenSegment): void {
  if (reads === 0) closeSync(fd)
}
