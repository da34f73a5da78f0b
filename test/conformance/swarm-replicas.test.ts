/**
 * Fetching from real replicas over TCP on loopback: sharing, fail-over, partial replicas, priorities, a full pool.
 */
import { afterEach, describe, expect, test } from 'vitest'
import type { Clock } from '../../src/environment.ts'
import { toHex } from '../../src/image/hash.ts'
import { systemClock } from '../../src/node/system.ts'
import { encodeBlockFrame, FRAME } from '../../src/swarm/frames.ts'
import { missingFrame } from '../../src/swarm/messages.ts'
import type { ReplicaHint } from '../../src/swarm/swarm.ts'
import { freePort, Line, type Pair } from '../tools/line.ts'
import { endProcesses } from '../tools/processes.ts'
import {
  hintOf,
  keepImage,
  makeImage,
  obtainedBytes,
  recordingLog,
  startPeer,
  type TestImage,
  type TestPeer,
  until
} from '../unit/swarm/support.ts'
import { startDouble } from '../unit/swarm/wire-double.ts'

const stops: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})

async function peer(options: Parameters<typeof startPeer>[0] = {}): Promise<TestPeer> {
  const started = await startPeer(options)
  stops.push(() => started.stop())
  return started
}

async function replica(image: TestImage, has?: (n: number) => boolean, options = {}): Promise<TestPeer> {
  const started = await peer(options)
  await keepImage(started, image, has)
  return started
}

/** @returns how these are reached over one line that is far longer than any network at home */
async function beyondLine(servers: TestPeer[]): Promise<ReplicaHint[]> {
  const hints: ReplicaHint[] = []
  const pairs: Pair[] = []
  for (const server of servers) {
    const listenPort = await freePort()
    pairs.push({ listenPort, toPort: Number(server.network.getMultiaddrs()[0]!.toString().split('/')[4]) })
    hints.push({ ...server.hint(), addresses: [`/ip4/127.0.0.1/tcp/${listenPort}`] })
  }
  await Line.open({ rttMs: 30, downMbit: 0, upMbit: 0 }, pairs)
  stops.push(endProcesses)
  return hints
}

async function expectIdentical(at: TestPeer, image: TestImage): Promise<void> {
  const local = (await at.images.open(image.id))!
  expect(local.complete).toBe(true)
  for (let n = 0; n < image.blocks; n++) {
    const slot = local.locate(n)
    const bytes = slot >= 0 ? obtainedBytes(at, { slot }) : new Uint8Array(65_536)
    if (Buffer.compare(bytes, image.block(n)) !== 0) throw new Error(`block ${n} differs`)
  }
}

