import { afterEach, expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../../../src/cluster.ts'
import { toHex } from '../../../src/image/hash.ts'
import { bytesCodec } from '../../../src/store/catalog.ts'
import { REASON, type Reason } from '../../../src/store/eviction.ts'
import { Sweeper } from '../../../src/store/sweeper.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { entryOf, hashOf, imageOf, openStore, type TestImage, type TestStore } from './tools.ts'

const open = new Set<TestStore>()

afterEach(async () => {
  for (const store of open) await store.close()
  open.clear()
  await removeFolders()
})

interface World {
  store: TestStore
  sweeper: Sweeper
  reasons: Map<string, Reason>
}

async function world(folder?: string): Promise<World> {
  const store = await openStore(folder ?? (await temporaryFolder()))
  open.add(store)
  const reasons = new Map<string, Reason>()
  const { pool, images, log } = store
  return { store, sweeper: new Sweeper({ pool, images, stay: { reasons: () => reasons }, log }), reasons }
}

/** An image of these blocks, here as a whole. */
async function keep({ store }: World, blocks: readonly number[]): Promise<TestImage> {
  const image = imageOf(blocks.map(hashOf))
  await store.pool.putMany(blocks.map(entryOf))
  await store.images.keep(image.rootBytes, image.nodes)
  return image
}

const here = ({ store }: World, blocks: readonly number[]) =>
  blocks.filter(block => store.pool.find(hashOf(block)) >= 0)
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)
const always = () => true

test('an image’s own blocks go, those that another image has stay', async () => {
  const w = await world()
  const [v1] = [await keep(w, range(0, 20)), await keep(w, range(15, 40))]
  expect(await w.sweeper.measure([v1.id])).toEqual({
    byImage: new Map([[v1.id, 15 * BLOCK_SIZE_BYTES]]),
    unusedBytes: 0
  })
  expect(await w.sweeper.sweep(v1.id, always)).toEqual({ freedBytes: 15 * BLOCK_SIZE_BYTES, isDone: true })
  expect(here(w, range(0, 40))).toEqual(range(15, 40))
})

test('of several images that go, each block counts once; with those that are gone it counts for who goes now', async () => {
  const w = await world()
  const [a, b, c] = [await keep(w, range(0, 10)), await keep(w, range(5, 15)), await keep(w, range(12, 30))]
  const blocks = (bytes: number | undefined) => (bytes ?? 0) / BLOCK_SIZE_BYTES
  const both = await w.sweeper.measure([a.id, b.id])
  expect([blocks(both.byImage.get(a.id)), blocks(both.byImage.get(b.id))]).toEqual([10, 2])
  const afterA = await w.sweeper.measure([b.id], [a.id])
  expect(blocks(afterA.byImage.get(b.id))).toBe(7)
  expect(await w.sweeper.measure([])).toEqual({ byImage: new Map(), unusedBytes: 0 })
  expect(c).toBeDefined()
})

test('blocks of no image are unused, and go; those that a publisher holds do not', async () => {
  const w = await world()
  await keep(w, range(0, 5))
  await w.store.pool.putMany(range(100, 110).map(entryOf))
  const hold = w.store.pool.hold()
  await hold.putMany(range(200, 203).map(entryOf))
  expect((await w.sweeper.measure([])).unusedBytes).toBe(10 * BLOCK_SIZE_BYTES)
  expect(await w.sweeper.sweepUnused()).toEqual({ freedBytes: 10 * BLOCK_SIZE_BYTES, isDone: true })
  expect(here(w, [...range(0, 5), ...range(100, 110), ...range(200, 203)])).toEqual([
    ...range(0, 5),
    ...range(200, 203)
  ])
  hold.release()
})

test('a sweep stops when its image is needed again', async () => {
  const w = await world()
  const image = await keep(w, range(0, 1030))
  let asked = 0
  const { freedBytes, isDone } = await w.sweeper.sweep(image.id, () => ++asked <= 1)
  expect(isDone).toBe(false)
  expect(freedBytes).toBe(1024 * BLOCK_SIZE_BYTES)
})

