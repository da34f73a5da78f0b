import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  BARREN_MS,
  chooseVictims,
  type EvictionAction,
  EvictionPolicy,
  REASON,
  type Reason,
  reasonIn,
  standingOf,
  watermarks
} from '../../../src/store/eviction.ts'

const SEED = 20_261_122

test('a better reason beats any last use, and a later use an earlier one', () => {
  const inOrder = [
    standingOf(REASON.none, 0),
    standingOf(REASON.none, 30_000_000),
    standingOf(REASON.old, 0),
    standingOf(REASON.old, 1),
    standingOf(REASON.current, 0),
    standingOf(REASON.lastReplica, 5),
    standingOf(REASON.pinned, 0),
    standingOf(REASON.pinned, 2 ** 40)
  ]
  expect(inOrder.toSorted((a, b) => a - b)).toEqual(inOrder)
  expect(reasonIn(standingOf(REASON.pinned, 2 ** 40))).toBe(REASON.pinned)
})

test('the watermarks lie below the quota, and not far below a large one', () => {
  expect(watermarks(1000)).toEqual({ maxBlocks: 1000, highBlocks: 950, lowBlocks: 900 })
  expect(watermarks(4)).toEqual({ maxBlocks: 4, highBlocks: 3, lowBlocks: 2 })
  expect(watermarks(0)).toEqual({ maxBlocks: 0, highBlocks: 0, lowBlocks: 0 })
  const large = watermarks(16_000_000)
  expect(large.maxBlocks - large.lowBlocks).toBe(2 * 16_384)
  expect(watermarks(Number.POSITIVE_INFINITY).highBlocks).toBe(Number.POSITIVE_INFINITY)
})

describe('who goes', () => {
  const pool = (...standings: [Reason, number][]) => Uint32Array.from(standings, ([r, m]) => standingOf(r, m))
  const level = (takenBlocks: number, wantedBlocks = 0) => ({ takenBlocks, wantedBlocks })

  test('first what is neither pinned nor current, the longest unused first, then what is current', () => {
    const standings = pool(
      [REASON.current, 1],
      [REASON.old, 9],
      [REASON.pinned, 0],
      [REASON.old, 3],
      [REASON.none, 0],
      [REASON.current, 7]
    )
    const marks = { maxBlocks: 6, highBlocks: 5, lowBlocks: 2 }
    expect(chooseVictims(standings, level(6), marks)).toEqual([4, 3, 1, 0])
    expect(chooseVictims(standings, level(6), { ...marks, lowBlocks: 0 })).toEqual([4, 3, 1, 0, 5])
  })

  test('nobody, below the high watermark', () => {
    const marks = { maxBlocks: 6, highBlocks: 5, lowBlocks: 0 }
    expect(chooseVictims(pool([REASON.none, 0], [REASON.old, 0]), level(5), marks)).toEqual([])
  })

  test('a last replica only when nothing else is left, and only as far as the quota demands', () => {
    const standings = pool(
      [REASON.lastReplica, 0],
      [REASON.lastReplica, 1],
      [REASON.current, 50],
      [REASON.lastReplica, 2]
    )
    const marks = { maxBlocks: 4, highBlocks: 3, lowBlocks: 1 }
    expect(chooseVictims(standings, level(4), marks)).toEqual([2])
    expect(chooseVictims(standings, level(4, 2), marks)).toEqual([2, 0])
    expect(chooseVictims(standings, level(7), marks)).toEqual([2, 0, 1])
  })

  test('of equals those in the highest slots, so that the last segments become empty', () => {
    const standings = pool(...Array.from({ length: 6 }, () => [REASON.old, 4] as [Reason, number]))
    expect(chooseVictims(standings, level(6), { maxBlocks: 6, highBlocks: 5, lowBlocks: 4 })).toEqual([5, 4])
  })
})

test('where nothing can go, nothing is looked for until some time has passed, or a pin was taken back', () => {
  const policy = new EvictionPolicy(watermarks(100))
  const full = { takenBlocks: 100, wantedBlocks: 1 }
  const pinned = new Uint32Array(100).fill(standingOf(REASON.pinned, 3))
  const round = (nowMs: number) => {
    const asked = policy.event({ type: 'level', ...full }, nowMs)
    if (asked.length === 0) return 'not looked'
    const [action] = policy.event({ type: 'surveyed', standings: pinned, ...full }, nowMs)
    policy.event({ type: 'ended', outcome: 'done' }, nowMs)
    return action
  }
  expect(round(0)).toEqual({ type: 'drop', slots: [] })
  expect(round(BARREN_MS - 1)).toBe('not looked')
  expect(round(BARREN_MS)).toEqual({ type: 'drop', slots: [] })
  policy.reconsider()
  expect(round(BARREN_MS + 1)).toEqual({ type: 'drop', slots: [] })
})

test('after a round that failed nothing is tried for a while; after one that was cut short, at once', () => {
  const policy = new EvictionPolicy(watermarks(100))
  const full = { type: 'level', takenBlocks: 99, wantedBlocks: 0 } as const
  policy.event(full, 0)
  policy.event({ type: 'ended', outcome: 'cut short' }, 0)
  expect(policy.event(full, 0)).toEqual([{ type: 'survey' }])
  policy.event({ type: 'ended', outcome: 'failed' }, 0)
  expect(policy.event(full, BARREN_MS - 1)).toEqual([])
  expect(policy.event(full, BARREN_MS)).toEqual([{ type: 'survey' }])
})

