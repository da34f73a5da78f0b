import { describe, expect, test } from 'vitest'
import type { Rank } from '../../../src/swarm/messages.ts'
import { Scheduler } from '../../../src/swarm/scheduler.ts'
import { blockKey, itemOf, nodeKey, type SchedulerAction } from '../../../src/swarm/scheduler-types.ts'

const IMAGE = 0
const DEMAND: Rank = 0
const FILL: Rank = 3

function sends(actions: SchedulerAction[]): { peer: string; blocks: number[] }[] {
  return actions
    .filter(action => action.type === 'send')
    .map(({ peer, keys }) => ({ peer, blocks: keys.map(key => (itemOf(key) as { block: number }).block) }))
}

/** A scheduler with complete replicas, each at its round trip. */
function withPeers(rtts: Record<string, number>): Scheduler {
  const scheduler = new Scheduler()
  for (const [peer, rttMs] of Object.entries(rtts)) {
    scheduler.apply({ type: 'joined', peer, rttMs }, 0)
    scheduler.apply({ type: 'has', peer, image: IMAGE, complete: true, pages: [] }, 0)
  }
  return scheduler
}

const want = (block: number, rank: Rank) => ({ type: 'want', key: blockKey(IMAGE, block), rank }) as const

describe('keys', () => {
  test('tell blocks and nodes of images apart', () => {
    expect(itemOf(blockKey(3, 2 ** 27 - 1))).toEqual({ image: 3, kind: 'block', block: 2 ** 27 - 1 })
    expect(itemOf(nodeKey(4095, 2, 0))).toEqual({ image: 4095, kind: 'node', level: 2, position: 0 })
    expect(itemOf(nodeKey(1, 0, 131_071))).toEqual({ image: 1, kind: 'node', level: 0, position: 131_071 })
  })
})