describe('one replica', () => {
  test('an image opens with its index, and a block comes, verified, into the pool', async () => {
    const image = makeImage(1, 1500)
    const server = await replica(image)
    const client = await peer()
    const local = await client.swarm.openImage(image.id, [server.hint()])
    expect(local.id).toBe(image.id)
    const obtained = await client.swarm.want(image.id, 1201, 'read-ahead')
    expect(obtained).toHaveProperty('slot')
    expect(Buffer.compare(obtainedBytes(client, obtained), image.block(1201))).toBe(0)
    expect(local.locate(1201)).toBe((obtained as { slot: number }).slot)
    expect(client.swarm.transfers(image.id)).toMatchObject({ blocks: 1, bytes: 65_536 })
    // The rest of the index follows without being asked for.
    await until(() => local.indexComplete, 'the whole index')
  })

  test('a guest has its block before the disk of this host has taken it', async () => {
    const image = makeImage(1, 50)
    const server = await replica(image)
    const client = await peer()
    const local = await client.swarm.openImage(image.id, [server.hint()])
    const disk = Promise.withResolvers<void>()
    const putMany = client.pool.putMany.bind(client.pool)
    client.pool.putMany = async (...args) => {
      await disk.promise
      return putMany(...args)
    }
    let isStored = false
    const kept = client.swarm.want(image.id, 20, 'read-ahead').finally(() => {
      isStored = true
    })
    for (let n = 0; n < 2; n++) {
      const obtained = await client.swarm.want(image.id, 20, 'demand')
      expect(Buffer.compare(obtainedBytes(client, obtained), image.block(20))).toBe(0)
    }
    expect([isStored, local.locate(20) >= 0]).toEqual([false, false])
    disk.resolve()
    expect(await kept).toEqual({ slot: local.locate(20) })
    expect(client.swarm.transfers(image.id)).toMatchObject({ blocks: 1 })
  })

  test('fill completes an image, and tells how far it is', async () => {
    const image = makeImage(2, 400)
    const server = await replica(image)
    const client = await peer()
    await client.swarm.openImage(image.id, [server.hint()])
    const progress: [number, number][] = []
    await client.swarm.fill(image.id, { onProgress: (done, of) => progress.push([done, of]) })
    await expectIdentical(client, image)
    const data = image.blocks - Math.ceil((image.blocks - 3) / 7)
    expect(progress.at(-1)).toEqual([data, data])
    expect(client.swarm.transfers(image.id)).toMatchObject({ blocks: data, bytes: data * 65_536 })
    expect(server.swarm.peers()[0]).toMatchObject({ peer: client.id })
  })

  test('what is the same as something here is not fetched', async () => {
    const image = makeImage(3, 100)
    const server = await replica(image)
    const client = await peer()
    for (let n = 0; n < 50; n++) {
      const bytes = image.block(n)
      if (n % 7 !== 3) await client.pool.put((await server.images.open(image.id))!.hashOf(n)!, bytes)
    }
    await client.swarm.openImage(image.id, [server.hint()])
    await client.swarm.fill(image.id)
    await expectIdentical(client, image)
    expect(client.swarm.transfers(image.id).blocks).toBe(50 - 7)
  })

  test('a block that stands in many places crosses the wire once', async () => {
    const image = makeImage(4, 64, { isZero: () => false, same: true })
    const server = await replica(image)
    const client = await peer()
    await client.swarm.openImage(image.id, [server.hint()])
    await client.swarm.fill(image.id)
    await expectIdentical(client, image)
    expect(client.swarm.transfers(image.id).blocks).toBe(1)
  })

  test('concurrent wants of one block are one request, and a guest does not wait behind a fill', async () => {
    const image = makeImage(5, 600)
    const server = await replica(image, undefined, { maxUploadBytesPerSecond: 4e6 })
    const client = await peer()
    const local = await client.swarm.openImage(image.id, [server.hint()])
    await until(() => local.indexComplete, 'the index')
    const stop = new AbortController()
    const filled = client.swarm.fill(image.id, { signal: stop.signal })
    filled.catch(() => undefined)
    await until(() => client.swarm.transfers(image.id).blocks > 5, 'the fill to run')
    const before = client.swarm.transfers(image.id).blocks
    const [a, b] = await Promise.all([
      client.swarm.want(image.id, 599, 'demand'),
      client.swarm.want(image.id, 599, 'demand')
    ])
    expect(a).toEqual(b)
    // Block 599 is the last of a fill of 33 MB at 4 MB/s; as demand it passes nearly all of it.
    expect(client.swarm.transfers(image.id).blocks - before).toBeLessThan(40)
    stop.abort()
    await expect(filled).rejects.toMatchObject({ code: 'ABORTED' })
  })

  test('compressed blocks cost what they are on the wire', async () => {
    // Long enough for the rate to be known for most of it, on a busy host too.
    const image = makeImage(6, 500, { compressible: true })
    const server = await replica(image, undefined, { maxUploadBytesPerSecond: 4e6 })
    const client = await peer()
    await client.swarm.openImage(image.id, [server.hint()])
    // The rate is unknown at first, so a near peer sends plain blocks; then it turns out to be slow.
    await client.swarm.fill(image.id)
    await expectIdentical(client, image)
    const { bytes, wireBytes } = client.swarm.transfers(image.id)
    expect(wireBytes).toBeLessThan(bytes * 0.9)
  })
})

