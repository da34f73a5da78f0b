/**
 * The scheduler's promises, under arbitrary histories.
 *
 * A history is a list of steps that a small model of the outside turns into events: peers that join, leave, stall, lie, answer in any
 * order, or say that they have nothing. After each step the model checks what must hold of the actions.
 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { MAX_ASKED_ON_BEHALF } from '../../src/swarm/limits.ts'
import type { MissingReason, Rank } from '../../src/swarm/messages.ts'
import { Scheduler } from '../../src/swarm/scheduler.ts'
import {
  blockKey,
  type ItemKey,
  nodeKey,
  type PeerKind,
  type SchedulerAction
} from '../../src/swarm/scheduler-types.ts'

const SEED = 20_261_121
const RUNS = 400
const PEERS = ['a', 'b', 'c', 'd']
/** Two are far, one is on this peer's own network; the last one is near by its round trip alone. */
const KINDS: Record<string, { rttMs: number; kind: PeerKind }> = {
  a: { rttMs: 60, kind: {} },
  b: { rttMs: 30, kind: { onOwnNetwork: true } },
  c: { rttMs: 1, kind: { onOwnNetwork: true } },
  d: { rttMs: 1, kind: {} }
}
const BLOCKS = 24

type Step =
  | { do: 'want'; block: number; rank: Rank; relied?: boolean }
  | { do: 'cancel'; block: number }
  | { do: 'join'; peer: string; complete: boolean; bits: number }
  | { do: 'help'; peer: string; helps: boolean }
  | { do: 'leave'; peer: string }
  | { do: 'lie'; peer: string }
  | { do: 'answer'; peer: string; which: number }
  | { do: 'miss'; peer: string; which: number; reason: MissingReason }
  | { do: 'wait'; ms: number }

const block = fc.nat({ max: BLOCKS - 1 })
const peer = fc.constantFrom(...PEERS)
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('want' as const),
      block,
      rank: fc.constantFrom<Rank[]>(0, 1, 2, 3),
      relied: fc.boolean()
    })
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('cancel' as const), block }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('join' as const),
      peer,
      complete: fc.boolean(),
      bits: fc.nat({ max: 2 ** 24 - 1 })
    })
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('help' as const), peer, helps: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('leave' as const), peer }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('lie' as const), peer }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant('answer' as const), peer, which: fc.nat() }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('miss' as const),
      peer,
      which: fc.nat(),
      reason: fc.constantFrom<MissingReason[]>('absent', 'cancelled', 'refused', 'zero')
    })
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.nat({ max: 3000 }) }) }
)

/** One in eight items is a node of the index: the rules are the same. */
const keyOf = (n: number): ItemKey => (n % 8 === 7 ? nodeKey(0, 0, n) : blockKey(0, n))

class World {
  readonly scheduler = new Scheduler()
  readonly wanted = new Map<ItemKey, Rank>()
  readonly owes = new Map<string, Set<ItemKey>>()
  readonly liars = new Set<string>()
  readonly helpers = new Set<string>()
  readonly relied = new Set<ItemKey>()
  readonly trace: SchedulerAction[] = []
  nowMs = 0

  run(next: Step): void {
    const { scheduler } = this
    switch (next.do) {
      case 'want': {
        const key = keyOf(next.block)
        this.wanted.set(key, Math.min(next.rank, this.wanted.get(key) ?? 3) as Rank)
        if (next.relied) this.relied.add(key)
        scheduler.apply({ type: 'want', key, rank: next.rank, relied: next.relied ?? false }, this.nowMs)
        break
      }
      case 'cancel':
        this.wanted.delete(keyOf(next.block))
        this.relied.delete(keyOf(next.block))
        scheduler.apply({ type: 'cancel', key: keyOf(next.block) }, this.nowMs)
        break
      case 'join': {
        scheduler.apply({ type: 'joined', peer: next.peer, ...KINDS[next.peer]! }, this.nowMs)
        this.helpers.delete(next.peer)
        const bitmap = new Uint8Array(128)
        new DataView(bitmap.buffer).setUint32(0, next.bits)
        const { complete } = next
        scheduler.apply({ type: 'has', peer: next.peer, image: 0, complete, pages: [{ page: 0, bitmap }] }, this.nowMs)
        this.owes.delete(next.peer)
        if (!this.liars.has(next.peer)) this.owes.set(next.peer, new Set())
        break
      }
      case 'help':
        scheduler.apply({ type: 'helps', peer: next.peer, image: 0, helps: next.helps }, this.nowMs)
        if (next.helps) this.helpers.add(next.peer)
        else this.helpers.delete(next.peer)
        break
      case 'leave':
        scheduler.apply({ type: 'left', peer: next.peer }, this.nowMs)
        this.owes.delete(next.peer)
        break
      case 'lie':
        scheduler.apply({ type: 'lied', peer: next.peer }, this.nowMs)
        this.liars.add(next.peer)
        this.owes.delete(next.peer)
        break
      case 'answer': {
        const key = this.pick(next.peer, next.which)
        if (key === undefined) break
        scheduler.apply({ type: 'answered', peer: next.peer, key, bytes: 65_536 }, this.nowMs)
        scheduler.apply({ type: 'done', key }, this.nowMs)
        this.wanted.delete(key)
        this.relied.delete(key)
        break
      }
      case 'miss': {
        const key = this.pick(next.peer, next.which)
        if (key !== undefined)
          scheduler.apply({ type: 'missing', peer: next.peer, key, reason: next.reason }, this.nowMs)
        break
      }
      case 'wait':
        this.nowMs += next.ms
        scheduler.apply({ type: 'time', lateMs: 0 }, this.nowMs)
    }
    const actions = scheduler.decide(this.nowMs)
    this.trace.push(...actions)
    this.check(actions)
  }

