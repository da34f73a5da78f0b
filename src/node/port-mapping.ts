/**
 * A port of the home router that leads to this peer, for as long as it runs.
 *
 * Routers are searched on each local network that this peer listens on, asked for the same port that it listens on there (or, if that is
 * another's, for one drawn by lot), and asked again before the lease ends. What a router promises is announced only when
 * somebody has come in by it (autonat.ts). At the end the port is given back; after a crash the lease ends by itself, so a router that
 * knows none but for ever is not asked for one.
 *
 * Owns: the leases. Does not own: the search (gateway-search.ts), the router's language (gateway.ts).
 */
import { isIPv4 } from 'node:net'
import { REACH, reachOf } from '../directory/addresses.ts'
import type { Clock, Log, Random, Timer } from '../environment.ts'
import { asRowanError } from '../errors.ts'
import { Gateway } from './gateway.ts'
import { findGateways } from './gateway-search.ts'
import type { AddressManager } from './library-parts.ts'

const LEASE_SECONDS = 3600
const RENEW_MS = 25 * 60_000
/** Without a router that gives a port: the next search, each time twice as far off. */
const FIRST_SEARCH_MS = 60_000
const LONGEST_SEARCH_MS = 3_600_000
/** A host has few networks; each is asked. */
const MAX_LISTENERS = 4
const TRIES = 3
/** Drawn by lot from the ports that nobody is given by name. */
const FIRST_DYNAMIC_PORT = 49_152
const GIVE_BACK_MS = 3_000

interface Listener {
  host: string
  port: number
}

interface Lease extends Listener {
  gateway: Gateway
  externalHost: string
  externalPort: number
}

type Addresses = Pick<
  AddressManager,
  'getAddressesWithMetadata' | 'addPublicAddressMapping' | 'removePublicAddressMapping'
>

export interface PortMappingComponents {
  addresses: Addresses
  /** There is a port that may be tried. */
  promised: () => void
  /** One that was promised leads here no more. */
  lost: () => void
  /** Of the local network, if absent. */
  search?: typeof findGateways
  clock: Clock
  random: Random
  log: Log
}

export class PortMapping {
  readonly #components: PortMappingComponents
  readonly #leases = new Map<string, Lease>()
  readonly #stopping = new AbortController()
  #searchMs = FIRST_SEARCH_MS
  #timer: Timer | undefined
  #round: Promise<void> | undefined

  constructor(components: PortMappingComponents) {
    this.#components = components
  }

  /** From now on ports are sought, and kept. */
  start(): void {
    if (this.#round !== undefined || this.#stopping.signal.aborted) return
    this.#timer?.cancel()
    this.#round = this.#work().finally(() => {
      this.#round = undefined
      if (this.#stopping.signal.aborted) return
      const isMapped = this.#leases.size > 0
      const delayMs = isMapped ? RENEW_MS : this.#searchMs
      this.#searchMs = isMapped ? FIRST_SEARCH_MS : Math.min(2 * this.#searchMs, LONGEST_SEARCH_MS)
      this.#timer = this.#components.clock.after(delayMs, () => this.start())
    })
  }

  /** Gives all ports back. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    this.#timer?.cancel()
    await this.#round
    // Not by this clock alone: it ends what waits for an answer, too.
    const late = new AbortController()
    const timer = this.#components.clock.after(GIVE_BACK_MS, () => late.abort())
    await Promise.all([...this.#leases.values()].map(lease => this.#giveBack(lease, late.signal)))
    timer.cancel()
  }

  /** Never rejects. */
  async #work(): Promise<void> {
    const { signal } = this.#stopping
    const listeners = this.#listeners()
    const names = listeners.map(nameOf)
    for (const lease of [...this.#leases.values()].filter(each => !names.includes(nameOf(each)))) {
      // This host has left that address, which may be another's next.
      await this.#giveBack(lease, signal)
      this.#components.lost()
    }
    for (const listener of listeners) {
      if (signal.aborted) return
      const lease = this.#leases.get(nameOf(listener))
      const isKept = lease !== undefined && (await this.#keep(lease))
      if (!isKept) await this.#seek(listener)
    }
  }

  /** Where this peer listens on local networks. */
  #listeners(): Listener[] {
    const found = new Map<string, Listener>()
    for (const { multiaddr, type } of this.#components.addresses.getAddressesWithMetadata()) {
      const [ip, tcp] = multiaddr.getComponents()
      if (type !== 'transport' || ip?.name !== 'ip4' || tcp?.name !== 'tcp') continue
      if (reachOf(multiaddr.toString()) !== REACH.private) continue
      const listener = { host: ip.value!, port: Number(tcp.value) }
      found.set(nameOf(listener), listener)
    }
    return [...found.values()].slice(0, MAX_LISTENERS)
  }

