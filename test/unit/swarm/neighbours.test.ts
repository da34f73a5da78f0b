import { describe, expect, test } from 'vitest'
import { MAX_ASKED_ON_BEHALF } from '../../../src/swarm/limits.ts'
import type { Rank } from '../../../src/swarm/messages.ts'
import { seedOf, weightOf } from '../../../src/swarm/peer-weight.ts'
import { Scheduler } from '../../../src/swarm/scheduler.ts'
import { blockKey, itemOf, type PeerKind, type SchedulerAction } from '../../../src/swarm/scheduler-types.ts'

const IMAGE = 0
const DEMAND: Rank = 0
const PROFILE: Rank = 2
const SELF = 'self'
const BESIDE = 'beside'
const OWN_NETWORK: PeerKind = { onOwnNetwork: true }

const want = (block: number, rank: Rank, relied = false) =>
  ({ type: 'want', key: blockKey(IMAGE, block), rank, relied }) as const

interface Sent {
  peer: string
  blocks: number[]
  onBehalf: boolean
}

function sends(actions: SchedulerAction[]): Sent[] {
  return actions
    .filter(action => action.type === 'send')
    .map(({ peer, keys, onBehalf = false }) => ({
      peer,
      blocks: keys.map(key => (itemOf(key) as { block: number }).block),
      onBehalf
    }))
}

/** A far replica with everything, and a neighbour who uses the image and has nothing. */
function world({
  rttMs = 1,
  kind = OWN_NETWORK,
  farMs = 60
}: {
  rttMs?: number
  kind?: PeerKind
  farMs?: number
} = {}): Scheduler {
  const scheduler = new Scheduler([], SELF)
  scheduler.apply({ type: 'joined', peer: 'far', rttMs: farMs }, 0)
  scheduler.apply({ type: 'has', peer: 'far', image: IMAGE, complete: true, pages: [] }, 0)
  scheduler.apply({ type: 'joined', peer: BESIDE, rttMs, kind }, 0)
  scheduler.apply({ type: 'has', peer: BESIDE, image: IMAGE, complete: false, pages: [] }, 0)
  scheduler.apply({ type: 'helps', peer: BESIDE, image: IMAGE, helps: true }, 0)
  return scheduler
}

const isHomedBeside = (block: number) => weightOf(seedOf(BESIDE), block) > weightOf(seedOf(SELF), block)
const blocks = Array.from({ length: 4000 }, (_, n) => n)
const [theirs, ours] = [blocks.filter(isHomedBeside), blocks.filter(block => !isHomedBeside(block))] as [
  number[],
  number[]
]

function has(scheduler: Scheduler, peer: string, which: number[], nowMs = 0): void {
  const bitmap = new Uint8Array(128)
  for (const block of which) bitmap[block >> 3]! |= 1 << (block & 7)
  scheduler.apply({ type: 'has', peer, image: IMAGE, complete: false, pages: [{ page: 0, bitmap }] }, nowMs)
}

function answers(scheduler: Scheduler, peer: string, which: number[], nowMs: number): void {
  for (const block of which) {
    scheduler.apply({ type: 'answered', peer, key: blockKey(IMAGE, block), bytes: 65_536 }, nowMs)
    scheduler.apply({ type: 'done', key: blockKey(IMAGE, block) }, nowMs)
  }
}

/** The neighbour gives a few blocks that it has, and needs `ms` for each. */
function slowly(scheduler: Scheduler, ms: number): void {
  const held = ours.slice(10, 15)
  scheduler.apply({ type: 'left', peer: BESIDE }, 0)
  scheduler.apply({ type: 'joined', peer: BESIDE, rttMs: ms, kind: OWN_NETWORK }, 0)
  has(scheduler, BESIDE, held)
  scheduler.apply({ type: 'helps', peer: BESIDE, image: IMAGE, helps: true }, 0)
  for (const block of held) {
    scheduler.step(want(block, PROFILE), 0)
    answers(scheduler, BESIDE, [block], ms)
  }
}

/** As if it had proved itself. */
function gives(scheduler: Scheduler, block: number, nowMs = 0): void {
  expect(sends(scheduler.step(want(block, PROFILE), nowMs))).toContainEqual({
    peer: BESIDE,
    blocks: [block],
    onBehalf: true
  })
  answers(scheduler, BESIDE, [block], nowMs)
}

