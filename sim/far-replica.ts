/**
 * A far replica, as far as one volunteer is concerned: it answers by rank, below demand as far as its credit goes.
 */
import { Credit } from '../src/swarm/credit.ts'
import type { Rank } from '../src/swarm/messages.ts'
import type { ItemKey } from '../src/swarm/scheduler-types.ts'

/** What lies between. */
export interface Way {
  readonly rttMs: number
  after(ms: number, run: () => void): void
  /** Takes bytes their turn over the line. */
  carry(bytes: number, arrived: () => void): void
}

const DEMAND: Rank = 0

export class FarReplica {
  readonly #world: Way
  readonly #blockBytes: number
  readonly #answer: (key: ItemKey) => void
  readonly #lines: Set<ItemKey>[] = [new Set(), new Set(), new Set(), new Set()]
  readonly #credit = new Credit()

  constructor(world: Way, blockBytes: number, answer: (key: ItemKey) => void) {
    this.#world = world
    this.#blockBytes = blockBytes
    this.#answer = answer
  }

  ask(key: ItemKey, rank: Rank): void {
    this.#soon(() => void this.#lines[rank]!.add(key))
  }

  raise(key: ItemKey, rank: Rank): void {
    this.#soon(() => {
      if (this.#remove(key)) this.#lines[rank]!.add(key)
    })
  }

  callOff(key: ItemKey, wasWaiting: () => void): void {
    this.#soon(() => {
      if (this.#remove(key)) wasWaiting()
    })
  }

  grant(bytes: number): void {
    this.#soon(() => this.#credit.grant(bytes))
  }

  #soon(run: () => void): void {
    this.#world.after(this.#world.rttMs / 2, () => {
      run()
      this.#work()
    })
  }

  #remove(key: ItemKey): boolean {
    return this.#lines.some(line => line.delete(key))
  }

  #work(): void {
    for (const [rank, line] of this.#lines.entries()) {
      for (const key of line) {
        if (rank !== DEMAND && !this.#credit.covers(this.#blockBytes)) return
        line.delete(key)
        this.#credit.sent(this.#blockBytes)
        this.#world.carry(this.#blockBytes, () => this.#answer(key))
      }
    }
  }
}