describe('scheduler', () => {
  test('asks the peer with the earliest expected arrival', () => {
    const scheduler = withPeers({ far: 150, near: 20 })
    expect(sends(scheduler.step(want(1, DEMAND), 0))).toEqual([{ peer: 'near', blocks: [1] }])
  })

  test('asks one of last resort only where no other has the block', () => {
    const scheduler = withPeers({ slow: 900 })
    scheduler.apply({ type: 'joined', peer: 'last', rttMs: 1, kind: { lastResort: true } }, 0)
    scheduler.apply({ type: 'has', peer: 'last', image: IMAGE, complete: true, pages: [] }, 0)
    scheduler.apply({ type: 'has', peer: 'last', image: 7, complete: true, pages: [] }, 0)
    expect(sends(scheduler.step(want(1, DEMAND), 0))).toEqual([{ peer: 'slow', blocks: [1] }])
    // Not even where the other has no room just now, nor as a second one for what is late.
    for (let block = 2; block < 200; block++) scheduler.apply(want(block, FILL), 0)
    const late = [...scheduler.decide(0), ...scheduler.step({ type: 'time', lateMs: 0 }, 1_050)]
    expect(sends(late).map(({ peer }) => peer)).toEqual(['slow'])
    const other = scheduler.step({ type: 'want', key: blockKey(7, 1), rank: FILL }, 1_050)
    expect(sends(other)).toContainEqual({ peer: 'last', blocks: [1] })
  })

  test('asks one of last resort when the others fall silent, or leave', () => {
    const scheduler = withPeers({ slow: 100 })
    scheduler.apply({ type: 'joined', peer: 'last', rttMs: 100, kind: { lastResort: true } }, 0)
    scheduler.apply({ type: 'has', peer: 'last', image: IMAGE, complete: true, pages: [] }, 0)
    expect(sends(scheduler.step(want(1, DEMAND), 0))).toEqual([{ peer: 'slow', blocks: [1] }])
    expect(sends(scheduler.step({ type: 'time', lateMs: 0 }, 800))).toEqual([{ peer: 'last', blocks: [1] }])
    scheduler.apply({ type: 'left', peer: 'slow' }, 900)
    expect(sends(scheduler.step(want(2, FILL), 900))).toEqual([{ peer: 'last', blocks: [2] }])
  })

  test('shares a fill among peers, by what each has room for', () => {
    const scheduler = withPeers({ a: 20, b: 20 })
    for (let block = 0; block < 100; block++) scheduler.apply(want(block, FILL), 0)
    const asked = sends(scheduler.decide(0))
    expect(asked.map(({ peer }) => peer).sort()).toEqual(['a', 'b'])
    // Twice the window: what of it is sent is a matter of credit.
    expect(asked.map(({ blocks }) => blocks.length)).toEqual([16, 16])
  })

  test('asks only who has the block', () => {
    const scheduler = withPeers({ empty: 1 })
    scheduler.apply({ type: 'joined', peer: 'partial', rttMs: 100 }, 0)
    const bitmap = new Uint8Array(128)
    bitmap[0] = 0b10
    scheduler.apply({ type: 'has', peer: 'partial', image: 7, complete: false, pages: [{ page: 0, bitmap }] }, 0)
    const actions = scheduler.step({ type: 'want', key: blockKey(7, 1), rank: DEMAND }, 0)
    expect(sends(actions)).toEqual([{ peer: 'partial', blocks: [1] }])
  })

  test('looks for replicas while nobody has a block, and asks as soon as somebody does', () => {
    const scheduler = new Scheduler()
    expect(scheduler.step(want(1, DEMAND), 0)).toEqual([{ type: 'find-replicas', image: IMAGE, rank: DEMAND }])
    const again = scheduler.nextMs(0)!
    expect(again).toBeGreaterThan(0)
    expect(scheduler.step({ type: 'time', lateMs: 0 }, again)).toEqual([
      { type: 'find-replicas', image: IMAGE, rank: DEMAND }
    ])
    scheduler.apply({ type: 'joined', peer: 'late', rttMs: 10 }, 2000)
    const actions = scheduler.step({ type: 'has', peer: 'late', image: IMAGE, complete: true, pages: [] }, 2000)
    expect(sends(actions)).toEqual([{ peer: 'late', blocks: [1] }])
  })

  test('demand goes out although a fill has filled the window', () => {
    const scheduler = withPeers({ a: 20 })
    for (let block = 0; block < 100; block++) scheduler.apply(want(block, FILL), 0)
    scheduler.decide(0)
    expect(sends(scheduler.step(want(500, DEMAND), 1))).toEqual([{ peer: 'a', blocks: [500] }])
  })

  test('raises a block that is under way when a guest begins to wait for it', () => {
    const scheduler = withPeers({ a: 20 })
    scheduler.step(want(1, FILL), 0)
    expect(scheduler.step(want(1, DEMAND), 1)).toEqual([
      { type: 'raise', peer: 'a', rank: DEMAND, keys: [blockKey(IMAGE, 1)] }
    ])
    expect(scheduler.step(want(1, DEMAND), 1)).toEqual([])
  })

  test('gives what a leaving peer owes to others at once', () => {
    const scheduler = withPeers({ a: 10, b: 100 })
    scheduler.step(want(1, DEMAND), 0)
    expect(sends(scheduler.step({ type: 'left', peer: 'a' }, 5))).toEqual([{ peer: 'b', blocks: [1] }])
  })

  test('gives what a silent peer owes to others, and drops it in the end', () => {
    const scheduler = withPeers({ a: 10, b: 100 })
    scheduler.step(want(1, FILL), 0)
    const stallsMs = scheduler.nextMs(0)!
    expect(stallsMs).toBe(1000)
    expect(sends(scheduler.step({ type: 'time', lateMs: 0 }, stallsMs))).toEqual([{ peer: 'b', blocks: [1] }])
    expect(sends(scheduler.step(want(2, FILL), stallsMs))).toEqual([{ peer: 'b', blocks: [2] }])
    const dropMs = 10_000
    scheduler.apply({ type: 'progress', peer: 'b' }, dropMs)
    expect(scheduler.step({ type: 'time', lateMs: 0 }, dropMs)).toContainEqual({
      type: 'drop',
      peer: 'a',
      why: 'stalled'
    })
  })

  test('a stalled peer that goes on keeps what nobody else was asked for', () => {
    const scheduler = withPeers({ a: 10 })
    scheduler.step(want(1, FILL), 0)
    scheduler.step({ type: 'time', lateMs: 0 }, 1000)
    expect(scheduler.view()[0]).toMatchObject({ stalled: true })
    expect(scheduler.step({ type: 'progress', peer: 'a' }, 1500)).toEqual([])
    expect(scheduler.view()[0]).toMatchObject({ stalled: false, outstanding: 1 })
    scheduler.apply({ type: 'answered', peer: 'a', key: blockKey(IMAGE, 1), bytes: 65_536 }, 1600)
    scheduler.step({ type: 'done', key: blockKey(IMAGE, 1) }, 1600)
    expect(scheduler.wanted).toBe(0)
  })

  test('a silent peer that a guest waits for is suspected: others are asked, and it is called anew', () => {
    const scheduler = withPeers({ a: 10, b: 100 })
    scheduler.apply(want(1, FILL), 0)
    scheduler.apply(want(2, DEMAND), 0)
    expect(sends(scheduler.decide(0))).toEqual([
      { peer: 'a', blocks: [2] },
      { peer: 'a', blocks: [1] }
    ])
    // Time-out of an unknown deviation (half a round trip, four times), at least 100 ms, and 150 more.
    const actions = scheduler.step({ type: 'time', lateMs: 0 }, 250)
    expect(actions).toContainEqual({ type: 'redial', peer: 'a' })
    expect(scheduler.isSuspected('a')).toBe(true)
    // A guest is not kept waiting; the fill can wait for the stall.
    expect(scheduler.view().find(({ peer }) => peer === 'b')!.outstanding).toBe(1)
    expect(sends(scheduler.step(want(3, FILL), 260))).toEqual([{ peer: 'b', blocks: [3] }])
    scheduler.step({ type: 'progress', peer: 'a' }, 300)
    expect(scheduler.isSuspected('a')).toBe(false)
  })

  test('a peer that stays silent is called anew less and less often, and one without a guest not at all', () => {
    const scheduler = withPeers({ a: 10 })
    scheduler.step(want(1, FILL), 0)
    const redials: number[] = []
    const run = (fromMs: number, toMs: number) => {
      for (let nowMs = fromMs; nowMs < toMs; nowMs += 10) {
        const actions = scheduler.step({ type: 'time', lateMs: 0 }, nowMs)
        if (actions.some(({ type }) => type === 'redial')) redials.push(nowMs)
      }
    }
    run(0, 900)
    expect(redials).toEqual([])
    scheduler.step(want(1, DEMAND), 900)
    run(910, 9000)
    expect(redials).toEqual([1150, 2650, 5650])
  })

  test('a guest that comes to wait for what a suspected peer owes does not wait for it', () => {
    const scheduler = withPeers({ a: 10, b: 100 })
    scheduler.apply(want(1, DEMAND), 0)
    scheduler.apply(want(2, FILL), 0)
    scheduler.decide(0)
    scheduler.step({ type: 'time', lateMs: 0 }, 250)
    expect(sends(scheduler.step(want(2, DEMAND), 260))).toEqual([{ peer: 'b', blocks: [2] }])
  })

  test('does not take its own lateness for silence of others', () => {
    const scheduler = withPeers({ a: 10, b: 100 })
    scheduler.step(want(1, FILL), 0)
    expect(scheduler.step({ type: 'time', lateMs: 4000 }, 5000)).toEqual([])
    // But not for ever.
    expect(sends(scheduler.step({ type: 'time', lateMs: 4000 }, 9000))).toEqual([{ peer: 'b', blocks: [1] }])
  })

  test('a liar is dropped, loses its requests, and is never asked again', () => {
    const scheduler = withPeers({ liar: 10, b: 100 })
    scheduler.step(want(1, DEMAND), 0)
    scheduler.step(want(2, DEMAND), 0)
    scheduler.apply({ type: 'answered', peer: 'liar', key: blockKey(IMAGE, 1), bytes: 65_536 }, 10)
    const actions = scheduler.step({ type: 'lied', peer: 'liar' }, 10)
    expect(actions).toContainEqual({ type: 'drop', peer: 'liar', why: 'lied' })
    expect(sends(actions).flatMap(({ peer, blocks }) => blocks.map(block => [peer, block]))).toEqual([
      ['b', 1],
      ['b', 2]
    ])
    scheduler.apply({ type: 'joined', peer: 'liar', rttMs: 1 }, 20)
    scheduler.apply({ type: 'has', peer: 'liar', image: IMAGE, complete: true, pages: [] }, 20)
    expect(sends(scheduler.step(want(3, DEMAND), 20))).toEqual([{ peer: 'b', blocks: [3] }])
    expect(scheduler.isLiar('liar')).toBe(true)
  })

  test('asks another when a peer does not have what it said, and that peer again after a while', () => {
    const scheduler = withPeers({ a: 10 })
    scheduler.step(want(1, DEMAND), 0)
    const key = blockKey(IMAGE, 1)
    expect(scheduler.step({ type: 'missing', peer: 'a', key, reason: 'absent' }, 10)).toEqual([
      { type: 'find-replicas', image: IMAGE, rank: DEMAND }
    ])
    let asked = sends([])
    for (let nowMs = 1000; nowMs < 40_000 && asked.length === 0; nowMs += 1000) {
      asked = sends(scheduler.step({ type: 'time', lateMs: 0 }, nowMs))
    }
    expect(asked).toEqual([{ peer: 'a', blocks: [1] }])
  })

  test('leaves a peer that has no room alone for a moment', () => {
    const scheduler = withPeers({ a: 10 })
    scheduler.step(want(1, DEMAND), 0)
    expect(scheduler.step({ type: 'missing', peer: 'a', key: blockKey(IMAGE, 1), reason: 'refused' }, 10)).toEqual([])
    const nextMs = scheduler.nextMs(10)!
    expect(nextMs).toBe(510)
    expect(sends(scheduler.step({ type: 'time', lateMs: 0 }, nextMs))).toEqual([{ peer: 'a', blocks: [1] }])
  })

  test('a late demand block is asked of a second peer, and called off from the first when it comes', () => {
    const scheduler = withPeers({ a: 10, b: 12 })
    scheduler.step(want(1, DEMAND), 0)
    const lateMs = scheduler.nextMs(0)!
    expect(lateMs).toBeLessThan(1000)
    expect(sends(scheduler.step({ type: 'time', lateMs: 0 }, lateMs))).toEqual([{ peer: 'b', blocks: [1] }])
    const key = blockKey(IMAGE, 1)
    scheduler.apply({ type: 'answered', peer: 'b', key, bytes: 65_536 }, lateMs + 10)
    const actions = scheduler.step({ type: 'done', key }, lateMs + 10)
    expect(actions.filter(({ type }) => type === 'call-off')).toEqual([{ type: 'call-off', peer: 'a', keys: [key] }])
  })

  test('a peer that chatters and never answers keeps nothing from the others', () => {
    for (const rank of [DEMAND, FILL]) {
      const scheduler = withPeers({ chatter: 1, honest: 30 })
      const given = new Set<number>()
      const wanted = 60
      for (let block = 0; block < wanted; block++) scheduler.apply(want(block, rank), 0)
      let owed: number[] = []
      for (let nowMs = 0; nowMs < 120_000 && given.size < wanted; nowMs += 100) {
        for (const block of owed) {
          scheduler.apply({ type: 'answered', peer: 'honest', key: blockKey(IMAGE, block), bytes: 65_548 }, nowMs)
          scheduler.apply({ type: 'done', key: blockKey(IMAGE, block) }, nowMs)
          given.add(block)
        }
        scheduler.apply({ type: 'progress', peer: 'chatter' }, nowMs)
        const asked = sends(scheduler.decide(nowMs))
        owed = asked.filter(({ peer }) => peer === 'honest').flatMap(({ blocks }) => blocks)
      }
      expect(given.size, `rank ${rank}`).toBe(wanted)
    }
  })

  test('a peer that gives a block now and then does not keep a guest waiting for each of them', () => {
    const scheduler = withPeers({ miser: 1, honest: 30 })
    const wanted = 60
    const given = new Set<number>()
    const kept: number[] = []
    const give = (peer: string, block: number, nowMs: number) => {
      given.add(block)
      scheduler.apply({ type: 'answered', peer, key: blockKey(IMAGE, block), bytes: 65_548 }, nowMs)
      scheduler.apply({ type: 'done', key: blockKey(IMAGE, block) }, nowMs)
    }
    for (let block = 0; block < wanted; block++) scheduler.apply(want(block, DEMAND), 0)
    let nowMs = 0
    let owed: number[] = []
    for (; nowMs < 600_000 && given.size < wanted; nowMs += 100) {
      for (const block of owed) give('honest', block, nowMs)
      scheduler.apply({ type: 'progress', peer: 'miser' }, nowMs)
      if (nowMs % 9_000 === 0 && kept.length > 0) give('miser', kept.pop()!, nowMs)
      const asked = sends(scheduler.decide(nowMs))
      owed = asked.filter(({ peer }) => peer === 'honest').flatMap(({ blocks }) => blocks)
      kept.push(...asked.filter(({ peer }) => peer === 'miser').flatMap(({ blocks }) => blocks))
    }
    expect(given.size).toBe(wanted)
    expect(nowMs).toBeLessThan(35_000)
  })

  test('the cost of duplicates is bounded', () => {
    const scheduler = withPeers({ a: 10, b: 12 })
    let hedged = 0
    // Peer a, and then b, takes every request and answers none, but stays alive.
    for (let block = 0; block < 100; block++) {
      const nowMs = block * 100
      for (const peer of ['a', 'b']) scheduler.apply({ type: 'progress', peer }, nowMs)
      hedged -= sends(scheduler.step(want(block, DEMAND), nowMs)).length
      for (let ms = 0; ms < 100; ms += 10)
        hedged += sends(scheduler.step({ type: 'time', lateMs: 0 }, nowMs + ms)).length
      for (const peer of ['a', 'b']) {
        scheduler.apply({ type: 'missing', peer, key: blockKey(IMAGE, block), reason: 'cancelled' }, nowMs + 99)
      }
      scheduler.apply({ type: 'done', key: blockKey(IMAGE, block) }, nowMs + 99)
    }
    expect(hedged).toBeLessThanOrEqual(17)
  })
})
