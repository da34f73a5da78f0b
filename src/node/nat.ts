/**
 * A volunteer behind a home router: nobody can dial it, and it fetches and serves all the same.
 *
 *     relay-client.ts   lets this peer be called through others, where nobody can dial it
 *     relay-server.ts   lets others be called through this peer, where it can be dialled
 *     autonat.ts        finds out which of its own addresses others reach
 *     port-mapping.ts   has the router lead a port to it
 *     DCUtR (library)   makes a relayed connection a direct one: whoever was called dials back
 *
 * What DCUtR brings here is the *turning round*: V behind a router, called through a relay by F that can be dialled, dials F. Two peers
 * that are both behind routers would have to punch holes, which TCP in Node cannot (it would have to dial from the very port that it
 * listens on); they meet through a relay that carries blocks, or not at all.
 *
 * Addresses that strangers tell in these protocols pass the same gate as all others (neighbourhood.ts): a call through a relay never
 * makes this peer dial a private address that it has not met privately.
 *
 * What was found out does not stay true: a laptop is carried elsewhere, a router forgets a port. So proofs end (reach-proofs.ts), and then
 * this peer waits again for somebody to dial it, and seeks relays. IPv6 alone does not let them go, for many have only IPv4.
 *
 * All of this is about the Internet: a peer that has met nobody of it asks neither its router nor a relay.
 *
 * Owns: when each of these begins. Does not own: which relays (relay-client.ts), what is a proof (reach-proofs.ts).
 */
import type { AutoNATv2Components } from '@libp2p/autonat-v2'
import { type DCUtRServiceComponents, dcutr } from '@libp2p/dcutr'
import { type Connection, type ConnectionGater, type Startable, start, stop } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import { hostOf, relayOf } from '../directory/addresses.ts'
import type { Clock, Log, Random, Timer } from '../environment.ts'
import { AutoNat } from './autonat.ts'
import { type AddressManager, gated, overriding, StreamGate } from './library-parts.ts'
import type { RowanPeer } from './peer.ts'
import { PortMapping } from './port-mapping.ts'
import { ReachProofs } from './reach-proofs.ts'
import { isNamedForInternet, isOfInternet, namedPublicHosts, type ServeSituation } from './reachability.ts'
import { RelayClient } from './relay-client.ts'
import { RelayServer, type RelaySettings } from './relay-server.ts'

export interface NatSettings {
  situation: ServeSituation
  /** Whether this peer lets itself be called through relays where nobody can dial it. */
  useRelays: boolean
  /** Whether it asks its router for a port then. */
  mapPort: boolean
  relay: RelaySettings
}

/** How others reach this peer. */
export interface Reachability {
  /** `direct`: they dial it; `relay`: they call it through others; `none`: not at all; `off`: it does not listen. */
  how: 'direct' | 'relay' | 'none' | 'off'
  /** The relays that it is called through, by their ids. */
  relays: string[]
  /** Peers that are called through this one, and what it has passed on for them. */
  relayedPeers: number
  relayedBytes: number
}

/** So long a peer that has met the Internet waits for somebody of it to dial it, before it counts as behind a router. */
const PATIENCE_MS = 3_000
/** How often it looks whether what was proven still holds. */
export const REVIEW_MS = 60_000
const DCUTR_TIMEOUT_MS = 5_000
/** Attempts to turn one relayed connection round, beside the one that needs no talk. */
const DCUTR_RETRIES = 1
const MAX_DCUTR_STREAMS = 32
const DCUTR_STREAMS_PER_RELAY = 16
const FIND_PEERS_MS = 10_000
const FOR_EVER_MS = 100 * 365 * 24 * 3_600_000

type Components = Parameters<RelayServer['service']>[0] & DCUtRServiceComponents & AutoNATv2Components