  /** One of the things that a peer owes, which it then does not owe any more. */
  pick(peerId: string, which: number): ItemKey | undefined {
    const owed = this.owes.get(peerId)
    const key = [...(owed ?? [])][which % Math.max(1, owed?.size ?? 0)]
    if (key !== undefined) owed?.delete(key)
    return key
  }

  check(actions: SchedulerAction[]): void {
    const sentRank = new Map<string, number>()
    for (const action of actions) {
      if (action.type === 'drop') this.owes.delete(action.peer)
      if (action.type !== 'send') continue
      const owed = this.owes.get(action.peer)
      // Only connected peers, and no liars, are asked.
      expect(owed).toBeDefined()
      for (const key of action.keys) {
        // Only what is wanted is asked for, with the rank that it is wanted with.
        expect(this.wanted.get(key)).toBe(action.rank)
        // Never two requests for one item to one peer at a time.
        expect(owed!.has(key)).toBe(false)
        owed!.add(key)
      }
      if (action.onBehalf) {
        // Only who offered it, is near, and within its limit is asked to fetch; and nothing that a neighbour relies on this peer for.
        expect(this.helpers.has(action.peer)).toBe(true)
        expect(KINDS[action.peer]!.rttMs).toBe(1)
        expect(owed!.size).toBeLessThanOrEqual(MAX_ASKED_ON_BEHALF)
        for (const key of action.keys) expect(this.relied.has(key)).toBe(false)
      }
      // Hedges of demand come last; otherwise ranks go out in order.
      if (action.rank !== 0) expect(action.rank).toBeGreaterThanOrEqual(sentRank.get(action.peer) ?? 0)
      if (action.rank !== 0) sentRank.set(action.peer, action.rank)
    }
    // Nothing that is wanted was forgotten, and nothing else is kept.
    expect(this.scheduler.wanted).toBe(this.wanted.size)
    // Something will happen about what is wanted, without anybody's doing.
    if (this.wanted.size > 0) expect(this.scheduler.nextMs(this.nowMs)).toBeDefined()
  }
}

function play(steps: Step[]): World {
  const world = new World()
  for (const next of steps) world.run(next)
  return world
}

