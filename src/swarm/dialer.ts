/**
 * From a replica's peer id and addresses to an open stream to it.
 *
 * A connection that exists is used, whoever opened it: a peer behind NAT that fetches from here also serves. Only addresses that
 * `mayDial` allows are called, so an announcement never makes this peer knock at private doors.
 */

import type { Connection, PeerId, Stream } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { isLoopback } from '@libp2p/utils'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { PROTOCOL } from '../cluster.ts'
import type { Clock } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import { DIAL_TIMEOUT_MS } from './limits.ts'

export interface DialNetwork {
  peerId: PeerId
  getConnections(peer?: PeerId): Connection[]
  /** With `force` also where there is a connection. */
  dial(addresses: Multiaddr[], options: { signal: AbortSignal; force?: boolean }): Promise<Connection>
}

export interface DialerComponents {
  network: DialNetwork
  mayDial(address: Multiaddr): boolean
  clock: Clock
}

export interface OpenStream {
  stream: Stream
  loopback: boolean
  /** Ends every other connection to this peer. */
  endOthers(): void
}

export class Dialer {
  readonly #components: DialerComponents

  constructor(components: DialerComponents) {
    this.#components = components
  }

  /**
   * @param options - `freshWhile`: over a new connection, because the one that there is says nothing any more; asked again when the
   *   new one is there
   * @throws TIMEOUT_DIAL, or NO_REPLICA where no address may be called or none answers; ABORTED when no new one is needed any more
   */
  async open(peer: string, addresses: string[], options: { freshWhile?: () => boolean } = {}): Promise<OpenStream> {
    const { freshWhile } = options
    const { network, clock } = this.#components
    const id = peerId(peer)
    const abort = new AbortController()
    const timer = clock.after(DIAL_TIMEOUT_MS, () =>
      abort.abort(new RowanError('TIMEOUT_DIAL', `${peer} did not answer within ${DIAL_TIMEOUT_MS / 1000} s`))
    )
    try {
      const { signal } = abort
      const open = network.getConnections(id).find(({ status, limits }) => status === 'open' && limits === undefined)
      const connection =
        open === undefined || freshWhile !== undefined
          ? await network.dial(this.#allowed(peer, addresses), { signal, force: freshWhile !== undefined })
          : open
      if (freshWhile?.() === false) {
        const error = new RowanError('ABORTED', 'the former connection will do')
        connection.abort(error)
        throw error
      }
      const stream = await connection.newStream(PROTOCOL.blocks, { signal, maxOutboundStreams: 4 })
      const endOthers = () => {
        for (const other of network.getConnections(id)) {
          if (other.id !== connection.id) other.abort(new RowanError('PEER_GONE', 'a newer connection took its place'))
        }
      }
      return { stream, loopback: isLoopback(connection.remoteAddr), endOthers }
    } catch (error) {
      if (abort.signal.aborted) throw abort.signal.reason
      throw asRowanError(error, 'NO_REPLICA', `cannot reach ${peer}`)
    } finally {
      timer.cancel()
    }
  }

  #allowed(peer: string, addresses: string[]): Multiaddr[] {
    const allowed = addresses.map(text => parsed(text, peer)).filter(address => address !== undefined)
    const dialled = allowed.filter(address => this.#components.mayDial(address))
    if (dialled.length > 0) return dialled
    const why = addresses.length === 0 ? 'it announces no address' : 'none of its addresses may be called from here'
    throw new RowanError('NO_REPLICA', `cannot reach ${peer}: ${why}`)
  }
}

function peerId(peer: string): PeerId {
  try {
    return peerIdFromString(peer)
  } catch (cause) {
    throw new RowanError('NO_REPLICA', `not a peer id: ${JSON.stringify(peer.slice(0, 80))}`, { cause })
  }
}

/** With the peer's id at the end, so that whoever answers there must be that peer; undefined for what is no address of it. */
function parsed(text: string, peer: string): Multiaddr | undefined {
  try {
    const address = multiaddr(text)
    const ids = address.getComponents().filter(({ name }) => name === 'p2p')
    if (ids.length === 0) return address.encapsulate(`/p2p/${peer}`)
    return ids.at(-1)?.value === peer ? address : undefined
  } catch {
    // An address of a kind that is not known here is one that cannot be called.
    return undefined
  }
}
