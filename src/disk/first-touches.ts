/**
 * Tells a listener of the first touch of each block of an image by a guest, local or not.
 *
 * One bit for each block. A touch of a block that was touched before costs the test of that bit, and nothing is told; so who listens
 * may be behind a thread's border, and a disk can always be listened to.
 */
import { BLOCK_SIZE_BYTES } from '../cluster.ts'
import type { Clock } from '../environment.ts'

/** Must not throw. */
export interface TouchSink {
  /**
   * @param sinceAttachMs - since the disk was opened
   * @param inBlock - the first byte of the block that was touched
   */
  touched(block: number, sinceAttachMs: number, inBlock: number): void
}

export class FirstTouches {
  readonly #bits: Uint8Array
  readonly #sink: TouchSink
  readonly #clock: Pick<Clock, 'monotonicMs'>
  readonly #startMs: number

  constructor(sizeBytes: number, sink: TouchSink, clock: Pick<Clock, 'monotonicMs'>) {
    this.#bits = new Uint8Array(Math.ceil(sizeBytes / BLOCK_SIZE_BYTES / 8))
    this.#sink = sink
    this.#clock = clock
    this.#startMs = clock.monotonicMs()
  }

  note(block: number, inBlock: number): void {
    const bit = 1 << (block & 7)
    const bits = this.#bits[block >>> 3]!
    if ((bits & bit) !== 0) return
    this.#bits[block >>> 3] = bits | bit
    this.#sink.touched(block, this.#clock.monotonicMs() - this.#startMs, inBlock)
  }
}
