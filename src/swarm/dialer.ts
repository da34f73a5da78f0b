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
import { DIAL_TIMEOUT_MS, SHORT_TURN_ROUND_MS, TURN_ROUND_MS } from './limits.ts'
import { carriesBlocks } from './relayed.ts'

/** From one look for the call back to the next: little beside the seven round trips or so that it takes. */
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
  isNear(address: Multiaddr): boolean
  clock: Clock
}

export interface OpenStream {
  stream: Stream
  loopback: boolean
  /** At an address of the local network. */
  isNear: boolean
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
    const { network, isNear, clock } = this.#components
    const id = peerId(peer)
    const abort = new AbortController()
    const timer = clock.after(DIAL_TIMEOUT_MS, () =>
      abort.abort(new RowanError('TIMEOUT_DIAL', `${peer} did not answer within ${DIAL_TIMEOUT_MS / 1000} s`))
    )
    try {
      const { signal } = abort
      const before = directOnes(network.getConnections(id))
      const isFresh = freshWhile !== undefined
      const allowed = before[0] === undefined || isFresh ? this.#allowed(peer, addresses) : []
      const called =
        before[0] === undefined || isFresh ? await network.dial(allowed, { signal, force: isFresh }) : before[0]
      const options: CallBack = { known: before, addresses: allowed, signal }
      const connection = called.limits === undefined ? called : await this.#turnedRound(called, options)
      if (freshWhile?.() === false) {
        const error = new RowanError('ABORTED', 'the former connection will do')
        connection.abort(error)
        throw error
      }
      const runOnLimitedConnection = carriesBlocks(connection)
      const limits = { maxOutboundStreams: 4, runOnLimitedConnection }
      const stream = await connection.newStream(PROTOCOL.blocks, { signal, ...limits })
      const endOthers = () => {
        for (const other of network.getConnections(id)) {
          if (other.id !== connection.id) other.abort(new RowanError('PEER_GONE', 'a newer connection took its place'))
        }
      }
      const isDirect = connection.limits === undefined
      const loopback = isDirect && isLoopback(connection.remoteAddr)
      return { stream, loopback, isNear: isDirect && isNear(connection.remoteAddr), endOthers }
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
   * @returns its direct connection, or a relayed one that carries blocks
   */
  async #turnedRound(relayed: Connection, options: CallBack): Promise<Connection> {
    const { network, clock } = this.#components
    const { known, signal } = options
    const isNew = ({ id }: Connection) => !known.some(other => other.id === id)
    const untilMs = clock.monotonicMs() + (carriesBlocks(relayed) ? SHORT_TURN_ROUND_MS : TURN_ROUND_MS)
    while (!signal.aborted && clock.monotonicMs() < untilMs) {
      const direct = directOnes(network.getConnections(relayed.remotePeer)).find(isNew)
      if (direct !== undefined) return direct
      await new Promise<void>(resolve => clock.after(LOOK_MS, resolve))
    }
    if (!signal.aborted && relayed.status === 'open' && carriesBlocks(relayed)) return relayed
    const says = `${relayed.remotePeer} was called through a relay, which carries no blocks, and did not call back`
    const error = new RowanError('NO_REPLICA', says)
    relayed.abort(error)
    const other = await this.#throughAnother(relayed, options)
    if (other === undefined) throw error
    return other
  }

  /** Of several relays some may carry blocks, and libp2p takes the first that answers. */
  async #throughAnother(tried: Connection, { addresses, signal }: CallBack): Promise<Connection | undefined> {
    const relays = new Set([relayAddressOf(tried.remoteAddr)])
    for (const address of addresses) {
      const relay = relayAddressOf(address)
      if (relay === undefined || relays.has(relay) || signal.aborted) continue
      relays.add(relay)
      try {
        const connection = await this.#components.network.dial([address], { signal })
        if (carriesBlocks(connection)) return connection
        connection.abort(new RowanError('NO_REPLICA', 'this relay carries no blocks either'))
      } catch {
        // The error that is told is that of the first relay; this was one more chance.
      }
    }
    return undefined
  }

  #allowed(peer: string, addresses: string[]): Multiaddr[] {
    const allowed = addresses.map(text => parsed(text, peer)).filter(address => address !== undefined)
    const dialled = allowed.filter(address => this.#components.mayDial(address))
    if (dialled.length > 0) return dialled
    const why = addresses.length === 0 ? 'it announces no address' : 'none of its addresses may be called from here'
    throw new RowanError('NO_REPLICA', `cannot reach ${peer}: ${why}`)
  }
}

interface CallBack {
  /** Direct connections that are not meant. */
  known: Connection[]
  /** Where the peer may be called. */
  addresses: Multiaddr[]
  signal: AbortSignal
}

/** The relay's own address, of one that leads over a relay. */
function relayAddressOf(address: Multiaddr): string | undefined {
  const [relay, rest] = address.toString().split('/p2p-circuit')
  return rest === undefined ? undefined : relay
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