describe('weights', () => {
  test('give each of several peers its share of the blocks, and of any run of them', () => {
    const seeds = Array.from({ length: 8 }, (_, n) => seedOf(`12D3KooW${'abcdefgh'[n]}peer${n}`))
    for (const from of [0, 100_000]) {
      const shares = seeds.map(() => 0)
      for (let block = from; block < from + 8000; block++) {
        const weights = seeds.map(seed => weightOf(seed, block))
        shares[weights.indexOf(Math.max(...weights))]!++
      }
      for (const share of shares) expect(share).toBeGreaterThan(850)
      for (const share of shares) expect(share).toBeLessThan(1150)
    }
  })
})

describe('a block that no neighbour has', () => {
  test('is asked of its home: half of them of the neighbour, on behalf, the others of who is far', () => {
    const scheduler = world()
    expect(sends(scheduler.step(want(theirs[0]!, PROFILE), 0))).toEqual([
      { peer: BESIDE, blocks: [theirs[0]!], onBehalf: true }
    ])
    expect(sends(scheduler.step(want(ours[0]!, PROFILE), 0))).toEqual([
      { peer: 'far', blocks: [ours[0]!], onBehalf: false }
    ])
    expect(theirs.length / blocks.length).toBeCloseTo(0.5, 1)
  })

  test('is asked of its home for a guest, too', () => {
    expect(sends(world().step(want(theirs[0]!, DEMAND), 0))).toEqual([
      { peer: BESIDE, blocks: [theirs[0]!], onBehalf: true }
    ])
  })

  test('is fetched here where a neighbour relies on this peer for it', () => {
    expect(sends(world().step(want(theirs[0]!, PROFILE, true), 0))).toEqual([
      { peer: 'far', blocks: [theirs[0]!], onBehalf: false }
    ])
  })

  test.each([
    [
      'does not use the image',
      {},
      (scheduler: Scheduler) => scheduler.apply({ type: 'helps', peer: BESIDE, image: IMAGE, helps: false }, 0)
    ],
    ['turned out not to be much nearer than who is far', {}, (scheduler: Scheduler) => slowly(scheduler, 40)],
    ['is not on this network and not very near', { rttMs: 8, kind: {} }, () => undefined],
    ['is as near as the replica itself', { rttMs: 0.5, farMs: 2 }, () => undefined]
  ] as const)('is not asked of a neighbour that %s', (_, options, before) => {
    const scheduler = world(options)
    before(scheduler)
    expect(sends(scheduler.step(want(theirs[0]!, PROFILE), 0))).toEqual([
      { peer: 'far', blocks: [theirs[0]!], onBehalf: false }
    ])
  })

  test('is asked of a neighbour whose greeting took long, until blocks have told', () => {
    expect(sends(world({ rttMs: 300 }).step(want(theirs[0]!, PROFILE), 0))[0]).toMatchObject({ onBehalf: true })
  })

  test('is asked of one that is very near by its round trip alone, once blocks have told that the other is far', () => {
    const scheduler = world({ rttMs: 2, kind: {} })
    for (const block of ours.slice(0, 4)) {
      expect(sends(scheduler.step(want(theirs[1]!, PROFILE), 0))).not.toContainEqual(
        expect.objectContaining({ onBehalf: true })
      )
      scheduler.step(want(block, PROFILE), 0)
      answers(scheduler, 'far', [block], 60)
    }
    expect(sends(scheduler.step(want(theirs[0]!, PROFILE), 0))[0]).toMatchObject({ peer: BESIDE, onBehalf: true })
  })

  test('is waited for while its home has no room, but not by a guest', () => {
    const scheduler = world()
    gives(scheduler, theirs[0]!)
    for (const block of theirs.slice(1, 600)) scheduler.apply(want(block, PROFILE), 0)
    const asked = sends(scheduler.decide(0))
    expect(asked.map(({ peer }) => peer)).toEqual([BESIDE])
    for (const block of theirs.slice(600, 800)) scheduler.apply(want(block, DEMAND), 0)
    const urgent = sends(scheduler.decide(0))
    const onBehalf = [...asked, ...urgent].filter(sent => sent.onBehalf).flatMap(sent => sent.blocks)
    expect(onBehalf.length).toBeLessThanOrEqual(MAX_ASKED_ON_BEHALF)
    expect(urgent.some(({ peer }) => peer === 'far')).toBe(true)
  })
})