describe('scheduler properties', () => {
  test('holds its promises in every history', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), steps => void play(steps)),
      { seed: SEED, numRuns: RUNS }
    )
  })

  test('whatever happened, an honest complete replica gets everything done', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), steps => {
        const world = play(steps)
        world.owes.set('honest', new Set())
        world.scheduler.apply({ type: 'joined', peer: 'honest', rttMs: 10 }, world.nowMs)
        world.scheduler.apply({ type: 'has', peer: 'honest', image: 0, complete: true, pages: [] }, world.nowMs)
        for (let round = 0; round < 400 && world.wanted.size > 0; round++) {
          world.run({ do: 'wait', ms: 100 })
          while ((world.owes.get('honest')?.size ?? 0) > 0) world.run({ do: 'answer', peer: 'honest', which: 0 })
        }
        expect(world.wanted.size).toBe(0)
      }),
      { seed: SEED, numRuns: RUNS }
    )
  })

  test('equal histories give equal actions', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), steps => {
        expect(play(steps).trace).toEqual(play(steps).trace)
      }),
      { seed: SEED, numRuns: 100 }
    )
  })

  test('a peer that has room is never given less urgent work while more urgent work waits for it', () => {
    const ranks = fc.array(fc.tuple(block, fc.constantFrom<Rank[]>(0, 1, 2, 3)), { minLength: 1, maxLength: 200 })
    fc.assert(
      fc.property(ranks, wants => {
        const world = new World()
        world.owes.set('a', new Set())
        world.scheduler.apply({ type: 'joined', peer: 'a', rttMs: 20 }, 0)
        world.scheduler.apply({ type: 'has', peer: 'a', image: 0, complete: true, pages: [] }, 0)
        const waiting = new Map<ItemKey, Rank>()
        for (const [n, rank] of wants) {
          // Spread over many blocks, so that the window fills.
          const key = blockKey(0, n + BLOCKS * waiting.size)
          waiting.set(key, rank)
          world.scheduler.apply({ type: 'want', key, rank }, 0)
        }
        for (let round = 0; round < 50 && waiting.size > 0; round++) {
          for (const action of world.scheduler.decide(round)) {
            if (action.type !== 'send') continue
            for (const key of action.keys) {
              expect(waiting.get(key)).toBe(action.rank)
              expect(Math.min(...waiting.values())).toBe(action.rank)
              waiting.delete(key)
              world.owes.get('a')!.add(key)
            }
          }
          for (const key of [...world.owes.get('a')!].slice(0, 5)) {
            world.owes.get('a')!.delete(key)
            world.scheduler.apply({ type: 'answered', peer: 'a', key, bytes: 65_536 }, round)
            world.scheduler.apply({ type: 'done', key }, round)
          }
        }
      }),
      { seed: SEED, numRuns: RUNS }
    )
  })

  test('demand never waits for anything below it: it goes out however much else was asked for', () => {
    const rounds = fc.array(
      fc.record({ wants: fc.nat({ max: 300 }), rank: fc.constantFrom<Rank[]>(1, 2, 3), answers: fc.nat({ max: 60 }) }),
      { minLength: 1, maxLength: 12 }
    )
    fc.assert(
      fc.property(rounds, fc.nat({ max: 200 }), (history, rttMs) => {
        const scheduler = new Scheduler()
        scheduler.apply({ type: 'joined', peer: 'a', rttMs }, 0)
        scheduler.apply({ type: 'has', peer: 'a', image: 0, complete: true, pages: [] }, 0)
        const owed: ItemKey[] = []
        let next = 0
        let nowMs = 0
        const note = (actions: SchedulerAction[]) => {
          for (const action of actions) if (action.type === 'send') owed.push(...action.keys)
          return actions
        }
        for (const { wants, rank, answers } of history) {
          for (let n = 0; n < wants; n++) scheduler.apply({ type: 'want', key: blockKey(0, next++), rank }, nowMs)
          note(scheduler.decide(nowMs))
          for (const key of owed.splice(0, answers)) {
            nowMs++
            scheduler.apply({ type: 'answered', peer: 'a', key, bytes: 65_536 }, nowMs)
            scheduler.apply({ type: 'done', key }, nowMs)
          }
          note(scheduler.decide(nowMs))
          const urgent = blockKey(0, next++)
          const actions = note(scheduler.step({ type: 'want', key: urgent, rank: 0 }, nowMs))
          expect(actions).toContainEqual({ type: 'send', peer: 'a', rank: 0, keys: [urgent] })
        }
      }),
      { seed: SEED, numRuns: RUNS }
    )
  })

  test('where it is quiet, nothing below read-ahead is asked for, and nothing is forgotten', () => {
    const ranks = fc.array(fc.constantFrom<Rank[]>(0, 1, 2, 3), { minLength: 1, maxLength: 40 })
    fc.assert(
      fc.property(ranks, wants => {
        const scheduler = new Scheduler()
        scheduler.apply({ type: 'quiet', quiet: true }, 0)
        scheduler.apply({ type: 'joined', peer: 'a', rttMs: 20 }, 0)
        scheduler.apply({ type: 'has', peer: 'a', image: 0, complete: true, pages: [] }, 0)
        for (const [n, rank] of wants.entries()) scheduler.apply({ type: 'want', key: blockKey(0, n), rank }, 0)
        const asked = new Set<ItemKey>()
        const run = (nowMs: number) => {
          for (const action of scheduler.decide(nowMs)) {
            if (action.type !== 'send') continue
            for (const key of action.keys) asked.add(key)
            for (const key of action.keys) {
              scheduler.apply({ type: 'answered', peer: 'a', key, bytes: 65_536 }, nowMs)
              scheduler.apply({ type: 'done', key }, nowMs)
            }
          }
        }
        for (let nowMs = 0; nowMs < 60; nowMs++) run(nowMs)
        expect(asked.size).toBe(wants.filter(rank => rank <= 1).length)
        scheduler.apply({ type: 'quiet', quiet: false }, 60)
        for (let nowMs = 60; nowMs < 120; nowMs++) run(nowMs)
        expect(asked.size).toBe(wants.length)
        expect(scheduler.wanted).toBe(0)
      }),
      { seed: SEED, numRuns: 100 }
    )
  })
})
