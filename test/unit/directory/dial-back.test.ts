/** The network's edge is played here: public addresses that answer, or do not, cannot be had in a test. */

import type { Connection, PeerId } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import { multiaddr } from '@multiformats/multiaddr'
import { describe, expect, test } from 'vitest'
import { REACH, type Reach } from '../../../src/directory/addresses.ts'
import { DialBack } from '../../../src/directory/dial-back.ts'
import {
  DIAL_BACK_FAILURE_VALID_MS,
  DIAL_BACK_TIMEOUT_MS,
  DIAL_BACKS_AT_ONCE,
  DIAL_BACKS_PER_ASKER_PER_MINUTE,
  DIAL_BACKS_PER_HOST_PER_MINUTE,
  MAX_DIAL_BACKS_WAITING
} from '../../../src/directory/limits.ts'
import { FakeClock, recordingLog } from './support.ts'

const PEER = '12D3KooWSxi87aiqEM5hCxqK55utTw6HZUErvPcvnDLXAeJFEKRW'
const OTHER = '12D3KooWPv9JYcRtUoZt8WoKauZw8GqQw3m8FVsMRe6qZJnAP2vi'

type Dialled = { targets: string[]; force: boolean }

function setUp(answer: (targets: Multiaddr[], signal: AbortSignal) => Promise<Partial<Connection>>) {
  const clock = new FakeClock()
  const dialled: Dialled[] = []
  const connections: Connection[] = []
  const network = {
    getConnections: (_peer?: PeerId) => connections,
    async dial(targets: unknown, options?: { signal?: AbortSignal; force?: boolean }) {
      const list = targets as Multiaddr[]
      dialled.push({ targets: list.map(String), force: options?.force ?? false })
      return (await answer(list, options!.signal!)) as Connection
    }
  }
  return { dialBack: new DialBack({ network, clock, log: recordingLog() }), clock, dialled, connections }
}

let closed = 0
const connectionTo = (target: Multiaddr | string, peer = PEER): Partial<Connection> => ({
  id: `c${Math.random()}`,
  status: 'open',
  direction: 'outbound',
  remotePeer: { toString: () => peer } as PeerId,
  remoteAddr: multiaddr(target.toString()),
  close: async () => {
    closed++
  }
})
const announced = (address = '/ip4/9.9.9.9/tcp/1', met: Reach = REACH.public, peer = PEER) => ({
  peer,
  addresses: [`${address}/p2p/${peer}`],
  met,
  asker: `asker of ${address}`
})

