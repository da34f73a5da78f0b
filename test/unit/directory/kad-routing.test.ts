/** kad-dht's events are played here; that the real one fits is shown by test/conformance/directory-network.test.ts. */

import { generateKeyPair } from '@libp2p/crypto/keys'
import { beforeAll, describe, expect, test } from 'vitest'
import { HOLDERS_PER_KEY } from '../../../src/cluster.ts'
import { KadRouting } from '../../../src/directory/kad-routing.ts'
import { compareDistance, kadKey, placeOfKey, placeOfPeer } from '../../../src/directory/key.ts'
import { recordingLog } from './support.ts'

const KEY = kadKey('latest', 'somebody/grid')
let ids: string[]
/** Nearest first. */
let sorted: string[]
beforeAll(async () => {
  const keys = await Promise.all(Array.from({ length: 30 }, () => generateKeyPair('Ed25519')))
  ids = keys.map(key => key.publicKey.toString())
  sorted = ids.toSorted((a, b) => compareDistance(placeOfKey(KEY), placeOfPeer(a), placeOfPeer(b)))
})

const kadPeer = (id: string) => ({ id, multiaddrs: [`/ip4/1.2.3.4/tcp/1/p2p/${id}`] })
const response = (from: string, closer: string[] = []) => ({ name: 'PEER_RESPONSE', from, closer: closer.map(kadPeer) })
const final = (id: string) => ({ name: 'FINAL_PEER', from: id, peer: kadPeer(id) })

function routing(events: object[], self: string, options: { canServe?: boolean; failsAtEnd?: boolean } = {}) {
  return new KadRouting({
    dht: {
      async *getClosestPeers() {
        yield* events as { name: string }[]
        if (options.failsAtEnd) throw new Error('aborted')
      }
    },
    peer: self,
    addresses: () => ['/ip4/127.0.0.1/tcp/9'],
    canServe: () => options.canServe ?? true,
    log: recordingLog()
  })
}
const find = async (routing_: KadRouting) =>
  (await routing_.closestPeers(KEY, { signal: new AbortController().signal })).map(({ peer }) => peer)

describe('the closest peers', () => {
  test('are the nearest by XOR of hashed ids, this peer among them by its distance, at most twenty', async () => {
    const self = sorted[3]!
    const others = ids.filter(id => id !== self)
    expect(await find(routing(others.map(final), self))).toEqual(sorted.slice(0, HOLDERS_PER_KEY))
    const far = sorted[25]!
    const found = await find(routing(ids.filter(id => id !== far).map(final), far))
    expect(found).toEqual(sorted.filter(id => id !== far).slice(0, HOLDERS_PER_KEY))
  })

  test('do not include this peer while it does not serve', async () => {
    const self = sorted[0]!
    const events = sorted.slice(1, 5).map(final)
    expect(await find(routing(events, self, { canServe: false }))).toEqual(sorted.slice(1, 5))
  })

  test('of a search that was cut short are those that had answered, with their addresses', async () => {
    const [self, a, b, c] = sorted as [string, string, string, string]
    const events = [
      { name: 'SEND_QUERY', to: a },
      response(a, [b, c]),
      { name: 'QUERY_ERROR', from: c, error: new Error('gone') },
      response(b, [a])
    ]
    const found = await routing(events, self, { failsAtEnd: true }).closestPeers(KEY, {
      signal: new AbortController().signal
    })
    expect(found).toEqual([
      { peer: self, addresses: ['/ip4/127.0.0.1/tcp/9'] },
      { peer: a, addresses: [`/ip4/1.2.3.4/tcp/1/p2p/${a}`] },
      { peer: b, addresses: [`/ip4/1.2.3.4/tcp/1/p2p/${b}`] }
    ])
  })

  test('with nobody there, this peer alone', async () => {
    expect(await find(routing([], sorted[9]!, { failsAtEnd: true }))).toEqual([sorted[9]])
  })
})

describe('a census', () => {
  const census = async (routing_: KadRouting, gone: string[] = []) => {
    const options = { signal: new AbortController().signal, isGone: (peer: string) => gone.includes(peer) }
    return (await routing_.census(KEY, options)).map(({ peer }) => peer)
  }
  const failed = (from: string) => ({ name: 'QUERY_ERROR', from, error: new Error('gone') })

  test('counts those that do not answer, if two say that they are there', async () => {
    const [self, a, b, dead, invented] = sorted as [string, string, string, string, string]
    const events = [response(a, [b, dead, invented]), response(b, [a, dead]), failed(dead), failed(invented)]
    expect(await find(routing(events, self))).toEqual([self, a, b])
    expect(await census(routing(events, self))).toEqual([self, a, b, dead])
    expect(await census(routing(events, self), [dead])).toEqual([self, a, b])
    // Whoever answers is there, whatever was known.
    expect(await census(routing(events, self), [a])).toEqual([self, a, b, dead])
  })

  test('of a peer that reaches nobody has all that it knew', async () => {
    const [self, a, b] = sorted as [string, string, string]
    expect(await census(routing([failed(a), failed(b)], self))).toEqual([self, a, b])
    expect(await census(routing([response(a, [self]), failed(b)], self))).toEqual([self, a, b])
  })

  test('takes a place among the closest from nobody for one that is gone', async () => {
    const self = sorted[29]!
    const [dead, ...alive] = sorted.slice(0, 22) as [string, ...string[]]
    const events = [...alive.map(id => response(id, [dead])), failed(dead)]
    expect(await census(routing(events, self))).toEqual(sorted.slice(0, HOLDERS_PER_KEY))
    expect(await census(routing(events, self), [dead])).toEqual(sorted.slice(1, HOLDERS_PER_KEY + 1))
  })
})

test('tables do not share keys', () => {
  const keys = (['latest', 'replicas', 'sharers'] as const).map(table =>
    Buffer.from(kadKey(table, 'x')).toString('hex')
  )
  expect(new Set(keys).size).toBe(3)
  expect(keys[0]).toHaveLength(64)
})