test('one round at a time', () => {
  const policy = new EvictionPolicy(watermarks(100))
  const full = { type: 'level', takenBlocks: 99, wantedBlocks: 0 } as const
  expect(policy.event(full, 0)).toEqual([{ type: 'survey' }])
  expect(policy.event(full, 1)).toEqual([])
})

// ---- Random histories of a small pool whose images come, go, and are pinned and used.

const MAX_BLOCKS = 40

interface Image {
  reason: Reason
  usedMinute: number
  blocks: number[]
}

/** A pool in the head: which block is in which slot. */
class ModelPool {
  readonly slots: (number | undefined)[] = []
  /** Blocks without an image. */
  get size(): number {
    return this.slots.filter(block => block !== undefined).length
  }
  put(block: number): boolean {
    if (this.slots.includes(block)) return true
    if (this.size >= MAX_BLOCKS) return false
    const free = this.slots.indexOf(undefined)
    this.slots[free === -1 ? this.slots.length : free] = block
    return true
  }
}

const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('bring' as const),
      image: fc.nat(5),
      blocks: fc.array(fc.nat(120), { minLength: 2, maxLength: 15 })
    })
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('judge' as const),
      image: fc.nat(5),
      reason: fc.constantFrom(REASON.old, REASON.current, REASON.lastReplica, REASON.pinned)
    })
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('use' as const), image: fc.nat(5) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('forget' as const), image: fc.nat(5) }) }
)

test('over random histories nothing protected goes, all else does when needed, and the quota is held', () => {
  let evicted = 0
  let refused = 0
  const check = (steps: (typeof step extends fc.Arbitrary<infer T> ? T : never)[]) => {
    const marks = watermarks(MAX_BLOCKS)
    const policy = new EvictionPolicy(marks)
    const pool = new ModelPool()
    const images = new Map<number, Image>()
    let nowMs = 0

    const standing = (block: number | undefined): number => {
      if (block === undefined) return 0
      let best = standingOf(REASON.none, 0)
      for (const { reason, usedMinute, blocks } of images.values()) {
        if (blocks.includes(block)) best = Math.max(best, standingOf(reason, usedMinute))
      }
      return best
    }

    /** A round as evictor.ts carries it out; checks what goes. */
    const pressed = (wantedBlocks: number) => {
      nowMs += BARREN_MS
      const level = () => ({ takenBlocks: pool.size, wantedBlocks })
      const asked = policy.event({ type: 'level', ...level() }, nowMs)
      const isHigh = pool.size + wantedBlocks > marks.highBlocks
      expect(asked).toEqual(isHigh ? [{ type: 'survey' }] : [])
      if (!isHigh) return
      const standings = Uint32Array.from(pool.slots, block => standing(block))
      const [action] = policy.event({ type: 'surveyed', standings, ...level() }, nowMs) as [
        Extract<EvictionAction, { type: 'drop' }>
      ]
      const going = new Set(action.slots)
      expect(going.size).toBe(action.slots.length)
      for (const slot of going) {
        evicted++
        expect(standings[slot]).toBeGreaterThan(0)
        expect(reasonIn(standings[slot]!)).toBeLessThan(REASON.pinned)
        // Nobody stays who had less of a reason.
        for (const [other, its] of standings.entries()) {
          if (its !== 0 && !going.has(other)) expect(its).toBeGreaterThanOrEqual(standings[slot]!)
        }
        pool.slots[slot] = undefined
      }
      const left = standings.filter((its, slot) => its !== 0 && !going.has(slot))
      const total = pool.size + wantedBlocks
      // As much went as was needed, unless only what may not go is left.
      if (total > marks.lowBlocks) expect(left.every(its => reasonIn(its) >= REASON.lastReplica)).toBe(true)
      if (total > marks.maxBlocks) expect(left.every(its => reasonIn(its) === REASON.pinned)).toBe(true)
      // A last replica went only for the quota's sake.
      if (action.slots.some(slot => reasonIn(standings[slot]!) === REASON.lastReplica)) {
        expect(total).toBeGreaterThanOrEqual(marks.maxBlocks)
      }
      policy.event({ type: 'ended', outcome: 'done' }, nowMs)
    }

    for (const action of steps) {
      const minute = Math.floor(nowMs / 60_000)
      const image = images.get(action.image) ?? { reason: REASON.old, usedMinute: minute, blocks: [] }
      if (action.kind === 'forget') {
        images.delete(action.image)
        continue
      }
      images.set(action.image, image)
      if (action.kind === 'judge') image.reason = action.reason
      if (action.kind === 'use') image.usedMinute = minute
      if (action.kind !== 'bring') continue
      for (const block of action.blocks) {
        image.blocks.push(block)
        if (pool.size >= MAX_BLOCKS && !pool.slots.includes(block)) pressed(1)
        if (!pool.put(block)) {
          refused++
          // Only pinned blocks may keep a new one out.
          expect(pool.slots.every(its => its === undefined || reasonIn(standing(its)) === REASON.pinned)).toBe(true)
        }
        expect(pool.size).toBeLessThanOrEqual(MAX_BLOCKS)
        pressed(0)
      }
    }
  }
  fc.assert(fc.property(fc.array(step, { minLength: 10, maxLength: 60 }), check), { numRuns: 300, seed: SEED })
  expect(evicted).toBeGreaterThan(1000)
  expect(refused).toBeGreaterThan(0)
})
