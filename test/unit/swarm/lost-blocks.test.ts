/**
 * What a replica tells its requesters after blocks were evicted, over a real connection.
 */
import { afterEach, expect, test } from 'vitest'
import { PROTOCOL } from '../../../src/cluster.ts'
import { fromHex } from '../../../src/image/hash.ts'
import { FrameStream } from '../../../src/swarm/frame-stream.ts'
import { FRAME } from '../../../src/swarm/frames.ts'
import {
  helloFrame,
  OPEN_INDEX,
  openFrame,
  readHave,
  readImage,
  readMissing,
  wantFrame
} from '../../../src/swarm/messages.ts'
import { keepImage, makeImage, startLibp2p, startPeer, type TestImage, type TestPeer, until } from './support.ts'

const stops: (() => Promise<void>)[] = []

afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})

async function replicaOf(image: TestImage, has?: (n: number) => boolean): Promise<TestPeer> {
  const peer = await startPeer()
  stops.push(() => peer.stop())
  await keepImage(peer, image, has)
  return peer
}

/** Opens the image at the replica and keeps all that it says. */
async function requester(replica: TestPeer, image: TestImage) {
  const network = await startLibp2p(false)
  stops.push(async () => network.stop())
  const stream = await network.dialProtocol(replica.network.getMultiaddrs(), PROTOCOL.blocks)
  const said: { complete?: boolean; have: Set<number>; missing: number[] } = { have: new Set(), missing: [] }
  const frames = new FrameStream(stream, 'server', {
    onFrame(frame) {
      if (frame.type === FRAME.image) said.complete = readImage(frame).complete
      if (frame.type === FRAME.missing) said.missing.push(...readMissing(frame).blocks)
      if (frame.type !== FRAME.have) return
      const { complete, pages } = readHave(frame)
      said.complete = complete
      for (const { page, bitmap } of pages) {
        for (let bit = 0; bit < 1024; bit++) {
          if ((bitmap[bit >> 3]! & (1 << (bit & 7))) !== 0) said.have.add(page * 1024 + bit)
          else said.have.delete(page * 1024 + bit)
        }
      }
    },
    onEnd() {}
  })
  frames.send(helloFrame('test', 0))
  frames.send(openFrame(1, fromHex(image.id), OPEN_INDEX.top))
  await until(() => said.complete !== undefined, 'the image')
  return { said, frames }
}

async function evict(peer: TestPeer, image: TestImage, blocks: number[]): Promise<void> {
  const local = (await peer.images.open(image.id))!
  await peer.pool.evict(blocks.map(block => local.locate(block)).filter(slot => slot >= 0))
}

const isZero = (n: number) => n % 7 === 3

test('a replica that was complete says what is left, and gives no more than that', async () => {
  const image = makeImage(1, 1100)
  const replica = await replicaOf(image)
  const { said, frames } = await requester(replica, image)
  expect(said.complete).toBe(true)
  const gone = [0, 1, 5, 1030]
  await evict(replica, image, gone)
  await until(() => said.complete === false, 'the news')
  const left = Array.from({ length: 1100 }, (_, n) => n).filter(n => !isZero(n) && !gone.includes(n))
  await until(() => said.have.size === left.length, 'what is left')
  expect([...said.have].toSorted((a, b) => a - b)).toEqual(left)
  frames.send(wantFrame(1, [5], 0, false))
  await until(() => said.missing.includes(5), 'the refusal')
})

test('a partial replica takes back what it said of a page', async () => {
  const image = makeImage(2, 60)
  const replica = await replicaOf(image, n => n < 20)
  const { said } = await requester(replica, image)
  await until(() => said.have.size === 17, 'the first bitmap')
  await evict(replica, image, [2, 4])
  await until(() => said.have.size === 15, 'the second bitmap')
  expect([said.have.has(2), said.have.has(4), said.have.has(5)]).toEqual([false, false, true])
})
