/**
 * Lines that fail without a word, and lines that break again and again: one replica, behind the bench's link.
 */
import { afterEach, describe, expect, test } from 'vitest'
import type { ReplicaHint } from '../../src/swarm/swarm.ts'
import { freePort, Line, type LineKind } from '../tools/line.ts'
import { startOwnTime } from '../tools/own-time.ts'
import { endProcesses } from '../tools/processes.ts'
import { keepImage, makeImage, obtainedBytes, startPeer, type TestPeer } from '../unit/swarm/support.ts'

const BLOCKS = 80
const image = makeImage(51, BLOCKS, { isZero: () => false })
const LINE: LineKind = { rttMs: 20, downMbit: 80, upMbit: 20 }
/** So long that a round trip more or less cannot be mistaken for computing. */
const LONG_LINE: LineKind = { rttMs: 1000, downMbit: 0, upMbit: 0 }
/** Far below what a dead connection cost without suspicion: 10 s until its peer is dropped. */
const LONGEST_WAIT_MS = 4_000

const peers: TestPeer[] = []

afterEach(async () => {
  await Promise.all(peers.splice(0).map(peer => peer.stop()))
  await endProcesses()
})

/** A replica that can be reached over a line only, and a peer that wants what it has. */
async function behind(kind: LineKind): Promise<{ line: Line; client: TestPeer; hint: ReplicaHint }> {
  const replica = await startPeer()
  peers.push(replica)
  await keepImage(replica, image)
  const toPort = Number(/\/tcp\/(\d+)/.exec(replica.hint().addresses[0]!)![1])
  const listenPort = await freePort()
  const line = await Line.open(kind, [{ listenPort, toPort }])
  const client = await startPeer()
  peers.push(client)
  return { line, client, hint: { ...replica.hint(), addresses: [`/ip4/127.0.0.1/tcp/${listenPort}`] } }
}

/** Reads block after block, as a guest does. @returns the longest wait */
async function readAll(client: TestPeer, hint: ReplicaHint): Promise<number> {
  const { swarm } = client
  await swarm.openImage(image.id, [hint])
  let longestMs = 0
  for (let n = 0; n < BLOCKS; n++) {
    const waitedMs = startOwnTime()
    const obtained = await swarm.want(image.id, n, 'demand')
    longestMs = Math.max(longestMs, waitedMs())
    expect(Buffer.compare(obtainedBytes(client, obtained), image.block(n))).toBe(0)
  }
  return longestMs
}

describe('one replica over a line', () => {
  test('gives its first block in five round trips: TCP, encryption (two), root and index, block', async () => {
    const { client, hint } = await behind(LONG_LINE)
    const [startMs, ownMs] = [performance.now(), startOwnTime()]
    await client.swarm.openImage(image.id, [hint])
    await client.swarm.want(image.id, 0, 'demand')
    const own = ownMs()
    expect((performance.now() - startMs) / LONG_LINE.rttMs).toBeGreaterThan(5)
    // What computing costs is far less than a round trip of this line.
    expect(own / LONG_LINE.rttMs).toBeLessThan(6)
  })

  test('whose connections die without closing: a guest does not wait for the time-out', async () => {
    const { line, client, hint } = await behind({ ...LINE, stallAfterBytes: 2_000_000 })
    expect(await readAll(client, hint)).toBeLessThan(LONGEST_WAIT_MS)
    // Once for each 2 MB, and not more often than a busy machine explains.
    const { connections } = await line.count()
    expect(connections).toBeGreaterThan(2)
    expect(connections).toBeLessThan(10)
  })

  test('that closes every connection after a while: it is made anew at once', async () => {
    const { line, client, hint } = await behind({ ...LINE, dropAfterBytes: 2_000_000 })
    expect(await readAll(client, hint)).toBeLessThan(LONGEST_WAIT_MS)
    expect((await line.count()).connections).toBeGreaterThan(2)
  })

  test('that breaks in the middle of a fill: it goes on where it was', async () => {
    const { client, hint } = await behind({ ...LINE, dropAfterBytes: 2_000_000 })
    await client.swarm.openImage(image.id, [hint])
    await client.swarm.fill(image.id)
    const { wireBytes, bytes } = client.swarm.transfers(image.id)
    // What was under way when a connection broke is asked for again, and no more than that.
    expect(wireBytes).toBeLessThan(1.5 * bytes)
  })
})
