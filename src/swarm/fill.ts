/**
 * Completing an image: every page of its index, then every block that is not here, in order, at the lowest rank.
 *
 * A bounded number of blocks is wanted at a time. A block that stands in several places of the image is fetched once. The image is
 * walked again until it is complete, because a block can rot, or be evicted, behind the walker.
 */

import { RowanError } from '../errors.ts'
import type { ImageFetch } from './image-fetch.ts'
import { FILL_WINDOW_BLOCKS } from './limits.ts'
import type { Rank } from './messages.ts'

const FILL: Rank = 3
/** Pages of the index that are fetched before their blocks: 16 GiB of image, 8 MiB of index. */
const PAGES_AHEAD = 256

export interface FillOptions {
  signal?: AbortSignal | undefined
  /** Data blocks that are here, and data blocks in all. */
  onProgress?: ((done: number, of: number) => void) | undefined
}

/** @throws ABORTED, DISK_CLOSED, or what keeps blocks out of the pool: POOL_FULL, DISK_FULL, STORE_IO */
export async function fillImage(fetch: ImageFetch, options: FillOptions): Promise<void> {
  const { image } = fetch
  while (!image.complete) {
    const pages = [...take(image.eachUnknownPage(), PAGES_AHEAD)]
    await Promise.all(pages.map(page => fetch.index.page(page, FILL, options.signal)))
    const wanted = await fillKnownPages(fetch, options)
    if (pages.length === 0 && wanted === 0 && !image.complete) {
      throw new RowanError('INTERNAL', `the image ${image.id} misses nothing, and is not complete`)
    }
  }
  options.onProgress?.(image.local.blocks, image.local.of)
}

/** @returns how many blocks were missing */
async function fillKnownPages(fetch: ImageFetch, { signal, onProgress }: FillOptions): Promise<number> {
  const { image } = fetch
  /** By hash: how to give a block up. */
  const underWay = new Map<string, () => void>()
  let wanted = 0
  let failure: RowanError | undefined
  let wake = () => {}
  const fail = (error: RowanError) => {
    failure ??= error
    wake()
  }
  const onAbort = () => fail(new RowanError('ABORTED', `the image ${image.id} is not wanted any more`))
  const until = async (isDone: () => boolean) => {
    while (!isDone() && failure === undefined) {
      await new Promise<void>(resolve => {
        wake = resolve
      })
    }
    if (failure !== undefined) throw failure
  }
  if (signal?.aborted) onAbort()
  signal?.addEventListener('abort', onAbort, { once: true })
  try {
    for (const block of image.eachMissing()) {
      await until(() => underWay.size < FILL_WINDOW_BLOCKS)
      wanted++
      const key = Buffer.from(image.hashOf(block) ?? []).toString('latin1')
      // The twin of a block that is under way; the next walk finds it in the pool.
      if (underWay.has(key)) continue
      underWay.set(key, () => undefined)
      const giveUp = fetch.request(block, {
        rank: FILL,
        resolve: () => {
          underWay.delete(key)
          onProgress?.(image.local.blocks, image.local.of)
          wake()
        },
        reject: fail
      })
      if (underWay.has(key)) underWay.set(key, giveUp)
    }
    await until(() => underWay.size === 0)
    return wanted
  } finally {
    signal?.removeEventListener('abort', onAbort)
    // After a failure, the rest is not wanted any more.
    for (const giveUp of underWay.values()) giveUp()
  }
}

function* take<T>(items: Iterable<T>, count: number): Iterable<T> {
  let left = count
  if (left <= 0) return
  for (const item of items) {
    yield item
    if (--left <= 0) return
  }
}
