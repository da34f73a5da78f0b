/**
 * Unlinks segment files that hold no block any more, so that a pool that shrank gives its disk space back.
 *
 * While a file goes, its slots count as taken, so that nothing is put into it; it goes once every reader has let go.
 * Nothing is moved to empty a segment: a segment of which one block is left keeps its file.
 */
import type { Log } from '../environment.ts'
import { asRowanError } from '../errors.ts'
import { type SegmentFiles, SLOTS_PER_SEGMENT } from './segment-files.ts'
import type { SlotAllocator } from './slot-allocator.ts'
import type { SlotReaders } from './slot-readers.ts'

interface EmptySegmentsComponents {
  files: Pick<SegmentFiles, 'unlink'>
  allocator: SlotAllocator
  readers: SlotReaders
  log: Log
}

export class EmptySegments {
  readonly #components: EmptySegmentsComponents
  /** Files that were in use when they should have gone. */
  readonly #later = new Set<number>()

  constructor(components: EmptySegmentsComponents) {
    this.#components = components
  }

  /** Looks at the segments of slots that have become free, and again at those that could not go before. */
  freed(slots: Iterable<number>): void {
    const segments = new Set(this.#later)
    this.#later.clear()
    for (const slot of slots) segments.add(Math.floor(slot / SLOTS_PER_SEGMENT))
    for (const segment of segments) this.#unlinkIfEmpty(segment)
  }

  #unlinkIfEmpty(segment: number): void {
    const { files, allocator, readers, log } = this.#components
    const first = segment * SLOTS_PER_SEGMENT
    if (!allocator.isFree(first, SLOTS_PER_SEGMENT)) return
    for (let slot = first; slot < first + SLOTS_PER_SEGMENT; slot++) allocator.mark(slot)
    readers.retire({ slots: [], segment }, () => {
      try {
        if (!files.unlink(segment)) this.#later.add(segment)
      } catch (error) {
        log.warn('an empty segment could not be removed', { segment, error: asRowanError(error).message })
      }
      for (let slot = first; slot < first + SLOTS_PER_SEGMENT; slot++) allocator.free(slot)
    })
  }
}
