/**
 * What a client may not do to this process or to other clients: every limit, and what happens at it.
 */
import { afterEach, describe, expect, test } from 'vitest'
import { COMMAND, OPTION, REPLY } from '../../../src/nbd/protocol.ts'
import { MemoryDevice } from '../../tools/memory-device.ts'
import { infoData, NbdClient, optionBytes, requestBytes } from '../../tools/nbd-client.ts'
import { expectGoodService, ManualClock, serve, stopServers } from '../../tools/nbd-fixture.ts'
import { startOwnTime } from '../../tools/own-time.ts'
import { waitUntil } from '../../tools/wait.ts'

const MIB = 1024 * 1024
const { READ, WRITE, FLUSH } = COMMAND

afterEach(stopServers)

/** A condition: the number is above zero and the same as last time. */
function standsStill(number: () => number): () => boolean {
  let before = 0
  return () => {
    const now = number()
    const same = now > 0 && now === before
    before = now
    return same
  }
}

/** A client that takes nothing of what it is sent. */
async function openDeaf(path: string): Promise<NbdClient> {
  const client = await NbdClient.open(path)
  client.socket.pause()
  return client
}

describe('the negotiation', () => {
  test('must be over in time; whoever is in transmission may idle for ever', async () => {
    const clock = new ManualClock()
    const { path, log } = await serve(new MemoryDevice(512), { clock, limits: { negotiationTimeoutMs: 10_000 } })
    const silent = await NbdClient.dial(path)
    const slow = await NbdClient.connect(path)
    const idle = await NbdClient.open(path)
    await slow.option(OPTION.LIST)
    clock.advance(9_999)
    expect((await slow.option(OPTION.LIST)).at(-1)?.type).toBe(REPLY.ACK)
    clock.advance(1)
    await Promise.all([silent.closed, slow.closed])
    expect(log.filter(line => String(line.values.broken).includes('10000 ms'))).toHaveLength(2)
    clock.advance(24 * 3600 * 1000)
    expect(await idle.bytes(0, 512)).toEqual(Buffer.alloc(512))
  })

  test('does not pile up answers for a client that takes none', async () => {
    const names = Object.fromEntries(
      Array.from({ length: 1000 }, (_, index) => [`disk${index}`, new MemoryDevice(512)])
    )
    let asked = 0
    const { path, exports, server } = await serve(names, {
      limits: { maxOptions: 1000 },
      description: 'x'.repeat(1000)
    })
    const get = exports.get.bind(exports)
    exports.get = name => {
      asked += 1
      return get(name)
    }
    const client = await NbdClient.connect(path)
    client.socket.pause()
    client.send(...Array.from({ length: 1000 }, () => optionBytes(OPTION.LIST)))
    await expectGoodService(path)
    // One answer is 1 MB: of the thousand that were asked for, no more are made than the socket takes.
    expect(asked).toBeLessThan(10 * 1000)
    client.socket.resume()
    await client.read(100 * MIB)
    client.destroy()
    expect(server.clients('')).toBe(0)
  })
})

describe('connections', () => {
  test('beyond the limit are turned away, and there is room again when one leaves', async () => {
    const { path } = await serve(new MemoryDevice(512), { limits: { maxConnections: 3 } })
    const clients = [await NbdClient.open(path), await NbdClient.open(path), await NbdClient.open(path)]
    const late = await NbdClient.dial(path)
    await late.closed
    expect(await clients[0]?.bytes(0, 512)).toEqual(Buffer.alloc(512))
    await clients[1]?.disconnect()
    await waitUntil('room', () =>
      expectGoodService(path).then(
        () => true,
        () => false
      )
    )
  })

  test('200 idle ones hold no buffers and do not hurt a good client', async () => {
    const { path, server } = await serve(new MemoryDevice(MIB))
    const idle = []
    for (let count = 0; count < 200; count++) {
      const client = await NbdClient.open(path)
      await client.bytes(0, 4096)
      idle.push(client)
    }
    expect(server.clients('disk')).toBe(200)
    await waitUntil('the buffers', () => server.bufferBytes.lent === 0)
    const good = await NbdClient.open(path)
    const ownMs = startOwnTime()
    for (let count = 0; count < 100; count++) await good.bytes(count * 512, 4096)
    expect(ownMs()).toBeLessThan(5000)
    for (const client of idle) client.destroy()
  })
})

