/**
 * How a peer that nobody can dial lets itself be called: it keeps a place at relays (relay-server.ts), and announces them.
 *
 * The library makes reservations and keeps them alive; which relays are asked is decided here, instead of by its walks through the DHT:
 * peers that this one is connected to anyway and called itself, at a public address, then such as it has met before, and only
 * when there are none, others that the DHT names; of these, such as say that they carry blocks before others. Two, at different hosts if possible, so that one may die.
 *
 * A relay's word is not enough for an address: it could name a third party's, whom everybody would then dial. So only the one at which
 * this peer itself is connected to the relay is announced (`announces`).
 *
 * For the same reason no relay is ever dialled by its id: libp2p would try each address that it knows of it, and whoever claims to be a
 * relay tells it which. A relay is called at a public address, and one that a circuit's address names, at that and no other.
 *
 * Owns: the choice of relays. Does not own: what makes this necessary (reachability.ts).
 */
import {
  type CircuitRelayTransportComponents,
  circuitRelayTransport,
  RELAY_V2_HOP_CODEC
} from '@libp2p/circuit-relay-v2'
import type { Connection, Libp2p, Listener, Peer, PeerId, Transport } from '@libp2p/interface'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { PROTOCOL } from '../cluster.ts'
import { hostOf, REACH, reachOf, relayOf } from '../directory/addresses.ts'
import { RateMeter } from '../directory/rate-meter.ts'
import type { Clock, Log, Timer } from '../environment.ts'
import { RowanError } from '../errors.ts'
import { overriding } from './library-parts.ts'

/** Reservations that are held at a time. */
export const RELAYS_WANTED = 2
/** A relay that had no place, or did not answer, is not asked again for so long, and each time twice as long. */
const FIRST_PAUSE_MS = 5_000
const LONGEST_PAUSE_MS = 10 * 60_000
const LOOK_MS = 15_000
/** Asking the DHT for more peers, where there are too few relays. */
const SEARCH_MS = 5 * 60_000
const DIAL_TIMEOUT_MS = 5_000
const MAX_CANDIDATES = 16
/** Of its addresses, those that are tried. */
const MAX_PLACES = 8
const MAX_REMEMBERED_REFUSALS = 256
/** Calls that come in through relays: each makes this peer dial whoever calls. */
const MAX_STOP_STREAMS = 16
export const CALLS_PER_MINUTE = 60
/** So that neither one stranger nor one relay takes them all. */
export const CALLS_PER_RELAY_PER_MINUTE = 30
export const CALLS_PER_CALLER_PER_MINUTE = 6
const MAX_METERED_PEERS = 1024

/** The library's own, which its type does not show. */
interface Reservations {
  addRelay(relay: PeerId, type: 'discovered'): Promise<unknown>
  hasReservation(relay: PeerId): boolean
  addEventListener(name: 'relay:removed' | 'relay:created-reservation', listener: () => void): void
}

interface Candidate {
  id: PeerId
  /** Public addresses of it, with its id. */
  places: Multiaddr[]
}

export type RelayClientPeer = Pick<Libp2p, 'getConnections' | 'dial' | 'peerStore' | 'addEventListener' | 'peerId'>

