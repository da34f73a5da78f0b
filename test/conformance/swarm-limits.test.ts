/**
 * What a peer takes of its owner's line: limits that are changed while peers exchange blocks.
 */
import { afterEach, describe, expect, test } from 'vitest'
import { PROTOCOL } from '../../src/cluster.ts'
import { encodeFrame, FRAME } from '../../src/swarm/frames.ts'
import { getNodesFrame, helloFrame, openFrame } from '../../src/swarm/messages.ts'
import { UNLIMITED_TRAFFIC } from '../../src/swarm/traffic-limits.ts'
import { bestMs } from '../tools/own-time.ts'
import { keepImage, makeImage, startLibp2p, startPeer, type TestPeer, until } from '../unit/swarm/support.ts'
import { WireEnd } from '../unit/swarm/wire-double.ts'

const BLOCKS = 100
const image = makeImage(61, BLOCKS, { isZero: () => false })
const MEGABYTES = (BLOCKS * 65_536) / 1e6

const peers: TestPeer[] = []
const stops: (() => Promise<void>)[] = []

afterEach(async () => {
  await Promise.all([...stops.splice(0).map(stop => stop()), ...peers.splice(0).map(peer => peer.stop())])
})

async function peer(options: Parameters<typeof startPeer>[0] = {}): Promise<TestPeer> {
  const started = await startPeer(options)
  peers.push(started)
  return started
}

async function replica(options: Parameters<typeof startPeer>[0] = {}): Promise<TestPeer> {
  const started = await peer(options)
  await keepImage(started, image)
  return started
}

/** A requester that the test speaks for. */
async function callByHand(server: TestPeer): Promise<WireEnd> {
  const network = await startLibp2p(false)
  stops.push(async () => network.stop())
  const connection = await network.dial(server.network.getMultiaddrs())
  return new WireEnd(await connection.newStream(PROTOCOL.blocks), 'server')
}

/** How long a new peer takes for all of the image. */
async function fillMs(from: TestPeer): Promise<number> {
  const client = await peer()
  await client.swarm.openImage(image.id, [from.hint()])
  const startMs = performance.now()
  await client.swarm.fill(image.id)
  return performance.now() - startMs
}

/** An image whose index is a full page of hashes, 32 KiB, and of which no block is here. */
const indexOnly = makeImage(62, 1024, { isZero: () => false, same: true })
const PAGE_BYTES = indexOnly.nodes[0]![1].byteLength

describe('limits', () => {
  test.each([
    [
      'the index',
      (end: WireEnd, n: number) => end.send(getNodesFrame(1, [{ level: 0, position: 0 }], n === 0 ? 0 : 3))
    ],
    [
      'roots',
      (end: WireEnd, n: number) => {
        const open = openFrame(n + 2, Buffer.from(indexOnly.id, 'hex'), 0)
        end.send(encodeFrame(FRAME.release, n + 1, new Uint8Array(0)), open)
      }
    ]
  ])('what is sent of %s counts as well', async (_what, ask) => {
    const rate = 0.5e6
    const server = await peer({ maxUploadBytesPerSecond: rate })
    await keepImage(server, indexOnly, () => false)
    const end = await callByHand(server)
    end.send(helloFrame('by hand', 0), openFrame(1, Buffer.from(indexOnly.id, 'hex'), 0))
    await end.next(FRAME.image)
    const startMs = performance.now()
    const count = 60
    for (let n = 0; n < count; n++) {
      const before = end.ofType(FRAME.nodes).length + end.ofType(FRAME.image).length
      ask(end, n)
      await until(() => end.ofType(FRAME.nodes).length + end.ofType(FRAME.image).length > before, 'an answer')
    }
    // What goes out at once, and a few answers that nobody waits for, come on top.
    expect(performance.now() - startMs).toBeGreaterThan((((count - 16) * PAGE_BYTES) / rate) * 1000)
  })

  test('an upload is slowed down, and sped up again, while it runs', async () => {
    const server = await replica({ maxUploadBytesPerSecond: 0.5e6 })
    const client = await peer()
    await client.swarm.openImage(image.id, [server.hint()])
    const startMs = performance.now()
    const filled = client.swarm.fill(image.id)
    await until(() => client.swarm.transfers(image.id).blocks >= 8, 'a few blocks')
    // 0.5 MB and what goes out at once.
    expect(performance.now() - startMs).toBeGreaterThan(700)
    server.swarm.limit(UNLIMITED_TRAFFIC)
    await filled
    expect((performance.now() - startMs) / 1000).toBeLessThan(MEGABYTES / 0.5 - 2)
  })

  test('a courtesy is limited; what is donated, or stays on the local network, is not', async () => {
    const isDonated = { maxCourtesyBytesPerSecond: 2e6, isDonated: () => true }
    const isNear = { maxCourtesyBytesPerSecond: 2e6, isDonated: () => false, isNear: () => true }
    const courtesy = { maxCourtesyBytesPerSecond: 2e6, isDonated: () => false }
    const [donated, near, far] = await Promise.all([isDonated, isNear, courtesy].map(replica))
    const leastMs = ((MEGABYTES - 0.2) / 2) * 1000
    expect(await fillMs(far!)).toBeGreaterThan(leastMs)
    expect(await bestMs(leastMs, () => fillMs(donated!))).toBeLessThan(leastMs)
    expect(await bestMs(leastMs, () => fillMs(near!))).toBeLessThan(leastMs)
  })

  test('where it is quiet, whoever is not near is sent away, and comes back when it is not', async () => {
    const server = await replica()
    const other = await replica()
    server.swarm.addReplicas(image.id, [other.hint()])
    server.swarm.limit({ ...UNLIMITED_TRAFFIC, quiet: true })
    const client = await peer()
    // BUSY names the other one, which nobody told of.
    await client.swarm.openImage(image.id, [server.hint()])
    await client.swarm.fill(image.id)
    const { perPeer } = client.swarm.transfers(image.id)
    expect(Object.keys(perPeer)).toEqual([other.id])
    server.swarm.limit(UNLIMITED_TRAFFIC)
    expect(await fillMs(server)).toBeGreaterThan(0)
  })

  test('where it turns quiet, whoever is being served is sent away at once', async () => {
    const server = await replica({ maxUploadBytesPerSecond: 0.5e6 })
    const client = await peer()
    await client.swarm.openImage(image.id, [server.hint()])
    const filled = client.swarm.fill(image.id)
    filled.catch(() => undefined)
    await until(() => client.swarm.transfers(image.id).blocks >= 3, 'a few blocks')
    server.swarm.limit({ ...UNLIMITED_TRAFFIC, quiet: true })
    await until(() => server.swarm.served().length === 0, 'the requester to be gone')
    expect(client.swarm.transfers(image.id).blocks).toBeLessThan(BLOCKS)
  })

  test('where it is quiet, a guest is served and a fill waits until it is not', async () => {
    const server = await replica()
    const client = await peer({ quiet: true })
    const local = await client.swarm.openImage(image.id, [server.hint()])
    const filled = client.swarm.fill(image.id)
    await client.swarm.want(image.id, 50, 'demand')
    await client.swarm.want(image.id, 51, 'read-ahead')
    await client.swarm.want(image.id, 52, 'demand')
    expect(client.swarm.transfers(image.id).blocks).toBe(3)
    client.swarm.limit(UNLIMITED_TRAFFIC)
    await filled
    expect(local.complete).toBe(true)
  })
})
