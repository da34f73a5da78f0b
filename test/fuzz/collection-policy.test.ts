/**
 * Random histories of a version, its holders, its users and its publisher, against what is really in use.
 *
 * A lease is put to all holders of its time; holders leave and are replaced by some who know nothing, and come back with
 * what they knew; polls reach some of them or none. In one half of the histories witnesses name the sharers that they
 * know, in the other they only say until when. What was ever told to the publisher must not be removed while it lasts, and what nothing protects must
 * be gone in the end.
 */

import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  type CollectionState,
  MAX_CLAIM_MS,
  MAX_GAP_MS,
  newCollectionState,
  observe,
  type Poll,
  paused,
  useLeftMs,
  windowMs
} from '../../src/release/collection-policy.ts'
import { judge, type VersionFacts } from '../../src/release/collection-verdict.ts'
import { MAX_TELLERS } from '../../src/release/told-sharers.ts'

const SEED = 20261121
const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS
const DAY_MS = 24 * HOUR_MS
const HOLDERS = 7
const SETTINGS = { graceMs: 3 * HOUR_MS, runningTtlMs: 30 * MINUTE_MS }
const POLL_MS = 10 * MINUTE_MS
const FACTS: VersionFacts = { channels: [], rollouts: [], isOnly: false, machines: [], isReplicated: false }

const slots = fc.uniqueArray(fc.nat(HOLDERS - 1), { maxLength: HOLDERS })
const step = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('put' as const),
      user: fc.nat(3),
      forMs: fc.constantFrom(30 * MINUTE_MS, 2 * HOUR_MS, DAY_MS, 20 * DAY_MS)
    })
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('back' as const), user: fc.nat(3) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('leave' as const), slots }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('return' as const), slots }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('channel' as const), points: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('machine' as const), has: fc.boolean() }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('pause' as const),
      ms: fc.constantFrom(MINUTE_MS, HOUR_MS, 5 * HOUR_MS, 3 * DAY_MS)
    })
  },
  {
    weight: 8,
    arbitrary: fc.record({ kind: fc.constant('polls' as const), count: fc.constantFrom(1, 2, 20, 45), deaf: slots })
  }
)
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never

interface HolderModel {
  peer: string
  sinceMs: number
  knows: Map<number, number>
}

interface Lease {
  untilMs: number
  /** Some poll was told of a use of at least that length while it lasted. */
  wasTold: boolean
}

class World {
  nowMs = 0
  state: CollectionState = newCollectionState()
  removedMs: number | undefined
  #count = 0
  #holders = Array.from({ length: HOLDERS }, () => this.#newHolder())
  readonly #left: HolderModel[] = []
  readonly #named: boolean
  readonly leases = new Map<number, Lease>()
  #points = false
  #pointedSince = false
  #has = false
  /** The last poll that was told of a use; when a channel last pointed at it. */
  #lastToldMs = Number.NEGATIVE_INFINITY
  #pointedMs = 0

  constructor(named: boolean) {
    this.#named = named
  }

  #newHolder(): HolderModel {
    return { peer: `h${this.#count++}`, sinceMs: this.nowMs, knows: new Map() }
  }

  do(step: Step): void {
    switch (step.kind) {
      case 'put': {
        const untilMs = this.nowMs + step.forMs
        this.leases.set(step.user, { untilMs, wasTold: false })
        for (const { knows } of this.#holders) knows.set(step.user, untilMs)
        break
      }
      case 'back':
        this.leases.delete(step.user)
        for (const { knows } of this.#holders) knows.delete(step.user)
        break
      case 'leave':
        for (const slot of step.slots) {
          this.#left.push(this.#holders[slot]!)
          this.#holders[slot] = this.#newHolder()
        }
        break
      case 'return':
        for (const slot of step.slots) {
          const back = this.#left.shift()
          if (back === undefined) break
          this.#left.push(this.#holders[slot]!)
          this.#holders[slot] = { ...back, sinceMs: this.nowMs }
        }
        break
      case 'channel':
        if (this.#points) this.#pointedMs = this.nowMs
        this.#points = step.points
        this.#pointedSince ||= step.points
        break
      case 'machine':
        this.#has = step.has
        break
      case 'pause':
        this.nowMs += step.ms
        this.state = paused(this.state, step.ms)
        break
      case 'polls':
        for (let i = 0; i < step.count; i++) this.#poll(new Set(step.deaf))
    }
    // Longer than the slack of the policy, so that what happens between two polls is told apart from them.
    this.nowMs += 6 * MINUTE_MS
    this.#behindMs += 6 * MINUTE_MS
  }

  #behindMs = 0

  #poll(deaf: ReadonlySet<number>): void {
    const elapsedMs = POLL_MS + this.#behindMs
    this.nowMs += POLL_MS
    this.#behindMs = 0
    const reached = this.#holders.filter((_, slot) => !deaf.has(slot))
    const words = reached.map(({ peer, sinceMs, knows }) => {
      const users = [...knows].filter(([, untilMs]) => untilMs > this.nowMs)
      const inUseForMs = Math.max(0, ...users.map(([, untilMs]) => untilMs - this.nowMs))
      const hashes = users.map(([user]) => (user + 1) / 10)
      const word = { peer, role: 'holder' as const, tenureMs: this.nowMs - sinceMs, inUseForMs }
      return this.#named ? { ...word, hashes } : word
    })
    const told = Math.max(0, ...words.map(({ inUseForMs }) => inUseForMs))
    for (const [user, lease] of this.leases) {
      if (lease.untilMs <= this.nowMs) continue
      const isTold = this.#named
        ? reached.some(({ knows }) => knows.get(user) === lease.untilMs)
        : told >= lease.untilMs - this.nowMs
      if (!isTold) continue
      lease.wasTold = true
      this.#lastToldMs = this.nowMs
    }
    const poll: Poll | null = reached.length === 0 ? null : { holdersAsked: HOLDERS, witnesses: words }
    this.state = observe(this.state, { poll, elapsedMs, pointedAt: this.#pointedSince }, SETTINGS)
    this.#pointedSince = this.#points
    if (judge(this.facts(), this.state, SETTINGS).action === 'remove') this.#removed()
  }

  facts(): VersionFacts {
    return { ...FACTS, channels: this.#points ? ['stable'] : [], machines: this.#has ? ['desk'] : [] }
  }

  #removed(): void {
    this.removedMs ??= this.nowMs
    expect(this.#points, 'a channel points at it').toBe(false)
    expect(this.#has, 'a machine here has it').toBe(false)
    for (const { untilMs, wasTold } of this.leases.values()) {
      if (wasTold) expect(untilMs, 'a use that was told is over').toBeLessThanOrEqual(this.nowMs)
    }
    for (const [since, what] of [
      [0, 'it was published'],
      [this.#lastToldMs, 'its last use was told'],
      [this.#pointedMs, 'a channel pointed at it']
    ] as const) {
      expect(this.nowMs - since, `the grace since ${what}`).toBeGreaterThanOrEqual(SETTINGS.graceMs)
    }
  }
}

test('what is protected is never removed, whatever happens', () => {
  let removals = 0
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), fc.boolean(), (steps, named) => {
      const world = new World(named)
      for (const step of steps) {
        world.do(step)
        if (world.removedMs !== undefined) break
      }
      if (world.removedMs !== undefined) removals++
    }),
    { seed: SEED, numRuns: 3000 }
  )
  // Else nothing was shown.
  expect(removals).toBeGreaterThan(300)
})

test('what nothing protects is removed in the end', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 20 }), fc.boolean(), (steps, named) => {
      const world = new World(named)
      for (const step of steps) world.do(step)
      for (const user of world.leases.keys()) world.do({ kind: 'back', user })
      world.do({ kind: 'channel', points: false })
      world.do({ kind: 'machine', has: false })
      const quietMs = world.nowMs
      while (world.removedMs === undefined && world.nowMs < quietMs + 2 * MAX_CLAIM_MS) {
        world.do({ kind: 'polls', count: 45, deaf: [1, 2] })
      }
      expect(world.removedMs).toBeDefined()
    }),
    { seed: SEED, numRuns: 300 }
  )
})

