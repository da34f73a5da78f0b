/**
 * Being asked whether an address can be reached (AutoNAT v2), by one that writes the protocol by hand.
 */
import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { identify } from '@libp2p/identify'
import type { Stream } from '@libp2p/interface'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p, type Libp2p } from 'libp2p'
import { afterEach, expect, test } from 'vitest'
import { AutoNat } from '../../src/node/autonat.ts'
import { rowanMuxer } from '../../src/node/peer.ts'
import { waitUntil } from '../tools/wait.ts'

const PROTOCOL = '/libp2p/autonat/2/dial-request'
const RELAY = '12D3KooWPv9JYcRtUoZt8WoKauZw8GqQw3m8FVsMRe6qZJnAP2vi'
const SOMEBODY = '12D3KooWSxi87aiqEM5hCxqK55utTw6HZUErvPcvnDLXAeJFEKRW'
const started: Libp2p[] = []

afterEach(async () => {
  for (const each of started.splice(0).reverse()) await each.stop()
})

async function startPeer(listen: string[], services: object): Promise<Libp2p> {
  const peer = await createLibp2p({
    addresses: { listen },
    transports: [tcp(), circuitRelayTransport()],
    connectionEncrypters: [noise()],
    streamMuxers: [rowanMuxer()],
    services: { identify: identify(), ...services }
  })
  started.push(peer)
  return peer
}

/** Message { dialRequest = 1: { addrs = 1, nonce = 2 } }, with its length before it; short enough for lengths of one byte. */
function dialRequest(address: string): Uint8Array {
  const field = (tag: number, bytes: readonly number[]) => [tag, bytes.length, ...bytes]
  const nonce = [0x11, 1, 2, 3, 4, 5, 6, 7, 8]
  const message = field(0x0a, [...field(0x0a, [...multiaddr(address).bytes]), ...nonce])
  return Uint8Array.from([message.length, ...message])
}

const DIAL_RESPONSE = 0x12
const DIAL_DATA_REQUEST = 0x1a
const E_DIAL_REFUSED = 101

test('an address of the Internet is asked about, one over a relay or at home is refused', async () => {
  const asked = await startPeer(['/ip4/127.0.0.1/tcp/0'], { nat: new AutoNat().service })
  const asker = await startPeer([], {})
  /** @returns the kind of the answer, and its first value */
  const ask = async (address: string) => {
    const connection = await asker.dial(asked.getMultiaddrs(), { force: true })
    const stream: Stream = await connection.newStream(PROTOCOL)
    const got: number[] = []
    stream.addEventListener('message', ({ data }) => void got.push(...data.subarray()))
    stream.send(dialRequest(address))
    await waitUntil('an answer', () => got.length >= 5)
    await connection.close()
    return { kind: got[1], value: got[4] }
  }
  // Whoever asks is at another host than that, so it is to pay first.
  expect((await ask('/ip4/8.8.8.8/tcp/1')).kind).toBe(DIAL_DATA_REQUEST)
  const refused = { kind: DIAL_RESPONSE, value: E_DIAL_REFUSED }
  expect(await ask(`/ip4/8.8.8.8/tcp/1/p2p/${RELAY}/p2p-circuit/p2p/${SOMEBODY}`)).toEqual(refused)
  expect(await ask(`/p2p/${RELAY}/p2p-circuit/p2p/${SOMEBODY}`)).toEqual(refused)
  expect(await ask('/ip4/192.168.1.9/tcp/80')).toEqual(refused)
})