describe('several replicas', () => {
  test('share the load', async () => {
    const image = makeImage(7, 400)
    // Beyond a line, or a busy machine would make neighbours of some: what a neighbour has is asked of nobody who is farther. And so slow
    // that the least window keeps each of them at work, for late answers look like a queue.
    const servers = await Promise.all([1, 2, 3].map(() => replica(image, undefined, { maxUploadBytesPerSecond: 1e6 })))
    const client = await peer()
    await client.swarm.openImage(image.id, await beyondLine(servers))
    await until(() => client.swarm.peers().length === 3, 'all three')
    await client.swarm.fill(image.id)
    await expectIdentical(client, image)
    const { perPeer, blocks } = client.swarm.transfers(image.id)
    expect(Object.keys(perPeer)).toHaveLength(3)
    for (const { blocks: share } of Object.values(perPeer)) expect(share / blocks).toBeGreaterThan(0.15)
  })

  test('partial replicas make up a whole', async () => {
    const image = makeImage(8, 1300)
    const even = await replica(image, n => n % 2 === 0)
    const odd = await replica(image, n => n % 2 === 1)
    const client = await peer()
    await client.swarm.openImage(image.id, [even.hint(false), odd.hint(false)])
    await client.swarm.fill(image.id)
    await expectIdentical(client, image)
    const { perPeer } = client.swarm.transfers(image.id)
    expect(perPeer[even.id]!.blocks).toBeGreaterThan(500)
    expect(perPeer[odd.id]!.blocks).toBeGreaterThan(500)
  })

  test('a partial replica tells what came to it, and serves it on', async () => {
    const image = makeImage(9, 50)
    const origin = await replica(image)
    const middle = await peer()
    await middle.swarm.openImage(image.id, [origin.hint()])
    const client = await peer()
    await client.swarm.openImage(image.id, [middle.hint(false)])
    const waiting = client.swarm.want(image.id, 20, 'demand')
    await middle.swarm.want(image.id, 20, 'demand')
    const obtained = await waiting
    expect(Buffer.compare(obtainedBytes(client, obtained), image.block(20))).toBe(0)
    expect(Object.keys(client.swarm.transfers(image.id).perPeer)).toEqual([middle.id])
  })

  test('one that stops in the middle does not stop the fill', async () => {
    const image = makeImage(10, 600)
    const dying = await replica(image, undefined, { maxUploadBytesPerSecond: 8e6 })
    const other = await replica(image, undefined, { maxUploadBytesPerSecond: 8e6 })
    const client = await peer()
    await client.swarm.openImage(image.id, [dying.hint(), other.hint()])
    const filled = client.swarm.fill(image.id)
    await until(() => (client.swarm.transfers(image.id).perPeer[dying.id]?.blocks ?? 0) > 20, 'blocks of the first')
    await dying.network.stop()
    await filled
    await expectIdentical(client, image)
  })

  test('a guest waits while all replicas are gone, and goes on when one is back', async () => {
    const image = makeImage(11, 30)
    const first = await replica(image)
    const announced = [first.hint()]
    const client = await peer({ findReplicas: async () => announced })
    await client.swarm.openImage(image.id)
    await client.swarm.want(image.id, 1, 'demand')
    await first.network.stop()
    const waiting = client.swarm.want(image.id, 2, 'demand')
    await new Promise(resolve => setTimeout(resolve, 300))
    const second = await replica(image)
    announced.splice(0, 1, second.hint())
    expect(Buffer.compare(obtainedBytes(client, await waiting), image.block(2))).toBe(0)
  })

  test('a stream that is reset is opened again', async () => {
    const image = makeImage(12, 30)
    const server = await replica(image)
    const client = await peer()
    await client.swarm.openImage(image.id, [server.hint()])
    for (const connection of server.network.getConnections()) {
      for (const stream of connection.streams) stream.abort(new Error('cut'))
    }
    const obtained = await client.swarm.want(image.id, 2, 'demand')
    expect(Buffer.compare(obtainedBytes(client, obtained), image.block(2))).toBe(0)
  })
})

