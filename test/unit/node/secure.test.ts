/**
 * Noise with kept keys, against the library's own: what one says, the other understands. And what is sent together is one write.
 */
import { KeyObject, randomBytes } from 'node:crypto'
import { createServer, connect as dial, Socket } from 'node:net'
import { Writable } from 'node:stream'
import type { MessageStream, Stream } from '@libp2p/interface'
import { noise } from '@libp2p/noise'
import { defaultCrypto, nodeCrypto } from '@libp2p/noise/crypto'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { inOneWrite, noiseCrypto, rowanNoise } from '../../../src/node/secure.ts'
import { startLibp2p, type TestLibp2p } from '../swarm/support.ts'

const peers: TestLibp2p[] = []

afterEach(async () => {
  vi.restoreAllMocks()
  await Promise.all(peers.splice(0).map(async peer => await peer.stop()))
})

const key = () => new Uint8Array(randomBytes(32))
const NONCE = new Uint8Array(12)
const NOTHING = new Uint8Array(0)

describe('enciphering with keys that are kept', () => {
  test.each([0, 10, 1199, 1200, 65_519])('is what the library does, for %i bytes', size => {
    const k = key()
    const plain = new Uint8Array(randomBytes(size))
    // Twice: the second time with the key's object that the first has made.
    for (const nonce of [NONCE, new Uint8Array(12).fill(7)]) {
      const ours = noiseCrypto.chaCha20Poly1305Encrypt(plain, nonce, NOTHING, k).subarray()
      const theirs = defaultCrypto.chaCha20Poly1305Encrypt(plain, nonce, NOTHING, k).subarray()
      expect(Buffer.compare(ours, theirs)).toBe(0)
      const target = new Uint8Array(size)
      const opened = noiseCrypto.chaCha20Poly1305Decrypt(theirs, nonce, NOTHING, k, target).subarray()
      expect(Buffer.compare(opened, plain)).toBe(0)
    }
  })

  test('refuses what was changed, and what another key made', () => {
    const k = key()
    const plain = new Uint8Array(randomBytes(5000))
    const sealed = Uint8Array.from(noiseCrypto.chaCha20Poly1305Encrypt(plain, NONCE, NOTHING, k).subarray())
    const open = (bytes: Uint8Array, with_: Uint8Array) =>
      noiseCrypto.chaCha20Poly1305Decrypt(bytes, NONCE, NOTHING, with_).subarray()
    expect(Buffer.compare(open(sealed, k), plain)).toBe(0)
    expect(() => open(sealed, key())).toThrow()
    const changed = Uint8Array.from(sealed)
    changed[100]! ^= 1
    expect(() => open(changed, k)).toThrow()
  })
})

describe('a connection', () => {
  const ours = () => startLibp2p(true, rowanNoise())
  const theirs = () => startLibp2p(true, noise())

  test.each([
    ['the library calls', theirs, ours],
    ['the library answers', ours, theirs]
  ])('carries megabytes both ways where %s', async (_, startNear, startFar) => {
    const [near, far] = await Promise.all([startNear(), startFar()])
    peers.push(near, far)
    await far.handle('/echo', stream => stream.addEventListener('message', ({ data }) => void stream.send(data)))
    const stream = await near.dialProtocol(far.getMultiaddrs(), '/echo')
    const message = randomBytes(3_000_000)
    const answer = received(stream, message.byteLength)
    stream.send(message)
    expect(Buffer.compare(await answer, message)).toBe(0)
  })

  /** Sends some megabytes and counts the writes to sockets of this process. */
  async function writesOf(start: typeof ours): Promise<number> {
    const [near, far] = await Promise.all([start(), start()])
    peers.push(near, far)
    const bytes = 3_000_000
    const arrived = Promise.withResolvers<Buffer>()
    await far.handle('/sink', stream => void received(stream, bytes).then(arrived.resolve, arrived.reject))
    const stream = await near.dialProtocol(far.getMultiaddrs(), '/sink')
    const spies = (['_write', '_writev'] as const).map(name => vi.spyOn(Socket.prototype as Writable, name as '_write'))
    stream.send(randomBytes(bytes))
    await arrived.promise
    const writes = spies.reduce((sum, spy) => sum + spy.mock.calls.length, 0)
    for (const spy of spies) spy.mockRestore()
    return writes
  }

  test('takes less than half of the library’s writes', async () => {
    expect(await writesOf(ours)).toBeLessThan((await writesOf(theirs)) / 2)
  })

  test('makes the object of a key once', async () => {
    const enciphered = vi.spyOn(nodeCrypto, 'chaCha20Poly1305Encrypt')
    const deciphered = vi.spyOn(nodeCrypto, 'chaCha20Poly1305Decrypt')
    await writesOf(ours)
    for (const { mock } of [enciphered, deciphered]) {
      const keys = mock.calls.map(([, , , used]) => used as unknown)
      expect(keys.length).toBeGreaterThan(40)
      expect(keys.every(used => used instanceof KeyObject)).toBe(true)
      // One for each way.
      expect(new Set(keys).size).toBeLessThanOrEqual(2)
    }
  })
})

