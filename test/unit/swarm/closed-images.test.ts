/**
 * The store closes an image that the swarm keeps, but does not need: it is let go of, and opened anew when it is.
 */
import { afterEach, expect, test } from 'vitest'
import { MAX_OPEN_IMAGES } from '../../../src/store/images.ts'
import { waitUntil } from '../../tools/wait.ts'
import { keepImage, makeImage, obtainedBytes, startPeer, type TestImage, type TestPeer } from './support.ts'

const stops: (() => unknown)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})

async function peer(): Promise<TestPeer> {
  const started = await startPeer()
  stops.push(() => started.stop())
  return started
}

/** Whether a block comes, and is right. */
async function fetched(by: TestPeer, image: TestImage, block: number): Promise<boolean> {
  const bytes = obtainedBytes(by, await by.swarm.want(image.id, block, 'demand'))
  return Buffer.compare(bytes, image.block(block)) === 0
}

const PLACES = Array.from({ length: MAX_OPEN_IMAGES }, (_, index) => index + 1)

/** Opens as many images as may be, of zeros. */
async function crowd({ images }: TestPeer): Promise<void> {
  for (const blocks of PLACES) await images.create(makeImage(1, blocks, { isZero: () => true }).rootBytes)
}

test('an image that was fetched, and is closed for others, is fetched on where somebody wants it again', async () => {
  const image = makeImage(7, 20)
  const [replica, fetcher] = [await peer(), await peer()]
  await keepImage(replica, image)
  const first = await fetcher.swarm.openImage(image.id, [replica.hint()])
  expect(await fetched(fetcher, image, 0)).toBe(true)
  await waitUntil('the end of what is fetched', () => !first.isUsed)
  await crowd(fetcher)
  expect(first.isClosed).toBe(true)
  expect(await fetched(fetcher, image, 1)).toBe(true)
  expect(await fetcher.swarm.openImage(image.id)).not.toBe(first)
  expect(fetcher.swarm.transfers(image.id).blocks).toBe(2)
})

test('an image that somebody fetches from here stays open until that one lets go of it', async () => {
  const image = makeImage(7, 20)
  const [replica, fetcher] = [await peer(), await peer()]
  await keepImage(replica, image)
  const served = (await replica.images.open(image.id))!
  await fetcher.swarm.openImage(image.id, [replica.hint()])
  await fetcher.swarm.want(image.id, 0, 'demand')
  await crowd(replica)
  expect(served.isClosed).toBe(false)
  expect(await fetched(fetcher, image, 1)).toBe(true)
  await fetcher.swarm.stop()
  await waitUntil('the end of the stream', () => !served.isUsed)
})
