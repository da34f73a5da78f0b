/**
 * The wire, spoken by hand: what a server and a requester do about those who break the protocol, and about those who use it up.
 */
import { zstdCompressSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { PROTOCOL } from '../../src/cluster.ts'
import type { Clock } from '../../src/environment.ts'
import { RowanError } from '../../src/errors.ts'
import { fromHex } from '../../src/image/hash.ts'
import { systemClock } from '../../src/node/system.ts'
import {
  creditFrame,
  encodeBlockFrame,
  encodeFrame,
  FRAME,
  FRAME_HEADER_BYTES,
  type Frame
} from '../../src/swarm/frames.ts'
import { IDLE_STREAM_MS } from '../../src/swarm/limits.ts'
import * as messages from '../../src/swarm/messages.ts'
import {
  hintOf,
  keepImage,
  makeImage,
  obtainedBytes,
  recordingLog,
  startLibp2p,
  startPeer,
  type TestImage,
  type TestPeer,
  until
} from '../unit/swarm/support.ts'
import { startDouble, WireEnd } from '../unit/swarm/wire-double.ts'

const stops: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})

async function peer(options: Parameters<typeof startPeer>[0] = {}): Promise<TestPeer> {
  const started = await startPeer(options)
  stops.push(() => started.stop())
  return started
}

async function replica(image: TestImage, options = {}): Promise<TestPeer> {
  const started = await peer(options)
  await keepImage(started, image)
  return started
}

/** A requester that the test speaks for, greeted. */
async function requester(server: TestPeer, options: { greet?: boolean } = {}): Promise<WireEnd> {
  const network = await startLibp2p(false)
  stops.push(async () => network.stop())
  const connection = await network.dial(server.network.getMultiaddrs())
  const end = new WireEnd(await connection.newStream(PROTOCOL.blocks), 'server')
  if (options.greet === false) return end
  end.send(messages.helloFrame('test', 0))
  await end.next(FRAME.hello)
  return end
}

const HANDLE = 5

async function opened(server: TestPeer, image: TestImage): Promise<WireEnd> {
  const end = await requester(server)
  end.send(messages.openFrame(HANDLE, fromHex(image.id), messages.OPEN_INDEX.top))
  await end.next(FRAME.image)
  return end
}

async function expectEnded(end: WireEnd, code: string): Promise<void> {
  await until(() => end.closed, 'the stream to be ended')
  const problems = end.ofType(FRAME.problem).map(frame => messages.readProblem(frame).code)
  expect(problems).toEqual([code])
}