export class RelayClient {
  readonly #clock: Clock
  readonly #log: Log
  readonly #calls = {
    perCaller: minutely(CALLS_PER_CALLER_PER_MINUTE, MAX_METERED_PEERS),
    perRelay: minutely(CALLS_PER_RELAY_PER_MINUTE, MAX_METERED_PEERS),
    inAll: minutely(CALLS_PER_MINUTE, 1)
  }
  readonly #refusals = new Map<string, { untilMs: number; pauseMs: number }>()
  readonly #listeners = new Set<Listener>()
  #components: CircuitRelayTransportComponents | undefined
  #reservations: Reservations | undefined
  #peer: RelayClientPeer | undefined
  #findPeers: () => Promise<void> = async () => undefined
  #isSeeking = false
  #isLooking = false
  #nextSearchMs = 0
  #timer: Timer | undefined

  constructor(components: { clock: Clock; log: Log }) {
    this.#clock = components.clock
    this.#log = components.log
  }

  /** For libp2p: dialling through relays, and being dialled. */
  readonly transport = (components: CircuitRelayTransportComponents): Transport => {
    this.#components = components
    const transport = circuitRelayTransport({ maxInboundStopStreams: MAX_STOP_STREAMS })(
      overriding(components, {
        // Its own search for relays finds nothing: #look decides.
        registrar: overriding(components.registrar, { register: async () => 'none', unregister: () => undefined }),
        peerStore: overriding(components.peerStore, { all: async () => [] }),
        randomWalk: { async *walk() {} },
        connectionManager: overriding(components.connectionManager, {
          openConnection: async relay => this.#open(relay)
        }),
        // Whoever passes on a call without having given a place would have one reserved at itself.
        transportManager: overriding(components.transportManager, { listen: async () => undefined })
      })
    )
    this.#reservations = (transport as Transport & { reservationStore: Reservations }).reservationStore
    const dial = transport.dial.bind(transport)
    transport.dial = async (address, options) => {
      await this.#meet(address, options)
      return dial(address, options)
    }
    const createListener = transport.createListener.bind(transport)
    transport.createListener = options => {
      const listener = createListener(options)
      this.#listeners.add(listener)
      return listener
    }
    return transport
  }

  /** @param findPeers - connects to more of the network's peers */
  start(peer: RelayClientPeer, findPeers: () => Promise<void>): void {
    this.#peer = peer
    this.#findPeers = findPeers
    this.#reservations!.addEventListener('relay:removed', () => void this.#look())
    peer.addEventListener('peer:identify', ({ detail }) => {
      if (detail.protocols.includes(RELAY_V2_HOP_CODEC)) void this.#look()
    })
  }

  /** From now on relays are sought, and kept. */
  async seek(): Promise<void> {
    if (this.#isSeeking) return
    this.#isSeeking = true
    await this.#components!.transportManager.listen(
      Array.from({ length: RELAYS_WANTED }, () => multiaddr('/p2p-circuit'))
    )
    this.#lookAgain()
  }

  /** No longer: this peer can be dialled, or stops. */
  async release(): Promise<void> {
    this.#isSeeking = false
    this.#timer?.cancel()
    const listeners = [...this.#listeners]
    this.#listeners.clear()
    await Promise.all(listeners.map(listener => listener.close()))
  }

  /** Where this peer can be called now: relays by their ids. */
  get relays(): string[] {
    const connected = new Map(this.#usable().map(({ remotePeer }) => [remotePeer.toString(), remotePeer]))
    return [...connected].filter(([, id]) => this.#reservations?.hasReservation(id) === true).map(([name]) => name)
  }

  /** Whether an address of this peer is to be told to others. */
  announces(address: string): boolean {
    return relayOf(address) === undefined || leadsOver(address, this.#usable())
  }

  /** Whether this one may not call through a relay now. For libp2p's gater. */
  readonly deniesCall = (relay: PeerId, caller: PeerId): boolean => {
    if (this.#reservations?.hasReservation(relay) !== true) return true
    const now = this.#clock.monotonicMs()
    const { perCaller, perRelay, inAll } = this.#calls
    // Who has used up its own takes nothing from the others.
    return !(perCaller.take(caller.toString(), now) && perRelay.take(relay.toString(), now) && inAll.take('', now))
  }

  /** Connections to what may be a relay: called by this peer, at a public address, and not through another relay. */
  #usable(): Connection[] {
    return (this.#peer?.getConnections() ?? []).filter(
      ({ direct, limits, direction, status, remoteAddr }) =>
        direct &&
        limits === undefined &&
        direction === 'outbound' &&
        status === 'open' &&
        reachOf(remoteAddr.toString()) === REACH.public
    )
  }

  /** The connection that the library means by a relay's id. */
  #open(relay: Parameters<CircuitRelayTransportComponents['connectionManager']['openConnection']>[0]): Connection {
    const open = this.#usable().find(({ remotePeer }) => remotePeer.equals(relay))
    if (open === undefined) throw new RowanError('PEER_GONE', `there is no connection to the relay ${relay}`)
    return open
  }

  /** Connects to the relay that a circuit's address names, at the very place that it names. */
  async #meet(address: Multiaddr, options: { signal: AbortSignal }): Promise<void> {
    const [place = ''] = address.toString().split('/p2p-circuit')
    const relay = relayOf(address.toString())
    const { connectionManager } = this.#components!
    const isMet = connectionManager.getConnections().some(({ remotePeer }) => remotePeer.toString() === relay)
    if (isMet) return
    if (reachOf(place) !== REACH.public) {
      throw new RowanError('NO_PEERS', `a relay is called at a public address, and not at ${place}`)
    }
    await connectionManager.openConnection(multiaddr(place), { signal: options.signal })
  }

  #lookAgain(): void {
    if (!this.#isSeeking) return
    void this.#look()
    this.#timer?.cancel()
    this.#timer = this.#clock.after(LOOK_MS, () => this.#lookAgain())
  }

  /** Reserves places until there are enough. Never rejects. */
  async #look(): Promise<void> {
    if (!this.#isSeeking || this.#isLooking || this.relays.length >= RELAYS_WANTED) return
    this.#isLooking = true
    try {
      for (const { id, places } of await this.#candidates()) {
        if (!this.#isSeeking || this.relays.length >= RELAYS_WANTED) return
        await this.#reserve(id, places)
      }
      this.#search()
    } catch (error) {
      this.#log.debug('looking for relays failed', { error: String(error) })
    } finally {
      this.#isLooking = false
    }
  }

  /** Lets more peers be met; whoever is identifies itself, and the next look sees it. */
  #search(): void {
    const now = this.#clock.monotonicMs()
    if (this.relays.length >= RELAYS_WANTED || now < this.#nextSearchMs) return
    this.#nextSearchMs = now + SEARCH_MS
    this.#findPeers().catch(error => this.#log.debug('a search for relays ended early', { error: String(error) }))
  }

  /** Who may be asked for a place: connected ones first, each host once before any twice, such as carry blocks before others. */
  async #candidates(): Promise<Candidate[]> {
    const { peerStore, peerId } = this.#peer!
    const speaksHop = await peerStore.all({ filters: [({ protocols }) => protocols.includes(RELAY_V2_HOP_CODEC)] })
    const known = new Map(speaksHop.map(peer => [peer.id.toString(), { id: peer.id, places: publicPlaces(peer) }]))
    const carriers = speaksHop.filter(({ protocols }) => protocols.includes(PROTOCOL.blocksRelay))
    const carrying = new Set(carriers.map(({ id }) => id.toString()))
    const rank = (id: PeerId) => (carrying.has(id.toString()) ? 0 : 1)
    const now = this.#clock.monotonicMs()
    const mayBeAsked = ({ id }: Candidate) =>
      !id.equals(peerId) &&
      this.#reservations?.hasReservation(id) === false &&
      (this.#refusals.get(id.toString())?.untilMs ?? 0) <= now
    const hosts = new Set<string>()
    const [first, second]: Candidate[][] = [[], []]
    const usable = this.#usable().sort((a, b) => rank(a.remotePeer) - rank(b.remotePeer))
    for (const { remotePeer, remoteAddr } of usable) {
      const candidate = { id: remotePeer, places: [remoteAddr] }
      if (!known.delete(remotePeer.toString()) || !mayBeAsked(candidate)) continue
      const host = hostOf(remoteAddr.toString())
      ;(hosts.has(host) ? second : first)!.push(candidate)
      hosts.add(host)
    }
    const others = [...known.values()].filter(other => other.places.length > 0 && mayBeAsked(other))
    others.sort((a, b) => rank(a.id) - rank(b.id))
    return [...first!, ...second!, ...others].slice(0, MAX_CANDIDATES)
  }

  #pause(name: string): void {
    const pauseMs = Math.min(2 * (this.#refusals.get(name)?.pauseMs ?? FIRST_PAUSE_MS / 2), LONGEST_PAUSE_MS)
    this.#refusals.set(name, { untilMs: this.#clock.monotonicMs() + pauseMs, pauseMs })
    if (this.#refusals.size > MAX_REMEMBERED_REFUSALS) this.#refusals.delete(this.#refusals.keys().next().value!)
  }

  async #reserve(relay: PeerId, places: Multiaddr[]): Promise<void> {
    const name = relay.toString()
    this.#pause(name)
    try {
      if (!this.#usable().some(({ remotePeer }) => remotePeer.equals(relay))) {
        await this.#peer!.dial(places, { signal: AbortSignal.timeout(DIAL_TIMEOUT_MS) })
        if (!this.#usable().some(({ remotePeer }) => remotePeer.equals(relay))) return
      }
      await this.#reservations!.addRelay(relay, 'discovered')
      this.#refusals.delete(name)
      this.#log.info('others can call this peer through a relay', { relay: name })
    } catch (error) {
      this.#log.debug('a relay has no place', { relay: name, error: String(error) })
    }
  }
}

/** Whether an address leads over a relay at the very place where one of these connections has reached it. */
export function leadsOver(
  address: string,
  connections: readonly Pick<Connection, 'remotePeer' | 'remoteAddr'>[]
): boolean {
  const relay = relayOf(address)
  const prefix = address.slice(0, address.indexOf('/p2p-circuit'))
  return connections.some(
    ({ remotePeer, remoteAddr }) => remotePeer.toString() === relay && withPeer(remoteAddr.toString(), relay) === prefix
  )
}

function minutely(count: number, maxNames: number): RateMeter {
  return new RateMeter({ burst: count, perSecond: count / 60 }, maxNames)
}

/** Where a relay may be called, of all that it, or somebody else, said of it. */
function publicPlaces({ id, addresses }: Pick<Peer, 'id' | 'addresses'>): Multiaddr[] {
  const texts = addresses.map(({ multiaddr }) => multiaddr.toString())
  const places = texts.filter(text => reachOf(text) === REACH.public && relayOf(text) === undefined)
  return places.slice(0, MAX_PLACES).map(text => multiaddr(withPeer(text, id.toString())))
}

function withPeer(address: string, peer: string): string {
  return address.endsWith(`/p2p/${peer}`) ? address : `${address}/p2p/${peer}`
}
