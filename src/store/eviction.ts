/**
 * Which blocks go when the pool is nearly full: a pure policy, without timers, files or network.
 *
 * The steps of one round: the level of the pool is told; above the high watermark a survey is asked for (survey.ts says
 * for each slot the best reason to stay, and the last use); from it the blocks to drop are chosen, down to the low
 * watermark, so that the next round is not due at once. In this order they go: what no image is known for, what is
 * neither pinned nor current, what is current, each by last use, the longest unused first. Blocks of which this peer
 * knows itself to be the last replica go after all of these, and only as far as the quota itself demands. Pinned blocks
 * never go. A block that several images share is judged by its best reason to stay, which the survey has found.
 *
 * Where nothing can go, that is remembered for a while: a pool full of pinned blocks must not be surveyed for each
 * block that a guest reads.
 */

/** Why a block stays, the weakest reason first. A higher number beats a lower one. */
export const REASON = {
  /** No image is known that has it. */
  none: 1,
  /** Of an image that is neither pinned nor current. */
  old: 2,
  /** Of the newest release of a channel of an appliance that is known here. */
  current: 3,
  /** Of a release that may be in use, and nobody else is known to have all of it. */
  lastReplica: 4,
  /** Of a local machine's image, a replicated one, or one of one's own releases. Never evicted. */
  pinned: 5
} as const
export type Reason = (typeof REASON)[keyof typeof REASON]

/**
 * A reason and a last use in one number that orders them: 3 bits of reason above 29 bits of minutes since the epoch
 * (enough for the next thousand years). 0 is nobody's standing: the slot holds no block that may be judged.
 */
export function standingOf(reason: Reason, usedMinute: number): number {
  return ((reason << 29) | Math.min(Math.max(usedMinute, 0), MAX_MINUTE)) >>> 0
}

export function reasonIn(standing: number): number {
  return standing >>> 29
}

const MAX_MINUTE = 2 ** 29 - 1

/** The watermarks lie this part of the quota below it, and twice this part. */
const HEADROOM_PART = 1 / 20
/** At most so much is kept free by the high watermark: 1 GiB, ten seconds at the speed of a fast line. */
const MAX_HEADROOM_BLOCKS = 16_384
/** How long nothing is looked for after a round that could not free enough. */
export const BARREN_MS = 10_000

export interface Watermarks {
  /** The quota. */
  maxBlocks: number
  /** Above this, blocks are evicted... */
  highBlocks: number
  /** ...down to this. */
  lowBlocks: number
}

export function watermarks(maxBlocks: number): Watermarks {
  if (!Number.isFinite(maxBlocks)) return { maxBlocks, highBlocks: maxBlocks, lowBlocks: maxBlocks }
  const headroom = Math.min(MAX_HEADROOM_BLOCKS, Math.max(1, Math.floor(maxBlocks * HEADROOM_PART)))
  return {
    maxBlocks,
    highBlocks: Math.max(0, maxBlocks - headroom),
    lowBlocks: Math.max(0, maxBlocks - 2 * headroom)
  }
}

/** How full the pool is: slots that are taken and are not about to be free, and those that somebody waits for. */
export interface PoolLevel {
  takenBlocks: number
  wantedBlocks: number
}

export type EvictionEvent =
  | ({ type: 'level' } & PoolLevel)
  /** `standings[slot]`, 0 where there is nothing to judge. */
  | ({ type: 'surveyed'; standings: Uint32Array } & PoolLevel)
  /** The round is over. Cut short: what is pinned changed on the way, so that the survey was out of date. */
  | { type: 'ended'; outcome: 'done' | 'cut short' | 'failed' }

export type EvictionAction =
  | { type: 'survey' }
  /** In this order. */
  | { type: 'drop'; slots: number[] }

export class EvictionPolicy {
  readonly #marks: Watermarks
  #isRunning = false
  /** Everything that can go was chosen, and it is not enough. */
  #isExhaustive = false
  #barrenUntilMs = Number.NEGATIVE_INFINITY

  constructor(marks: Watermarks) {
    this.#marks = marks
  }

  /** @param nowMs - monotonic */
  event(event: EvictionEvent, nowMs: number): EvictionAction[] {
    switch (event.type) {
      case 'level':
        if (this.#isRunning || nowMs < this.#barrenUntilMs || !this.#isHigh(event)) return []
        this.#isRunning = true
        return [{ type: 'survey' }]
      case 'surveyed': {
        const slots = chooseVictims(event.standings, event, this.#marks)
        this.#isExhaustive = event.takenBlocks + event.wantedBlocks - slots.length > this.#marks.highBlocks
        return [{ type: 'drop', slots }]
      }
      case 'ended':
        this.#isRunning = false
        if (event.outcome === 'failed' || (this.#isExhaustive && event.outcome === 'done')) {
          this.#barrenUntilMs = nowMs + BARREN_MS
        }
        return []
    }
  }

  /** Something is not pinned any more: it is worth looking again. */
  reconsider(): void {
    this.#barrenUntilMs = Number.NEGATIVE_INFINITY
  }

  #isHigh({ takenBlocks, wantedBlocks }: PoolLevel): boolean {
    return takenBlocks + wantedBlocks > this.#marks.highBlocks
  }
}

/**
 * The slots to drop, the first to go first. Of blocks with one standing those in the highest slots go first, so that the
 * pool's last segments become empty.
 */
export function chooseVictims(standings: Uint32Array, level: PoolLevel, marks: Watermarks): number[] {
  const total = level.takenBlocks + level.wantedBlocks
  if (total <= marks.highBlocks) return []
  const counts = countsOf(standings)
  let left = total
  /** How many of each standing go. */
  const quotas = new Map<number, number>()
  for (const standing of [...counts.keys()].sort((a, b) => a - b)) {
    const target = reasonIn(standing) === REASON.lastReplica ? marks.maxBlocks : marks.lowBlocks
    const going = Math.min(counts.get(standing)!, left - target)
    if (going <= 0) break
    quotas.set(standing, going)
    left -= going
  }
  return slotsOf(standings, quotas)
}

/** How many blocks that may go have each standing. Neighbours mostly share theirs, so the Map is asked once for a run. */
function countsOf(standings: Uint32Array): Map<number, number> {
  const counts = new Map<number, number>()
  for (let slot = 0; slot < standings.length; ) {
    const standing = standings[slot]!
    const first = slot
    while (slot < standings.length && standings[slot] === standing) slot++
    if (standing === 0 || reasonIn(standing) === REASON.pinned) continue
    counts.set(standing, (counts.get(standing) ?? 0) + slot - first)
  }
  return counts
}

function slotsOf(standings: Uint32Array, quotas: ReadonlyMap<number, number>): number[] {
  const chosen = new Map<number, number[]>([...quotas.keys()].map(standing => [standing, []]))
  for (let slot = standings.length - 1; slot >= 0; ) {
    const standing = standings[slot]!
    const slots = chosen.get(standing)
    const quota = quotas.get(standing) ?? 0
    for (; slot >= 0 && standings[slot] === standing; slot--) {
      if (slots !== undefined && slots.length < quota) slots.push(slot)
    }
  }
  return [...chosen.values()].flat()
}
