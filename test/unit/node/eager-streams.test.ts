/**
 * Eager streams between real peers, over a line that can hold back everything that one end says: what arrives meanwhile was sent
 * without a round trip.
 */
import { connect, createServer, type Server, type Socket } from 'node:net'
import type { Connection, Stream } from '@libp2p/interface'
import { multiaddrConnectionPair } from '@libp2p/utils'
import { multiaddr } from '@multiformats/multiaddr'
import { afterEach, describe, expect, test } from 'vitest'
import { PROTOCOL } from '../../../src/cluster.ts'
import { rowanMuxer } from '../../../src/node/peer.ts'
import { waitUntil } from '../../tools/wait.ts'
import { startLibp2p, type TestLibp2p } from '../swarm/support.ts'

const peers: TestLibp2p[] = []
const lines: HeldLine[] = []

afterEach(async () => {
  for (const line of lines.splice(0)) line.close()
  await Promise.all(peers.splice(0).map(async peer => await peer.stop()))
})

/** Carries bytes both ways; what comes from the far end can be held. */
class HeldLine {
  readonly #server: Server
  readonly #sockets: Socket[] = []
  readonly #far: Socket[] = []

  constructor(port: number) {
    this.#server = createServer(near => {
      const far = connect(port, '127.0.0.1')
      this.#sockets.push(near, far)
      this.#far.push(far)
      near.on('data', bytes => far.write(bytes)).on('error', () => undefined)
      far.on('data', bytes => near.write(bytes)).on('error', () => undefined)
      near.on('close', () => far.destroy())
      far.on('close', () => near.destroy())
    })
    lines.push(this)
  }

  async listen(): Promise<string> {
    await new Promise<void>(resolve => this.#server.listen(0, '127.0.0.1', resolve))
    return `/ip4/127.0.0.1/tcp/${(this.#server.address() as { port: number }).port}`
  }

  hold(): void {
    for (const far of this.#far) far.pause()
  }

  release(): void {
    for (const far of this.#far) far.resume()
  }

  close(): void {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
  }
}

/** A peer that answers on `protocols` with what it was told, in capitals, and tells `heard` of it. */
async function pair(protocols: readonly string[], heard: (text: string) => void = () => undefined) {
  const far = await startLibp2p()
  const near = await startLibp2p(false)
  peers.push(far, near)
  for (const protocol of protocols) {
    await far.handle(protocol, stream => {
      stream.addEventListener('message', ({ data }) => {
        const text = Buffer.from(data.subarray()).toString()
        heard(text)
        stream.send(Buffer.from(text.toUpperCase()))
      })
      stream.addEventListener('remoteCloseWrite', () => void stream.close())
    })
  }
  const port = Number(/\/tcp\/(\d+)/.exec(far.getMultiaddrs().join(' '))![1])
  const line = new HeldLine(port)
  const connection = await near.dial(multiaddr(`${await line.listen()}/p2p/${far.peerId}`))
  return { line, connection }
}

async function ask(connection: Connection, protocol: string, text: string): Promise<string> {
  const stream = await connection.newStream(protocol)
  stream.send(Buffer.from(text))
  const answer = await answerOf(stream)
  await stream.close()
  return answer
}

function answerOf(stream: Stream): Promise<string> {
  return new Promise((resolve, reject) => {
    stream.addEventListener('message', ({ data }) => resolve(Buffer.from(data.subarray()).toString()), { once: true })
    stream.addEventListener('close', ({ error }) => reject(error ?? new Error('it ended')), { once: true })
  })
}

describe('a stream that this peer opens', () => {
  test.each([PROTOCOL.blocks, PROTOCOL.directory])('carries the first words of %s without waiting', async protocol => {
    const heard = Promise.withResolvers<string>()
    const { line, connection } = await pair([protocol], heard.resolve)
    line.hold()
    const answer = ask(connection, protocol, 'hello')
    expect(await heard.promise).toBe('hello')
    line.release()
    expect(await answer).toBe('HELLO')
  })

  test('waits the first time for whether a peer answers the DHT, and then not again', async () => {
    const heard: string[] = []
    const { line, connection } = await pair([PROTOCOL.dht, PROTOCOL.blocks], text => heard.push(text))
    line.hold()
    const first = ask(connection, PROTOCOL.dht, 'one')
    // What is told over a stream that does not wait is sent after it, and arrives before it.
    const other = ask(connection, PROTOCOL.blocks, 'other')
    await until(() => heard.length > 0)
    expect(heard).toEqual(['other'])
    line.release()
    expect(await Promise.all([first, other])).toEqual(['ONE', 'OTHER'])
    await until(() => connection.streams.every(({ protocol }) => protocol !== PROTOCOL.dht))
    line.hold()
    const second = ask(connection, PROTOCOL.dht, 'two')
    await until(() => heard.includes('two'))
    line.release()
    expect(await second).toBe('TWO')
  })

  test('ends with an error where the peer does not speak its protocol', async () => {
    const { connection } = await pair([PROTOCOL.blocks])
    await expect(ask(connection, PROTOCOL.directory, 'hello')).rejects.toMatchObject({ code: 'PEER_GONE' })
    // The connection is as good as before.
    expect(await ask(connection, PROTOCOL.blocks, 'hello')).toBe('HELLO')
  })

  test('takes the answer off in whatever pieces it comes', async () => {
    const [near, far] = multiaddrConnectionPair()
    const muxer = rowanMuxer()().createStreamMuxer(near)
    const farMuxer = rowanMuxer()().createStreamMuxer(far)
    farMuxer.addEventListener('stream', ({ detail }) => {
      const said = Buffer.from(`\x13/multistream/1.0.0\n\x14${PROTOCOL.blocks}\nand more`)
      const answer = () => {
        for (const byte of said) detail.send(Buffer.of(byte))
      }
      detail.addEventListener('message', answer, { once: true })
    })
    const stream = await muxer.createStream({ protocol: PROTOCOL.blocks })
    let told = ''
    stream.addEventListener('message', ({ data }) => {
      told += Buffer.from(data.subarray()).toString()
    })
    await until(() => told.length >= 'and more'.length)
    expect(told).toBe('and more')
  })
})

async function until(condition: () => boolean): Promise<void> {
  await waitUntil('the answer', condition, { pollMs: 5 })
}
