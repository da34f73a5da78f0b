import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ONWARDS_BLOCKS, ProfileReplay } from '../../../src/swarm/profile-replay.ts'

const profileOf = (blocks: readonly number[]) => blocks.map((block, index) => ({ block, atMs: index }))
const WIDE = { windowBlocks: 1_000, unusedBlocks: 1_000 }

/** All that may be asked for now, none of which is here. */
function askAll(replay: ProfileReplay): number[] {
  const asked: number[] = []
  for (let block = replay.next(); block !== undefined; block = replay.next()) {
    replay.asked(block)
    asked.push(block)
  }
  return asked
}

describe('ProfileReplay', () => {
  test('asks in the order of the profile, without what was touched or is here', () => {
    const replay = new ProfileReplay(WIDE)
    replay.follow(profileOf([5, 1, 9, 3]))
    replay.touched(1)
    expect(replay.next()).toBe(5)
    replay.passed()
    expect(askAll(replay)).toEqual([9, 3])
    expect(replay.progress).toEqual({ of: 4, touched: 1, passed: 4, unused: 2 })
  })

  test('keeps to its window', () => {
    const replay = new ProfileReplay({ windowBlocks: 2, unusedBlocks: 100 })
    replay.follow(profileOf([1, 2, 3, 4]))
    expect(askAll(replay)).toEqual([1, 2])
    replay.came(2)
    expect(askAll(replay)).toEqual([3])
  })

  test('a profile that the guest does not follow costs its share and no more, one that it follows goes on', () => {
    const liar = new ProfileReplay({ windowBlocks: 100, unusedBlocks: 3 })
    liar.follow(profileOf([1, 2, 3, 4, 5, 6]))
    expect(askAll(liar)).toEqual([1, 2, 3])
    for (const block of [1, 2, 3]) liar.came(block)
    liar.touched(77)
    expect(askAll(liar)).toEqual([])
    // Another lie does not begin anew.
    liar.follow(profileOf([11, 12, 13]))
    expect(askAll(liar)).toEqual([])
    liar.touched(2)
    expect(askAll(liar)).toEqual([11])
  })

  test('whatever profiles and touches come, what was fetched in vain never exceeds the share', () => {
    const step = fc.oneof(
      fc.record({ do: fc.constant('follow' as const), blocks: fc.uniqueArray(fc.nat(99), { maxLength: 60 }) }),
      fc.record({ do: fc.constant('touch' as const), block: fc.nat(99) }),
      fc.record({ do: fc.constant('come' as const), block: fc.nat(99) })
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), fc.integer({ min: 0, max: 25 }), (steps, unusedBlocks) => {
        const replay = new ProfileReplay({ windowBlocks: 10, unusedBlocks })
        const fetched = new Set<number>()
        const touched = new Set<number>()
        const take = (blocks: number[]) => {
          for (const block of blocks) {
            expect(fetched.has(block) && !touched.has(block), 'twice').toBe(false)
            fetched.add(block)
          }
        }
        for (const each of steps) {
          if (each.do === 'follow') replay.follow(profileOf(each.blocks))
          if (each.do === 'come') replay.came(each.block)
          if (each.do === 'touch') {
            touched.add(each.block)
            replay.touched(each.block)
            const onwards = replay.onwards(each.block)
            for (const block of onwards) replay.asked(block)
            take(onwards)
          }
          take(askAll(replay))
          const unused = [...fetched].filter(block => !touched.has(block))
          expect(unused.length).toBeLessThanOrEqual(unusedBlocks)
        }
      })
    )
  })

  describe('where the guest is ahead of the replay, or off the path', () => {
    const blocks = Array.from({ length: 200 }, (_, index) => 1_000 + ((index * 7) % 200))
    const replayAt = (done: number) => {
      const replay = new ProfileReplay({ windowBlocks: done, unusedBlocks: 1_000 })
      replay.follow(profileOf(blocks))
      askAll(replay)
      return replay
    }

    test('what others fetched next from there comes first', () => {
      const replay = replayAt(10)
      expect(replay.onwards(blocks[100]!)).toEqual(blocks.slice(101, 101 + ONWARDS_BLOCKS))
      expect(replay.onwards(blocks[5]!)).toEqual([])
    })

    test('a block that nobody recorded stands where the nearest recorded one does', () => {
      const replay = replayAt(1)
      const near = blocks.indexOf(1_199)
      expect(replay.onwards(1_203)[0]).toBe(blocks[near])
      expect(replay.onwards(5_000)).toEqual([])
    })
  })
})
