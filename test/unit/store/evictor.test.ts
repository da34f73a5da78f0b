import { existsSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../../../src/cluster.ts'
import type { Clock, Timer } from '../../../src/environment.ts'
import { REASON, type Reason, watermarks } from '../../../src/store/eviction.ts'
import { Evictor } from '../../../src/store/evictor.ts'
import { SLOTS_PER_SEGMENT } from '../../../src/store/segment-files.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { waitUntil } from '../../tools/wait.ts'
import { withCode } from '../image/with-code.ts'
import { blockOf, entryOf, hashOf, imageOf, openStore, type TestStore } from './tools.ts'

const MINUTE_MS = 60_000

/** Time that a test moves. */
class TestClock implements Clock {
  ms = 1_000 * MINUTE_MS
  readonly #timers = new Set<{ atMs: number; run: () => void }>()

  now(): number {
    return this.ms
  }

  monotonicMs(): number {
    return this.ms
  }

  after(delayMs: number, run: () => void): Timer {
    const timer = { atMs: this.ms + delayMs, run }
    this.#timers.add(timer)
    return { cancel: () => this.#timers.delete(timer) }
  }

  pass(ms: number): void {
    this.ms += ms
    for (const timer of [...this.#timers]) {
      if (timer.atMs > this.ms || !this.#timers.delete(timer)) continue
      timer.run()
    }
  }
}

interface World {
  store: TestStore
  evictor: Evictor
  clock: TestClock
  reasons: Map<string, Reason>
}

const worlds = new Set<World>()

async function world(options: { folder?: string; blocks?: number; start?: boolean } = {}): Promise<World> {
  const { folder = await temporaryFolder(), blocks = 100, start = true } = options
  const store = await openStore(folder, { quotaBytes: blocks * BLOCK_SIZE_BYTES })
  const clock = new TestClock()
  const reasons = new Map<string, Reason>()
  const { pool, images, log } = store
  const evictor = new Evictor({ pool, images, stay: { reasons: () => reasons }, clock, log })
  if (start) evictor.start()
  const opened = { store, evictor, clock, reasons }
  worlds.add(opened)
  return opened
}

async function end(opened: World): Promise<void> {
  worlds.delete(opened)
  await opened.evictor.stop()
  await opened.store.close()
}

afterEach(async () => {
  for (const opened of worlds) await end(opened)
  await removeFolders()
})

const numbers = (count: number, first = 0) => Array.from({ length: count }, (_, index) => first + index)

/** An image of these blocks, here as far as the pool takes them one by one. */
async function bring({ store, reasons }: World, blocks: number[], reason: Reason = REASON.old) {
  const image = imageOf(blocks.map(hashOf))
  if (reason !== REASON.old) reasons.set(image.id, reason)
  const local = await store.images.keep(image.rootBytes, image.nodes)
  for (const [index, number] of blocks.entries()) {
    const { hash, block } = entryOf(number)
    local.stored(index, await store.pool.put(hash, block))
  }
  return local
}

function here({ store }: World, blocks: number[]): number {
  return blocks.filter(number => store.pool.find(hashOf(number)) !== -1).length
}

test('what is not pinned makes room, and blocks are put as if there were no end', async () => {
  const opened = await world()
  const pinned = await bring(opened, numbers(30), REASON.pinned)
  for (let image = 1; image <= 10; image++) {
    opened.clock.pass(MINUTE_MS)
    await bring(opened, numbers(50, image * 1000))
    expect(opened.store.pool.usage.blocks).toBeLessThanOrEqual(100)
  }
  expect(pinned.complete).toBe(true)
  expect(here(opened, numbers(50, 10_000))).toBe(50)
  // The oldest went, and images know what they lost.
  expect(here(opened, numbers(50, 1000))).toBe(0)
  expect(opened.store.pool.usage.blocks).toBeGreaterThan(70)
})

test('the longest unused goes first, also after a restart', async () => {
  const opened = await world({ start: false })
  const folder = opened.store.folder
  const [old, used] = [await bring(opened, numbers(40)), await bring(opened, numbers(40, 100))]
  opened.clock.pass(5 * MINUTE_MS)
  old.locate(3)
  used.locate(3)
  opened.clock.pass(5 * MINUTE_MS)
  used.locate(5)
  await end(opened)

  const again = await world({ folder, blocks: 70 })
  await waitUntil('the eviction', () => again.store.pool.usage.blocks <= 66)
  expect([here(again, numbers(40)), here(again, numbers(40, 100))]).toEqual([24, 40])
})

test('a shared block stays for its best reason', async () => {
  const opened = await world()
  await bring(opened, numbers(40))
  await bring(opened, numbers(20, 20), REASON.pinned)
  opened.clock.pass(MINUTE_MS)
  await bring(opened, numbers(60, 100), REASON.current)
  // 20 to 39 belong to the pinned one too.
  expect(here(opened, numbers(20, 20))).toBe(20)
  expect(here(opened, numbers(20))).toBeLessThan(20)
  expect(here(opened, numbers(60, 100))).toBe(60)
})

test('a pool full of pinned blocks says so, at once, and looks again when a pin is taken back', async () => {
  const opened = await world()
  const { store, evictor, reasons } = opened
  const pinned = await bring(opened, numbers(100), REASON.pinned)
  expect(pinned.complete).toBe(true)
  await expect(store.pool.put(hashOf(500), blockOf(500))).rejects.toThrow(withCode('POOL_FULL'))
  expect(await evictor.pinnedBytes()).toBe(100 * BLOCK_SIZE_BYTES)
  expect(await evictor.makeRoom(1)).toBe(false)
  reasons.delete(pinned.id)
  evictor.reconsider()
  await store.pool.put(hashOf(500), blockOf(500))
  expect(pinned.complete).toBe(false)
  expect(store.pool.usage.blocks).toBeLessThanOrEqual(watermarks(100).highBlocks)
})

test('a smaller quota evicts down to it at the start, but not what is pinned', async () => {
  const opened = await world()
  await bring(opened, numbers(50))
  await bring(opened, numbers(40, 100), REASON.pinned)
  const { folder } = opened.store
  const pinned = [...opened.reasons]
  await end(opened)
  const again = await world({ folder, blocks: 60, start: false })
  for (const [id, reason] of pinned) again.reasons.set(id, reason)
  expect(again.store.pool.usage.blocks).toBe(90)
  again.evictor.start()
  await waitUntil('the eviction', () => again.store.pool.usage.blocks <= watermarks(60).lowBlocks)
  expect(here(again, numbers(40, 100))).toBe(40)
  await end(again)

  const small = await world({ folder, blocks: 10, start: false })
  for (const [id, reason] of pinned) small.reasons.set(id, reason)
  small.evictor.start()
  await waitUntil('the eviction', () => small.store.pool.usage.blocks === 40)
  expect(here(small, numbers(40, 100))).toBe(40)
})

test('what a publisher holds stays, though no image has it yet', async () => {
  const opened = await world()
  const { pool } = opened.store
  await bring(opened, numbers(10))
  const hold = pool.hold()
  expect(hold.find(hashOf(3))).not.toBe(-1)
  await hold.putMany(numbers(50, 100).map(entryOf))
  await bring(opened, numbers(30, 1000))
  await bring(opened, numbers(30, 2000))
  expect([here(opened, [3]), here(opened, numbers(50, 100))]).toEqual([1, 50])
  hold.release()
  opened.clock.pass(MINUTE_MS)
  await bring(opened, numbers(60, 3000))
  expect(here(opened, [3, ...numbers(50, 100)])).toBeLessThan(51)
})

test('many that put at once all get room, as long as there is something that can go', async () => {
  const opened = await world()
  const { pool } = opened.store
  await bring(opened, numbers(95))
  opened.clock.pass(MINUTE_MS)
  const holds = [pool.hold(), pool.hold(), pool.hold(), pool.hold()]
  const put = (index: number) => holds[index]!.putMany(numbers(24, 1000 * (index + 1)).map(entryOf))
  // The others come when the first round has chosen already.
  const late: Promise<unknown>[] = []
  pool.onDropped(() => {
    if (late.length === 0) late.push(put(1), put(2), put(3))
  })
  await put(0)
  expect(late.length).toBe(3)
  await Promise.all(late)
  expect(holds.map((_, index) => here(opened, numbers(24, 1000 * (index + 1))))).toEqual([24, 24, 24, 24])
  for (const hold of holds) hold.release()
})

test('an image that is pinned in the middle of a round loses nothing more', async () => {
  const opened = await world({ blocks: 4000, start: false })
  const { store, reasons, evictor } = opened
  const image = imageOf(numbers(3990).map(hashOf))
  await store.pool.putMany(numbers(3990).map(entryOf))
  const local = await store.images.keep(image.rootBytes, image.nodes)
  const other = await bring(opened, numbers(5, 10_000))
  let pinnedAt = 0
  store.pool.onDropped(() => {
    if (pinnedAt > 0) return
    reasons.set(local.id, REASON.pinned)
    pinnedAt = local.local.blocks
  })
  // Wants much more than one batch.
  const room = evictor.makeRoom(3000)
  expect(await room).toBe(false)
  evictor.start()
  await evictor.makeRoom(3000)
  expect(pinnedAt).toBeGreaterThan(2000)
  expect(local.local.blocks).toBe(pinnedAt)
  expect(other.local.blocks).toBe(0)
})

test('an image whose index comes in the middle of a round keeps what it shares', async () => {
  const opened = await world({ blocks: 3000, start: false })
  const { store, reasons, evictor } = opened
  const old = imageOf(numbers(2900).map(hashOf))
  await store.images.keep(old.rootBytes, old.nodes)
  await store.pool.putMany(numbers(2900).map(entryOf))
  // The newcomer is pinned, and its root is here, but not yet its page, which names blocks of the old one.
  const shared = numbers(1000)
  const fresh = imageOf(shared.map(hashOf))
  reasons.set(fresh.id, REASON.pinned)
  const local = await store.images.create(fresh.rootBytes)
  let arrived: Promise<void> | undefined
  store.pool.onDropped(() => {
    arrived ??= local.addNode(0, 0, fresh.nodes[0]![1])
  })
  evictor.start()
  await evictor.makeRoom(2500)
  await arrived
  // The first batch went before anybody could know; it took the highest slots.
  expect(arrived).toBeDefined()
  expect(local.local).toEqual({ blocks: 1000, of: 1000 })
})

test('a segment that becomes empty is unlinked, and made again when it is needed', async () => {
  const opened = await world({ blocks: SLOTS_PER_SEGMENT + 200, start: false })
  const { store, evictor } = opened
  const file = (segment: number) => join(store.folder, 'pool', `0000${segment}.seg`)
  await bring(opened, [1, 2, 3], REASON.pinned)
  await store.pool.putMany(numbers(SLOTS_PER_SEGMENT + 100, 10).map(entryOf))
  expect([existsSync(file(0)), existsSync(file(1))]).toEqual([true, true])
  evictor.start()
  await evictor.makeRoom(600)
  expect([existsSync(file(0)), existsSync(file(1))]).toEqual([true, false])
  await store.pool.putMany(numbers(500, 100_000).map(entryOf))
  await store.pool.sync()
  expect(here(opened, numbers(500, 100_000))).toBe(500)
})

test('random histories of a real pool: no pinned block goes, no wrong byte is read, the quota holds', async () => {
  const image = fc.nat(4)
  const step = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({ kind: fc.constant('read' as const), image, count: fc.integer({ min: 1, max: 12 }) })
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('pin' as const), image, count: fc.constant(0) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('unpin' as const), image, count: fc.constant(0) }) }
  )
  // Five images of twenty blocks; each shares ten with the next.
  const blocksOf = (which: number) => numbers(20, which * 10)
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 40 }), async steps => {
      const opened = await world({ blocks: 32 })
      const { store, evictor, reasons, clock } = opened
      const locals = []
      for (let which = 0; which < 5; which++) {
        const made = imageOf(blocksOf(which).map(hashOf))
        locals.push(await store.images.keep(made.rootBytes, made.nodes))
      }
      const target = Buffer.alloc(BLOCK_SIZE_BYTES)
      let at = 0
      for (const { kind, image: which, count } of steps) {
        const local = locals[which]!
        clock.pass(MINUTE_MS)
        if (kind === 'pin') reasons.set(local.id, REASON.pinned)
        else if (kind === 'unpin') {
          reasons.delete(local.id)
          evictor.reconsider()
        }
        const protectedBlocks = new Set<number>()
        for (const [index, other] of locals.entries()) {
          if (reasons.has(other.id))
            for (const each of blocksOf(index)) if (here(opened, [each])) protectedBlocks.add(each)
        }
        const reads = Array.from({ length: count }, async () => {
          const block = at++ % 20
          const number = blocksOf(which)[block]!
          if (local.locate(block) < 0) {
            const slot = await store.pool.put(hashOf(number), blockOf(number)).catch((error: unknown) => {
              expect(error).toEqual(withCode('POOL_FULL'))
            })
            if (slot !== undefined) local.stored(block, slot)
          }
          const slot = local.locate(block)
          if (slot < 0) return
          store.pool.readSync(slot, 0, target)
          expect(target.equals(blockOf(number)), `block ${number}`).toBe(true)
        })
        await Promise.all(reads)
        expect(store.pool.level.takenBlocks).toBeLessThanOrEqual(32)
        for (const number of protectedBlocks) expect(here(opened, [number]), `block ${number}`).toBe(1)
        // What images say is here, is.
        for (const [index, other] of locals.entries()) {
          expect(other.local.blocks).toBeLessThanOrEqual(here(opened, blocksOf(index)))
        }
      }
      await end(opened)
      await removeFolders()
    }),
    { numRuns: 12, seed: 20_261_123 }
  )
})

test('uses are forgotten by nothing but a crash, and cost no write of their own', async () => {
  const opened = await world()
  const local = await bring(opened, numbers(5))
  const { uses } = opened.store.images
  const before = uses.read(local.id, 1)[0]!
  opened.clock.pass(7 * MINUTE_MS)
  local.locate(2)
  expect(uses.read(local.id, 1)[0]).toBe(before + 7)
  const { folder } = opened.store
  await end(opened)
  const again = await world({ folder })
  expect(again.store.images.uses.read(local.id, 1)[0]).toBe(before + 7)
  await again.store.images.open(local.id)
  expect(again.store.images.uses.read(local.id, 1)[0]).toBe(before + 7)
})
