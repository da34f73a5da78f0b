/**
 * Which blocks of an image were read as a whole while its store was slow, so that they should be in memory, and whether to bring
 * more of them so.
 *
 * What a guest reads next is often near what it read last, and a disk that has to be asked gives 64 KiB in less than the time
 * of two small reads, or of four where it is a fast one. So a small read brings all of its block, as long as later reads find
 * what was brought: of each 4,096 blocks it is counted how many did, and where they were few, as they are when a guest reads here
 * and there in something large, the next small reads bring no more than they ask for. So one in 16 may be in vain. A block
 * is brought once, until no read was slow for a while: where memory is too small to keep the image, it is not read again
 * and again.
 */
import { BLOCK_SIZE_BYTES } from '../cluster.ts'

/** Of so many blocks it is counted how often they were useful. */
export const TRIAL_BLOCKS = 4096
/** They must have been so this often: one read in 32, which becomes more and more as more is brought. */
export const MIN_USES = TRIAL_BLOCKS / 32
/** Slow reads until it is tried again. */
export const PAUSE_READS = 15 * TRIAL_BLOCKS
/** So long after the last slow read, what was brought before is forgotten: it may be brought again. */
export const FORGET_MS = 60_000

export class BroughtBlocks {
  readonly #bytes: number
  /** One for each block; made when the first is brought. */
  #bits: Uint8Array | undefined
  #slowAtMs = 0
  #tried = 0
  #uses = 0
  #pauseLeft = 0

  constructor(sizeBytes: number) {
    this.#bytes = Math.ceil(sizeBytes / BLOCK_SIZE_BYTES / 8)
  }

  has(block: number): boolean {
    return this.#bits !== undefined && (this.#bits[block >>> 3]! & (1 << (block & 7))) !== 0
  }

  /** A read found a block that was brought. */
  used(): void {
    this.#uses += 1
  }

  /** A small read of a block, on a slow store. Returns whether to bring all of it. */
  mayBring(block: number, nowMs: number): boolean {
    if (nowMs - this.#slowAtMs > FORGET_MS) this.#bits = undefined
    this.#slowAtMs = nowMs
    if (this.has(block)) return false
    if (this.#pauseLeft > 0) {
      this.#pauseLeft -= 1
      return false
    }
    if (this.#tried === TRIAL_BLOCKS) {
      if (this.#uses < MIN_USES) this.#pauseLeft = PAUSE_READS
      this.#tried = 0
      this.#uses = 0
    }
    this.#tried += 1
    return true
  }

  add(block: number): void {
    this.#bits ??= new Uint8Array(this.#bytes)
    this.#bits[block >>> 3]! |= 1 << (block & 7)
  }
}