describe('one connection', () => {
  test('has no more requests at the disk than the limit; the rest comes as they finish', async () => {
    const device = new MemoryDevice(MIB)
    device.hold = () => true
    const { path } = await serve(device, { limits: { maxRequestsInFlight: 8 } })
    const client = await NbdClient.open(path)
    const reads = Array.from({ length: 100 }, (_, index) => client.request(READ, { offset: index * 512, length: 512 }))
    await waitUntil('eight requests', () => device.held.length === 8)
    await expect(waitUntil('a ninth', () => device.held.length > 8, { timeoutMs: 200 })).rejects.toThrow('a ninth')
    device.held.shift()?.release()
    await waitUntil('the ninth', () => device.calls.length === 9)
    device.hold = () => false
    device.releaseAll()
    expect((await Promise.all(reads)).every(reply => reply.errno === 0)).toBe(true)
  })

  test('that takes no replies is not read any more, and its memory is bounded', async () => {
    const device = new MemoryDevice(MIB)
    const { path, server } = await serve(device, { limits: { maxQueuedBytes: 2 * MIB } })
    const deaf = await openDeaf(path)
    const bytes = Buffer.concat(
      Array.from({ length: 100 }, (_, index) => requestBytes(READ, BigInt(index), { length: 512 * 1024 }))
    )
    for (let count = 0; count < 100; count++) deaf.send(bytes)
    await waitUntil('the limit', () => device.calls.length >= 3)
    await expectGoodService(path)
    await expectGoodService(path)
    expect(device.calls.length).toBeLessThan(12)
    expect(server.bufferBytes.lent).toBeLessThanOrEqual(8 * MIB)
    deaf.destroy()
    await waitUntil('the buffers', () => server.bufferBytes.lent === 0)
  })

  test.each([
    ['flushes', requestBytes(FLUSH, 1n)],
    ['asks what is refused', requestBytes(READ, 1n, { offset: 2 ** 40, length: 512 })],
    ['writes what is refused', requestBytes(WRITE, 1n, { offset: 2 ** 40, data: Buffer.alloc(512) })]
  ])('that %s and takes no replies is not read any more', async (_what, request) => {
    const device = new MemoryDevice(MIB)
    const { path, server } = await serve(device, { limits: { maxQueuedBytes: 64 * 1024 } })
    const deaf = await openDeaf(path)
    const many = Buffer.concat(Array.from({ length: 10_000 }, () => request))
    for (let count = 0; count < 50; count++) deaf.send(many)
    // What the system takes in both directions is a few hundred KiB; what it does not take stays with the client.
    await waitUntil(
      'it to stand still',
      standsStill(() => deaf.socket.writableLength)
    )
    expect(deaf.socket.writableLength).toBeGreaterThan((50 * many.length) / 2)
    expect(server.bufferBytes.lent).toBeLessThan(MIB)
    await expectGoodService(path)
    deaf.destroy()
  })

  test('that says goodbye and takes none of its last replies does not keep its place', async () => {
    const clock = new ManualClock()
    const { path, server } = await serve(new MemoryDevice(8 * MIB), { clock, limits: { drainTimeoutMs: 1000 } })
    const deaf = await openDeaf(path)
    deaf.send(requestBytes(READ, 1n, { length: 4 * MIB }), requestBytes(COMMAND.DISC, 2n))
    await waitUntil('its goodbye', () => server.clients('disk') === 0 && server.bufferBytes.lent > 0)
    clock.advance(999)
    await expectGoodService(path)
    expect(server.bufferBytes.lent).toBeGreaterThan(0)
    clock.advance(1)
    await waitUntil('its place', () => server.bufferBytes.lent === 0)
    deaf.destroy()
  })

  test('has no more bytes at the disk than the limit', async () => {
    const device = new MemoryDevice(4 * MIB)
    device.hold = () => true
    const { path } = await serve(device, { limits: { maxQueuedBytes: MIB } })
    const client = await NbdClient.open(path)
    const replies = Promise.all([
      client.request(READ, { length: 700_000 }),
      client.request(READ, { length: 700_000 }),
      client.request(WRITE, { data: Buffer.alloc(700_000, 1) }),
      client.request(WRITE, { data: Buffer.alloc(700_000, 2) })
    ])
    for (let count = 1; count <= 4; count++) {
      await waitUntil('a request', () => device.held.length === 1)
      await expect(waitUntil('two', () => device.held.length > 1, { timeoutMs: 100 })).rejects.toThrow('two')
      device.releaseAll()
    }
    expect((await replies).map(reply => reply.errno)).toEqual([0, 0, 0, 0])
  })

  test('may ask for one thing beyond its limit of bytes, alone', async () => {
    const device = new MemoryDevice(4 * MIB)
    const { path } = await serve(device, { limits: { maxQueuedBytes: MIB } })
    const client = await NbdClient.open(path)
    const replies = await Promise.all([
      client.request(READ, { length: 4 * MIB }),
      client.request(WRITE, { data: Buffer.alloc(4 * MIB, 1) }),
      client.request(READ, { length: 4 * MIB })
    ])
    expect(replies.map(reply => reply.errno)).toEqual([0, 0, 0])
    expect(replies[2]?.data.equals(Buffer.alloc(4 * MIB, 1))).toBe(true)
  })

  test('that keeps the disk busy lets the others have their turn', async () => {
    const device = new MemoryDevice(MIB)
    const { path } = await serve(device, { limits: { maxRequestsPerTurn: 16, maxQueuedBytes: 64 * MIB } })
    const greedy = await NbdClient.open(path)
    const good = await NbdClient.open(path)
    const order: string[] = []
    device.fail = call => {
      order.push(call.offset === 0 ? 'greedy' : 'good')
      return undefined
    }
    greedy.send(
      Buffer.concat(Array.from({ length: 2000 }, (_, index) => requestBytes(READ, BigInt(index), { length: 8 })))
    )
    await good.bytes(512, 8)
    await waitUntil('all to be read', () => order.length === 2001)
    expect(order.indexOf('good')).toBeLessThan(1800)
  })
})