describe('replicas that do harm', () => {
  test('one that serves wrong bytes is dropped, never asked again, and nothing of it is kept', async () => {
    const image = makeImage(13, 200)
    const liar = await startDouble(image, (end, handle, blocks) => {
      for (const block of blocks) {
        const bytes = Uint8Array.from(image.block(block))
        bytes[100]! ^= 1
        end.send(encodeBlockFrame(handle, block, bytes, false))
      }
    })
    stops.push(liar.stop)
    const { log, lines } = recordingLog()
    const client = await peer({ log })
    const hint = hintOf(liar.network)
    const local = await client.swarm.openImage(image.id, [hint])
    const waiting = client.swarm.want(image.id, 5, 'demand')
    await until(() => lines.some(({ values }) => values.code === 'BLOCK_INVALID'), 'the lie to be noticed')
    expect(local.local.blocks).toBe(0)
    const honest = await replica(image)
    client.swarm.addReplicas(image.id, [honest.hint(), hint])
    expect(Buffer.compare(obtainedBytes(client, await waiting), image.block(5))).toBe(0)
    await client.swarm.fill(image.id)
    await expectIdentical(client, image)
    expect(liar.ends).toHaveLength(1)
    expect(client.swarm.transfers(image.id).perPeer[hint.peer]?.blocks ?? 0).toBe(0)
  })

  test('one that stalls without closing loses its requests to another', async () => {
    const image = makeImage(14, 100)
    let answered = 0
    const stalling = await startDouble(image, (end, handle, blocks) => {
      for (const block of blocks) {
        if (answered++ < 3) end.send(encodeBlockFrame(handle, block, image.block(block), false))
      }
    })
    stops.push(stalling.stop)
    const client = await peer()
    const hint = hintOf(stalling.network)
    await client.swarm.openImage(image.id, [hint])
    const filled = client.swarm.fill(image.id)
    await until(() => answered > 3, 'the stall')
    const honest = await replica(image)
    client.swarm.addReplicas(image.id, [honest.hint()])
    await filled
    await expectIdentical(client, image)
    expect(stalling.ends[0]!.closed).toBe(false)
  })

  /** Twenty times as fast as the real one. */
  const hurriedClock: Clock = {
    now: () => systemClock.now(),
    monotonicMs: () => systemClock.monotonicMs() * 20,
    after: (ms, run) => systemClock.after(ms / 20, run)
  }

  const mute: [string, number[]][] = [
    ['never greet', [FRAME.hello, FRAME.open]],
    ['never give the root', [FRAME.open]]
  ]
  for (const [what, frames] of mute) {
    test(`eight that ${what} do not keep an image from opening`, async () => {
      const image = makeImage(25, 20)
      const doubles = await Promise.all(
        Array.from({ length: 8 }, () => startDouble(image, () => {}, { onFrame: frame => frames.includes(frame.type) }))
      )
      for (const double of doubles) stops.push(double.stop)
      const honest = await replica(image)
      const client = await peer({ clock: hurriedClock })
      const hints = [...doubles.map(({ network }) => hintOf(network)), honest.hint()]
      const local = await client.swarm.openImage(image.id, hints, { timeoutMs: 120_000 })
      expect(local.id).toBe(image.id)
      await client.swarm.fill(image.id)
    })
  }

  test('one that has nothing of what it promised is passed over', async () => {
    const image = makeImage(15, 40)
    const empty = await startDouble(image, (end, handle, blocks) => end.send(missingFrame(handle, blocks, 'absent')))
    stops.push(empty.stop)
    const honest = await replica(image)
    const client = await peer()
    const hint = hintOf(empty.network)
    await client.swarm.openImage(image.id, [hint, honest.hint()])
    await client.swarm.fill(image.id)
    await expectIdentical(client, image)
  })
})

describe('limits of this peer', () => {
  test('fetches no faster than it may', async () => {
    const image = makeImage(23, 40, { isZero: () => false })
    const server = await replica(image)
    const client = await peer({ maxDownloadBytesPerSecond: 2e6 })
    await client.swarm.openImage(image.id, [server.hint()])
    const startMs = performance.now()
    await client.swarm.fill(image.id)
    const seconds = (performance.now() - startMs) / 1000
    expect((40 * 65_536) / seconds).toBeLessThan(2e6 * 1.25)
  })

  test('serves no faster than it may', async () => {
    const image = makeImage(24, 40, { isZero: () => false })
    const server = await replica(image, undefined, { maxUploadBytesPerSecond: 2e6 })
    const client = await peer()
    await client.swarm.openImage(image.id, [server.hint()])
    const startMs = performance.now()
    await client.swarm.fill(image.id)
    const seconds = (performance.now() - startMs) / 1000
    expect((40 * 65_536) / seconds).toBeLessThan(2e6 * 1.25)
  })
})

describe('a pool that is full', () => {
  test('demand is delivered without being stored, and a fill says why it stops', async () => {
    const image = makeImage(16, 64, { isZero: () => false })
    const server = await replica(image)
    const { log, lines } = recordingLog()
    const client = await peer({ quotaBytes: 8 * 65_536, log })
    const local = await client.swarm.openImage(image.id, [server.hint()])
    await expect(client.swarm.fill(image.id)).rejects.toMatchObject({ code: 'POOL_FULL' })
    expect(local.local.blocks).toBeLessThanOrEqual(8)
    expect(local.local.blocks).toBeGreaterThan(0)
    for (const block of [60, 61, 60]) {
      const obtained = await client.swarm.want(image.id, block, 'demand')
      expect(obtained).toHaveProperty('bytes')
      expect(Buffer.compare(obtainedBytes(client, obtained), image.block(block))).toBe(0)
    }
    expect(lines.filter(({ level, values }) => level === 'warn' && values.code === 'POOL_FULL').length).toBe(1)
    await expect(client.swarm.want(image.id, 62, 'read-ahead')).rejects.toMatchObject({ code: 'POOL_FULL' })
  })
})