describe('a server', () => {
  test('answers each block that is asked for exactly once', async () => {
    const image = makeImage(1, 40)
    const server = await replica(image)
    const end = await opened(server, image)
    end.send(messages.wantFrame(HANDLE, [0, 1, 3, 1], 0, false), messages.raiseFrame(HANDLE, [0, 1], [], 0))
    end.send(messages.cancelFrame(HANDLE, [0]))
    await end.next(FRAME.block, 2)
    const missing = messages.readMissing(await end.next(FRAME.missing))
    expect(missing).toEqual({ blocks: [3], reason: 'zero' })
    end.send(messages.wantFrame(HANDLE, [5], 0, false))
    await end.next(FRAME.block, 3)
    expect(end.ofType(FRAME.block).map(frame => frame.number)).toEqual([0, 1, 5])
    expect(Buffer.compare(end.ofType(FRAME.block)[2]!.body, image.block(5))).toBe(0)
  })

  test('says that what was called off does not come', async () => {
    const image = makeImage(2, 200, { isZero: () => false })
    const server = await replica(image, { maxUploadBytesPerSecond: 2e6 })
    const end = await opened(server, image)
    const blocks = Array.from({ length: 200 }, (_, n) => n)
    end.send(messages.wantFrame(HANDLE, blocks, 3, false), messages.cancelFrame(HANDLE, blocks))
    await until(() => end.ofType(FRAME.missing).length > 0, 'the cancelled blocks')
    const cancelled = messages.readMissing(end.ofType(FRAME.missing)[0]!)
    expect(cancelled.reason).toBe('cancelled')
    await until(() => end.ofType(FRAME.block).length + cancelled.blocks.length === 200, 'all answers')
  })

  test('compresses when it may and when that helps', async () => {
    const image = makeImage(3, 4, { compressible: true, isZero: () => false })
    const server = await replica(image)
    const end = await opened(server, image)
    end.send(messages.wantFrame(HANDLE, [0], 0, true), messages.wantFrame(HANDLE, [1], 0, false))
    await end.next(FRAME.block, 2)
    const [first, second] = end.ofType(FRAME.block)
    expect(first!.flags).toBe(1)
    expect(first!.body.byteLength).toBeLessThan(10_000)
    expect(second!.flags).toBe(0)
  })

  test('serves demand before what is less urgent, whoever asks', async () => {
    const image = makeImage(4, 300, { isZero: () => false })
    const server = await replica(image, { maxUploadBytesPerSecond: 8e6 })
    const filler = await opened(server, image)
    filler.send(
      messages.wantFrame(
        HANDLE,
        Array.from({ length: 300 }, (_, n) => n),
        3,
        false
      )
    )
    await filler.next(FRAME.block)
    const guest = await opened(server, image)
    guest.send(messages.wantFrame(HANDLE, [299], 0, false))
    await guest.next(FRAME.block)
    expect(filler.ofType(FRAME.block).length).toBeLessThan(150)
  })

  test('sends what no guest waits for as far as its requester lets it, and the rest at once', async () => {
    const image = makeImage(13, 20, { isZero: () => false })
    const server = await replica(image)
    const end = await opened(server, image)
    const numbers = () => end.ofType(FRAME.block).map(frame => frame.number)
    const frameBytes = FRAME_HEADER_BYTES + image.block(0).byteLength
    end.send(creditFrame(2 * frameBytes), messages.wantFrame(HANDLE, [0, 1, 2, 3], 3, false))
    await end.next(FRAME.block, 2)
    end.send(messages.wantFrame(HANDLE, [10], 0, false))
    await end.next(FRAME.block, 3)
    // One that waits for credit, whether it was read already or not, is sent when a guest begins to wait for it.
    end.send(messages.raiseFrame(HANDLE, [2], [], 0), messages.wantFrame(HANDLE, [11], 0, false))
    await end.next(FRAME.block, 5)
    expect(numbers()).toEqual([0, 1, 10, 2, 11])
    // Three were sent beyond what was granted.
    end.send(creditFrame(4 * frameBytes - 1), messages.wantFrame(HANDLE, [12], 0, false))
    await end.next(FRAME.block, 6)
    end.send(creditFrame(frameBytes + 1))
    await end.next(FRAME.block, 7)
    expect(numbers()).toEqual([0, 1, 10, 2, 11, 12, 3])
  })

  describe('that is full', () => {
    const image = makeImage(34, 20, { isZero: () => false })
    const frameBytes = FRAME_HEADER_BYTES + image.block(0).byteLength
    let laterMs: number

    /** With one place, and a requester on it whose block waits for credit. */
    async function full() {
      laterMs = 0
      const clock: Clock = {
        now: () => systemClock.now(),
        monotonicMs: () => systemClock.monotonicMs() + laterMs,
        after: (delayMs, run) => systemClock.after(delayMs, run)
      }
      const server = await replica(image, { clock, maxPeers: 1 })
      const holder = await opened(server, image)
      holder.send(creditFrame(1), messages.wantFrame(HANDLE, [0, 1], 3, false))
      await until(() => server.swarm.served()[0]!.queued === 1, 'a block to wait for credit')
      return { server, holder }
    }

    test('gives the place of whoever was sent nothing for long to a newcomer, whatever it asked for', async () => {
      const { server, holder } = await full()
      laterMs += IDLE_STREAM_MS
      await opened(server, image)
      await until(() => holder.closed, 'the one before to be sent away')
    })

    test('leaves its place to whoever was sent something, however long ago it asked for that', async () => {
      const { server, holder } = await full()
      laterMs += IDLE_STREAM_MS / 2
      holder.send(creditFrame(frameBytes))
      await holder.next(FRAME.block)
      laterMs += IDLE_STREAM_MS / 2
      const newcomer = await requester(server)
      newcomer.send(messages.openFrame(HANDLE, fromHex(image.id), messages.OPEN_INDEX.top))
      await newcomer.next(FRAME.busy)
      expect(holder.closed).toBe(false)
    })
  })

  describe('that reads from a slow disk', () => {
    const image = makeImage(31, 40, { isZero: () => false })

    /** A server that was slow once, so that its reads are asynchronous; they wait for `go`. */
    async function slow() {
      let ms = 0
      const clock: Clock = {
        now: () => systemClock.now(),
        monotonicMs: () => (ms += 5),
        after: (delayMs, run) => systemClock.after(delayMs, run)
      }
      const server = await replica(image, { clock })
      const local = (await server.images.open(image.id))!
      const { promise: disk, resolve: go } = Promise.withResolvers<void>()
      let reading = 0
      const verified = local.verified.bind(local)
      local.verified = async block => {
        reading++
        await disk
        return verified(block)
      }
      const end = await opened(server, image)
      end.send(messages.wantFrame(HANDLE, [0], 0, false))
      await end.next(FRAME.block)
      const begins = () => until(() => reading > 0, 'a read to begin')
      return { end, begins, go }
    }

    /** All that was sent before it was handled when its answer comes. */
    async function handled(end: WireEnd): Promise<void> {
      const answers = end.ofType(FRAME.nodes).length
      end.send(messages.getNodesFrame(HANDLE, [{ level: 0, position: 0 }], 0))
      await end.next(FRAME.nodes, answers + 1)
    }

    test('sends what a guest has come to wait for meanwhile without credit', async () => {
      const { end, begins, go } = await slow()
      end.send(creditFrame(1), messages.wantFrame(HANDLE, [1], 3, false))
      await begins()
      end.send(messages.raiseFrame(HANDLE, [1], [], 0))
      await handled(end)
      go()
      expect((await end.next(FRAME.block, 2)).number).toBe(1)
    })

    test('does not send what was called off meanwhile', async () => {
      const { end, begins, go } = await slow()
      end.send(messages.wantFrame(HANDLE, [1], 3, false))
      await begins()
      end.send(messages.cancelFrame(HANDLE, [1]))
      expect(messages.readMissing(await end.next(FRAME.missing))).toEqual({ blocks: [1], reason: 'cancelled' })
      go()
      end.send(messages.wantFrame(HANDLE, [2], 3, false))
      expect((await end.next(FRAME.block, 2)).number).toBe(2)
    })

    test('sends what is called off and wanted again exactly once', async () => {
      const { end, begins, go } = await slow()
      end.send(messages.wantFrame(HANDLE, [1], 3, false))
      await begins()
      end.send(messages.cancelFrame(HANDLE, [1]), messages.wantFrame(HANDLE, [1], 0, false))
      await end.next(FRAME.missing)
      go()
      await end.next(FRAME.block, 2)
      end.send(messages.wantFrame(HANDLE, [2], 0, false))
      await end.next(FRAME.block, 3)
      expect(end.ofType(FRAME.block).map(frame => frame.number)).toEqual([0, 1, 2])
    })
  })

  test('reads what a guest has come to wait for past what waits for credit', async () => {
    const image = makeImage(33, 20, { isZero: () => false })
    const server = await replica(image)
    const end = await opened(server, image)
    end.send(creditFrame(1), messages.wantFrame(HANDLE, [0, 1], 3, false))
    await until(() => server.swarm.served()[0]!.queued === 1, 'a block to wait for credit')
    end.send(messages.raiseFrame(HANDLE, [1], [], 0))
    expect((await end.next(FRAME.block)).number).toBe(1)
  })

  test('holds nothing for credit that was called off, or whose image was given up', async () => {
    const image = makeImage(32, 20, { isZero: () => false })
    const server = await replica(image)
    const end = await opened(server, image)
    const queued = () => server.swarm.served()[0]!.queued
    // One block waits for credit, and keeps others from being read.
    end.send(creditFrame(1), messages.wantFrame(HANDLE, [0, 1], 3, false))
    await until(() => queued() === 1, 'a block to wait for credit')
    end.send(messages.cancelFrame(HANDLE, [0]))
    expect(messages.readMissing(await end.next(FRAME.missing))).toEqual({ blocks: [0], reason: 'cancelled' })
    await until(() => queued() === 0, 'the next one to be read')
    end.send(messages.openFrame(HANDLE + 1, fromHex(image.id), messages.OPEN_INDEX.top))
    end.send(encodeFrame(FRAME.release, HANDLE, new Uint8Array(0)))
    end.send(messages.wantFrame(HANDLE + 1, [2], 3, false))
    await end.next(FRAME.image, 2)
    await until(() => queued() === 0, 'the one of the other image to be read')
    end.send(creditFrame(FRAME_HEADER_BYTES + image.block(2).byteLength))
    const sent = await end.next(FRAME.block)
    expect([sent.handle, sent.number]).toEqual([HANDLE + 1, 2])
  })

  describe('with a queue that waits for its upload rate', () => {
    const large = makeImage(20, 70 * 1024, { isZero: n => n % 1024 !== 0 })
    const small = makeImage(21, 4)
    const pages = Array.from({ length: 64 }, (_, position) => ({ level: 0, position }))
    let thrown: unknown[]
    let server: TestPeer
    let end: WireEnd

    beforeEach(async () => {
      thrown = []
      const after: Clock['after'] = (delayMs, run) =>
        systemClock.after(delayMs, () => {
          try {
            run()
          } catch (error) {
            thrown.push(error)
          }
        })
      server = await replica(large, { maxUploadBytesPerSecond: 1e6, clock: { ...systemClock, after } })
      await keepImage(server, small)
      end = await opened(server, large)
      // More than may go out at once.
      end.send(messages.wantFrame(HANDLE, [0, 1024, 2048], 0, false), messages.getNodesFrame(HANDLE, pages, 1))
      await until(() => server.swarm.served()[0]?.queued === pages.length, 'the nodes to wait')
    })

    test('takes nothing that was asked of one image for another that gets its handle', async () => {
      end.send(encodeFrame(FRAME.release, HANDLE, new Uint8Array(0)))
      end.send(messages.openFrame(HANDLE, fromHex(small.id), messages.OPEN_INDEX.top))
      await end.next(FRAME.image, 2)
      end.send(messages.wantFrame(HANDLE, [1], 3, false))
      const sent = await end.next(FRAME.block, 4)
      expect(Buffer.compare(sent.body, small.block(1))).toBe(0)
      expect(thrown).toEqual([])
      expect(end.ofType(FRAME.nodes)).toEqual([])
    })

    test('says that a node does not come which the catalog cannot read, and goes on', async () => {
      const local = (await server.images.open(large.id))!
      const nodeBytes = local.nodeBytes.bind(local)
      local.nodeBytes = (level, position) => {
        if (position === 3) throw new RowanError('STORE_IO', 'the catalog failed')
        return nodeBytes(level, position)
      }
      await end.next(FRAME.nodes, pages.length)
      const answers = end.ofType(FRAME.nodes).map(frame => messages.readNodes(frame))
      expect(answers.flatMap(({ missing }) => missing)).toEqual([{ level: 0, position: 3 }])
      expect(thrown).toEqual([])
    })
  })

  test('of an image that is not here: says so, and that its blocks are missing', async () => {
    const image = makeImage(5, 4)
    const server = await peer()
    const end = await requester(server)
    end.send(messages.openFrame(HANDLE, fromHex(image.id), 0), messages.wantFrame(HANDLE, [1, 2], 0, false))
    expect(messages.readImage(await end.next(FRAME.image)).root.byteLength).toBe(0)
    expect(messages.readMissing(await end.next(FRAME.missing))).toEqual({ blocks: [1, 2], reason: 'absent' })
  })

  test('a requester that never reads ties up a bounded number of bytes, and nobody else', async () => {
    const image = makeImage(6, 1000, { isZero: () => false })
    const server = await replica(image)
    const deaf = await opened(server, image)
    deaf.stream.pause()
    for (let first = 0; first < 1000; first += 500) {
      const blocks = Array.from({ length: 500 }, (_, n) => first + n)
      deaf.send(messages.wantFrame(HANDLE, blocks, 0, false))
    }
    await until(() => (server.swarm.served()[0]?.queued ?? 0) > 0, 'requests to be queued')
    let servedBytes = -1
    await until(() => {
      // Until its window is full, and nothing more is sent.
      const now = server.swarm.served()[0]!.servedBytes
      const isStill = now === servedBytes && now > 0
      servedBytes = now
      return isStill
    }, 'the server to stop')
    await new Promise(resolve => setTimeout(resolve, 300))
    const [view] = server.swarm.served()
    expect(view!.unsentBytes).toBeLessThan(1024 * 1024)
    expect(view!.queued).toBeGreaterThan(500)
    expect(view!.servedBytes).toBeLessThan(24 * 1024 * 1024)
    const other = await opened(server, image)
    other.send(messages.wantFrame(HANDLE, [7], 3, false))
    await other.next(FRAME.block)
  })

  test('a flood of requests is bounded: what is too much is refused', async () => {
    const image = makeImage(8, 3000, { isZero: () => false, same: true })
    const server = await replica(image, { maxUploadBytesPerSecond: 1e6 })
    const end = await opened(server, image)
    for (let first = 0; first < 3000; first += 500) {
      const blocks = Array.from({ length: 500 }, (_, n) => first + n)
      end.send(messages.wantFrame(HANDLE, blocks, 3, false))
    }
    await until(() => end.ofType(FRAME.missing).length >= 3, 'refusals')
    const refused = end.ofType(FRAME.missing).flatMap(frame => messages.readMissing(frame))
    expect(refused.every(({ reason }) => reason === 'refused')).toBe(true)
    expect(server.swarm.served()[0]!.queued).toBeLessThanOrEqual(1024)
  })

  const wrong: [string, string, (image: TestImage) => Uint8Array][] = [
    ['an unknown type', 'WIRE_INVALID', () => Buffer.alloc(FRAME_HEADER_BYTES, 0xee)],
    [
      'a frame too long for its type',
      'WIRE_INVALID',
      () => {
        const frame = messages.wantFrame(HANDLE, [1], 0, false)
        new DataView(frame.buffer, frame.byteOffset).setUint32(8, 2 ** 31)
        return frame
      }
    ],
    ['a frame that only servers send', 'WIRE_INVALID', () => messages.missingFrame(HANDLE, [1], 'absent')],
    ['a second HELLO', 'WIRE_INVALID', () => messages.helloFrame('again', 0)],
    ['a handle that is not open', 'WIRE_INVALID', () => messages.wantFrame(77, [1], 0, false)],
    ['a handle that is open already', 'WIRE_INVALID', image => messages.openFrame(HANDLE, fromHex(image.id), 0)],
    ['a block outside the image', 'WIRE_INVALID', () => messages.wantFrame(HANDLE, [10], 0, false)],
    ['a node outside the image', 'WIRE_INVALID', () => messages.getNodesFrame(HANDLE, [{ level: 1, position: 0 }], 0)],
    ['a record that was not announced', 'WIRE_INVALID', () => encodeFrame(FRAME.record, 0, new Uint8Array(10))],
    ['a body that is no message', 'WIRE_INVALID', () => encodeFrame(FRAME.want, HANDLE, Buffer.alloc(20, 0xff))]
  ]
  for (const [what, code, frame] of wrong) {
    test(`ends a stream with ${what}, says why, and goes on with others`, async () => {
      const image = makeImage(9, 10)
      const server = await replica(image)
      const good = await opened(server, image)
      const bad = await opened(server, image)
      bad.send(frame(image))
      await expectEnded(bad, code)
      good.send(messages.wantFrame(HANDLE, [1], 0, false))
      await good.next(FRAME.block)
    })
  }

  test('does not talk to whoever does not greet', async () => {
    const server = await peer()
    const end = await requester(server, { greet: false })
    end.send(messages.openFrame(1, new Uint8Array(32), 0))
    await expectEnded(end, 'WIRE_INVALID')
  })

  test('bounds the images of one stream', async () => {
    const server = await peer()
    const end = await requester(server)
    for (let handle = 1; handle <= 65; handle++) end.send(messages.openFrame(handle, new Uint8Array(32), 0))
    await expectEnded(end, 'LIMIT_EXCEEDED')
  })

  test('that is full sends a requester to other replicas, and that one goes there', async () => {
    const image = makeImage(10, 30)
    const other = await replica(image)
    const full = await replica(image, { maxPeers: 1 })
    full.swarm.addReplicas(image.id, [other.hint()])
    await opened(full, image)
    const client = await peer()
    await client.swarm.openImage(image.id, [full.hint()])
    await client.swarm.fill(image.id)
    expect(Object.keys(client.swarm.transfers(image.id).perPeer)).toEqual([other.id])
  })
})

