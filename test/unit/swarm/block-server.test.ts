import type { Connection, Stream } from '@libp2p/interface'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { beforeEach, describe, expect, test } from 'vitest'
import type { RowanError } from '../../../src/errors.ts'
import { BlockServer, type BlockServerComponents } from '../../../src/swarm/block-server.ts'
import { FRAME } from '../../../src/swarm/frames.ts'
import { GREETING_TIMEOUT_MS, IDLE_STREAM_MS, MAX_NETWORK_SHARE } from '../../../src/swarm/limits.ts'
import { helloFrame, OPEN_INDEX, openFrame } from '../../../src/swarm/messages.ts'
import { MIN_RELAYED_BYTES } from '../../../src/swarm/relayed.ts'
import { UNLIMITED_TRAFFIC } from '../../../src/swarm/traffic-limits.ts'
import { ManualClock } from '../release/support/clock.ts'
import { silentLog } from './support.ts'

const MAX_PEERS = 24
const AT_HOME = '/ip4/192.168.7.7/tcp/1'
const RELAY = '12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN'

/** A stream whose other end says nothing by itself. */
class SilentStream extends EventTarget {
  readonly writableNeedsDrain = false
  readonly writeBufferLength = 0
  readonly readStatus = 'readable'
  readonly writeStatus = 'writable'
  maxReadBufferLength = 0
  why: RowanError | undefined
  isClosed = false

  readonly sent: number[] = []

  send(frame: Uint8Array) {
    this.sent.push(frame[0]!)
    return true
  }

  /** The other end says hello, and what it wants. */
  ask() {
    const frames = Buffer.concat([helloFrame('test', 0), openFrame(1, new Uint8Array(32), OPEN_INDEX.top)])
    this.dispatchEvent(Object.assign(new Event('message'), { data: frames }))
  }
  pause() {}
  resume() {}
  async close() {
    this.isClosed = true
  }
  abort(error: RowanError) {
    this.why = error
  }
}

describe('requesters that want to be served', () => {
  let accept: (stream: Stream, connection: Connection) => void
  let clock: ManualClock
  let server: BlockServer

  beforeEach(async () => {
    clock = new ManualClock()
    const libp2p = {
      handle: async (_protocol: string, handler: typeof accept) => {
        accept = handler
      },
      unhandle: async () => {}
    }
    const components = {
      ...{ libp2p, clock, log: silentLog, records: undefined, pool: {} },
      images: { open: async () => undefined },
      openedImage: () => undefined,
      isDonated: () => true,
      others: () => [],
      isNear: (address: Multiaddr) => address.toString() === AT_HOME
    } as unknown as BlockServerComponents
    server = new BlockServer(components, { maxPeers: MAX_PEERS })
    await server.start()
  })

  function come(peer: string, options: { limits?: Connection['limits']; from?: string } = {}): SilentStream {
    const { limits, from = '/ip4/192.168.1.9/tcp/1' } = options
    const stream = new SilentStream()
    const connection = { remotePeer: { toString: () => peer }, remoteAddr: multiaddr(from), limits }
    accept(stream as unknown as Stream, connection as unknown as Connection)
    return stream
  }

  test('and say nothing are bounded, and sent away after a while', () => {
    const first = Array.from({ length: 64 }, (_, n) => come(`peer ${n}`))
    expect(first.some(({ why }) => why !== undefined)).toBe(false)
    expect(come('one too many').why).toMatchObject({ code: 'LIMIT_EXCEEDED' })
    clock.advance(GREETING_TIMEOUT_MS)
    expect(first.every(({ why }) => why?.code === 'TIMEOUT_RESPONSE')).toBe(true)
    expect(come('a later one').why).toBeUndefined()
  })

  test('through a relay are served only where it carries blocks', () => {
    expect(come('a', { limits: { bytes: 128n * 1024n } }).why).toMatchObject({ code: 'LIMIT_EXCEEDED' })
    expect(come('b', { limits: { bytes: BigInt(MIN_RELAYED_BYTES) } }).why).toBeUndefined()
  })
  const SHARE = MAX_PEERS * MAX_NETWORK_SHARE
  const gotPlace = ({ sent }: SilentStream) => sent.includes(FRAME.hello) && !sent.includes(FRAME.busy)
  async function served(from: (n: number) => string, count: number): Promise<number> {
    const streams = Array.from({ length: count }, (_, n) => come(`${from(n)} ${n}`, { from: from(n) }))
    for (const stream of streams) stream.ask()
    // What was sent away hears so at once; who was not is asked what it wants of the store.
    await new Promise(setImmediate)
    return streams.filter(gotPlace).length
  }

  test.each([
    ['an IPv4 network', (n: number) => `/ip4/9.9.9.${n + 1}/tcp/1`],
    ['an IPv6 network', (n: number) => `/ip6/2a00:1:2:${n}::1/tcp/1`],
    ['IPv4 addresses as IPv6', (n: number) => `/ip6/::ffff:9.9.9.${n + 1}/tcp/1`],
    ['a relay', (n: number) => `/ip4/9.9.9.9/tcp/${n + 1}/p2p/${RELAY}/p2p-circuit`]
  ])('from %s get a share of the places, and leave the others to others', async (_what, from) => {
    expect(await served(from, SHARE + 5)).toBe(SHARE)
    expect(await served(n => `/ip4/8.8.${n}.8/tcp/1`, 5)).toBe(5)
  })

  test('get as many as there are on a private network, and on this host', async () => {
    expect(
      await served(n => (n % 2 === 0 ? `/ip4/10.0.0.${n + 1}/tcp/1` : `/ip4/127.0.0.1/tcp/${n}`), MAX_PEERS + 5)
    ).toBe(MAX_PEERS)
  })

  test('and find all places taken are sent away, and later get that of one who was sent nothing', async () => {
    const streams = Array.from({ length: MAX_PEERS }, (_, n) => come(`peer ${n}`))
    for (const stream of streams) stream.ask()
    const early = come('an early one')
    early.ask()
    expect([gotPlace(early), early.isClosed]).toEqual([false, true])
    clock.advance(IDLE_STREAM_MS)
    const late = come('a late one')
    late.ask()
    expect(gotPlace(late)).toBe(true)
    expect(streams.filter(({ isClosed }) => isClosed)).toHaveLength(1)
  })

  test("from far away while it is quiet take nobody's place, for they get none", () => {
    const streams = Array.from({ length: MAX_PEERS }, (_, n) => come(`peer ${n}`, { from: AT_HOME }))
    for (const stream of streams) stream.ask()
    clock.advance(IDLE_STREAM_MS)
    server.limit({ ...UNLIMITED_TRAFFIC, quiet: true })
    const far = come('a far one')
    far.ask()
    expect([gotPlace(far), far.isClosed]).toEqual([false, true])
    expect(streams.some(({ isClosed }) => isClosed)).toBe(false)
  })

  test('from one network who say nothing do not keep others out', () => {
    const silent = Array.from({ length: 64 }, (_, n) => come(`peer ${n}`, { from: `/ip4/9.9.9.${n + 1}/tcp/1` }))
    expect(silent.filter(({ why }) => why === undefined)).toHaveLength(64 * MAX_NETWORK_SHARE)
    expect(come('another', { from: '/ip4/9.9.8.9/tcp/1' }).why).toBeUndefined()
  })
})
