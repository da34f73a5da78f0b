/**
 * Which of its own addresses do others reach? (AutoNAT v2: this peer asks others to dial it, and answers such requests.)
 *
 * An address of the Internet on this host, or a port that a router promised, is announced only when somebody has come in by it. That is
 * another question than the holders' dial-back (directory/dial-back.ts): there somebody else's announcement is checked before it is
 * passed on; here this peer learns what to announce. Both end in an inbound connection, which is the proof of reachability.ts.
 *
 * The library asks each peer that it meets. Here it is kept from what would be in vain or too much: addresses over relays, and such as
 * others saw this peer come from (a TCP port of one connection), are not asked about, and the DHT is not searched for peers to ask.
 * Who asks this peer has a few requests at a time, about addresses of the Internet that lead over no relay, and pays for a dial to another host than its own with 30 KB (the protocol).
 */
import { type AutoNATv2Components, autoNATv2 } from '@libp2p/autonat-v2'
import { type Connection, type Startable, start, stop, type Topology } from '@libp2p/interface'
import { relayOf } from '../directory/addresses.ts'
import { type AddressManager, gated, overriding, StreamGate } from './library-parts.ts'
import { isOfInternet } from './reachability.ts'

const REQUEST_TIMEOUT_MS = 15_000
/** Requests of others that are being answered, and dials back that come in. */
const MAX_REQUESTS = 16
const MAX_REQUESTS_PER_PEER = 2
const MAX_REQUESTS_PER_NETWORK = 4

export class AutoNat {
  #askPeer: NonNullable<Topology['onConnect']> = () => undefined

  readonly service = (components: AutoNATv2Components): Startable => {
    const gate = new StreamGate({
      atOnce: MAX_REQUESTS,
      perPeer: MAX_REQUESTS_PER_PEER,
      perNetwork: MAX_REQUESTS_PER_NETWORK
    })
    const { addressManager, connectionManager } = components
    const registrar = gated(components.registrar, gate)
    const library = autoNATv2({ timeout: REQUEST_TIMEOUT_MS, maxInboundStreams: MAX_REQUESTS_PER_PEER })(
      overriding(components, {
        addressManager: overriding(addressManager, {
          getAddressesWithMetadata: () => addressManager.getAddressesWithMetadata().filter(isWorthAsking)
        }),
        registrar: overriding(registrar, {
          register: async (protocol, topology) => {
            this.#askPeer = topology.onConnect ?? this.#askPeer
            return registrar.register(protocol, topology)
          }
        }),
        // It takes the relay's address for the asker's, and would dial the relay by its id.
        connectionManager: overriding(connectionManager, {
          isDialable: async (address, options) =>
            [address].flat().every(each => isOfInternet(each.toString())) &&
            connectionManager.isDialable(address, options)
        }),
        randomWalk: { async *walk() {} }
      })
    )
    return { start: () => start(library), stop: () => stop(library) }
  }

  /** There is a new address to be asked about; those who were met before its time are asked too. */
  askAgain(connections: readonly Connection[]): void {
    for (const connection of connections) {
      if (connection.direct && connection.limits === undefined) this.#askPeer(connection.remotePeer, connection)
    }
  }
}

function isWorthAsking({ multiaddr, type }: ReturnType<AddressManager['getAddressesWithMetadata']>[number]): boolean {
  return type !== 'observed' && relayOf(multiaddr.toString()) === undefined
}