describe('a home that', () => {
  const block = theirs[0]!

  for (const reason of ['refused', 'absent', 'cancelled'] as const) {
    test(`answers ${reason} is left alone for a while`, () => {
      const scheduler = world()
      scheduler.step(want(block, PROFILE), 0)
      const missing = { type: 'missing', peer: BESIDE, key: blockKey(IMAGE, block), reason } as const
      expect(sends(scheduler.step(missing, 1))).toEqual([{ peer: 'far', blocks: [block], onBehalf: false }])
      expect(sends(scheduler.step(want(theirs[1]!, PROFILE), 2))[0]).toMatchObject({ peer: 'far' })
      answers(scheduler, 'far', [block, theirs[1]!], 70)
      expect(sends(scheduler.step(want(theirs[2]!, PROFILE), 2500))[0]).toMatchObject({ peer: BESIDE, onBehalf: true })
    })
  }

  test('is called off, and says so, is not', () => {
    const scheduler = world()
    scheduler.step(want(block, PROFILE), 0)
    const calledOff = scheduler.step({ type: 'cancel', key: blockKey(IMAGE, block) }, 1)
    expect(calledOff).toEqual([{ type: 'call-off', peer: BESIDE, keys: [blockKey(IMAGE, block)] }])
    scheduler.step({ type: 'missing', peer: BESIDE, key: blockKey(IMAGE, block), reason: 'cancelled' }, 2)
    expect(sends(scheduler.step(want(block, PROFILE), 3))[0]).toMatchObject({ peer: BESIDE, onBehalf: true })
  })

  test('finds it to be zero is not asked to fetch it again', () => {
    const scheduler = world()
    scheduler.step(want(block, PROFILE), 0)
    const missing = { type: 'missing', peer: BESIDE, key: blockKey(IMAGE, block), reason: 'zero' } as const
    expect(sends(scheduler.step(missing, 1))).toEqual([{ peer: 'far', blocks: [block], onBehalf: false }])
  })

  test("is late with a guest's block is helped out by who is far, and not stalled", () => {
    const scheduler = world()
    scheduler.step(want(block, DEMAND), 0)
    const dueMs = scheduler.nextMs(0)!
    expect(dueMs).toBeGreaterThan(60)
    expect(dueMs).toBeLessThan(600)
    expect(sends(scheduler.step({ type: 'time', lateMs: 0 }, dueMs))).toEqual([
      { peer: 'far', blocks: [block], onBehalf: false }
    ])
    expect(scheduler.isSuspected(BESIDE)).toBe(false)
  })

  test("was late with guests' blocks gets none for a while, but what no guest waits for", () => {
    const scheduler = world()
    gives(scheduler, theirs[0]!)
    let nowMs = 0
    for (const other of theirs.slice(1, 7)) {
      expect(sends(scheduler.step(want(other, DEMAND), nowMs))).toEqual([
        { peer: BESIDE, blocks: [other], onBehalf: true }
      ])
      nowMs += 400
      answers(scheduler, BESIDE, [other], nowMs)
      scheduler.decide(nowMs)
    }
    expect(sends(scheduler.step(want(theirs[7]!, DEMAND), nowMs))).toEqual([
      { peer: 'far', blocks: [theirs[7]!], onBehalf: false }
    ])
    expect(sends(scheduler.step(want(theirs[8]!, PROFILE), nowMs))[0]).toMatchObject({ peer: BESIDE, onBehalf: true })
    answers(scheduler, 'far', [theirs[7]!], nowMs + 60)
    expect(sends(scheduler.step(want(theirs[9]!, DEMAND), nowMs + 2100))[0]).toMatchObject({ peer: BESIDE })
  })

  test('brings nothing loses all that it was asked for, and is asked for less when it has rested', () => {
    const scheduler = world()
    for (const other of theirs.slice(0, 5)) scheduler.apply(want(other, PROFILE), 0)
    expect(sends(scheduler.decide(0))).toEqual([{ peer: BESIDE, blocks: theirs.slice(0, 5), onBehalf: true }])
    let nowMs = 0
    let taken: Sent[] = []
    while (taken.length === 0 && nowMs < 10_000) {
      nowMs = scheduler.nextMs(nowMs)!
      taken = sends(scheduler.step({ type: 'time', lateMs: 0 }, nowMs))
    }
    expect(nowMs).toBeLessThan(5000)
    expect(taken).toEqual([{ peer: 'far', blocks: theirs.slice(0, 5), onBehalf: false }])
    answers(scheduler, 'far', theirs.slice(0, 5), nowMs)
    nowMs += 2100
    for (const other of theirs.slice(5, 20)) scheduler.apply(want(other, PROFILE), nowMs)
    // The old ones are still owed, so there is no room for new ones, and a guest's block goes past it.
    expect(sends(scheduler.decide(nowMs)).filter(({ onBehalf }) => onBehalf)).toEqual([])
    expect(sends(scheduler.step(want(theirs[30]!, DEMAND), nowMs))).toEqual([
      { peer: 'far', blocks: [theirs[30]!], onBehalf: false }
    ])
  })
})