describe('dialling back', () => {
  test('reaches who is there, on a new connection, and once only for the same addresses', async () => {
    const { dialBack, dialled } = setUp(async ([target]) => connectionTo(target!))
    expect(dialBack.known(announced())).toBeUndefined()
    expect(await dialBack.check(announced())).toBe(true)
    expect(await dialBack.check(announced())).toBe(true)
    expect(dialBack.known(announced())).toBe(true)
    expect(dialled).toEqual([{ targets: [`/ip4/9.9.9.9/tcp/1/p2p/${PEER}`], force: true }])
    await dialBack.check(announced('/ip4/9.9.9.9/tcp/2'))
    expect(dialled).toHaveLength(2)
  })

  test('another peer at the address, or another address of the peer, does not count', async () => {
    const impostor = setUp(async ([target]) => connectionTo(target!, OTHER))
    expect(await impostor.dialBack.check(announced())).toBe(false)
    const joined = setUp(async () => connectionTo('/ip4/8.8.8.8/tcp/1'))
    expect(await joined.dialBack.check(announced())).toBe(false)
  })

  test('a private address that was announced from far away is never dialled', async () => {
    const { dialBack, dialled } = setUp(async ([target]) => connectionTo(target!))
    for (const address of ['/ip4/192.168.1.9/tcp/80', '/ip4/127.0.0.1/tcp/80', '/dns4/localhost/tcp/80']) {
      expect(await dialBack.check(announced(address, REACH.public))).toBe(false)
    }
    expect(await dialBack.check(announced('/ip4/127.0.0.1/tcp/80', REACH.private))).toBe(false)
    expect(dialled).toEqual([])
    expect(await dialBack.check(announced('/ip4/127.0.0.1/tcp/80', REACH.loopback))).toBe(true)
    expect(await dialBack.check(announced('/ip4/192.168.1.9/tcp/80', REACH.private))).toBe(true)
  })

  test('of several addresses only those that may be dialled are', async () => {
    const { dialBack, dialled } = setUp(async ([target]) => connectionTo(target!))
    const addresses = ['/ip4/10.0.0.1/tcp/1', '/ip4/9.9.9.9/tcp/1', '/ip6/2a00::1/tcp/1'].map(a => `${a}/p2p/${PEER}`)
    expect(await dialBack.check({ peer: PEER, addresses, met: REACH.public, asker: PEER })).toBe(true)
    expect(dialled[0]?.targets).toEqual(addresses.slice(1))
  })

  test('a failure is remembered for a while, then tried again', async () => {
    const { dialBack, dialled, clock } = setUp(async () => {
      throw new Error('refused')
    })
    expect(await dialBack.check(announced())).toBe(false)
    expect(await dialBack.check(announced())).toBe(false)
    expect(dialled).toHaveLength(1)
    await clock.advance(DIAL_BACK_FAILURE_VALID_MS)
    expect(await dialBack.check(announced())).toBe(false)
    expect(dialled).toHaveLength(2)
  })

  test('one host is dialled only so often a minute, whoever names it', async () => {
    const { dialBack, dialled, clock } = setUp(async () => {
      throw new Error('refused')
    })
    const flood = async () => {
      for (let port = 1; port <= 100; port++) await dialBack.check(announced(`/ip4/9.9.9.9/tcp/${port}`))
    }
    await flood()
    expect(dialled).toHaveLength(DIAL_BACKS_PER_HOST_PER_MINUTE)
    await clock.advance(60_000)
    await flood()
    expect(dialled).toHaveLength(2 * DIAL_BACKS_PER_HOST_PER_MINUTE)
  })

  test('a network of IPv6 is dialled as often as one host', async () => {
    const { dialBack, dialled } = setUp(async () => {
      throw new Error('refused')
    })
    for (let host = 1; host <= 100; host++) await dialBack.check(announced(`/ip6/2a00:1450:0:1::${host}/tcp/1`))
    expect(dialled).toHaveLength(DIAL_BACKS_PER_HOST_PER_MINUTE)
  })

  test('one who asks, whomever it names, does not keep others from being looked for', async () => {
    const { dialBack, dialled, clock } = setUp(async ([target]) => connectionTo(target!))
    const flood = async () => {
      for (let i = 0; i < 100; i++) await dialBack.check({ ...announced(`/ip4/9.9.1.${i}/tcp/1`), asker: 'flooder' })
    }
    await flood()
    expect(dialled).toHaveLength(DIAL_BACKS_PER_ASKER_PER_MINUTE)
    expect(await dialBack.check(announced())).toBe(true)
    await clock.advance(60_000)
    await flood()
    expect(dialled).toHaveLength(2 * DIAL_BACKS_PER_ASKER_PER_MINUTE + 1)
  })

  test('few at once, and a bounded number wait; one that hangs is given up', async () => {
    let running = 0
    const { dialBack, dialled, clock } = setUp(
      (_targets, signal) =>
        new Promise((_resolve, reject) => {
          running++
          signal.addEventListener('abort', () => {
            running--
            reject(new Error('aborted'))
          })
        })
    )
    const flood = Array.from({ length: 1000 }, (_, i) =>
      dialBack.check(announced(`/ip4/9.${i >> 8}.${i & 255}.9/tcp/1`))
    )
    expect(running).toBe(DIAL_BACKS_AT_ONCE)
    await clock.advance((MAX_DIAL_BACKS_WAITING / DIAL_BACKS_AT_ONCE + 2) * DIAL_BACK_TIMEOUT_MS)
    expect(await Promise.all(flood)).toEqual(Array(1000).fill(false))
    expect(dialled.length).toBeLessThanOrEqual(MAX_DIAL_BACKS_WAITING + DIAL_BACKS_AT_ONCE)
    expect(running).toBe(0)
  })

  test('a peer that this one has dialled at that address needs no other dial', async () => {
    const { dialBack, dialled, connections } = setUp(async ([target]) => connectionTo(target!))
    connections.push(connectionTo('/ip4/9.9.9.9/tcp/1') as Connection)
    expect(dialBack.known(announced())).toBe(true)
    expect(dialBack.known(announced('/ip4/9.9.9.9/tcp/2'))).toBeUndefined()
    closed = 0
    expect(await dialBack.check(announced('/ip4/9.9.9.9/tcp/2'))).toBe(true)
    // The connection that it opened beside the other is closed again.
    expect([dialled.length, closed]).toEqual([1, 1])
  })

  test('stopped, it answers all who wait', async () => {
    const { dialBack } = setUp(
      (_targets, signal) =>
        new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(new Error('aborted'))))
    )
    const waiting = Array.from({ length: 10 }, (_, i) => dialBack.check(announced(`/ip4/9.9.9.${i}/tcp/1`)))
    dialBack.stop()
    expect(await Promise.all(waiting)).toEqual(Array(10).fill(false))
    expect(await dialBack.check(announced('/ip4/9.9.9.99/tcp/1'))).toBe(false)
  })
})