  async #seek(listener: Listener): Promise<void> {
    const { search = findGateways } = this.#components
    const { signal } = this.#stopping
    for (const location of await search(listener.host, { signal })) {
      if (signal.aborted) return
      try {
        const gateway = await Gateway.open(location, { signal })
        const externalHost = await gateway.externalAddress({ signal })
        const isOfInternet = isIPv4(externalHost) && reachOf(`/ip4/${externalHost}/tcp/1`) === REACH.public
        if (!isOfInternet) {
          this.#components.log.info('the router is behind another one, so a port of it is of no use', { externalHost })
          continue
        }
        const externalPort = await this.#ask(gateway, listener)
        if (externalPort === undefined) continue
        this.#promised({ ...listener, gateway, externalHost, externalPort })
        return
      } catch (error) {
        if (signal.aborted) return
        this.#tell('a router gives no port', error, { location: location.href })
      }
    }
  }

  async #ask(gateway: Gateway, { host, port }: Listener): Promise<number | undefined> {
    const { random } = this.#components
    const { signal } = this.#stopping
    for (let time = 0; time < TRIES; time++) {
      const drawn = FIRST_DYNAMIC_PORT + Math.floor(random.unit() * (65_536 - FIRST_DYNAMIC_PORT))
      const externalPort = time === 0 ? port : drawn
      const isGiven = await gateway.map({ host, port, externalPort, leaseSeconds: LEASE_SECONDS }, { signal })
      if (isGiven) return externalPort
    }
    return undefined
  }

  /** Renews a lease. @returns false where it is lost, or leads elsewhere */
  async #keep(lease: Lease): Promise<boolean> {
    const { gateway, host, port, externalHost, externalPort } = lease
    const { signal } = this.#stopping
    try {
      const isSame = (await gateway.externalAddress({ signal })) === externalHost
      const mapping = { host, port, externalPort, leaseSeconds: LEASE_SECONDS }
      if (isSame && (await gateway.map(mapping, { signal }))) return true
    } catch (error) {
      // It is given back, then.
      if (signal.aborted) return true
      this.#tell('a router does not keep its promise', error, { externalHost, externalPort })
    }
    this.#forget(lease)
    this.#components.lost()
    return false
  }

  #promised(lease: Lease): void {
    const { addresses, promised, log } = this.#components
    const { host, port, externalHost, externalPort } = lease
    this.#leases.set(nameOf(lease), lease)
    addresses.addPublicAddressMapping(host, port, externalHost, externalPort, 'tcp')
    log.info('the router has given a port to this peer', { host, port, externalHost, externalPort })
    promised()
  }

  #forget(lease: Lease): void {
    const { host, port, externalHost, externalPort } = lease
    this.#leases.delete(nameOf(lease))
    this.#components.addresses.removePublicAddressMapping(host, port, externalHost, externalPort, 'tcp')
  }

  async #giveBack(lease: Lease, signal: AbortSignal): Promise<void> {
    const { gateway, externalPort } = lease
    try {
      await gateway.unmap(externalPort, { signal })
    } catch (error) {
      this.#tell('a port of the router could not be given back; its lease ends by itself', error, { externalPort })
    }
    this.#forget(lease)
  }

  #tell(message: string, error: unknown, values: Record<string, unknown>): void {
    const { code, message: says } = asRowanError(error, 'GATEWAY_REFUSED')
    this.#components.log.info(message, { ...values, code, message: says })
  }
}

function nameOf({ host, port }: Listener): string {
  return `${host}:${port}`
}
