import { truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { RowanError } from '../../../src/errors.ts'
import { sha256 } from '../../../src/image/hash.ts'
import { type BlockStore, type HashedImage, hashImage } from '../../../src/release/hasher.ts'
import { openImage } from '../../../src/release/image-input.ts'
import { Catalog } from '../../../src/store/catalog.ts'
import { Images } from '../../../src/store/images.ts'
import { Pool } from '../../../src/store/pool.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { describeWithTools } from '../../tools/need.ts'
import { startOwnTime } from '../../tools/own-time.ts'
import { waitUntil } from '../../tools/wait.ts'
import { blockOf, plainImageId, writeImage, writeSparseImage } from './support/images.ts'
import { MemoryLog } from './support/log.ts'

let folder: string
let log: MemoryLog
let catalog: Catalog
let pool: Pool
let images: Images

beforeEach(async () => {
  folder = await temporaryFolder()
  log = new MemoryLog()
  catalog = await Catalog.open(join(folder, 'catalog'))
  pool = await Pool.open({ directory: join(folder, 'pool'), catalog, log }, { quotaBytes: 1024 ** 3 })
  images = new Images({ catalog, pool, log })
})

afterEach(async () => {
  images.close()
  await pool.close()
  await catalog.close()
  await removeFolders()
})

const path = (name: string) => join(folder, name)

interface HashOptions {
  store?: BlockStore
  onProgress?: (done: number, of: number) => void
  signal?: AbortSignal
  qemuImg?: string
  before?: () => Promise<void>
}

/** Opens, hashes and keeps an image, as the publisher does. */
async function hash(name: string, options: HashOptions = {}): Promise<HashedImage> {
  const input = await openImage(path(name), { temporaryFolder: folder })
  try {
    await options.before?.()
    const nodes = images.writer()
    const { onProgress, signal, qemuImg } = options
    const image = await hashImage(input, { pool: options.store ?? pool, nodes, log }, { onProgress, signal, qemuImg })
    await nodes.finish(image.rootBytes)
    return image
  } finally {
    await input.close()
  }
}

/** The pool with something else done at some point. */
function storeWith(changes: Partial<BlockStore>): BlockStore {
  return {
    find: h => pool.find(h),
    isSuspect: slot => pool.isSuspect(slot),
    confirm: (slot, h) => pool.confirm(slot, h),
    putMany: entries => pool.putMany(entries),
    sync: () => pool.sync(),
    ...changes
  }
}

test.each([
  ['one block', [1], 0],
  ['a short last block', [1, 2, 3], 1],
  ['less than a block', [], 4096],
  ['zero blocks at both ends and between', [0, 0, 1, 0, 2, 2, 0], 0],
  ['nothing but zeros', [0, 0, 0], 0],
  ['several chunks', Array.from({ length: 300 }, (_, index) => (index % 7 === 0 ? 0 : index)), 17]
])('an image with %s has the id that its content says, and is all here', async (_what, seeds, tailBytes) => {
  await writeImage(path('a.raw'), seeds, tailBytes)
  const { id, root } = await hash('a.raw')
  expect(id).toBe(await plainImageId(path('a.raw')))
  expect(root.blocks).toBe(seeds.length + (tailBytes > 0 ? 1 : 0))
  expect(root.zeroBlocks).toBe(seeds.filter(seed => seed === 0).length)
  const image = await images.open(id)
  expect(image!.complete).toBe(true)
  for (const [block, seed] of seeds.entries()) {
    const bytes = await image!.verified(block)
    expect(bytes === undefined ? undefined : Buffer.compare(bytes, blockOf(seed))).toBe(seed === 0 ? undefined : 0)
  }
})

test('a block that comes often is stored once', async () => {
  await writeImage(path('a.raw'), [5, 5, 5, 6, 5, ...Array.from({ length: 200 }, () => 5), 6])
  const { newBlocks } = await hash('a.raw')
  expect(newBlocks).toBe(2)
  expect(pool.usage.blocks).toBe(2)
})

test('a second version stores only what is new', async () => {
  await writeImage(path('v1.raw'), [1, 2, 3, 4, 0, 5])
  await writeImage(path('v2.raw'), [1, 2, 7, 4, 8, 5])
  expect((await hash('v1.raw')).newBlocks).toBe(5)
  expect((await hash('v2.raw')).newBlocks).toBe(2)
  expect((await hash('v2.raw')).newBlocks).toBe(0)
  expect(pool.usage.blocks).toBe(7)
})

test('a slot that cannot be trusted is read before its block counts as known', async () => {
  await writeImage(path('a.raw'), [1, 2])
  await hash('a.raw')
  const asked: number[] = []
  const rotten = pool.find(sha256(blockOf(2)))
  const store = storeWith({
    isSuspect: () => true,
    confirm: slot => {
      asked.push(slot)
      return slot !== rotten
    }
  })
  const put: number[] = []
  store.putMany = async entries => {
    put.push(...entries.map(({ block }) => block[0]!))
    return pool.putMany(entries)
  }
  expect((await hash('a.raw', { store })).newBlocks).toBe(1)
  expect(asked).toHaveLength(2)
  expect(put).toEqual([blockOf(2)[0]])
})

test('all blocks are durable at the end', async () => {
  await writeImage(path('a.raw'), [1, 2, 3])
  let stored = 0
  let syncedAfter = -1
  const store = storeWith({
    putMany: async entries => {
      const slots = await pool.putMany(entries)
      stored += entries.length
      return slots
    },
    sync: async () => {
      syncedAfter = stored
      await pool.sync()
    }
  })
  await hash('a.raw', { store })
  expect(syncedAfter).toBe(3)
})

test('progress goes up to the whole image', async () => {
  await writeImage(
    path('a.raw'),
    Array.from({ length: 200 }, (_, index) => index % 3),
    5
  )
  const seen: number[] = []
  await hash('a.raw', { onProgress: (done, of) => seen.push(done / of) })
  expect(seen.length).toBeGreaterThan(2)
  expect(seen).toEqual(seen.toSorted((a, b) => a - b))
  expect(seen.at(-1)).toBe(1)
})

describe('what goes wrong in the middle', () => {
  const many = Array.from({ length: 500 }, (_, index) => index + 1)

  test('a file that shrinks', async () => {
    await writeImage(path('a.raw'), [1, 2, 3, 4])
    const shrink = () => truncate(path('a.raw'), 65536 + 5)
    await expect(hash('a.raw', { before: shrink })).rejects.toMatchObject({
      code: 'IMAGE_CHANGED',
      message: expect.stringContaining('a.raw')
    })
    await expect(images.list()[Symbol.asyncIterator]().next()).resolves.toMatchObject({ done: true })
  })

  test('a full disk: blocks so far are harmless, and the same image can be published later', async () => {
    await writeImage(path('a.raw'), many)
    let calls = 0
    const store = storeWith({
      putMany: async entries => {
        if (++calls === 3) throw new RowanError('DISK_FULL', 'no room')
        return pool.putMany(entries)
      }
    })
    await expect(hash('a.raw', { store })).rejects.toMatchObject({ code: 'DISK_FULL' })
    const again = await hash('a.raw')
    expect(again.newBlocks).toBeLessThan(500)
    expect((await images.open(again.id))!.complete).toBe(true)
  })

  test('a sync that fails at the end', async () => {
    await writeImage(path('a.raw'), [1])
    const store = storeWith({
      sync: async () => {
        throw new RowanError('STORE_IO', 'fdatasync failed')
      }
    })
    await expect(hash('a.raw', { store })).rejects.toMatchObject({ code: 'STORE_IO' })
  })

  test('being called off', async () => {
    await writeImage(path('a.raw'), many)
    const controller = new AbortController()
    const onProgress = () => controller.abort()
    await expect(hash('a.raw', { signal: controller.signal, onProgress })).rejects.toMatchObject({ code: 'ABORTED' })
    await expect(hash('a.raw', { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ABORTED' })
  })

  test('a slow pool holds the reading up, within the chunks', async () => {
    await writeImage(path('a.raw'), many)
    const gate = Promise.withResolvers<void>()
    let waiting = 0
    let blocks = 0
    const store = storeWith({
      putMany: async entries => {
        waiting++
        blocks += entries.length
        await gate.promise
        return pool.putMany(entries)
      }
    })
    const hashing = hash('a.raw', { store })
    await waitUntil('all chunks to be in use', () => waiting === 4)
    await new Promise(resolve => setImmediate(resolve))
    expect(waiting).toBe(4)
    expect(blocks).toBeLessThanOrEqual(4 * 64)
    gate.resolve()
    expect((await hashing).newBlocks).toBe(500)
  })
})

describeWithTools('holes', ['qemu-img'], () => {
  const data = { 0: 1, 3: 2, 900: 3, 1024: 4, 5000: 5, 16383: 6 }

  test('a sparse file is the same image as a dense one, and its holes are not read', async () => {
    await writeSparseImage(path('sparse.raw'), 1024 ** 3, data)
    const sparse = await hash('sparse.raw')
    const dense = await hash('sparse.raw', { qemuImg: 'qemu-img-is-not-here' })
    expect(dense.id).toBe(sparse.id)
    expect(sparse.root).toMatchObject({ blocks: 16384, zeroBlocks: 16384 - 6 })
    expect(log.lines.join()).toContain('not installed')
  })

  test('100 GiB with little in them take seconds and little memory', async () => {
    await writeSparseImage(path('large.raw'), 100 * 1024 ** 3, { ...data, 1638399: 7 })
    const before = process.memoryUsage().rss
    const ownMs = startOwnTime()
    const { root, id } = await hash('large.raw')
    expect(ownMs()).toBeLessThan(10_000)
    expect(process.memoryUsage().rss - before).toBeLessThan(200e6)
    expect(root).toMatchObject({ blocks: 1_638_400, zeroBlocks: 1_638_400 - 7 })
    const image = (await images.open(id))!
    await image.recount()
    expect(image.complete).toBe(true)
  })

  test.each([
    ['fails', 'exit 1'],
    ['says nonsense', 'echo "[{"'],
    ['leaves a gap', `echo '[{"start":0,"length":65536,"zero":true,"data":false},{"start":131072,"length":1}]'`],
    ['ends too early', `echo '[{"start":0,"length":65536,"zero":true,"data":false}]'`],
    ['goes on without an end', 'exec yes "{}"']
  ])('a map that %s is no map: everything is read', async (_what, script) => {
    await writeSparseImage(path('a.raw'), 10 * 1024 ** 2, { 7: 1 })
    await writeFile(path('qemu-img'), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
    const { id } = await hash('a.raw', { qemuImg: path('qemu-img') })
    expect(id).toBe(await plainImageId(path('a.raw')))
  })
})
