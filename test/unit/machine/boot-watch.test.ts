import { beforeEach, describe, expect, test } from 'vitest'
import { QUIET_MS } from '../../../src/disk/boot-recorder.ts'
import type { BootProfile } from '../../../src/image/boot-profile.ts'
import type { ImageRoot } from '../../../src/image/image-root.ts'
import { BootWatch } from '../../../src/machine/boot-watch.ts'
import { ABSENT, ZERO } from '../../../src/store/images.ts'
import type { ChosenProfile } from '../../../src/store/profiles.ts'
import { type AheadFetch, BootAhead } from '../../../src/swarm/boot-ahead.ts'
import type { BlockWaiter } from '../../../src/swarm/image-fetch.ts'
import { recordingLog } from '../swarm/support.ts'

const kept: { image: string; blocks: number[]; isFresh: boolean }[] = []
const clock = { ms: 0, monotonicMs: () => clock.ms }
const logged = recordingLog()
const profiles = {
  fails: false,
  async recorded(image: string, profile: BootProfile, { isFresh }: { isFresh: boolean }) {
    if (profiles.fails) throw new Error('the disk is on fire')
    kept.push({ image, blocks: profile.map(({ block }) => block), isFresh })
  },
  hasRecording: () => kept.length > 0,
  chosen: undefined as ChosenProfile | undefined,
  choose: () => profiles.chosen,
  listeners: new Set<(image: string) => void>(),
  onChange(listener: (image: string) => void) {
    profiles.listeners.add(listener)
    return () => profiles.listeners.delete(listener)
  }
}

/** Blocks that were asked for; they come when `come` is called. */
class TestFetch implements AheadFetch {
  readonly asked: { block: number; rank: number }[] = []
  readonly here = new Set<number>()
  readonly #waiters = new Map<number, BlockWaiter>()
  // 200 blocks, of which block 5 is all zero.
  readonly image = {
    id: 'i',
    root: { blocks: 200, zeroBlocks: 1, sizeBytes: 200 * 65536 } as ImageRoot,
    locate: (block: number) => (block === 5 ? ZERO : this.here.has(block) ? block : ABSENT),
    verified: async () => undefined
  }
  readonly index = { page: async () => {} }
  request(block: number, waiter: BlockWaiter): () => void {
    this.asked.push({ block, rank: waiter.rank })
    this.#waiters.set(block, waiter)
    return () => this.#waiters.delete(block)
  }
  get waiting(): number[] {
    return [...this.#waiters.keys()]
  }
  come(block: number): void {
    this.here.add(block)
    const waiter = this.#waiters.get(block)
    this.#waiters.delete(block)
    waiter?.resolve({ slot: block })
  }
}
const profileOf = (...blocks: number[]) => blocks.map((block, index) => ({ block, atMs: index }))
let fetch = new TestFetch()

function watchOf(): BootWatch {
  const swarm = { ahead: async () => new BootAhead(fetch, logged.log) }
  return new BootWatch(fetch.image, { profiles, swarm, clock, log: logged.log }, { isFresh: true })
}

function boot(watch: BootWatch, blocks = 30): void {
  for (let block = 0; block < blocks; block++) watch.touched(block, clock.ms, 0)
}

beforeEach(() => {
  kept.length = 0
  profiles.fails = false
  profiles.chosen = undefined
  profiles.listeners.clear()
  fetch = new TestFetch()
  clock.ms = 1_000
})

describe('BootWatch', () => {
  test('keeps a boot once it is over, without the blocks that are all zero', async () => {
    const watch = watchOf()
    boot(watch)
    clock.ms += QUIET_MS - 1001
    await watch.tend()
    expect(kept).toEqual([])
    clock.ms += 1_001
    await watch.tend()
    await watch.tend()
    await watch.end()
    expect(kept).toHaveLength(1)
    expect(kept[0]).toMatchObject({ image: 'i', isFresh: true })
    expect(kept[0]!.blocks).toHaveLength(29)
    expect(kept[0]!.blocks).not.toContain(5)
  })

  test('keeps a boot that is cut short if there is no other', async () => {
    const first = watchOf()
    boot(first)
    await first.end()
    expect(kept).toHaveLength(1)
    const second = watchOf()
    boot(second)
    await second.end()
    expect(kept).toHaveLength(1)
  })

  test('fetches along the profile from the attach on, and along a better one as soon as it is known', async () => {
    profiles.chosen = { profile: profileOf(7, 3, 5, 9), from: 'peers', voices: 1 }
    const watch = watchOf()
    await watch.start()
    expect(fetch.asked).toEqual([7, 3, 9].map(block => ({ block, rank: 2 })))
    expect(watch.progress).toEqual({
      profile: { from: 'peers', voices: 1, of: 4, touched: 0, passed: 4, unused: 3 },
      readAhead: { touched: 0, untouched: 0 }
    })
    profiles.chosen = { profile: profileOf(20, 9, 21), from: 'release', voices: 1 }
    for (const listener of profiles.listeners) listener('i')
    expect(fetch.asked.slice(3).map(({ block }) => block)).toEqual([20, 21])
    watch.touched(20, 1, 0)
    expect(watch.progress).toMatchObject({ profile: { from: 'release', of: 3, touched: 1 } })
    await watch.end()
    expect(fetch.waiting).toEqual([])
    expect(profiles.listeners.size).toBe(0)
  })

  test('a guest that begins before anything can be fetched ahead is followed from its first touch on', async () => {
    profiles.chosen = { profile: profileOf(7, 3, 9), from: 'release', voices: 1 }
    const watch = watchOf()
    watch.touched(3, 0, 0)
    await watch.start()
    expect(watch.progress?.profile?.touched).toBe(1)
  })

  test('keeps nothing of a disk that was only looked at, and goes on where nothing can be kept', async () => {
    const looked = watchOf()
    boot(looked, 5)
    await looked.end()
    profiles.fails = true
    const watch = watchOf()
    boot(watch)
    await watch.end()
    expect(kept).toEqual([])
    expect(logged.lines.at(-1)?.message).toContain('could not be kept')
  })
})
