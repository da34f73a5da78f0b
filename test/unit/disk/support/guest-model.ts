/**
 * What a guest may find on its disk after a crash, by the promises that it was given.
 *
 * Each sector has a row of contents: the first may be all that is left after a power loss (`floor`), the one at `acked`
 * is what the guest was last told is written, later ones were issued and not acknowledged. Fed with the marks of a
 * recording, in order, up to the crash.
 */
export const SECTOR_BYTES = 512

export type Mark =
  | { kind: 'issue'; change: number; first: number; contents: Uint8Array[] }
  | { kind: 'ack'; change: number; durable: boolean }
  /** The guest was told of an error: each of its sectors is old or new. */
  | { kind: 'refuse'; change: number }
  | { kind: 'flush-call'; flush: number }
  | { kind: 'flush-ack'; flush: number }
  | { kind: 'failed' }

interface SectorHistory {
  contents: Uint8Array[]
  /** Index of the last acknowledged. */
  acked: number
  /** Index of the oldest that a power loss may leave. */
  floor: number
  /** Behind the last acknowledged there is one that was refused, and may be there all the same. */
  inDoubt: boolean
}

export class GuestModel {
  readonly sectors = new Map<number, SectorHistory>()
  /** For each change under way, the place of its content in each sector's row. */
  readonly #issued = new Map<number, Map<number, number>>()
  readonly #ackedAtFlush = new Map<number, Map<number, number>>()
  #failed = false

  readonly #initial: (sector: number) => Uint8Array

  /** @param initial - content of a sector that nobody wrote */
  constructor(initial: (sector: number) => Uint8Array) {
    this.#initial = initial
  }

  clone(): GuestModel {
    const copy = new GuestModel(this.#initial)
    for (const [sector, history] of this.sectors) {
      copy.sectors.set(sector, { ...history, contents: history.contents.slice() })
    }
    return copy
  }

  apply(mark: Mark): void {
    if (mark.kind === 'issue') {
      const places = new Map<number, number>()
      mark.contents.forEach((content, index) => {
        const history = this.#history(mark.first + index)
        history.contents.push(content)
        places.set(mark.first + index, history.contents.length - 1)
      })
      this.#issued.set(mark.change, places)
    } else if (mark.kind === 'ack') {
      for (const [sector, place] of this.#issued.get(mark.change)!) {
        const history = this.#history(sector)
        if (place > history.acked) history.inDoubt = false
        history.acked = Math.max(history.acked, place)
        if (mark.durable) history.floor = Math.max(history.floor, place)
      }
    } else if (mark.kind === 'refuse') {
      for (const sector of this.#issued.get(mark.change)!.keys()) this.#history(sector).inDoubt = true
    } else if (mark.kind === 'flush-call') {
      this.#ackedAtFlush.set(mark.flush, new Map([...this.sectors].map(([sector, { acked }]) => [sector, acked])))
    } else if (mark.kind === 'flush-ack') {
      for (const [sector, acked] of this.#ackedAtFlush.get(mark.flush)!) {
        const history = this.#history(sector)
        history.floor = Math.max(history.floor, acked)
      }
    } else {
      this.#failed = true
    }
  }

  /** What a read of the sector may give after a crash. */
  allowed(sector: number, crash: 'death' | 'power-loss'): Uint8Array[] {
    const history = this.#history(sector)
    // A failed layer falls back to its last flush.
    return history.contents.slice(crash === 'death' && !this.#failed ? history.acked : history.floor)
  }

  /** What the guest sees now, when nothing is under way. */
  current(sector: number): Uint8Array {
    const history = this.#history(sector)
    return history.contents[history.acked]!
  }

  /** What a read of the sector may give now, when nothing is under way. */
  allowedNow(sector: number): Uint8Array[] {
    const { contents, acked, inDoubt } = this.#history(sector)
    return contents.slice(acked, inDoubt ? undefined : acked + 1)
  }

  /** The model of the next life, in which the sectors were found so. */
  afterCrash(crash: 'death' | 'power-loss', found: Map<number, Uint8Array>): GuestModel {
    const next = new GuestModel(this.#initial)
    for (const [sector, history] of this.sectors) {
      const content = found.get(sector)!
      const older = crash === 'death' ? history.contents.slice(history.floor) : []
      next.sectors.set(sector, { contents: [...older, content], acked: older.length, floor: 0, inDoubt: false })
    }
    return next
  }

  #history(sector: number): SectorHistory {
    let history = this.sectors.get(sector)
    if (history === undefined) {
      history = { contents: [this.#initial(sector)], acked: 0, floor: 0, inDoubt: false }
      this.sectors.set(sector, history)
    }
    return history
  }
}