describe('opening and giving up', () => {
  test('an image that nobody has: an error that says whom it asked', async () => {
    const image = makeImage(17, 10)
    const other = await peer()
    const client = await peer()
    const gone = await peer()
    const goneHint = gone.hint()
    await gone.network.stop()
    const opening = client.swarm.openImage(image.id, [other.hint(), goneHint], { timeoutMs: 1500 })
    const error = await opening.catch(cause => cause)
    expect(error).toMatchObject({ code: 'NO_REPLICA' })
    expect(error.message).toContain(other.id)
    expect(error.message).toContain('does not have the image')
    expect(error.message).toContain(gone.id)
  })

  test('a want that is aborted is given up, and one for the same block goes on', async () => {
    const image = makeImage(18, 10)
    const client = await peer()
    await client.images.create(image.rootBytes)
    const stop = new AbortController()
    const given = client.swarm.want(image.id, 1, 'demand', { signal: stop.signal })
    const kept = client.swarm.want(image.id, 1, 'demand')
    given.catch(() => undefined)
    await new Promise(resolve => setTimeout(resolve, 50))
    stop.abort()
    await expect(given).rejects.toMatchObject({ code: 'ABORTED' })
    const server = await replica(image)
    client.swarm.addReplicas(image.id, [server.hint()])
    expect(Buffer.compare(obtainedBytes(client, await kept), image.block(1))).toBe(0)
  })

  test('whoever waits when the swarm stops is told', async () => {
    const image = makeImage(19, 10)
    const client = await peer()
    await client.images.create(image.rootBytes)
    const waiting = client.swarm.want(image.id, 1, 'demand')
    const filling = client.swarm.fill(image.id)
    filling.catch(() => undefined)
    waiting.catch(() => undefined)
    await new Promise(resolve => setTimeout(resolve, 50))
    await client.swarm.stop()
    await expect(waiting).rejects.toMatchObject({ code: 'DISK_CLOSED' })
    await expect(filling).rejects.toMatchObject({ code: 'DISK_CLOSED' })
    await expect(client.swarm.want(image.id, 2, 'demand')).rejects.toMatchObject({ code: 'DISK_CLOSED' })
  })

  test('addresses that may not be called are not', async () => {
    const image = makeImage(20, 10)
    const server = await replica(image)
    const asked: string[] = []
    const client = await peer({
      mayDial: address => {
        asked.push(address.toString())
        return false
      }
    })
    const opening = client.swarm.openImage(image.id, [server.hint()], { timeoutMs: 600 })
    await expect(opening).rejects.toMatchObject({ code: 'NO_REPLICA' })
    expect(asked.length).toBeGreaterThan(0)
    expect(server.network.getConnections()).toHaveLength(0)
  })

  test('a peer that nobody can dial serves over the connection that it made', async () => {
    const image = makeImage(21, 20)
    const hidden = await replica(image, undefined, { listen: false })
    const client = await peer()
    await hidden.network.dial(client.network.getMultiaddrs())
    await client.swarm.openImage(image.id, [{ peer: hidden.id, addresses: [], complete: true }])
    await client.swarm.fill(image.id)
    await expectIdentical(client, image)
  })

  test('blocks asked for by number before their page has come are held back until it has', async () => {
    const image = makeImage(22, 2100)
    const server = await replica(image)
    const client = await peer()
    await client.images.create(image.rootBytes)
    // No page and no top is here; all of these are asked for at once, a zero block among them.
    const wanted = [0, 3, 1, 2050, 2099, 1024]
    const waiting = wanted.map(block => client.swarm.want(image.id, block, 'demand'))
    client.swarm.addReplicas(image.id, [server.hint()])
    for (const [i, block] of wanted.entries()) {
      expect(toHex(obtainedBytes(client, await waiting[i]!).subarray(0, 32))).toBe(
        toHex(image.block(block).subarray(0, 32))
      )
    }
  })
})
