/**
 * Blocks on their way to one requester, from the queue to its stream: those that are being read, and those that were read and wait for
 * credit (credit.ts).
 *
 * A read may take long, and more comes from the requester meanwhile. So what a block has become by then counts: one that a guest has
 * come to wait for needs no credit, and one that was called off is neither sent nor held.
 */

import { Credit } from './credit.ts'
import type { Rank } from './messages.ts'

/** A block that is being read, off this thread. */
export interface BlockRead {
  readonly key: number
  rank: Rank
  /** It was dropped: nobody waits for what comes of it. */
  isOver: boolean
}

const DEMAND: Rank = 0

export class OutgoingBlocks {
  readonly #send: (frame: Uint8Array) => void
  readonly #credit = new Credit()
  readonly #reads = new Set<BlockRead>()
  /** Frames that wait for credit. */
  readonly #held = new Map<number, Uint8Array>()

  constructor(send: (frame: Uint8Array) => void) {
    this.#send = send
  }

  get reading(): number {
    return this.#reads.size
  }

  get anyHeld(): boolean {
    return this.#held.size > 0
  }

  readBegins(key: number, rank: Rank): BlockRead {
    const read = { key, rank, isOver: false }
    this.#reads.add(read)
    return read
  }

  readEnds(read: BlockRead): void {
    this.#reads.delete(read)
  }

  /** It was read: sends it, or holds it until there is credit. */
  add(key: number, rank: Rank, frame: Uint8Array): void {
    if (rank === DEMAND || this.#credit.covers(frame.byteLength)) this.#sendNow(frame)
    else this.#held.set(key, frame)
  }

  grant(bytes: number): void {
    this.#credit.grant(bytes)
    for (const [key, frame] of this.#held) {
      if (!this.#credit.covers(frame.byteLength)) return
      this.#held.delete(key)
      this.#sendNow(frame)
    }
  }

  /** A guest has come to wait for it. */
  raise(key: number): void {
    for (const read of this.#reads) if (read.key === key) read.rank = DEMAND
    const frame = this.#held.get(key)
    if (frame === undefined) return
    this.#held.delete(key)
    this.#sendNow(frame)
  }

  /** @returns whether it was on its way, and is not any more */
  drop(key: number): boolean {
    if (this.#held.delete(key)) return true
    for (const read of this.#reads) {
      if (read.key !== key || read.isOver) continue
      read.isOver = true
      return true
    }
    return false
  }

  dropAll(isMeant: (key: number) => boolean): void {
    for (const key of this.#held.keys()) if (isMeant(key)) this.#held.delete(key)
    for (const read of this.#reads) if (isMeant(read.key)) read.isOver = true
  }

  #sendNow(frame: Uint8Array): void {
    this.#credit.sent(frame.byteLength)
    this.#send(frame)
  }
}
