/**
 * Keeps blocks from being evicted while something is made of them that does not exist yet: an image that is being
 * published has no root and no pin, but relies on every block that it put, or found here.
 *
 * A hold is a pool, as far as a publisher needs one, that remembers the slots it gave out.
 */
import type { Hash } from '../image/hash.ts'
import type { HashedBlock, Pool } from './pool.ts'

/** What a hold needs of the pool. */
export type HeldPool = Pick<Pool, 'find' | 'isSuspect' | 'confirm' | 'sync'> & {
  putMany(entries: readonly HashedBlock[], slotsKnown: (slots: readonly number[]) => void): Promise<number[]>
}

export class SlotHold {
  readonly #pool: HeldPool
  readonly #ended: (hold: SlotHold) => void
  readonly #slots = new Set<number>()

  constructor(pool: HeldPool, ended: (hold: SlotHold) => void) {
    this.#pool = pool
    this.#ended = ended
  }

  has(slot: number): boolean {
    return this.#slots.has(slot)
  }

  find(hash: Hash): number {
    const slot = this.#pool.find(hash)
    if (slot !== -1) this.#slots.add(slot)
    return slot
  }

  isSuspect(slot: number): boolean {
    return this.#pool.isSuspect(slot)
  }

  confirm(slot: number, hash: Hash): boolean {
    return this.#pool.confirm(slot, hash)
  }

  putMany(entries: readonly HashedBlock[]): Promise<number[]> {
    return this.#pool.putMany(entries, slots => {
      for (const slot of slots) this.#slots.add(slot)
    })
  }

  sync(): Promise<void> {
    return this.#pool.sync()
  }

  /** From now on the blocks may go, unless there is another reason for them to stay. */
  release(): void {
    this.#slots.clear()
    this.#ended(this)
  }
}