describe('the greeting', () => {
  function exchange(records: Uint8Array[]) {
    const received: { peer: string; record: Uint8Array }[] = []
    return {
      received,
      offer: () => records,
      receive: async (from: string, record: Uint8Array) => {
        received.push({ peer: from, record })
        if (record[0] === 0) throw new Error('of no use')
      }
    }
  }

  test('passes signed records both ways, and a refused one does no harm', async () => {
    const image = makeImage(11, 10)
    const a = exchange([new Uint8Array([1, 2]), new Uint8Array([0])])
    const b = exchange([new Uint8Array([3])])
    const server = await replica(image, { records: a })
    const client = await peer({ records: b })
    await client.swarm.openImage(image.id, [server.hint()])
    await until(() => a.received.length === 1 && b.received.length === 2, 'the records')
    expect(a.received[0]).toMatchObject({ peer: client.id })
    expect([...b.received[0]!.record]).toEqual([1, 2])
    await client.swarm.fill(image.id)
  })

  test('is bounded in number and bytes', async () => {
    const image = makeImage(12, 10)
    const a = exchange(Array.from({ length: 40 }, () => new Uint8Array(100_000).fill(1)))
    const server = await replica(image, { records: a })
    const b = exchange([])
    const client = await peer({ records: b })
    await client.swarm.openImage(image.id, [server.hint()])
    await client.swarm.fill(image.id)
    await until(() => b.received.length === 10, 'the records that fit')
  })
})

