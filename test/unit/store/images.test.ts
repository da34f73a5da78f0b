import { truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../../../src/cluster.ts'
import { type Hash, sha256 } from '../../../src/image/hash.ts'
import { decodeImageRoot, encodeImageRoot, imageIdOf, makeImageRoot } from '../../../src/image/image-root.ts'
import { ABSENT, type LocalImage, MAX_OPEN_IMAGES, UNKNOWN, ZERO } from '../../../src/store/images.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { startOwnTime } from '../../tools/own-time.ts'
import { waitUntil } from '../../tools/wait.ts'
import { withCode } from '../image/with-code.ts'
import {
  blockOf,
  canMount,
  copyAsAfterCrash,
  entryOf,
  hashOf,
  imageOf,
  mountSmallDisk,
  openStore,
  type TestImage,
  type TestStore,
  unmountSmallDisks
} from './tools.ts'

const opened = new Set<TestStore>()

async function store(folder?: string): Promise<TestStore> {
  const one = await openStore(folder ?? (await temporaryFolder()))
  opened.add(one)
  return one
}

async function close(one: TestStore): Promise<void> {
  opened.delete(one)
  await one.close()
}

afterEach(async () => {
  try {
    for (const one of opened) await close(one)
  } finally {
    unmountSmallDisks()
    await removeFolders()
  }
})

const range = (first: number, end: number) => Array.from({ length: end - first }, (_, index) => first + index)
const hashes = (first: number, end: number) => range(first, end).map(hashOf)

async function put(to: TestStore, ...numbers: number[]): Promise<number[]> {
  return to.pool.putMany(numbers.map(entryOf))
}

/** Gives an image every node that it misses, as a swarm would: top first, until nothing is missing. */
async function addAllNodes(image: LocalImage, from: TestImage): Promise<void> {
  const byHash = new Map(from.nodes.map(([hash, bytes]) => [Buffer.from(hash).toString('hex'), bytes]))
  for (let block = 0; block < image.root.blocks; block += 1024) {
    for (let missing = image.missingNodes(block); missing.length > 0; missing = image.missingNodes(block)) {
      const { level, position, hash } = missing[0]!
      await image.addNode(level, position, byHash.get(Buffer.from(hash!).toString('hex'))!)
    }
  }
}

/** Three blocks of data, a zero one, and two pages of which the second is all zero but its last block. */
const SMALL = imageOf([...hashes(0, 2), 1, hashOf(2), 2040, hashOf(3)])

test('an image is made from its root, and known by its hash from then on', async () => {
  const first = await store()
  const image = await first.images.create(SMALL.rootBytes)
  expect(image.id).toBe(SMALL.id)
  expect(image.root.sizeBytes).toBe(SMALL.sizeBytes)
  expect(await first.images.create(SMALL.rootBytes)).toBe(image)
  expect(await first.images.open(SMALL.id)).toBe(image)
  await close(first)
  const again = await store(first.folder)
  expect((await again.images.open(SMALL.id))?.id).toBe(SMALL.id)
  const ids: string[] = []
  for await (const id of again.images.list()) ids.push(id)
  expect(ids).toEqual([SMALL.id])
  expect(await again.images.open('0'.repeat(64))).toBeUndefined()
})

test('callers at once get one object', async () => {
  const { images } = await store()
  const all = await Promise.all([images.create(SMALL.rootBytes), images.create(SMALL.rootBytes), images.open(SMALL.id)])
  expect(all[1]).toBe(all[0])
  expect([all[0], undefined]).toContain(all[2])
})

test('a root that is none is refused', async () => {
  const { images } = await store()
  await expect(images.create(new Uint8Array(5))).rejects.toThrow(withCode('INDEX_INVALID'))
  await expect(images.create(SMALL.rootBytes.subarray(1))).rejects.toThrow(withCode('INDEX_INVALID'))
})

test('without its index everything is unknown, and it says what it needs', async () => {
  const { images } = await store()
  const image = await images.create(SMALL.rootBytes)
  expect(image.locate(0)).toBe(UNKNOWN)
  expect(image.hashOf(0)).toBeUndefined()
  expect(image.nodeBytes(0, 0)).toBeUndefined()
  expect(image.haveBitmap(0)).toBeUndefined()
  expect(image.complete).toBe(false)
  expect(image.local).toEqual({ blocks: 0, of: 4 })
  const top = decodeImageRoot(SMALL.rootBytes).top
  expect(image.missingNodes(1500)).toEqual([
    { level: 1, position: 0, hash: top },
    { level: 0, position: 1, hash: undefined }
  ])
  expect([...image.eachMissing()]).toEqual([])
  expect([...image.eachUnknownPage()]).toEqual([0, 1])
})

test('nodes are taken top first, each checked against the one above it', async () => {
  const { images } = await store()
  const image = await images.create(SMALL.rootBytes)
  const [page0, page1, top] = SMALL.nodes.map(([, bytes]) => bytes)
  await expect(image.addNode(0, 0, page0!)).rejects.toThrow(withCode('INDEX_INVALID'))
  await expect(image.addNode(1, 0, page0!)).rejects.toThrow(withCode('INDEX_INVALID'))
  for (const [level, position] of [
    [2, 0],
    [1, 1],
    [0, 2],
    [0, -1],
    [-1, 0],
    [0, 0.5]
  ]) {
    await expect(image.addNode(level!, position!, top!)).rejects.toThrow(withCode('INDEX_INVALID'))
  }
  await image.addNode(1, 0, top!)
  expect(image.missingNodes(1500).map(({ level, position }) => [level, position])).toEqual([[0, 1]])
  await expect(image.addNode(0, 0, page1!)).rejects.toThrow(withCode('INDEX_INVALID'))
  const changed = Uint8Array.from(page0!)
  changed[20]! ^= 1
  await expect(image.addNode(0, 0, changed)).rejects.toThrow(withCode('INDEX_INVALID'))
  expect(image.locate(0)).toBe(UNKNOWN)
  await image.addNode(0, 0, page0!)
  expect(image.locate(0)).toBe(ABSENT)
  expect(image.missingNodes(0)).toEqual([])
  await image.addNode(0, 1, page1!)
  await image.addNode(0, 1, page1!) // once more does no harm
  expect([...image.eachUnknownPage()]).toEqual([])
  expect(image.nodeBytes(1, 0) && Buffer.from(image.nodeBytes(1, 0)!).equals(top!)).toBe(true)
  expect(image.nodeBytes(0, 1) && Buffer.from(image.nodeBytes(0, 1)!).equals(page1!)).toBe(true)
})

test('a node can be used before it is written, and its buffer used again', async () => {
  const { images } = await store()
  const image = await images.create(SMALL.rootBytes)
  const [page0, page1, top] = SMALL.nodes.map(([, bytes]) => Uint8Array.from(bytes))
  const adding = [image.addNode(1, 0, top!), image.addNode(0, 0, page0!), image.addNode(0, 1, page1!)]
  for (const bytes of [page0!, page1!, top!]) bytes.fill(0)
  expect(image.locate(3)).toBe(ABSENT)
  expect(image.nodeBytes(0, 0)?.[0]).toBe(SMALL.nodes[0]![1][0])
  await Promise.all(adding)
  expect(image.nodeBytes(0, 0)?.[0]).toBe(SMALL.nodes[0]![1][0])
})

test('a node with the right hash that is no node is INDEX_INVALID', async () => {
  const rubbish = Buffer.from('signed by a publisher, and still rubbish')
  const rootBytes = encodeImageRoot(makeImageRoot(BLOCK_SIZE_BYTES, 0, sha256(rubbish)))
  const { images } = await store()
  const image = await images.create(rootBytes)
  await expect(image.addNode(0, 0, rubbish)).rejects.toThrow(withCode('INDEX_INVALID'))
  expect(image.locate(0)).toBe(UNKNOWN)
})

test('locate tells slots, zeros and absent blocks; stored and forget change it', async () => {
  const one = await store()
  const image = await one.images.keep(SMALL.rootBytes, SMALL.nodes)
  expect([0, 1, 2, 3, 4, 1023, 1024, 2043, 2044].map(block => image.locate(block))).toEqual([
    ABSENT,
    ABSENT,
    ZERO,
    ABSENT,
    ZERO,
    ZERO,
    ZERO,
    ZERO,
    ABSENT
  ])
  expect(image.local).toEqual({ blocks: 0, of: 4 })
  expect([...image.eachMissing()]).toEqual([0, 1, 3, 2044])
  const [slot1, slot3] = await put(one, 1, 3)
  image.stored(1, slot1!)
  image.stored(1, slot1!)
  expect(image.locate(1)).toBe(slot1)
  expect(image.local.blocks).toBe(1)
  image.stored(2044, slot3!)
  expect([...image.eachMissing()]).toEqual([0, 3])
  image.forget(1)
  image.forget(1)
  image.forget(2)
  expect(image.local.blocks).toBe(1)
  expect(image.hashOf(1)).toEqual(Buffer.from(hashOf(1)))
  expect(image.hashOf(2)).toBeUndefined()
  expect(() => image.stored(2, 0)).toThrow(withCode('INTERNAL'))
})

test('an image is complete when all its data is here', async () => {
  const one = await store()
  const image = await one.images.keep(SMALL.rootBytes, SMALL.nodes)
  const slots = await put(one, 0, 1, 2, 3)
  for (const [index, block] of [0, 1, 3, 2044].entries()) {
    expect(image.complete).toBe(false)
    image.stored(block, slots[index]!)
  }
  expect(image.complete).toBe(true)
  expect(image.local).toEqual({ blocks: 4, of: 4 })
  expect([...image.eachMissing()]).toEqual([])
})

test('an image of zeros is complete from the start', async () => {
  const { images } = await store()
  const image = await images.create(imageOf([3000]).rootBytes)
  expect(image.complete).toBe(true)
  expect(image.local).toEqual({ blocks: 0, of: 0 })
  expect(image.locate(2999)).toBe(ZERO)
  expect(image.missingNodes(5)).toEqual([])
  expect(image.haveBitmap(2)).toEqual(new Uint8Array(119))
})

test('a block that it does not have is OUT_OF_RANGE', async () => {
  const { images } = await store()
  const image = await images.keep(SMALL.rootBytes, SMALL.nodes)
  for (const block of [2045, 2048, 4096, -1, 2 ** 27, 2 ** 32, 0.5]) {
    if (block !== 0.5) expect(() => image.locate(block), `block ${block}`).toThrow(withCode('OUT_OF_RANGE'))
    expect(() => image.hashOf(block)).toThrow(withCode('OUT_OF_RANGE'))
    expect(() => image.missingNodes(block)).toThrow(withCode('OUT_OF_RANGE'))
    expect(() => image.stored(block, 0)).toThrow(withCode('OUT_OF_RANGE'))
  }
})

test('a block that another image brought is here too', async () => {
  const one = await store()
  const old = await one.images.keep(SMALL.rootBytes, SMALL.nodes)
  const next = imageOf([hashOf(3), hashOf(9)])
  const image = await one.images.keep(next.rootBytes, next.nodes)
  expect(image.locate(0)).toBe(ABSENT)
  const [slot] = await put(one, 3)
  old.stored(2044, slot!)
  expect(image.locate(0)).toBe(slot)
  expect(image.local).toEqual({ blocks: 1, of: 2 })
  expect([...image.eachMissing()]).toEqual([1])
})

test('one block at many places is fetched once', async () => {
  const one = await store()
  const twins = imageOf([hashOf(1), hashOf(2), hashOf(1), hashOf(1)])
  const image = await one.images.keep(twins.rootBytes, twins.nodes)
  const fetched: number[] = []
  for (const block of image.eachMissing()) {
    fetched.push(block)
    image.stored(block, (await put(one, block === 1 ? 2 : 1))[0]!)
  }
  expect(fetched).toEqual([0, 1])
  expect(image.complete).toBe(true)
})

test('its bitmap shows the data blocks that are here', async () => {
  const one = await store()
  await put(one, 0, 2, 3)
  const image = await one.images.keep(SMALL.rootBytes, SMALL.nodes)
  const bits = (page: number) =>
    [...image.haveBitmap(page)!.entries()].flatMap(([at, byte]) =>
      range(0, 8)
        .filter(bit => byte & (1 << bit))
        .map(bit => at * 8 + bit)
    )
  expect(image.haveBitmap(0)?.byteLength).toBe(128)
  expect(bits(0)).toEqual([0, 3])
  expect(image.haveBitmap(1)?.byteLength).toBe(128)
  expect(bits(1)).toEqual([1020])
  expect(() => image.haveBitmap(2)).toThrow(withCode('OUT_OF_RANGE'))
})

test('a block for another peer is hashed, and forgotten when it is rotten', async () => {
  const one = await store()
  const [slot] = await put(one, 0, 1)
  const image = await one.images.keep(SMALL.rootBytes, SMALL.nodes)
  expect(await image.verified(0)).toEqual(blockOf(0))
  expect(await image.verified(2)).toBeUndefined()
  expect(await image.verified(3)).toBeUndefined()
  await writeFile(join(one.folder, 'pool', '00000.seg'), Buffer.concat([Buffer.alloc(BLOCK_SIZE_BYTES, 1), blockOf(1)]))
  expect(slot).toBe(0)
  expect(await image.verified(0)).toBeUndefined()
  expect(image.locate(0)).toBe(ABSENT)
  expect(image.local.blocks).toBe(1)
  expect(await image.verified(1)).toEqual(blockOf(1))
})

test('a block that the pool dropped is gone from every image that is open', async () => {
  const one = await store()
  await put(one, 0, 1)
  const image = await one.images.keep(SMALL.rootBytes, SMALL.nodes)
  const twins = imageOf([hashOf(1), hashOf(1), hashOf(0)])
  const other = await one.images.keep(twins.rootBytes, twins.nodes)
  expect([image.local.blocks, other.local.blocks]).toEqual([2, 3])
  await one.pool.drop(hashOf(1))
  expect([image.local.blocks, other.local.blocks]).toEqual([1, 1])
  expect([image.locate(1), other.locate(0), other.locate(1)]).toEqual([ABSENT, ABSENT, ABSENT])
  expect(other.locate(2)).toBeGreaterThanOrEqual(0)
})

test('a block that cannot be read any more is forgotten when it is checked again', async () => {
  const one = await store()
  const { images, pool, folder } = one
  await put(one, 0, 1)
  const image = await images.keep(SMALL.rootBytes, SMALL.nodes)
  expect(image.locate(0)).toBe(0)
  expect(image.locate(1)).toBe(1)
  await truncate(join(folder, 'pool', '00000.seg'), BLOCK_SIZE_BYTES)
  expect([image.recheck(0), image.recheck(1), image.recheck(4)]).toEqual([true, false, true])
  expect([image.peek(0), image.peek(1)]).toEqual([0, ABSENT])
  expect([image.locate(0), image.locate(1)]).toEqual([0, ABSENT])
  // Its slot was dropped, so that it can come again.
  expect(pool.find(hashOf(1))).toBe(-1)
})

test('a block that was evicted between its put and its note is not here, whatever its slot holds by now', async () => {
  const opened = await store()
  const image = imageOf([hashOf(1), hashOf(2)])
  const local = await opened.images.keep(image.rootBytes, image.nodes)
  const slot = await opened.pool.put(hashOf(1), blockOf(1))
  await opened.pool.evict([slot])
  expect(await opened.pool.put(hashOf(50), blockOf(50))).toBe(slot)
  local.stored(0, slot)
  expect(local.locate(0)).toBe(ABSENT)
  expect(local.local).toEqual({ blocks: 0, of: 2 })
})

test('after a crash a block is hashed when it is first located, and absent when it is rotten', async () => {
  const crashed = await store()
  await put(crashed, 0, 1, 2, 3)
  await crashed.images.keep(SMALL.rootBytes, SMALL.nodes)
  const folder = await temporaryFolder()
  await copyAsAfterCrash(crashed, folder)
  const blocks = [Buffer.alloc(BLOCK_SIZE_BYTES, 1), blockOf(1), blockOf(2), blockOf(3)]
  await writeFile(join(folder, 'pool', '00000.seg'), Buffer.concat(blocks))
  const again = await store(folder)
  const image = (await again.images.open(SMALL.id))!
  expect(image.local.blocks).toBe(4)
  expect(image.haveBitmap(0)?.[0]).toBe(0b1011)
  // A peek takes the table's word, and hashes nothing.
  expect([image.peek(0), image.peek(1), image.peek(2)]).toEqual([0, 1, ZERO])
  expect(again.pool.isSuspect(1)).toBe(true)
  expect(image.locate(1)).toBe(1)
  expect(again.pool.isSuspect(1)).toBe(false)
  expect(again.pool.isSuspect(2)).toBe(true)
  expect(image.locate(0)).toBe(ABSENT)
  expect(image.local.blocks).toBe(3)
  // The same, when somebody else finds out.
  await writeFile(
    join(folder, 'pool', '00000.seg'),
    Buffer.concat([...blocks.slice(0, 3), Buffer.alloc(BLOCK_SIZE_BYTES, 1)])
  )
  expect(again.pool.confirm(3, hashOf(3))).toBe(false)
  expect(image.local.blocks).toBe(2)
  expect(image.locate(2044)).toBe(ABSENT)
})

test('nodes that images share are kept once', async () => {
  const one = await store()
  const shared = hashes(0, 1024)
  const v1 = imageOf([...shared, hashOf(2000)])
  const v2 = imageOf([...shared, hashOf(3000)])
  await one.images.keep(v1.rootBytes, v1.nodes)
  const image = await one.images.create(v2.rootBytes)
  const [, page1, top] = v2.nodes.map(([, bytes]) => bytes)
  await image.addNode(1, 0, top!)
  expect(image.missingNodes(0)).toEqual([])
  expect(image.missingNodes(1024).length).toBe(1)
  await image.addNode(0, 1, page1!)
  let nodes = 0
  for await (const _ of one.catalog.table('nodes', { encode: (x: Uint8Array) => x, decode: x => x }).entries()) nodes++
  expect(nodes).toBe(5)
})

test('a node that has rotted in the catalog is not here any more', async () => {
  const one = await store()
  await one.images.keep(SMALL.rootBytes, SMALL.nodes)
  const nodes = one.catalog.table('nodes', { encode: (x: Uint8Array) => x, decode: x => x })
  await nodes.put(Buffer.from(SMALL.nodes[0]![0]).toString('hex'), Buffer.from('rotten'))
  await close(one)
  const again = await store(one.folder)
  const image = (await again.images.open(SMALL.id))!
  expect(image.locate(0)).toBe(UNKNOWN)
  expect(image.locate(2044)).toBe(ABSENT)
  expect(again.log.lines.some(line => line.startsWith('warn'))).toBe(true)
  await image.addNode(0, 0, SMALL.nodes[0]![1])
  expect(image.locate(0)).toBe(ABSENT)
})

test('a root that has rotted in the catalog is CATALOG_CORRUPT', async () => {
  const one = await store()
  await one.images.create(SMALL.rootBytes)
  const roots = one.catalog.table('images', { encode: (x: Uint8Array) => x, decode: x => x })
  await roots.put(SMALL.id, imageOf([5]).rootBytes)
  await close(one)
  const again = await store(one.folder)
  await expect(again.images.open(SMALL.id)).rejects.toThrow(withCode('CATALOG_CORRUPT'))
})

test('counts are right after a restart', async () => {
  const one = await store()
  await put(one, 0, 3)
  await one.images.keep(SMALL.rootBytes, SMALL.nodes)
  await put(one, 1)
  await close(one)
  const again = await store(one.folder)
  const image = (await again.images.open(SMALL.id))!
  expect(image.local).toEqual({ blocks: 3, of: 4 })
  expect(image.indexComplete).toBe(true)
})

test('a root that lies about its zero blocks does not keep an image from being complete', async () => {
  const data = hashes(0, 3)
  const honest = imageOf(data)
  const rootBytes = encodeImageRoot(makeImageRoot(honest.sizeBytes, 1, decodeImageRoot(honest.rootBytes).top))
  const one = await store()
  await put(one, 0, 1, 2)
  const image = await one.images.keep(rootBytes, honest.nodes)
  expect(image.id).toBe(imageIdOf(rootBytes))
  expect(image.local).toEqual({ blocks: 3, of: 3 })
  expect(image.complete).toBe(true)
})

test('a node above the pages tells of the pages that need none', async () => {
  const sparse = imageOf([hashOf(0), 1023 + 5000, hashOf(1)])
  const one = await store()
  await put(one, 0, 1)
  const image = await one.images.create(sparse.rootBytes)
  const [first, last, top] = sparse.nodes.map(([, bytes]) => bytes)
  await image.addNode(1, 0, top!)
  await image.addNode(0, 0, first!)
  expect(image.complete).toBe(false)
  await image.addNode(0, 5, last!)
  expect(image.complete).toBe(true)
})

test('an image of three levels comes in node by node', async () => {
  const large = imageOf([...hashes(0, 3), 2 ** 20 + 3000, ...hashes(3, 5)])
  const one = await store()
  await put(one, 0, 3)
  const image = await one.images.create(large.rootBytes)
  expect(image.root.height).toBe(2)
  await addAllNodes(image, large)
  await waitUntil('all pages to be counted', () => image.indexComplete)
  expect(image.local).toEqual({ blocks: 2, of: 5 })
  expect([...image.eachMissing()]).toEqual([1, 2, image.root.blocks - 1])
})

test('8 TiB, nearly all zero, are opened at once and counted', async () => {
  const one = await store()
  await put(one, 1)
  const huge = imageOf([hashOf(1), 2 ** 27 - 2, hashOf(2)])
  await one.images.keep(huge.rootBytes, huge.nodes)
  await close(one)
  const again = await store(one.folder)
  const image = (await again.images.open(huge.id))!
  expect(image.locate(2 ** 26)).toBe(ZERO)
  expect(image.locate(0)).toBe(0)
  expect(image.locate(2 ** 27 - 1)).toBe(ABSENT)
  await waitUntil('all pages to be counted', () => image.indexComplete)
  expect(image.local).toEqual({ blocks: 1, of: 2 })
})

test('an image over 4 GiB is counted in the background, and again after the pool dropped a block', async () => {
  const one = await store()
  await put(one, 1, 2)
  const pages = 70
  const [often, once] = [hashOf(1), hashOf(2)]
  const parts: Hash[] = Array.from({ length: pages * 1024 }, (_, index) => (index === 5000 ? once : often))
  const large = imageOf(parts)
  const image = await one.images.keep(large.rootBytes, large.nodes)
  await waitUntil('all pages to be counted', () => image.complete)
  expect(image.local).toEqual({ blocks: pages * 1024, of: pages * 1024 })
  await one.pool.drop(hashOf(2))
  expect(image.complete).toBe(false)
  await waitUntil('all pages to be counted', () => image.indexComplete)
  expect(image.local).toEqual({ blocks: pages * 1024 - 1, of: pages * 1024 })
  expect([...image.eachMissing()]).toEqual([5000])
})

test('opening an image of 4 GiB takes less than 50 ms', async () => {
  const one = await store()
  await put(one, 1)
  const known = hashOf(1)
  const large = imageOf(
    Array.from({ length: 65_536 }, (_, index) => (index % 2 ? known : sha256(Buffer.from(String(index)))))
  )
  await one.images.keep(large.rootBytes, large.nodes)
  let fastestMs = Number.POSITIVE_INFINITY
  for (let attempt = 0; attempt < 5; attempt++) {
    await close(one)
    const again = await store(one.folder)
    const tookMs = startOwnTime()
    const image = (await again.images.open(large.id))!
    fastestMs = Math.min(fastestMs, tookMs())
    expect(image.local).toEqual({ blocks: 32_768, of: 65_536 })
    await close(again)
  }
  expect(fastestMs).toBeLessThan(50)
})

test('an image that was made here is kept with all its nodes, and survives a crash', async () => {
  const one = await store()
  const parts = [...hashes(0, 30), 2 ** 20, ...hashes(30, 40)]
  const made = imageOf(parts)
  await put(one, ...range(0, 40))
  await one.pool.sync()
  await one.images.keep(made.rootBytes, made.nodes)
  const folder = await temporaryFolder()
  await copyAsAfterCrash(one, folder)
  const again = await store(folder)
  const image = (await again.images.open(made.id))!
  await waitUntil('all pages to be counted', () => image.indexComplete)
  expect(image.complete).toBe(true)
  expect(await image.verified(image.root.blocks - 1)).toEqual(blockOf(39))
})

test.skipIf(!canMount)('a node that the full disk does not take is not known (needs to mount a tmpfs)', async () => {
  const disk = mountSmallDisk(8)
  const one = await store(disk)
  const image = await one.images.create(SMALL.rootBytes)
  const [page0, , top] = SMALL.nodes.map(([, bytes]) => bytes)
  await image.addNode(1, 0, top!)
  await writeFile(join(disk, 'filler'), Buffer.alloc(16 * 1024 * 1024)).catch(() => {}) // ENOSPC: the disk is full now
  // What LevelDB has reserved is soon used up.
  const filler = one.catalog.table('filler', { encode: (x: Uint8Array) => x, decode: x => x })
  const fill = async () => {
    for (let index = 0; ; index++) await filler.put(String(index), Buffer.alloc(10_000))
  }
  await expect(fill()).rejects.toThrow(withCode('DISK_FULL'))
  await expect(image.addNode(0, 0, page0!)).rejects.toThrow(withCode('DISK_FULL'))
  expect(image.locate(0)).toBe(UNKNOWN)
  expect(image.indexComplete).toBe(false)
  await writeFile(join(disk, 'filler'), '')
  await image.addNode(0, 0, page0!)
  expect(image.locate(0)).toBe(ABSENT)
})

test.each([
  ['opens it', (from: TestStore) => from.images.open(SMALL.id)],
  ['brings it', (from: TestStore) => from.images.create(SMALL.rootBytes)]
])('an image that is forgotten while somebody %s is found again after a restart', async (_who, ask) => {
  // At each moment of the forgetting, as far as it can be told from outside.
  for (let turns = 0; turns < 40; turns += 3) {
    const first = await store()
    await addAllNodes(await first.images.create(SMALL.rootBytes), SMALL)
    const forgotten = first.images.forget(SMALL.id)
    for (let turn = 0; turn < turns; turn++) await (turn % 2 === 0 ? Promise.resolve() : new Promise(setImmediate))
    const asked = await ask(first)
    const isGone = await forgotten
    // Whoever opened it found it, or not; who has it has it durably.
    if (asked !== undefined) expect(await first.images.open(SMALL.id)).toBe(asked)
    await close(first)
    const again = await store(first.folder)
    const found = await again.images.open(SMALL.id)
    expect(found !== undefined, `after ${turns} turns`).toBe(asked !== undefined)
    if (!isGone) expect(found!.missingNodes(0)).toEqual([])
    await close(again)
  }
})

test('one image more than may be open takes the place of the one that nobody used for the longest time', async () => {
  const one = await store()
  const closed: string[] = []
  one.images.onClosed(({ id }) => closed.push(id))
  const [first, second, third, ...others] = await Promise.all(
    range(1, MAX_OPEN_IMAGES + 1).map(blocks => one.images.create(imageOf([blocks]).rootBytes))
  )
  const endFirst = first!.use()
  let isNeeded = true
  second!.use(() => isNeeded)
  await one.images.open(third!.id)
  // The first are used, the third was asked for just now.
  const more = (number: number) => one.images.create(imageOf([MAX_OPEN_IMAGES + number]).rootBytes)
  await more(1)
  expect(closed).toEqual([others[0]!.id])
  expect(others[0]!.isClosed).toBe(true)
  expect(() => others[0]!.locate(0)).toThrow(withCode('DISK_CLOSED'))
  const again = await one.images.open(others[0]!.id)
  expect(again!.locate(0)).toBe(ZERO)
  expect(closed).toEqual([others[0]!.id, others[1]!.id])
  for (const image of others.slice(2)) image.use()
  for (const image of [third!, again!, (await one.images.open(imageOf([MAX_OPEN_IMAGES + 1]).id))!]) image.use()
  await expect(more(2)).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' })
  isNeeded = false
  await more(3)
  expect(closed.at(-1)).toBe(second!.id)
  endFirst()
  await more(4)
  // What was let go of last goes last.
  expect(first!.isClosed).toBe(false)
  expect(closed).toHaveLength(4)
})

test('an image that is closed for others hears of nothing any more: it gives no slot, and its uses are kept', async () => {
  const one = await store()
  await put(one, 0, 1, 2, 3)
  const image = await one.images.keep(SMALL.rootBytes, SMALL.nodes)
  one.images.uses.clock.minute = 77
  expect(image.locate(0)).toBeGreaterThanOrEqual(0)
  const { pages: slots } = shared(image)
  expect(image.isUsed).toBe(true)
  slots.end()
  for (const blocks of range(1, MAX_OPEN_IMAGES + 1)) await one.images.create(imageOf([blocks]).rootBytes)
  expect(image.isClosed).toBe(true)
  expect(() => image.locate(0)).toThrow(withCode('DISK_CLOSED'))
  expect([...slots.made.values()].every(page => page.every(entry => entry === UNKNOWN || entry === ZERO))).toBe(true)
  expect(image.local).toEqual({ blocks: 4, of: 4 })
  const again = (await one.images.open(SMALL.id))!
  expect(again).not.toBe(image)
  expect(again.locate(0)).toBeGreaterThanOrEqual(0)
  await close(one)
  const later = await store(one.folder)
  expect(later.images.uses.read(SMALL.id, 2)[0]).toBe(77)
})

/** As a thread sees an image. */
function shared(image: LocalImage): { pages: { made: Map<number, Int32Array>; end(): void } } {
  const made = new Map<number, Int32Array>()
  const { end } = image.share((page, slots) => made.set(page, slots))
  return { pages: { made, end } }
}
