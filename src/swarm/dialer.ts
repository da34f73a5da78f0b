/**
 * From a replica's peer id and addresses to an open stream to it.
 *
 * A connection that exists is used, whoever opened it: a peer behind NAT that fetches from here also serves. Only addresses that
 * `mayDial` allows are called, so an announcement never makes this peer knock at private doors.
 *
 * A peer that was called through a relay calls back (DCUtR, node/nat.ts): its direct connection is waited for. If none comes the relay's
 * is used if it carries blocks.
 */

import type { Connection, PeerId, Stream } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { isLoopback } from '@libp2p/utils'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { PROTOCOL } from '../cluster.ts'
import type { Clock } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import { DIAL_TIMEOUT_MS, TURN_ROUND_MS } from './limits.ts'
import { carriesBlocks } from './relayed.ts'

/** A call back takes some seven round trips, part of them through the relay. */
const LOOK_MS = 20

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
   * @param when - `freshWhile`: over a new connection, because the one that there is says nothing any more; asked again when the
   *   new one is there
   * @throws TIMEOUT_DIAL, or NO_REPLICA where no address may be called or none answers; ABORTED when no new one is needed any more
   */
  async open(peer: string, addresses: string[], when: { freshWhile?: () => boolean } = {}): Promise<OpenStream> {
    const { freshWhile } = when
    const { network, clock } = this.#components
    const id = peerId(peer)
    const abort = new AbortController()
    const timer = clock.after(DIAL_TIMEOUT_MS, () =>
      abort.abort(new RowanError('TIMEOUT_DIAL', `${peer} did not answer within ${DIAL_TIMEOUT_MS / 1000} s`))
    )
    try {
      const { signal } = abort
      const before = directOnes(network.getConnections(id))
      const called =
        before[0] === undefined || freshWhile !== undefined
          ? await network.dial(this.#allowed(peer, addresses), { signal, force: freshWhile !== undefined })
          : before[0]
      const connection = called.limits === undefined ? called : await this.#turnedRound(called, before, signal)
      if (freshWhile?.() === false) {
        const error = new RowanError('ABORTED', 'the former connection will do')
        connection.abort(error)
        throw error
      }
      const options = { signal, maxOutboundStreams: 4, runOnLimitedConnection: carriesBlocks(connection) }
      const stream = await connection.newStream(PROTOCOL.blocks, options)
      const endOthers = () => {
        for (const other of network.getConnections(id)) {
          if (other.id !== connection.id) other.abort(new RowanError('PEER_GONE', 'a newer connection took its place'))
        }
      }
      const loopback = isLoopback(connection.remoteAddr) && connection.limits === undefined
      return { stream, loopback, endOthers }
    } catch (error) {
      if (abort.signal.aborted) throw abort.signal.reason
      throw asRowanError(error, 'NO_REPLICA', `cannot reach ${peer}`)
    } finally {
      timer.cancel()
    }
  }

  /**
   * Waits until the peer that was called through a relay has called back.
   *
   * @param known - direct connections that are not meant
   * @returns its direct connection, or the relayed one if that carries blocks
   */
  async #turnedRound(relayed: Connection, known: Connection[], signal: AbortSignal): Promise<Connection> {
    const { network, clock } = this.#components
    const untilMs = clock.monotonicMs() + TURN_ROUND_MS
    while (!signal.aborted && clock.monotonicMs() < untilMs) {
      const direct = directOnes(network.getConnections(relayed.remotePeer)).find(
        ({ id }) => !known.some(k => k.id === id)
      )
      if (direct !== undefined) return direct
      await new Promise<void>(resolve => clock.after(LOOK_MS, resolve))
    }
    if (!signal.aborted && relayed.status === 'open' && carriesBlocks(relayed)) return relayed
    const says = `${relayed.remotePeer} was called through a relay, which carries no blocks, and did not call back`
    const error = new RowanError('NO_REPLICA', says)
    relayed.abort(error)
    throw error
  }

  #allowed(peer: string, addresses: string[]): Multiaddr[] {
    const allowed = addresses.map(text => parsed(text, peer)).filter(address => address !== undefined)
    const dialled = allowed.filter(address => this.#components.mayDial(address))
    if (dialled.length > 0) return dialled
    const why = addresses.length === 0 ? 'it announces no address' : 'none of its addresses may be called from here'
    throw new RowanError('NO_REPLICA', `cannot reach ${peer}: ${why}`)
  }
}

function directOnes(connections: Connection[]): Connection[] {
  return connections.filter(({ status, limits }) => status === 'open' && limits === undefined)
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