describe('a block that a neighbour has', () => {
  test('is asked of it, and waited for, while who is far has room', () => {
    const scheduler = world()
    has(scheduler, BESIDE, blocks.slice(0, 300))
    for (const block of blocks.slice(0, 300)) scheduler.apply(want(block, PROFILE), 0)
    const asked = sends(scheduler.decide(0))
    expect(asked.map(({ peer, onBehalf }) => ({ peer, onBehalf }))).toEqual([{ peer: BESIDE, onBehalf: false }])
    expect(scheduler.nextMs(0)).toBeDefined()
  })

  test('is not asked of who is far because a neighbour that was asked for little seems slow', () => {
    const scheduler = world()
    has(scheduler, BESIDE, [1, 2, 3])
    scheduler.step(want(1, PROFILE), 0)
    answers(scheduler, BESIDE, [1], 900)
    expect(scheduler.estimate(BESIDE)!.arrivalMs(900, 65_536)).toBeGreaterThan(2000)
    expect(sends(scheduler.step(want(2, PROFILE), 900))[0]).toMatchObject({ peer: BESIDE })
  })

  test('is asked of who is far when the neighbour refuses, stalls, or takes its time', () => {
    const refusing = world()
    has(refusing, BESIDE, [1, 2])
    expect(sends(refusing.step(want(1, PROFILE), 0))[0]).toMatchObject({ peer: BESIDE })
    const missing = { type: 'missing', peer: BESIDE, key: blockKey(IMAGE, 1), reason: 'refused' } as const
    expect(sends(refusing.step(missing, 1))[0]).toMatchObject({ peer: 'far' })

    const stalling = world()
    has(stalling, BESIDE, [1, 2])
    stalling.step(want(1, PROFILE), 0)
    expect(sends(stalling.step({ type: 'time', lateMs: 0 }, 4100))[0]).toMatchObject({ peer: 'far', blocks: [1] })
  })

  test('is not asked again and again of one that says it was called off', () => {
    const scheduler = world()
    has(scheduler, BESIDE, [1])
    scheduler.step(want(1, PROFILE), 0)
    const missing = { type: 'missing', peer: BESIDE, key: blockKey(IMAGE, 1), reason: 'cancelled' } as const
    expect(sends(scheduler.step(missing, 1))[0]).toMatchObject({ peer: 'far', blocks: [1] })
  })
})

describe('a peer that is called anew again and again, and gives nothing', () => {
  /** It has the only copy, is asked, and is silent until it is suspected; then it comes back over a new connection. */
  function comesBack(scheduler: Scheduler, block: number, nowMs: number): number {
    scheduler.step(want(block, DEMAND), nowMs)
    let atMs = nowMs
    while (!scheduler.isSuspected('only')) {
      atMs = scheduler.nextMs(atMs)!
      scheduler.step({ type: 'time', lateMs: 0 }, atMs)
    }
    scheduler.apply({ type: 'cancel', key: blockKey(IMAGE, block) }, atMs)
    join(scheduler, atMs)
    return atMs
  }

  function join(scheduler: Scheduler, nowMs: number): void {
    scheduler.apply({ type: 'joined', peer: 'only', rttMs: 20 }, nowMs)
    scheduler.apply({ type: 'has', peer: 'only', image: IMAGE, complete: true, pages: [] }, nowMs)
  }

  test('is asked at once the first time, then less and less soon, and at once again when it has given something', () => {
    const scheduler = new Scheduler([], SELF)
    join(scheduler, 0)
    let nowMs = comesBack(scheduler, 1, 0)
    expect(sends(scheduler.step(want(2, DEMAND), nowMs))).toHaveLength(1)
    nowMs = comesBack(scheduler, 2, nowMs)
    expect(sends(scheduler.step(want(3, DEMAND), nowMs))).toEqual([])
    expect(scheduler.nextMs(nowMs)).toBe(nowMs + 1000)
    expect(sends(scheduler.step({ type: 'time', lateMs: 0 }, nowMs + 1000))).toHaveLength(1)
    answers(scheduler, 'only', [3], nowMs + 1020)
    nowMs = comesBack(scheduler, 4, nowMs + 1020)
    expect(sends(scheduler.step(want(5, DEMAND), nowMs))).toHaveLength(1)
  })
})
