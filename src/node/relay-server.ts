/**
 * What this peer does for those whom nobody can dial: it lets them be called through itself (circuit relay v2).
 *
 * Such a peer reserves a place here and announces *this peer's address / p2p-circuit*. Whoever dials that is passed on to it, over two
 * streams that are joined here: a *circuit*. A circuit is for saying hello and turning the connection round (DCUtR), so it carries little
 * and not for long; where the owner allows it, it carries blocks, for two peers that nobody can dial (circuits.ts). The protocol is the
 * library's; how much of it there may be is here.
 *
 * Anybody may ask, so everything has a bound: reservations in all and for each network, circuits at a time and a minute, bytes and time
 * of each, bytes a second of all: else many small circuits would make a proxy of it. A reservation ends with the connection that it
 * was made over, so a flood leaves nothing behind.
 *
 * Offered only by a peer that was itself found to be dialable (reachability.ts). Owns: the offer. Does not own: connections.
 */
import {
  type CircuitRelayServerComponents,
  type CircuitRelayService,
  circuitRelayServer
} from '@libp2p/circuit-relay-v2'
import {
  type Connection,
  type Libp2pEvents,
  type PeerId,
  type Stream,
  start,
  stop,
  type TypedEventTarget
} from '@libp2p/interface'
import { PROTOCOL } from '../cluster.ts'
import { networkOf } from '../directory/addresses.ts'
import { RateMeter } from '../directory/rate-meter.ts'
import type { Clock, Log } from '../environment.ts'
import { RowanError } from '../errors.ts'
import { Circuits } from './circuits.ts'
import { gated, overriding, type Registrar, StreamGate } from './library-parts.ts'

export interface RelaySettings {
  /** Peers that may be reachable through this one at a time. */
  maxReservations: number
  /** Absent: no blocks pass through here. */
  blocks?: {
    /** Of one circuit, both ways. */
    maxBytes: number
    /** Of all circuits together. */
    maxBytesPerSecond: number
  }
}

/** A crowd behind one address is a school, or somebody with many ids. */
export const RESERVATIONS_PER_NETWORK = 8
const RESERVATION_TTL_MS = 3_600_000
/** Greeting, identify and DCUtR of both ends are a tenth of it; two blocks would not fit. */
const CONTROL_BYTES = 128 * 1024
const CIRCUIT_MS = 2 * 60_000
/** Of all circuits together where none carries blocks: some ten greetings a second. */
const CONTROL_BYTES_PER_SECOND = 125_000
const BLOCKS_CIRCUIT_MS = 3_600_000
/** Handshakes and circuits, one stream each at the side that dials. */
const MAX_HOP_STREAMS = 256
/** The same where each may have a window full of blocks in this peer's memory. */
const MAX_BLOCKS_STREAMS = 32
export const HOP_STREAMS_PER_PEER = 8
export const HOP_STREAMS_PER_NETWORK = 16
/** Circuits that are begun: by one network, and by all. */
export const CIRCUITS_PER_NETWORK_PER_MINUTE = 20
export const CIRCUITS_PER_MINUTE = 240
const MAX_METERED_NETWORKS = 4096
/** Towards one peer that has a reservation. */
const MAX_STOP_STREAMS = 16
const HANDSHAKE_MS = 10_000

type Components = CircuitRelayServerComponents & { events: TypedEventTarget<Libp2pEvents> }

export class RelayServer {
  readonly #settings: RelaySettings
  readonly #log: Log
  readonly #gate: StreamGate
  readonly #circuits: Circuits
  readonly #clock: Clock
  readonly #begunPerNetwork = minutely(CIRCUITS_PER_NETWORK_PER_MINUTE, MAX_METERED_NETWORKS)
  readonly #begun = minutely(CIRCUITS_PER_MINUTE, 1)
  #components: Components | undefined
  #relay: CircuitRelayService | undefined
  #isOffered = false
  #changed: Promise<void> = Promise.resolve()
  #isQuiet = false

  constructor(components: { clock: Clock; log: Log }, settings: RelaySettings) {
    this.#log = components.log
    this.#clock = components.clock
    this.#settings = settings
    const { blocks } = settings
    const atOnce = blocks === undefined ? MAX_HOP_STREAMS : MAX_BLOCKS_STREAMS
    this.#gate = new StreamGate({ atOnce, perPeer: HOP_STREAMS_PER_PEER, perNetwork: HOP_STREAMS_PER_NETWORK })
    this.#circuits = new Circuits(components, blocks ?? { maxBytesPerSecond: CONTROL_BYTES_PER_SECOND })
  }

  /** For libp2p: what it starts and stops is nothing; the offer begins with `offer`. */
  readonly service = (components: Components): object => {
    this.#components = components
    return {}
  }