test('that an image is pinned does not keep its blocks when it goes; that another is pinned meanwhile does', async () => {
  const w = await world()
  const image = await keep(w, range(0, 3))
  w.reasons.set(image.id, REASON.pinned)
  expect((await w.sweeper.sweep(image.id, always)).freedBytes).toBe(3 * BLOCK_SIZE_BYTES)
})

test('a forgotten image leaves its root, its uses and its own nodes behind nowhere, and no other image lacks anything', async () => {
  const folder = await temporaryFolder()
  const w = await world(folder)
  // A page of 1,024 blocks is the same in both.
  const common = range(0, 1024)
  const v1 = await keep(w, [...common, ...range(2000, 2010)])
  const v2 = await keep(w, [...common, ...range(3000, 3010)])
  const { catalog, images } = w.store
  ;(await images.open(v1.id))!.locate(0)
  await images.uses.save()
  const nodes = catalog.table('nodes', bytesCodec)
  await w.sweeper.sweep(v1.id, always)
  await images.forget(v1.id)
  await images.uses.save()

  expect(await images.open(v1.id)).toBeUndefined()
  const left: string[] = []
  for await (const [key] of nodes.entries()) left.push(key)
  expect(left.toSorted()).toEqual(v2.nodes.map(([hash]) => toHex(hash)).toSorted())
  for await (const [key] of catalog.table('uses', bytesCodec).entries()) expect(key).not.toContain(v1.id)
  await w.store.close()
  open.delete(w.store)
  const again = await world(folder)
  expect((await again.store.images.open(v2.id))!.complete).toBe(true)
})

test('a node that another image takes while one is forgotten stays', async () => {
  const w = await world()
  const v1 = await keep(w, range(0, 10))
  const { images } = w.store
  const forgetting = images.forget(v1.id)
  const writer = images.writer()
  for (const [hash, bytes] of v1.nodes) writer.add(hash, bytes)
  await Promise.all([forgetting, writer.drain()])
  const nodes = w.store.catalog.table('nodes', bytesCodec)
  for (const [hash] of v1.nodes) expect(await nodes.get(toHex(hash))).toBeDefined()
})

/** Two pages, and the node above them. */
const v1 = imageOf([hashOf(1), 1023, hashOf(2)])

/** Too large to be read through when it is opened; its last page is the first of v1. */
const v2 = imageOf([...range(100, 170).flatMap(number => [hashOf(number), 1023]), hashOf(1), 1023])

test.each([
  ['made again', v1],
  ['made of some of its nodes', v2]
])(
  'an image that is %s keeps the nodes that were written before the first was forgotten, at whatever moment',
  async (_what, made) => {
    for (let turns = 0; turns < 60; turns += 4) {
      const w = await world()
      const { images, catalog } = w.store
      await images.keep(v1.rootBytes, v1.nodes)
      const writer = images.writer()
      const [...before] = made.nodes
      const last = before.pop()!
      for (const [hash, bytes] of before) writer.add(hash, bytes)
      await writer.drain()
      const forgetting = images.forget(v1.id)
      for (let turn = 0; turn < turns; turn++) await (turn % 2 === 0 ? Promise.resolve() : new Promise(setImmediate))
      writer.add(...last)
      await writer.finish(made.rootBytes)
      writer.close()
      await forgetting
      const nodes = catalog.table('nodes', bytesCodec)
      for (const [hash] of made.nodes) expect(await nodes.get(toHex(hash)), `after ${turns} turns`).toBeDefined()
      expect(await images.open(made.id)).toBeDefined()
    }
  }
)

test('nodes of an image that was never finished do not stay for its sake', async () => {
  const w = await world()
  const { images, catalog } = w.store
  await images.keep(v1.rootBytes, v1.nodes)
  const writer = images.writer()
  for (const [hash, bytes] of v1.nodes) writer.add(hash, bytes)
  await writer.drain()
  writer.close()
  await images.forget(v1.id)
  for await (const [key] of catalog.table('nodes', bytesCodec).entries()) expect.fail(key)
})