describe('what is sent at once', () => {
  test('is one write to the socket', () => {
    const writes: Buffer[][] = []
    const socket = new Writable({
      writev(chunks, done) {
        writes.push(chunks.map(({ chunk }) => chunk as Buffer))
        done()
      }
    })
    const { sendData } = connectionOver(socket)
    const pieces = [Buffer.of(1), Buffer.of(2, 3), Buffer.alloc(65_519, 4), Buffer.of(5)]
    expect(sendData(pieces)).toEqual({ sentBytes: 65_523, canSendMore: true })
    expect(writes.map(chunks => Buffer.concat(chunks))).toEqual([Buffer.concat(pieces)])
  })

  test('is taken whole by a socket that is full, which says so, and when it has drained', async () => {
    let taken = () => {}
    const socket = new Writable({
      highWaterMark: 1000,
      writev(_, done) {
        taken = done
      }
    })
    const { sendData } = connectionOver(socket)
    expect(sendData([Buffer.alloc(600), Buffer.alloc(600)])).toEqual({ sentBytes: 1200, canSendMore: false })
    const drained = new Promise<void>(resolve => void socket.once('drain', resolve))
    taken()
    await drained
    expect(socket.writableLength).toBe(0)
  })

  test.each([
    ['destroyed', (socket: Socket) => void socket.destroy()],
    ['ended', (socket: Socket) => void socket.end()],
    ['failed', (socket: Socket) => void socket.destroy(new Error('it was reset'))]
  ])('is not followed by more where the socket is %s', async (_, end) => {
    const server = createServer(socket => void socket.on('error', () => {}).resume())
    await new Promise<void>(resolve => void server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as { port: number }
    const socket = dial(port, '127.0.0.1').on('error', () => {})
    await new Promise<void>(resolve => void socket.once('connect', resolve))
    end(socket)
    expect(connectionOver(socket).sendData([Buffer.of(1), Buffer.of(2)]).canSendMore).toBe(false)
    socket.destroy()
    await new Promise<void>(resolve => void server.close(() => resolve()))
  })

  test('goes its own way where the connection is no socket', () => {
    const connection = { sendData: () => ({ sentBytes: 0, canSendMore: true }) }
    const { sendData } = connection
    inOneWrite(connection as unknown as MessageStream)
    expect(connection.sendData).toBe(sendData)
  })
})

function connectionOver(socket: Writable) {
  const connection = { socket, sendData: (_: Iterable<Uint8Array>) => ({ sentBytes: -1, canSendMore: false }) }
  inOneWrite(connection as unknown as MessageStream)
  return connection
}

function received(stream: Stream, bytes: number): Promise<Buffer> {
  const pieces: Uint8Array[] = []
  let left = bytes
  return new Promise((resolve, reject) => {
    stream.addEventListener('message', ({ data }) => {
      pieces.push(data.subarray())
      left -= data.byteLength
      if (left === 0) resolve(Buffer.concat(pieces))
    })
    stream.addEventListener('close', ({ error }) => reject(error ?? new Error('it ended')))
  })
}
