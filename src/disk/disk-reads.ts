/**
 * What a guest reads of a machine's disk, once it is checked.
 *
 * A read is cut into runs of sectors that have one state in the top's map: data is read from it, zero is filled in,
 * absent is asked of the merged map of the frozen layers (frozen-map.ts), and what is absent there too is the image's
 * (image-reader.ts). Where all of it is here, nothing is awaited and, for a range inside one run, nothing is allocated:
 * one `pread` into the caller's buffer. Where the store turns out slow, the reading goes aside (slow-reads.ts, cold-reads.ts).
 *
 * Owns: the wants under way, how slow the store is. Does not own the layers, the image, the pool or the source.
 */
import type { Clock } from '../environment.ts'
import { allDone } from './all-done.ts'
import { ColdReads } from './cold-reads.ts'
import { ImageReader, type ImageReaderComponents } from './image-reader.ts'
import { endSector, SECTOR_BYTES, SECTOR_DATA, SECTOR_ZERO, sectorOf } from './layer-map.ts'
import type { LayerStack } from './layer-stack.ts'
import { readBelow } from './read-below.ts'
import { MOST_ARE_SLOW, SlowReads } from './slow-reads.ts'
import type { WaitMeter } from './wait-meter.ts'

export interface DiskReadsComponents extends ImageReaderComponents {
  /** Undefined where there are no layers. */
  stack: LayerStack | undefined
  clock: Pick<Clock, 'monotonicMs'>
  /** Throws once the disk is closed. */
  checkOpen: () => void
}

export class DiskReads {
  readonly #stack: LayerStack | undefined
  readonly #base: ImageReader
  readonly #slow: SlowReads
  /** The same of what was brought into memory. */
  readonly #slowAgain: SlowReads
  readonly #cold: ColdReads
  readonly #checkOpen: () => void
  /** For the promises of the next read that has any. */
  #unusedList: Promise<void>[] = []

  constructor(components: DiskReadsComponents) {
    const { stack, image, pool, clock, checkOpen } = components
    this.#stack = stack
    this.#checkOpen = checkOpen
    this.#base = new ImageReader(components)
    this.#slow = new SlowReads(() => clock.monotonicMs())
    this.#slowAgain = new SlowReads(() => clock.monotonicMs(), MOST_ARE_SLOW)
    this.#cold = new ColdReads({ stack, base: this.#base, image, pool, clock })
  }

  /** How long reads waited for the source. */
  get waits(): WaitMeter {
    return this.#base.waits
  }

  get fetchedBlocks(): number {
    return this.#base.fetchedBlocks
  }

  /** Fills `target`, which is not empty, with the bytes from `offset` on; in this thread or aside. */
  read(offset: number, target: Uint8Array): void | Promise<void> {
    const slow = this.#slow.isSlow && this.#cold.findsBrought(offset, target.length) ? this.#slowAgain : this.#slow
    if (slow.isInPlace(target.length)) return slow.time(target.length, () => this.readHere(offset, target))
    return new Promise((resolve, reject) => {
      this.#cold.read(offset, target, isRead => {
        try {
          this.#checkOpen()
          resolve(isRead ? undefined : this.readHere(offset, target))
        } catch (error) {
          reject(error)
        }
      })
    })
  }

  /** As `read`, in this thread. */
  readHere(offset: number, target: Uint8Array): void | Promise<void> {
    const pending = this.#unusedList
    try {
      this.#readRuns(offset, target, pending)
    } catch (error) {
      if (pending.length === 0) throw error
      pending.push(Promise.reject(error))
    }
    if (pending.length === 0) return
    this.#unusedList = []
    return this.#base.waits.during(allDone(pending))
  }

  /** What waits for the source rejects with DISK_CLOSED. */
  stop(): void {
    this.#base.stop()
  }

  #readRuns(offset: number, target: Uint8Array, pending: Promise<void>[]): void {
    const stack = this.#stack
    if (stack === undefined) {
      this.#base.read(offset, target, 0, target.length, pending)
      return
    }
    const { top } = stack
    const end = offset + target.length
    const lastSector = endSector(end)
    for (let at = offset; at < end; ) {
      const sector = sectorOf(at)
      const state = top.map.stateAt(sector)
      const runEnd = Math.min(end, top.map.runEnd(sector, lastSector) * SECTOR_BYTES)
      if (state === SECTOR_DATA) top.readSync(target, at - offset, runEnd - at, at)
      else if (state === SECTOR_ZERO) target.fill(0, at - offset, runEnd - offset)
      else readBelow(stack.frozen, this.#base, at, target, at - offset, runEnd - at, pending)
      at = runEnd
    }
  }
}