describe('all connections together', () => {
  test('do not exceed the memory for buffers, and each has its guaranteed share all the same', async () => {
    const device = new MemoryDevice(4 * MIB)
    const { path, server } = await serve(device, { limits: { maxBufferBytes: 16 * MIB, maxQueuedBytes: 4 * MIB } })
    const deaf = []
    for (let count = 0; count < 20; count++) {
      const client = await openDeaf(path)
      for (let index = 0; index < 4; index++) client.send(requestBytes(READ, BigInt(index), { length: 4 * MIB }))
      deaf.push(client)
    }
    await waitUntil('the pool to be used up', () => server.bufferBytes.lent >= 8 * MIB)
    const good = await NbdClient.open(path)
    const many = Array.from({ length: 128 }, (_, index) => good.request(READ, { offset: index * 4096, length: 4096 }))
    expect((await Promise.all(many)).every(reply => reply.errno === 0)).toBe(true)
    expect((await good.bytes(0, MIB - 4096)).length).toBe(MIB - 4096)
    expect(server.bufferBytes.lent).toBeLessThanOrEqual(18 * MIB)
    const large = good.request(READ, { length: 4 * MIB })
    for (const client of deaf) client.destroy()
    expect(await large).toMatchObject({ errno: 0 })
    await good.disconnect()
    await waitUntil('the buffers', () => server.bufferBytes.lent === 0)
    expect(server.bufferBytes.idle).toBeLessThanOrEqual(32 * MIB)
  })

  test('one that makes no progress gives way to one that waits; one that waits for the disk does not', async () => {
    const device = new MemoryDevice(16 * MIB)
    const clock = new ManualClock()
    const limits = { maxBufferBytes: 16 * MIB, stallTimeoutMs: 10_000, maxQueuedBytes: 8 * MIB }
    const { path, log } = await serve(device, { clock, limits })
    device.hold = call => call.offset === MIB
    const patient = await NbdClient.open(path)
    const slow = patient.request(READ, { offset: MIB, length: 512 })
    const deaf = await openDeaf(path)
    deaf.send(requestBytes(READ, 1n, { length: 8 * MIB }))
    const stuck = await NbdClient.open(path)
    stuck.send(requestBytes(WRITE, 1n, { length: 2 * MIB }), Buffer.alloc(1000))
    await waitUntil('the requests', () => device.calls.length === 2 && device.held.length === 1)
    clock.advance(60_000)
    expect([deaf.isClosed, stuck.isClosed]).toEqual([false, false])
    const good = await NbdClient.open(path)
    const large = good.request(READ, { length: 12 * MIB })
    let answered = false
    large.then(() => {
      answered = true
    })
    await waitUntil('the good one to wait', () => clock.pending === 1)
    clock.advance(9_999)
    await expectGoodService(path)
    expect(answered).toBe(false)
    clock.advance(1)
    device.hold = () => false
    device.releaseAll()
    expect(await large).toMatchObject({ errno: 0 })
    expect(await slow).toMatchObject({ errno: 0 })
    expect(log.filter(line => line.values.code === 'LIMIT_EXCEEDED')).toHaveLength(2)
    for (const client of [patient, deaf, stuck, good]) client.destroy()
  })

  test('answers that are longer than their questions, and are left unread, are bounded by the same memory', async () => {
    const device = new MemoryDevice(2 * MIB)
    for (let at = 0; at < device.sizeBytes; at += 1024) device.bytes.fill(1, at, at + 512)
    const limits = { maxBufferBytes: 4 * MIB, guaranteedBufferBytes: 256 * 1024, stallTimeoutMs: 600_000 }
    const { path, server } = await serve(device, { limits })
    const CLIENTS = 12
    const agree = { mode: 'structured' as const, contexts: ['base:allocation', 'rowan:local'] }
    const deaf: NbdClient[] = []
    for (let index = 0; index < CLIENTS; index++) {
      const client = await NbdClient.open(path, '', [], agree)
      client.socket.pause()
      // One kind of answer is 16 KiB for a question of 28 bytes, the other a sentence.
      const asks = index % 2 === 0 ? { length: 2 * MIB } : { length: 512, offset: 2 ** 40 }
      const ask = requestBytes(COMMAND.BLOCK_STATUS, 1n, asks)
      client.send(Buffer.concat(Array.from({ length: 50_000 }, () => ask)))
      deaf.push(client)
    }
    await waitUntil(
      'all to stand still',
      standsStill(() => server.bufferBytes.lent)
    )
    // Each may have its share, and the sheet that it is at.
    expect(server.bufferBytes.lent).toBeLessThan(4 * MIB + CLIENTS * 2 * 256 * 1024)
    await expectGoodService(path)
    for (const client of deaf) client.destroy()
    await waitUntil('all to be given back', () => server.bufferBytes.lent === 0)
  })

  test('payloads that never come to an end are bounded by the same memory', async () => {
    const device = new MemoryDevice(32 * MIB)
    const { path, server } = await serve(device, { limits: { maxBufferBytes: 16 * MIB } })
    const stuck = []
    for (let count = 0; count < 20; count++) {
      const client = await NbdClient.open(path)
      client.send(requestBytes(WRITE, 1n, { length: 4 * MIB }), Buffer.alloc(100_000))
      stuck.push(client)
    }
    await waitUntil('the pool to be used up', () => server.bufferBytes.lent >= 8 * MIB)
    await expectGoodService(path)
    expect(server.bufferBytes.lent).toBeLessThanOrEqual(17 * MIB)
    expect(device.calls.filter(call => call.operation === 'write')).toEqual([])
    for (const client of stuck) client.destroy()
    await waitUntil('the buffers', () => server.bufferBytes.lent === 0)
  })

  test('come back to nothing after many that leave in the middle of everything', async () => {
    const device = new MemoryDevice(4 * MIB)
    device.hold = call => call.offset % 1024 === 0
    const { path, server } = await serve(device)
    for (let count = 0; count < 50; count++) {
      const client = await NbdClient.open(path)
      client.send(requestBytes(READ, 1n, { offset: count * 512, length: 300_000 }))
      client.send(requestBytes(WRITE, 2n, { offset: count * 512, data: Buffer.alloc(5000) }))
      client.send(requestBytes(WRITE, 5n, { offset: count * 512, data: Buffer.alloc(150_000) }))
      client.send(requestBytes(READ, 3n, { offset: 512, length: MIB }))
      client.send(requestBytes(WRITE, 4n, { length: 100_000 }))
      if (count % 2 === 0) await new Promise(resolve => setImmediate(resolve))
      client.destroy()
    }
    device.hold = () => false
    const answer = await waitUntil('everything to come back', () => {
      device.releaseAll()
      return server.bufferBytes.lent === 0 && server.clients('disk') === 0
    })
    expect(answer).toBe(true)
    await expectGoodService(path)
  })
})

test('GO in the limits of an option: a name of 4,096 bytes is looked up', async () => {
  const { path } = await serve(new MemoryDevice(512))
  const client = await NbdClient.connect(path)
  expect((await client.option(OPTION.GO, infoData('x'.repeat(4096))))[0]?.type).toBe(REPLY.ERR_UNKNOWN)
})
