import { describe, expect, test } from 'vitest'
import { ABSENT, UNKNOWN } from '../../../src/store/images.ts'
import { type AheadFetch, BootAhead } from '../../../src/swarm/boot-ahead.ts'
import type { BlockWaiter } from '../../../src/swarm/image-fetch.ts'
import { silentLog } from './support.ts'

/** An image of which nothing is here, nor the index unless it was asked for. */
function emptyImage(blocks: number) {
  const asked: { block: number; rank: number }[] = []
  const waiters = new Map<number, BlockWaiter>()
  const pages: number[] = []
  let isIndexHere = true
  const page = Promise.withResolvers<void>()
  const fetch: AheadFetch = {
    image: {
      id: 'image',
      root: { blocks, zeroBlocks: 0 } as AheadFetch['image']['root'],
      locate: () => (isIndexHere ? ABSENT : UNKNOWN)
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