test('where the holders stay, an unused version is gone a window and three polls after its last use', () => {
  const stay = step.filter(({ kind }) => kind !== 'leave' && kind !== 'return' && kind !== 'pause')
  fc.assert(
    fc.property(fc.array(stay, { maxLength: 30 }), fc.boolean(), (steps, named) => {
      const world = new World(named)
      // Until the holders have a tenure; a channel points at it, as at any new version.
      world.do({ kind: 'channel', points: true })
      world.do({ kind: 'polls', count: 20, deaf: [] })
      for (const step of steps) world.do(step.kind === 'polls' ? { ...step, deaf: step.deaf.slice(0, 3) } : step)
      for (const user of world.leases.keys()) world.do({ kind: 'back', user })
      world.do({ kind: 'machine', has: false })
      world.do({ kind: 'channel', points: false })
      const quietMs = world.nowMs
      while (world.removedMs === undefined && world.nowMs < quietMs + DAY_MS) {
        world.do({ kind: 'polls', count: 1, deaf: [] })
      }
      const pollMs = POLL_MS + 6 * MINUTE_MS
      expect(world.removedMs! - quietMs).toBeLessThanOrEqual(windowMs(SETTINGS) + 3 * pollMs)
    }),
    { seed: SEED, numRuns: 500 }
  )
})

test('any state is followed by one that is as well formed', () => {
  const number = fc.oneof(fc.nat(100 * DAY_MS), fc.constantFrom(0, MAX_GAP_MS, Number.MAX_SAFE_INTEGER))
  const fields = {
    peer: fc.oneof(fc.string(), fc.nat(40).map(String)),
    role: fc.constantFrom('holder' as const, 'replica' as const),
    tenureMs: number,
    inUseForMs: number,
    hashes: fc.uniqueArray(fc.integer({ min: 0, max: 9 }).map(tenth => tenth / 10))
  }
  const witness = fc.record(fields, { requiredKeys: ['peer', 'role', 'tenureMs', 'inUseForMs'] })
  const poll = fc.option(fc.record({ holdersAsked: fc.nat(20), witnesses: fc.array(witness, { maxLength: 36 }) }))
  fc.assert(
    fc.property(fc.array(fc.tuple(poll, fc.nat(DAY_MS), fc.boolean()), { maxLength: 100 }), observations => {
      let state = newCollectionState()
      for (const [poll, elapsedMs, pointedAt] of observations) {
        state = observe(state, { poll, elapsedMs, pointedAt }, SETTINGS)
        for (const value of [
          state.unusedForMs,
          state.polls,
          state.supersededForMs ?? 0,
          ...state.claims.map(claim => claim.leftMs),
          ...state.told.sharers.flatMap(({ leftMs, ageMs, givenBackForMs }) => [leftMs, ageMs, givenBackForMs ?? 0])
        ]) {
          expect(Number.isSafeInteger(value) && value >= 0).toBe(true)
        }
        const lefts = state.claims.map(({ leftMs }) => leftMs)
        expect(lefts).toEqual(lefts.toSorted((a, b) => a - b))
        expect(useLeftMs(state)).toBeLessThanOrEqual(MAX_CLAIM_MS)
        expect(state.told.tellers.length).toBeLessThanOrEqual(MAX_TELLERS)
      }
    }),
    { seed: SEED }
  )
})
