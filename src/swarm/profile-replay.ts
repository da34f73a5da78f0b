/**
 * Which blocks of a boot profile to fetch next, ahead of the guest.
 *
 * A step machine. In the order of the profile, a window at a time; what the guest has touched, or what is here, is passed over. A
 * profile is advice from strangers: the blocks that were fetched for it and not touched (yet) never are more than a share of the image, so the worst
 * profile wastes no more than that, and a good one goes on as the guest follows.
 *
 * When a guest waits for a block that the replay has not reached, or that nobody recorded, `onwards` says what others fetched next from
 * there. Those blocks are of the profile, too, so they cost nothing but the order.
 */
import type { BootProfile } from '../image/boot-profile.ts'

export interface ReplayLimits {
  /** Blocks under way at a time. */
  windowBlocks: number
  /** Blocks fetched and not touched. */
  unusedBlocks: number
}

export interface ReplayProgress {
  /** Blocks of the profile. */
  of: number
  /** Those that the guest has touched. */
  touched: number
  /** Those that the replay has passed: here, on their way, or touched before. */
  passed: number
  /** Fetched for the profile and not touched so far. */
  unused: number
}

/** How far from a block that nobody recorded a recorded one may be: 1 MiB. */
const NEAR_BLOCKS = 16
/** What is fetched from a place that the guest has jumped to. */
export const ONWARDS_BLOCKS = 16

export class ProfileReplay {
  readonly #limits: ReplayLimits
  #order: readonly number[] = []
  /** By block. */
  #ranks = new Map<number, number>()
  /** The blocks of the profile, ascending. */
  #sorted: readonly number[] = []
  readonly #touched = new Set<number>()
  readonly #underWay = new Set<number>()
  readonly #unused = new Set<number>()
  #next = 0

  constructor(limits: ReplayLimits) {
    this.#limits = limits
  }

  get hasProfile(): boolean {
    return this.#order.length > 0
  }

  get progress(): ReplayProgress {
    return { of: this.#order.length, touched: this.#touched.size, passed: this.#next, unused: this.#unused.size }
  }

  /** Another profile takes the place of the one before; what was fetched for that counts on. */
  follow(profile: BootProfile): void {
    this.#order = profile.map(({ block }) => block)
    this.#ranks = new Map(this.#order.map((block, rank) => [block, rank]))
    this.#sorted = [...this.#order].sort((a, b) => a - b)
    for (const block of this.#touched) if (!this.#ranks.has(block)) this.#touched.delete(block)
    this.#next = 0
  }

  /** Whether the profile names this block. */
  names(block: number): boolean {
    return this.#ranks.has(block)
  }

  /** The guest touched a block for the first time. */
  touched(block: number): void {
    if (this.#ranks.has(block)) this.#touched.add(block)
    this.#unused.delete(block)
  }

  /** The block whose turn it is; undefined when none may be asked for now. The caller says `passed` or `asked`. */
  next(): number | undefined {
    if (this.#underWay.size >= this.#limits.windowBlocks || this.#unused.size >= this.#limits.unusedBlocks)
      return undefined
    while (this.#next < this.#order.length) {
      const block = this.#order[this.#next]!
      if (!this.#touched.has(block) && !this.#unused.has(block)) return block
      this.#next++
    }
    return undefined
  }

  /** The block whose turn it was is here. */
  passed(): void {
    this.#next++
  }

  /** A block is fetched for the profile: that whose turn it was, or one of `onwards`. */
  asked(block: number): void {
    if (this.#order[this.#next] === block) this.#next++
    this.#underWay.add(block)
    if (!this.#touched.has(block)) this.#unused.add(block)
  }

  /** It came. */
  came(block: number): void {
    this.#underWay.delete(block)
  }

  /** It does not come, and was not paid for. */
  failed(block: number): void {
    this.#underWay.delete(block)
    this.#unused.delete(block)
  }

  /** The guest waits for `block`: what others fetched next from there, as far as the replay would come to it only later. */
  onwards(block: number): number[] {
    const from = this.#ranks.get(block) ?? this.#nearestRank(block)
    if (from === undefined || from < this.#next) return []
    const room = Math.min(ONWARDS_BLOCKS, this.#limits.unusedBlocks - this.#unused.size)
    const ahead = this.#order.slice(from, from + ONWARDS_BLOCKS + 1)
    return ahead
      .filter(other => other !== block && !this.#touched.has(other) && !this.#unused.has(other))
      .slice(0, Math.max(0, room))
  }

  /** The place in the order of the recorded block that lies nearest. */
  #nearestRank(block: number): number | undefined {
    let low = 0
    let high = this.#sorted.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#sorted[middle]! < block) low = middle + 1
      else high = middle
    }
    let nearest: number | undefined
    for (const other of [this.#sorted[low - 1], this.#sorted[low]]) {
      if (other === undefined || Math.abs(other - block) > NEAR_BLOCKS) continue
      if (nearest === undefined || Math.abs(other - block) < Math.abs(nearest - block)) nearest = other
    }
    return nearest === undefined ? undefined : this.#ranks.get(nearest)
  }
}