  /** The library's part: of one that was stopped and starts again, circuits would not end with it a second time. */
  #build(components: Components): CircuitRelayService {
    const { maxReservations, blocks } = this.#settings
    const limit = Math.min(blocks?.maxBytes ?? CONTROL_BYTES, Number.MAX_SAFE_INTEGER)
    return circuitRelayServer({
      hopTimeout: HANDSHAKE_MS,
      maxInboundHopStreams: HOP_STREAMS_PER_PEER,
      maxOutboundStopStreams: MAX_STOP_STREAMS,
      reservations: {
        maxReservations,
        reservationTtl: RESERVATION_TTL_MS,
        defaultDataLimit: BigInt(limit),
        defaultDurationLimit: blocks === undefined ? CIRCUIT_MS : BLOCKS_CIRCUIT_MS
      }
    })(
      overriding(components, {
        registrar: this.#watching(gated(components.registrar, this.#gate)),
        connectionManager: overriding(components.connectionManager, { getConnections: peer => this.#ways(peer) })
      })
    )
  }

  /** What has passed through circuits. */
  get relayedBytes(): number {
    return this.#circuits.bytes
  }

  get reservations(): number {
    return this.#relay?.reservations.size ?? 0
  }

  /** From now on others may reserve a place. */
  async offer(): Promise<void> {
    if (this.#isOffered || this.#components === undefined || this.#settings.maxReservations === 0) return
    this.#isOffered = true
    await this.#afterwards(() => this.#begin())
  }

  /** No longer, until it is offered again. */
  async stop(): Promise<void> {
    if (!this.#isOffered) return
    this.#isOffered = false
    await this.#afterwards(() => this.#end())
  }

  /** One at a time: libp2p knows each protocol once. */
  #afterwards(change: () => Promise<void>): Promise<void> {
    const done = this.#changed.then(change)
    this.#changed = done.catch(() => undefined)
    return done
  }

  async #begin(): Promise<void> {
    const { events, registrar } = this.#components!
    if (!this.#isOffered || this.#relay !== undefined) return
    this.#relay = this.#build(this.#components!)
    events.addEventListener('connection:close', this.#onClosed)
    await start(this.#relay)
    // Volunteers ask such a relay first; nothing is said in that protocol.
    const tell = (stream: Pick<Stream, 'abort'>) => stream.abort(new RowanError('WIRE_INVALID', 'nothing is said here'))
    if (this.#settings.blocks !== undefined) await registrar.handle(PROTOCOL.blocksRelay, tell)
    this.#log.info('peers that nobody can dial may be called through this one', { ...this.#settings })
  }

  async #end(): Promise<void> {
    const { events, registrar } = this.#components!
    const relay = this.#relay
    if (this.#isOffered || relay === undefined) return
    this.#relay = undefined
    events.removeEventListener('connection:close', this.#onClosed)
    this.#circuits.stop()
    for (const { signal } of relay.reservations.values()) signal.clear()
    await stop(relay)
    await registrar.unhandle(PROTOCOL.blocksRelay)
  }

  /** On a line that costs, and outside its owner's hours, this peer passes nothing on. */
  set isQuiet(isQuiet: boolean) {
    this.#isQuiet = isQuiet
    if (isQuiet) this.#circuits.cut()
  }

  get isQuiet(): boolean {
    return this.#isQuiet
  }

  /** Whether this peer's network has enough reservations. For libp2p's gater. */
  readonly deniesReservation = (source: PeerId): boolean => {
    if (this.#isQuiet) return true
    const reserved = this.#relay?.reservations
    if (reserved === undefined || reserved.has(source)) return false
    const networks = this.#networksOf(source)
    const ofThese = [...reserved.values()].filter(({ addr }) => networks.has(networkOf(addr.toString())))
    return ofThese.length >= RESERVATIONS_PER_NETWORK
  }

  /** Whether no more circuits may begin now that this peer wants. For libp2p's gater. */
  readonly deniesCircuit = (source: PeerId): boolean => {
    if (this.#isQuiet) return true
    const now = this.#clock.monotonicMs()
    const isWithin = [...this.#networksOf(source)].every(network => this.#begunPerNetwork.take(network, now))
    return !isWithin || !this.#begun.take('', now)
  }

  /** A registrar whose handlers' circuits are found. */
  #watching(registrar: Registrar): Registrar {
    const circuits = this.#circuits
    return overriding(registrar, {
      handle: (protocol, handler, options) =>
        registrar.handle(
          protocol,
          (stream, connection) => circuits.serve(stream, () => handler(stream, connection)),
          options
        )
    })
  }

  /** Connections to a peer with a place here, over which its circuits are opened: direct ones. */
  #ways(peer: PeerId | undefined): Connection[] {
    const direct = this.#connectionsOf(peer)
    const circuits = this.#circuits
    return direct.map(connection =>
      overriding(connection, {
        newStream: async (protocol, options) => {
          const stream = await connection.newStream(protocol, options)
          circuits.opened(stream)
          return stream
        }
      })
    )
  }

  /** A place is free again when its peer has left. */
  readonly #onClosed = ({ detail: { remotePeer } }: CustomEvent<Connection>): void => {
    const reservation = this.#relay!.reservations.get(remotePeer)
    if (reservation === undefined || this.#connectionsOf(remotePeer).length > 0) return
    // Else its end would take away a later one of the same peer.
    reservation.signal.clear()
    this.#relay!.reservations.delete(remotePeer)
  }

  #networksOf(peer: PeerId): Set<string> {
    return new Set(this.#connectionsOf(peer).map(({ remoteAddr }) => networkOf(remoteAddr.toString())))
  }

  #connectionsOf(peer: PeerId | undefined): Connection[] {
    const open = this.#components?.connectionManager.getConnections(peer) ?? []
    return open.filter(({ direct, status }) => direct && status === 'open')
  }
}

function minutely(count: number, maxNames: number): RateMeter {
  return new RateMeter({ burst: count, perSecond: count / 60 }, maxNames)
}