export class Nat {
  readonly #settings: NatSettings
  readonly #clock: Clock
  readonly #random: Random
  readonly #log: Log
  readonly #client: RelayClient
  readonly #server: RelayServer
  readonly #autoNat = new AutoNat()
  #addressManager: AddressManager | undefined
  #peer: RowanPeer | undefined
  #ports: PortMapping | undefined
  readonly #proofs: ReachProofs
  /** Somebody near has dialled it; counts only while the Internet was not met. */
  #isProvenNearby = false
  #hasMetInternet = false
  /** Connections from before a proof was lost show nothing any more, although they may not have noticed their end yet. */
  readonly #doubted = new WeakSet<Connection>()
  /** Set also when it is over, until somebody dials. */
  #patience: Timer | undefined
  #review: Timer | undefined
  #stopped = false

  constructor(components: { clock: Clock; random: Random; log: Log }, settings: NatSettings) {
    this.#settings = settings
    this.#random = components.random
    this.#clock = components.clock
    this.#log = components.log
    this.#client = new RelayClient(components)
    this.#server = new RelayServer(components, settings.relay)
    this.#proofs = new ReachProofs(isNamedForInternet(settings.situation))
  }

  // ---- What libp2p is made with

  get transport(): RelayClient['transport'] {
    return this.#client.transport
  }

  readonly service = (components: Components): Startable => {
    this.#addressManager = components.addressManager
    this.#server.service(components)
    const gate = new StreamGate({ atOnce: MAX_DCUTR_STREAMS, perPeer: 1, perNetwork: DCUTR_STREAMS_PER_RELAY })
    const upgrade = dcutr({ timeout: DCUTR_TIMEOUT_MS, retries: DCUTR_RETRIES })(
      overriding(components, { registrar: gated(components.registrar, gate) })
    )
    const autoNat = this.#autoNat.service(components)
    return { start: () => start(upgrade, autoNat), stop: () => stop(upgrade, autoNat) }
  }

  get gater(): ConnectionGater {
    return {
      denyInboundRelayReservation: source => this.#server.deniesReservation(source),
      denyOutboundRelayedConnection: source => this.#server.deniesCircuit(source),
      denyInboundRelayedConnection: (relay, caller) => this.#client.deniesCall(relay, caller)
    }
  }

  readonly announceFilter = (addresses: Multiaddr[]): Multiaddr[] =>
    addresses.filter(address => this.#client.announces(address.toString()))

  // ---- Its life

  start(peer: RowanPeer): void {
    this.#peer = peer
    this.#confirmNamed()
    this.#client.start(peer, () => findPeers(peer))
    peer.addEventListener('connection:open', this.#onConnection)
    if (this.#listens) this.#reviewAgain()
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#patience?.cancel()
    this.#review?.cancel()
    this.#peer?.removeEventListener('connection:open', this.#onConnection)
    await this.#ports?.stop()
    await this.#client.release()
    await this.#server.stop()
  }

  /** Whether this peer is to leave its line alone: it is then no relay. */
  setQuiet(isQuiet: boolean): void {
    this.#server.isQuiet = isQuiet
  }

  state(): Reachability {
    const { relays } = this.#client
    // The first peer of a network, and one that was told to, need not have been dialled.
    const isPresumed = !this.#hasMetInternet && this.#peer?.services.dht.getMode() === 'server'
    const isDirect = this.#isDialableByAll() || isPresumed || (this.#isDialable() && relays.length === 0)
    const how = !this.#listens ? 'off' : isDirect ? 'direct' : relays.length > 0 ? 'relay' : 'none'
    return {
      how,
      relays: how === 'relay' ? relays : [],
      relayedPeers: this.#server.reservations,
      relayedBytes: this.#server.relayedBytes
    }
  }

  readonly #onConnection = ({ detail }: CustomEvent<Connection>): void => {
    const remote = detail.remoteAddr.toString()
    if (this.#stopped || !this.#listens || relayOf(remote) !== undefined) return
    const isOutside = isOfInternet(remote)
    if (detail.direction === 'inbound') {
      if (isOutside) this.#proofs.cameIn(remote, this.#clock.monotonicMs())
      else this.#isProvenNearby = true
    }
    if (isOutside) this.#hasMetInternet = true
    this.#act()
  }

  get #listens(): boolean {
    return this.#settings.situation.listen.length > 0
  }

  /** Whether somebody can dial it. */
  #isDialable(): boolean {
    const isProven = this.#proofs.holds('ip6', this.#clock.monotonicMs())
    return isProven || this.#isDialableByAll()
  }

  /** Whether nobody needs a relay to call it. */
  #isDialableByAll(): boolean {
    const isProven = this.#proofs.holds('ip4', this.#clock.monotonicMs())
    return isProven || (this.#isProvenNearby && !this.#hasMetInternet)
  }

  /** Begins, and ends, what the proofs at hand call for. */
  #act(): void {
    if (this.#isDialable()) this.#offer()
    else this.#withdraw()
    if (this.#isDialableByAll()) this.#letGo()
    else if (this.#hasMetInternet) this.#patience ??= this.#clock.after(PATIENCE_MS, () => this.#getReached())
  }

  #offer(): void {
    this.#server.offer().catch(error => this.#log.warn('cannot become a relay', { error: String(error) }))
  }

  #withdraw(): void {
    this.#server.stop().catch(error => this.#log.warn('cannot cease to be a relay', { error: String(error) }))
  }

  #letGo(): void {
    this.#patience?.cancel()
    this.#patience = undefined
    this.#client.release().catch(error => this.#log.warn('cannot let relays go', { error: String(error) }))
  }

