/**
 * The life of the server: its socket file, its exports, its end.
 */
import { existsSync, statSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { COMMAND, OPTION, REPLY } from '../../../src/nbd/protocol.ts'
import { NbdServer } from '../../../src/nbd/server.ts'
import { systemClock } from '../../../src/node/system.ts'
import { temporaryFolder } from '../../tools/folders.ts'
import { MemoryDevice } from '../../tools/memory-device.ts'
import { infoData, NbdClient, requestBytes } from '../../tools/nbd-client.ts'
import { collectingLog, expectGoodService, ManualClock, serve, stopServers } from '../../tools/nbd-fixture.ts'
import { run } from '../../tools/processes.ts'
import { waitUntil } from '../../tools/wait.ts'

const { READ, WRITE } = COMMAND
const MIB = 1024 * 1024

async function expectNotSoon(condition: () => boolean): Promise<void> {
  await expect(waitUntil('nothing', condition, { timeoutMs: 200 })).rejects.toThrow('nothing')
}

afterEach(stopServers)

function makeServer(socketPath: string): NbdServer {
  const exports = { list: () => [], open: () => ({ device: new MemoryDevice(512) }) }
  return new NbdServer(
    { exports, clock: systemClock, log: collectingLog([]) },
    { listeners: [{ kind: 'unix', path: socketPath }] }
  )
}

async function listening(path: string): Promise<Server> {
  const server = createServer()
  await new Promise<void>(resolve => server.listen(path, resolve))
  return server
}

describe('the socket file', () => {
  test('is for its owner alone', async () => {
    const { path } = await serve(new MemoryDevice(512))
    expect(statSync(path).mode & 0o777).toBe(0o600)
    expect(statSync(path).isSocket()).toBe(true)
  })

  test('is removed by stop', async () => {
    const { path, server } = await serve(new MemoryDevice(512))
    await server.stop()
    expect(existsSync(path)).toBe(false)
  })

  test('of a dead process is replaced', async () => {
    const path = join(await temporaryFolder(), 'nbd.sock')
    const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 9))`
    await run(process.execPath, ['-e', script])
    expect(existsSync(path)).toBe(true)
    const server = makeServer(path)
    await server.start()
    await expectGoodService(path)
    await server.stop()
  })

  test('of a live process is left alone: LISTEN_FAILED', async () => {
    const path = join(await temporaryFolder(), 'nbd.sock')
    const other = await listening(path)
    await expect(makeServer(path).start()).rejects.toMatchObject({
      code: 'LISTEN_FAILED',
      message: expect.stringContaining('another process listens')
    })
    expect(existsSync(path)).toBe(true)
    other.close()
  })

  test('is not made in the place of something else: LISTEN_FAILED', async () => {
    const path = join(await temporaryFolder(), 'notes.txt')
    writeFileSync(path, 'mine')
    await expect(makeServer(path).start()).rejects.toMatchObject({ code: 'LISTEN_FAILED' })
    expect(statSync(path).size).toBe(4)
  })

  test('in a folder that does not exist: LISTEN_FAILED', async () => {
    const path = join(await temporaryFolder(), 'nowhere', 'nbd.sock')
    await expect(makeServer(path).start()).rejects.toMatchObject({ code: 'LISTEN_FAILED' })
  })

  test('with a path of 107 bytes works, of 108 is SOCKET_PATH_TOO_LONG before anything else', async () => {
    const folder = await temporaryFolder()
    const path = join(folder, 'x'.repeat(107 - folder.length - 1))
    const server = makeServer(path)
    await server.start()
    await expectGoodService(path)
    await server.stop()
    await expect(makeServer(`${path}x`).start()).rejects.toMatchObject({ code: 'SOCKET_PATH_TOO_LONG' })
    await expect(makeServer(`/nowhere/${'ø'.repeat(50)}`).start()).rejects.toMatchObject({
      code: 'SOCKET_PATH_TOO_LONG',
      message: expect.stringContaining('109 bytes')
    })
  })
})

describe('clients', () => {
  test('are counted by export, from the beginning of transmission to the end', async () => {
    const { path, server } = await serve({ one: new MemoryDevice(512), two: new MemoryDevice(512) })
    const waiting = await NbdClient.connect(path)
    const first = await NbdClient.open(path, 'one')
    const second = await NbdClient.open(path, 'one')
    expect([server.clients('one'), server.clients('two'), server.clients('three')]).toEqual([2, 0, 0])
    await first.disconnect()
    second.destroy()
    await waitUntil('both to be gone', () => server.clients('one') === 0)
    waiting.destroy()
  })

  test('of the default export count under its own name', async () => {
    const { path, server } = await serve(new MemoryDevice(512))
    const client = await NbdClient.open(path, '')
    expect(server.clients('disk')).toBe(1)
    client.destroy()
  })

  test('see exports come and go', async () => {
    const { path, exports } = await serve({ one: new MemoryDevice(512) })
    const client = await NbdClient.connect(path)
    expect((await client.option(OPTION.INFO, infoData('two')))[0]?.type).toBe(REPLY.ERR_UNKNOWN)
    exports.set('two', { device: new MemoryDevice(512) })
    expect((await client.option(OPTION.GO, infoData('two'))).at(-1)?.type).toBe(REPLY.ACK)
  })

  test('are told apart from a failure of ours: it is logged, and ends one connection', async () => {
    const { path, exports, log } = await serve({ one: new MemoryDevice(512) })
    exports.get = () => {
      throw new Error('the machine is on fire')
    }
    const client = await NbdClient.connect(path)
    client.send(Buffer.from('49484156454f505400000007000000090000000374776f0000', 'hex'))
    await client.closed
    expect(log.find(line => line.level === 'warn')?.values).toMatchObject({ code: 'INTERNAL' })
    await expectGoodService(path)
  })
})

describe('close', () => {
  test('ends the connections of its export alone, after what is in flight', async () => {
    const one = new MemoryDevice(4096)
    const { path, server } = await serve({ one, two: new MemoryDevice(4096) })
    one.hold = () => true
    const mine = await NbdClient.open(path, 'one')
    const other = await NbdClient.open(path, 'two')
    const read = mine.request(READ, { length: 512 })
    await waitUntil('the request', () => one.held.length === 1)
    let closed = false
    const closing = server.close('one').then(() => {
      closed = true
    })
    expect((await NbdClient.connect(path).then(client => client.option(OPTION.GO, infoData('one'))))[0]?.type).toBe(
      REPLY.ERR_UNKNOWN
    )
    expect(closed).toBe(false)
    one.releaseAll()
    expect(await read).toMatchObject({ errno: 0 })
    await closing
    await mine.closed
    expect(await other.bytes(0, 512)).toEqual(Buffer.alloc(512))
    one.hold = () => false
    await expectGoodService(path, 'one')
  })

  test('waits for the disk also where the client is gone: it may still read from our buffers', async () => {
    const device = new MemoryDevice(MIB)
    const { path, server, log } = await serve(device)
    device.hold = () => true
    const client = await NbdClient.open(path)
    client.send(requestBytes(READ, 2n, { length: 512 }))
    client.send(requestBytes(WRITE, 1n, { data: Buffer.alloc(200_000, 1) }))
    await waitUntil('both requests', () => device.held.length === 2)
    client.destroy()
    await waitUntil('the client to be gone', () => server.clients('disk') === 0)
    // The reply finds nobody, and that closes the socket.
    device.held.shift()?.release()
    await waitUntil('the broken pipe', () => log.some(line => line.message === 'an NBD connection failed'))
    let closed = false
    const closing = server.close('disk').then(() => {
      closed = true
    })
    await expectNotSoon(() => closed)
    device.releaseAll()
    await closing
    expect(device.bytes[199_999]).toBe(1)
    await waitUntil('the buffers', () => server.bufferBytes.lent === 0)
  })

  test('of an export without clients is done at once', async () => {
    const { server } = await serve(new MemoryDevice(512))
    await server.close('disk')
    await server.close('unknown')
  })
})

describe('stop', () => {
  test('lets requests in flight finish and be answered', async () => {
    const device = new MemoryDevice(8192)
    const { path, server } = await serve(device)
    device.hold = () => true
    const client = await NbdClient.open(path)
    const write = client.request(WRITE, { data: Buffer.alloc(4096, 1) })
    await waitUntil('the request', () => device.held.length === 1)
    const stopped = server.stop()
    await expect(NbdClient.dial(path)).rejects.toThrow()
    device.releaseAll()
    expect(await write).toMatchObject({ errno: 0 })
    await stopped
    await client.closed
    expect(device.bytes[0]).toBe(1)
  })

  test('does not wait longer than it was told to', async () => {
    const device = new MemoryDevice(8192)
    const clock = new ManualClock()
    const { path, server, log } = await serve(device, { clock, limits: { drainTimeoutMs: 5000 } })
    device.hold = () => true
    const client = await NbdClient.open(path)
    client.send(requestBytes(READ, 1n, { length: 512 }))
    await waitUntil('the request', () => device.held.length === 1)
    const stopped = server.stop()
    clock.advance(4999)
    expect(client.isClosed).toBe(false)
    clock.advance(1)
    await stopped
    await client.closed
    expect(log.at(-1)?.level).toBe('warn')
    device.releaseAll()
    await waitUntil('the buffer to come back', () => server.bufferBytes.lent === 0)
  })

  test('does not wait a second time for a read that goes on', async () => {
    const device = new MemoryDevice(8192)
    const clock = new ManualClock()
    const { path, server } = await serve(device, { clock, limits: { drainTimeoutMs: 5000 } })
    device.hold = () => true
    const client = await NbdClient.open(path, 'disk')
    client.send(requestBytes(READ, 1n, { length: 512 }))
    await waitUntil('the request', () => device.held.length === 1)
    const stopped = server.stop()
    clock.advance(5000)
    await stopped
    // As a machine does before it closes its disk; the clock stands still.
    await server.close('disk')
    device.releaseAll()
    await waitUntil('the buffer to come back', () => server.bufferBytes.lent === 0)
  })

  test('ends clients that still negotiate or idle', async () => {
    const { path, server } = await serve(new MemoryDevice(512))
    const clients = [await NbdClient.dial(path), await NbdClient.connect(path), await NbdClient.open(path)]
    await clients[0]?.greeting()
    await server.stop()
    await Promise.all(clients.map(client => client.closed))
  })

  test('leaves no timer behind', async () => {
    const clock = new ManualClock()
    const { path, server } = await serve(new MemoryDevice(512), { clock })
    const client = await NbdClient.open(path)
    const other = await NbdClient.connect(path)
    await server.stop()
    client.destroy()
    other.destroy()
    expect(clock.pending).toBe(0)
  })

  test('of a server that never started, or twice, is nothing', async () => {
    const server = makeServer(join(await temporaryFolder(), 'nbd.sock'))
    await server.stop()
    await server.start()
    await server.stop()
    await server.stop()
  })
})
