import { randomBytes } from 'node:crypto'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { afterEach, describe, expect, test } from 'vitest'
import { type RowanPeer, startPeer } from '../../../src/node/peer.ts'
import { MAX_ENTRIES, MAX_ENTRY_BYTES, PeerDatastore } from '../../../src/node/peer-datastore.ts'
import { waitUntil } from '../../tools/wait.ts'

type Key = Parameters<PeerDatastore['put']>[0]
const key = (name: string) => ({ toString: () => name }) as Key
const names = (store: PeerDatastore, query = {}) => [...store.query(query)].map(pair => pair.key.toString())

describe('what is remembered of peers', () => {
  test('the ones longest of no use are forgotten', () => {
    const store = new PeerDatastore()
    for (let i = 0; i < MAX_ENTRIES; i++) store.put(key(`/peers/${i}`), Uint8Array.of(1))
    expect(store.get(key('/peers/0'))).toEqual(Uint8Array.of(1))
    for (let i = 0; i < 10; i++) store.put(key(`/peers/new${i}`), Uint8Array.of(2))
    expect(names(store)).toHaveLength(MAX_ENTRIES)
    expect([store.has(key('/peers/0')), store.has(key('/peers/1')), store.has(key('/peers/new0'))]).toEqual([
      true,
      false,
      true
    ])
    expect(() => store.get(key('/peers/1'))).toThrow(expect.objectContaining({ name: 'NotFoundError' }))
  })

  test('one that has too much to say stays as it was', () => {
    const store = new PeerDatastore()
    store.put(key('/peers/a'), Uint8Array.of(1))
    expect(() => store.put(key('/peers/a'), new Uint8Array(MAX_ENTRY_BYTES + 1))).toThrow(
      expect.objectContaining({ code: 'LIMIT_EXCEEDED' })
    )
    expect(store.get(key('/peers/a'))).toEqual(Uint8Array.of(1))
  })

  test('queries by prefix, filter, order, offset and limit', async () => {
    const store = new PeerDatastore()
    const source = ['/peers/c', '/peers/a', '/other', '/peers/b'].map(name => ({ key: key(name), value: Buffer.of(1) }))
    for await (const _ of store.putMany(source));
    const orders = [(a: { key: Key }, b: { key: Key }) => (String(a.key) < String(b.key) ? -1 : 1) as -1 | 1]
    expect(names(store, { prefix: '/peers', orders, offset: 1, limit: 1 })).toEqual(['/peers/b'])
    expect([...store.queryKeys({ filters: [name => String(name) === '/other'] })].map(String)).toEqual(['/other'])
    const batch = store.batch()
    batch.delete(key('/other'))
    await batch.commit()
    expect(names(store, { prefix: '/other' })).toEqual([])
  })
})

describe('libp2p on it', () => {
  const peers: RowanPeer[] = []
  afterEach(async () => {
    await Promise.all(peers.splice(0).map(peer => peer.stop()))
  })

  async function start(): Promise<RowanPeer> {
    const privateKey = await generateKeyPair('Ed25519')
    const listen = ['/ip4/127.0.0.1/tcp/0']
    const peer = await startPeer({
      ...{ privateKey, listen, announce: [], dhtServer: true },
      ...{ maxPeers: 10, mayDial: () => true }
    })
    peers.push(peer)
    return peer
  }
  const storeOf = (peer: RowanPeer) => (peer as unknown as { components: { datastore: PeerDatastore } }).components

  test('takes no records of the DHT, whoever sends them', async () => {
    const [sender, receiver] = [await start(), await start()]
    await sender.dial(receiver.getMultiaddrs())
    const table = sender.services.dht as unknown as { routingTable: { size: number } }
    await waitUntil('the two to know each other', () => table.routingTable.size > 0)
    let sent = 0
    for (let i = 0; i < 20; i++) {
      // All that is looked at of a CID: a SHA-256 multihash.
      const anything = { multihash: { bytes: Uint8Array.of(0x12, 0x20, ...randomBytes(32)) } } as never
      for await (const event of sender.services.dht.provide(anything)) {
        if (event.name === 'PEER_RESPONSE') sent++
      }
    }
    expect(sent).toBeGreaterThan(0)
    const { datastore } = storeOf(receiver)
    expect(names(datastore).filter(name => !name.startsWith('/peers/'))).toEqual([])
  })

  test('remembers a peer and its addresses', async () => {
    const peer = await start()
    const other = peerIdFromPrivateKey(await generateKeyPair('Ed25519'))
    await peer.peerStore.merge(other, { multiaddrs: [multiaddr('/ip4/9.9.9.9/tcp/1')] })
    expect((await peer.peerStore.get(other)).addresses.map(a => a.multiaddr.toString())).toEqual(['/ip4/9.9.9.9/tcp/1'])
    const flood = Array.from({ length: 2000 }, (_, i) => multiaddr(`/ip4/9.9.9.9/tcp/${i + 1}`))
    await expect(peer.peerStore.merge(other, { multiaddrs: flood })).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' })
    expect((await peer.peerStore.get(other)).addresses).toHaveLength(1)
  })
})
