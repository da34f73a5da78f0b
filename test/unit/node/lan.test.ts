import { generateKeyPair } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { describe, expect, test } from 'vitest'
import { hearsItsNetwork, Lan, type LanPeer, MAX_NEIGHBOURS } from '../../../src/node/lan.ts'
import { Neighbourhood } from '../../../src/node/neighbourhood.ts'
import { silentLog } from '../swarm/support.ts'

const newId = async () => peerIdFromPrivateKey(await generateKeyPair('Ed25519'))
type Id = Awaited<ReturnType<typeof newId>>

/** A network on which every call succeeds at once. */
class CallablePeers implements LanPeer {
  readonly dialled: string[] = []
  readonly connected: { remotePeer: { toString(): string } }[] = []

  getConnections() {
    return this.connected
  }

  async dial(addresses: { toString(): string }[]) {
    this.dialled.push(...addresses.map(String))
    const peer = String(addresses[0]).split('/p2p/')[1]!
    this.connected.push({ remotePeer: { toString: () => peer } })
  }
}

function makeLan() {
  const neighbourhood = new Neighbourhood()
  const peers = new CallablePeers()
  const lan = new Lan({ neighbourhood, log: silentLog })
  lan.start(peers)
  return { lan, neighbourhood, peers }
}

const answer = (id: Id, ...addresses: string[]) => ({ id, multiaddrs: addresses.map(address => multiaddr(address)) })

test('the network is asked where this peer listens to it', () => {
  expect(hearsItsNetwork(['/ip4/0.0.0.0/tcp/0'])).toBe(true)
  expect(hearsItsNetwork(['/ip4/127.0.0.1/tcp/0', '/ip4/192.168.1.2/tcp/4001'])).toBe(true)
  expect(hearsItsNetwork(['/ip4/127.0.0.1/tcp/0'])).toBe(false)
  expect(hearsItsNetwork(['/ip4/9.9.9.9/tcp/4001'])).toBe(false)
  expect(hearsItsNetwork([])).toBe(false)
})

describe('a neighbour', () => {
  test('is called once at its private addresses, and is then a replica of everything', async () => {
    const { lan, neighbourhood, peers } = makeLan()
    const id = await newId()
    const here = '/ip4/192.168.1.9/tcp/4001'
    expect(neighbourhood.mayDial(here)).toBe(false)
    lan.found(answer(id, '/ip4/127.0.0.1/tcp/4001', here, '/ip4/9.9.9.9/tcp/4001'))
    await Promise.resolve()
    lan.found(answer(id, here))
    expect(peers.dialled).toEqual([`${here}/p2p/${id}`])
    expect(lan.replicas()).toEqual([{ peer: id.toString(), addresses: [here], complete: false }])
    expect(neighbourhood.mayDial(here)).toBe(true)
    expect(neighbourhood.mayDial('/ip4/192.168.1.9/tcp/631')).toBe(false)
  })

  test('that names only this host, or the wide world, is not called', async () => {
    const { lan, peers } = makeLan()
    lan.found(answer(await newId(), '/ip4/127.0.0.1/tcp/6379', '/ip4/9.9.9.9/tcp/4001', '/dns4/printer/tcp/9100'))
    await Promise.resolve()
    expect(peers.dialled).toEqual([])
  })

  test('is forgotten for a newcomer only when it is gone', async () => {
    const { lan, neighbourhood, peers } = makeLan()
    const ids = await Promise.all(Array.from({ length: MAX_NEIGHBOURS + 1 }, newId))
    const addressOf = (i: number) => `/ip4/192.168.1.${i + 1}/tcp/4001`
    for (const [i, id] of ids.entries()) lan.found(answer(id, addressOf(i)))
    await Promise.resolve()
    expect(peers.dialled).toHaveLength(MAX_NEIGHBOURS)
    peers.connected.splice(5, 1)
    lan.found(answer(ids.at(-1)!, addressOf(MAX_NEIGHBOURS)))
    await Promise.resolve()
    expect(peers.dialled.at(-1)).toContain(String(ids.at(-1)))
    expect(neighbourhood.mayDial(addressOf(5))).toBe(false)
    expect(neighbourhood.mayDial(addressOf(6))).toBe(true)
  })
})
