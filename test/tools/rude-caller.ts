/**
 * A libp2p peer that calls another through its relay, again and again, and says that it is reached where it is not: a program for a
 * namespace.
 *
 *     node rude-caller.ts CIRCUIT-ADDRESS CALLS CLAIMED-ADDRESS…
 *
 * Prints `speaks PROTOCOLS` when the other end has said who it is, and `answered N` after the last call. It stays in the last.
 */
import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { dcutr } from '@libp2p/dcutr'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { rowanMuxer } from '../../src/node/peer.ts'

const [circuit, calls, ...claimed] = process.argv.slice(2)
if (circuit === undefined) throw new Error('usage: rude-caller.ts CIRCUIT-ADDRESS CALLS CLAIMED-ADDRESS…')

const caller = await createLibp2p({
  addresses: { listen: [], announce: claimed },
  transports: [tcp(), circuitRelayTransport()],
  connectionEncrypters: [noise()],
  streamMuxers: [rowanMuxer()],
  services: { identify: identify(), dcutr: dcutr() }
})
caller.addEventListener('peer:identify', ({ detail }) => console.log(`speaks ${detail.protocols.join(' ')}`))
let answered = 0
for (let call = 1; call <= Number(calls); call++) {
  try {
    const connection = await caller.dial(multiaddr(circuit))
    answered++
    if (call < Number(calls)) connection.abort(new Error('once more'))
  } catch {
    // It was not let through; how often is what is counted.
  }
}
console.log(`answered ${answered}`)
