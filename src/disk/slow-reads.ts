/**
 * Whether the store is slow now: its files are not in the page cache, and each read waits for a disk.
 *
 * A read in place blocks its thread, which from the page cache takes some microseconds. From a disk it takes many times
 * that, and a guest with 32 requests under way gets one after the other. So reads are timed; where many were slow, later
 * ones are first read into nowhere on libuv's threads, some at a time, and then in place (measured cold, queue 32:
 * 0.46× of qemu-nbd before).
 *
 * While it is slow, one read in 16 is made in place at once: that it is fast says that the rest is in the cache by now.
 */

/** Slower than the page cache on a busy host, faster than a disk; and per byte, well below what copying gives. */
const SLOW_MS = 0.05
const SLOW_MS_PER_BYTE = 1000 / 500e6
/** The score goes down by one with a fast read, and up by so much with a slow one: more than one read in nine is slow. */
const SOME_ARE_SLOW = 8
/** More than half are. For reads of what should be in memory: on a busy host some of these are late, too. */
export const MOST_ARE_SLOW = 1
const MAX_SCORE = 64
const BEGIN_SCORE = 32
const END_SCORE = 16
/** While the store is fast, one read in so many is timed; while it is slow, one is tried. */
const TIMED_EVERY = 4
const TRIED_EVERY = 16
/** A larger read is a few long accesses of the disk, and the kernel reads ahead. */
const MAX_WARMED_BYTES = 256 * 1024

export class SlowReads {
  readonly #monotonicMs: () => number
  readonly #slowScore: number
  #isSlow = false
  #score = 0
  #reads = 0

  constructor(monotonicMs: () => number, slowScore = SOME_ARE_SLOW) {
    this.#monotonicMs = monotonicMs
    this.#slowScore = slowScore
  }

  get isSlow(): boolean {
    return this.#isSlow
  }

  /** Whether this read is to be made in place at once. */
  isInPlace(lengthBytes: number): boolean {
    this.#reads++
    return !this.#isSlow || lengthBytes > MAX_WARMED_BYTES || this.#reads % TRIED_EVERY === 0
  }

  /** Makes a read in place, and may time it. One that answers with a promise waited for somebody else. */
  time(lengthBytes: number, read: () => void | Promise<void>): void | Promise<void> {
    if (lengthBytes > MAX_WARMED_BYTES || (!this.#isSlow && this.#reads % TIMED_EVERY !== 0)) return read()
    const startedMs = this.#monotonicMs()
    const answer = read()
    if (answer === undefined) this.#note(this.#monotonicMs() - startedMs > SLOW_MS + lengthBytes * SLOW_MS_PER_BYTE)
    return answer
  }

  #note(wasSlow: boolean): void {
    const step = wasSlow ? this.#slowScore : this.#isSlow ? -this.#slowScore : -1
    this.#score = Math.min(MAX_SCORE, Math.max(0, this.#score + step))
    this.#isSlow = this.#score >= (this.#isSlow ? END_SCORE : BEGIN_SCORE)
  }
}
