import { describe, expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../../../src/cluster.ts'
import { ABSENT, UNKNOWN } from '../../../src/store/images.ts'
import { type AheadFetch, BootAhead } from '../../../src/swarm/boot-ahead.ts'
import type { BlockWaiter } from '../../../src/swarm/image-fetch.ts'
import { blockOf, DISK_BLOCKS, diskBytes, ext4Disk, SUPERBLOCK, tableBlock } from '../../tools/ext4.ts'
import { silentLog } from './support.ts'

/** An image of which nothing is here, nor the index unless it was asked for. */
function emptyImage(blocks: number) {
  const asked: { block: number; rank: number }[] = []
  const waiters = new Map<number, BlockWaiter>()
  const pages: number[] = []
  const here = new Map<number, Uint8Array>()
  const verified: number[] = []
  let isIndexHere = true
  const page = Promise.withResolvers<void>()
  const fetch: AheadFetch = {
    image: {
      id: 'image',
      root: { blocks, zeroBlocks: 0 } as AheadFetch['image']['root'],
      locate: block => (here.has(block) ? block : isIndexHere ? ABSENT : UNKNOWN),
      verified: async block => {
        verified.push(block)
        return here.get(block)
      }
    },
    index: {
      page: number => {
        pages.push(number)
        return page.promise
      }
    },
    request(block, waiter) {
      asked.push({ block, rank: waiter.rank })
      waiters.set(block, waiter)
      return () => undefined
    }
  }
  return {
    ahead: new BootAhead(fetch, silentLog),
    asked,
    pages,
    here,
    verified,
    withoutIndex() {
      isIndexHere = false
    },
    async indexCame() {
      isIndexHere = true
      page.resolve()
      await page.promise
    }
  }
}

const FRONT = [0, 1, 2, 3, 4, 5, 6, 7]

describe('what is fetched before the guest', () => {
  test('is the front of the disk, where nothing is known of the boot', () => {
    const { ahead, asked } = emptyImage(1000)
    ahead.begin()
    expect(asked).toEqual(FRONT.map(block => ({ block, rank: 1 })))
    for (const block of FRONT) ahead.touched(block)
    expect(ahead.view.readAhead.touched).toBe(FRONT.length)
  })

  test('ends with the disk', () => {
    const { ahead, asked } = emptyImage(3)
    ahead.begin()
    expect(asked.map(({ block }) => block)).toEqual([0, 1, 2])
  })

  test('waits for the index, and is nothing where the guest was given up meanwhile', async () => {
    for (const isStopped of [false, true]) {
      const { ahead, asked, pages, withoutIndex, indexCame } = emptyImage(1000)
      withoutIndex()
      ahead.begin()
      expect([asked, pages]).toEqual([[], [0]])
      if (isStopped) ahead.stop()
      await indexCame()
      expect(asked.map(({ block }) => block)).toEqual(isStopped ? [] : FRONT)
    }
  })

  test('follows a profile, and nothing else, where there is one', () => {
    const { ahead, asked } = emptyImage(1000)
    ahead.follow([
      { block: 500, atMs: 0 },
      { block: 7, atMs: 1 }
    ])
    ahead.begin()
    expect(asked).toEqual([
      { block: 500, rank: 2 },
      { block: 7, rank: 2 }
    ])
  })
})

describe('where a guest has read how its files lie', () => {
  const FILE = 12
  const FIRST_PAGE = 3200
  const disk = ext4Disk(new Map([[FILE, [[FIRST_PAGE, 320]]]]))
  const first = Math.floor(diskBytes(FIRST_PAGE) / BLOCK_SIZE_BYTES)
  const rest = Array.from({ length: 16 }, (_, index) => first + 1 + index)

  /** The guest reads these, and has them. */
  async function read({ ahead, here }: ReturnType<typeof emptyImage>, ...blocks: number[]) {
    for (const block of blocks) {
      ahead.touched(block)
      here.set(block, blockOf(disk, block))
    }
    await new Promise(resolve => setImmediate(resolve))
  }

  test('the rest of a file is fetched when it is read, and nothing beside it', async () => {
    const image = emptyImage(DISK_BLOCKS)
    await read(image, 0, SUPERBLOCK, tableBlock(FILE))
    // What it reads next has the tables learnt by then.
    await read(image, 900)
    await read(image, 800)
    image.asked.length = 0
    image.ahead.touched(first, diskBytes(FIRST_PAGE) % BLOCK_SIZE_BYTES)
    expect(image.asked).toEqual(rest.map(block => ({ block, rank: 1 })))
  })

  test('also of one that was touched before its inode was learnt', async () => {
    const image = emptyImage(DISK_BLOCKS)
    await read(image, 0)
    for (const block of [SUPERBLOCK, tableBlock(FILE)]) image.ahead.touched(block)
    image.ahead.touched(first, diskBytes(FIRST_PAGE) % BLOCK_SIZE_BYTES)
    const asked = () => new Set(image.asked.map(({ block }) => block))
    await read(image, 900)
    expect(rest.filter(block => !asked().has(block))).not.toEqual([])
    // Now they come; what is touched meanwhile is here.
    for (const block of [SUPERBLOCK, tableBlock(FILE)]) image.here.set(block, blockOf(disk, block))
    await read(image, 900)
    expect(rest.filter(block => !asked().has(block))).toEqual([])
  })

  test('not of one that was here without having been guessed: who brought it brings the rest', async () => {
    const image = emptyImage(DISK_BLOCKS)
    await read(image, 0, SUPERBLOCK, tableBlock(FILE))
    await read(image, 900)
    await read(image, 800)
    image.asked.length = 0
    image.here.set(first, blockOf(disk, first))
    image.ahead.touched(first, diskBytes(FIRST_PAGE) % BLOCK_SIZE_BYTES)
    expect(image.asked).toEqual([])
    // The guest has to wait for the next: now it is known that nobody does.
    image.ahead.touched(first + 1)
    expect(image.asked.map(({ block }) => block)).toEqual(expect.arrayContaining(rest.slice(1, 10)))
  })

  test('nothing is learnt, or fetched ahead, while all that is read is here', async () => {
    const image = emptyImage(DISK_BLOCKS)
    const stream = [900, 901, 902, 903]
    for (const block of [0, SUPERBLOCK, tableBlock(FILE), first, ...stream]) image.here.set(block, blockOf(disk, block))
    await read(image, 0, SUPERBLOCK, tableBlock(FILE), first, ...stream)
    expect(image.verified).toEqual([])
    expect(image.asked).toEqual([])
  })
})