describe('a requester', () => {
  async function against(
    image: TestImage,
    onWant: Parameters<typeof startDouble>[1],
    options: Parameters<typeof startDouble>[2] = {}
  ) {
    const double = await startDouble(image, onWant, options)
    stops.push(double.stop)
    const { log, lines } = recordingLog()
    const honest = await replica(image)
    const client = await peer({ log })
    return { double, honest, client, lines, hint: hintOf(double.network) }
  }

  async function recovers(setup: Awaited<ReturnType<typeof against>>, image: TestImage): Promise<void> {
    const { client, honest } = setup
    client.swarm.addReplicas(image.id, [honest.hint()])
    const obtained = await client.swarm.want(image.id, 1, 'demand')
    expect(Buffer.compare(obtainedBytes(client, obtained), image.block(1))).toBe(0)
  }

  const image = makeImage(20, 30, { isZero: () => false })

  const lies: [string, (block: number) => Uint8Array][] = [
    [
      'a compressed bomb',
      block => encodeBlockFrame(1, block, zstdCompressSync(new Uint8Array(32 * 1024 * 1024)), true)
    ],
    ['a compressed block that is no zstd', block => encodeBlockFrame(1, block, new Uint8Array(500).fill(7), true)],
    ['a block that is too short', block => encodeBlockFrame(1, block, new Uint8Array(500), false)],
    ['another block of the same image', block => encodeBlockFrame(1, block, image.block(block + 1), false)]
  ]
  for (const [what, answer] of lies) {
    test(`never asks again whoever sends ${what}`, async () => {
      const setup = await against(image, (end, _handle, blocks) => end.send(answer(blocks[0]!)))
      const { client, lines, hint, double } = setup
      await client.swarm.openImage(image.id, [hint])
      const waiting = client.swarm.want(image.id, 1, 'demand')
      await until(() => lines.some(({ values }) => values.code === 'BLOCK_INVALID'), 'the lie to be noticed')
      await recovers(setup, image)
      await waiting
      client.swarm.addReplicas(image.id, [hint])
      await client.swarm.fill(image.id)
      expect(double.ends).toHaveLength(1)
      expect(client.swarm.transfers(image.id).perPeer[hint.peer]?.blocks ?? 0).toBe(0)
    })
  }

  const breaches: [string, Uint8Array][] = [
    ['a block that was not asked for', encodeBlockFrame(1, 29, image.block(29), false)],
    ['a block of an unknown handle', encodeBlockFrame(9, 1, image.block(1), false)],
    ['MISSING for what was not asked for', messages.missingFrame(1, [28], 'absent')],
    [
      'a node that was not asked for',
      messages.nodesFrame(1, [{ level: 0, position: 0, bytes: image.nodes[0]![1] }], [])
    ],
    [
      'a second IMAGE',
      messages.imageFrame(1, { root: image.rootBytes, top: new Uint8Array(0), complete: true, follow: 0 })
    ],
    ['a frame of an unknown type', Buffer.alloc(FRAME_HEADER_BYTES, 0xee)],
    ['a frame that only requesters send', messages.cancelFrame(1, [1])]
  ]
  for (const [what, frame] of breaches) {
    test(`ends the stream of whoever sends ${what}`, async () => {
      const setup = await against(image, end => end.send(frame))
      const { client, hint, double } = setup
      await client.swarm.openImage(image.id, [hint])
      const waiting = client.swarm.want(image.id, 1, 'demand')
      await until(() => double.ends[0]!.closed, 'the stream to be ended')
      expect(double.ends[0]!.ofType(FRAME.problem).map(problem => messages.readProblem(problem).code)).toEqual([
        'WIRE_INVALID'
      ])
      await recovers(setup, image)
      await waiting
    })
  }

  test('drops whoever gives another root than that of the image', async () => {
    const other = makeImage(21, 30)
    const answer = { root: other.rootBytes, top: new Uint8Array(0), complete: true, follow: 0 }
    const setup = await against(image, () => {}, {
      onFrame: (frame: Frame, end) => {
        if (frame.type !== FRAME.open) return false
        end.send(messages.imageFrame(frame.handle, answer))
        return true
      }
    })
    const { client, hint, lines, honest, double } = setup
    await client.swarm.openImage(image.id, [hint, honest.hint()])
    await until(() => lines.some(({ values }) => values.code === 'INDEX_INVALID'), 'the lie to be noticed')
    await recovers(setup, image)
    expect(double.ends).toHaveLength(1)
  })

  test('drops whoever gives a wrong node, and gets it from another', async () => {
    const large = makeImage(22, 1100, { isZero: n => n > 3 && n < 1090 })
    const setup = await against(large, () => {}, {
      onFrame: (frame: Frame, end) => {
        if (frame.type !== FRAME.getNodes) return false
        const parts = messages.readGetNodes(frame).refs.map(ref => ({ ...ref, bytes: large.nodes.at(-1)![1] }))
        end.send(messages.nodesFrame(frame.handle, parts, []))
        return true
      }
    })
    const { client, hint, lines } = setup
    await client.swarm.openImage(large.id, [hint])
    const waiting = client.swarm.want(large.id, 1095, 'demand')
    await until(() => lines.some(({ values }) => values.code === 'INDEX_INVALID'), 'the lie to be noticed')
    await recovers(setup, large)
    expect(Buffer.compare(obtainedBytes(client, await waiting), large.block(1095))).toBe(0)
  })

  test('stays bounded under a storm of HAVE and BUSY', async () => {
    const pages = Array.from({ length: 1000 }, (_, page) => ({
      page: page * 1000,
      bitmap: new Uint8Array(128).fill(255)
    }))
    const others = Array.from({ length: 16 }, (_, n) => ({ peer: `nobody${n}`, addresses: ['/ip4/127.0.0.1/tcp/1'] }))
    const setup = await against(image, (end, handle) => {
      for (let n = 0; n < 50; n++)
        end.send(messages.haveFrame(handle, false, pages), messages.busyFrame(others, 2 ** 31))
    })
    const { client, hint } = setup
    await client.swarm.openImage(image.id, [hint])
    const waiting = client.swarm.want(image.id, 1, 'demand')
    await recovers(setup, image)
    await waiting
  })

  test('one that takes requests and goes on talking without an answer does not keep a guest from other replicas', async () => {
    const talkers = new Set<ReturnType<typeof setInterval>>()
    const setup = await against(image, (end, handle) => {
      if (talkers.size > 0) return
      talkers.add(setInterval(() => end.closed || end.send(messages.haveFrame(handle, true, [])), 50))
    })
    stops.push(async () => talkers.forEach(clearInterval))
    const { client, honest, double, hint } = setup
    await client.swarm.openImage(image.id, [hint])
    // More at once than there may be duplicates of.
    const guests = Array.from({ length: image.blocks }, (_, block) => client.swarm.want(image.id, block, 'demand'))
    await until(() => talkers.size > 0, 'the first request')
    client.swarm.addReplicas(image.id, [honest.hint()])
    await Promise.all(guests)
    expect(client.swarm.transfers(image.id).perPeer[double.network.peerId.toString()]?.blocks ?? 0).toBe(0)
  })
})