  #reviewAgain(): void {
    this.#lookAround()
    this.#review = this.#clock.after(REVIEW_MS, () => this.#reviewAgain())
  }

  /** Who came in and is still here shows it still; a host's address that is gone shows the contrary. */
  #lookAround(): void {
    const now = this.#clock.monotonicMs()
    const own = this.#addressManager?.getAddressesWithMetadata().filter(({ type }) => type === 'transport') ?? []
    const places = own.map(({ multiaddr }) => multiaddr.toString()).filter(text => relayOf(text) === undefined)
    if (this.#proofs.own(places.map(hostOf))) {
      this.#doubt()
      this.#ports?.start()
    }
    for (const connection of this.#peer!.getConnections()) {
      const remote = connection.remoteAddr.toString()
      const isHere = connection.direction === 'inbound' && connection.status === 'open' && isOfInternet(remote)
      if (isHere && !this.#doubted.has(connection)) this.#proofs.cameIn(remote, now)
    }
    this.#act()
  }

  #doubt(): void {
    for (const connection of this.#peer!.getConnections()) this.#doubted.add(connection)
  }

  #getReached(): void {
    if (this.#stopped || this.#isDialableByAll()) return
    const { useRelays, mapPort } = this.#settings
    this.#log.info('nobody has dialled this peer: it is likely behind a router', { useRelays, mapPort })
    if (mapPort) this.#mapPort()
    if (!useRelays) return
    this.#client.seek().catch(error => this.#log.warn('cannot be called through relays', { error: String(error) }))
  }

  #mapPort(): void {
    if (this.#ports === undefined) {
      const components = { clock: this.#clock, random: this.#random, log: this.#log }
      const promised = () => this.#autoNat.askAgain(this.#peer!.getConnections())
      const lost = () => {
        this.#proofs.forget('ip4')
        this.#doubt()
        this.#act()
      }
      this.#ports = new PortMapping({ ...components, addresses: this.#addressManager!, promised, lost })
    }
    this.#ports.start()
  }

  /** What its owner has named to listen on need not be found out; libp2p would not tell it before. */
  #confirmNamed(): void {
    const hosts = namedPublicHosts(this.#settings.situation.listen)
    for (const { multiaddr, type } of this.#addressManager?.getAddressesWithMetadata() ?? []) {
      if (type !== 'transport' || !hosts.includes(hostOf(multiaddr.toString()))) continue
      this.#addressManager!.confirmObservedAddr(multiaddr, { type: 'transport', ttl: FOR_EVER_MS })
    }
  }
}

/** Meets those who are near in the DHT. */
async function findPeers(peer: RowanPeer): Promise<void> {
  const signal = AbortSignal.timeout(FIND_PEERS_MS)
  for await (const _ of peer.services.dht.getClosestPeers(peer.peerId.toMultihash().bytes, { signal }));
}
