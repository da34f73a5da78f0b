/**
 * Finds out whether an announced address leads to the peer that announced it.
 *
 * A new connection is opened to the address; libp2p's handshake proves who answers. What was found out is remembered,
 * so an announcer is dialled once for each change of its addresses and not for each renewal. Because anybody can
 * announce anything, the dialling is limited: never closer than the announcer was met (addresses.ts), so many in all,
 * so many for one who asks, or it could keep all others from being looked for, and so many for one host, or a crowd of
 * invented announcers could turn the holders against a third party.
 */

import type { Connection } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { withDeadline } from '../deadline.ts'
import type { Clock, Log } from '../environment.ts'
import { hostOf, mayDial, networkOf, type Reach } from './addresses.ts'
import type { DirectoryNetwork } from './directory-network.ts'
import {
  DIAL_BACK_FAILURE_VALID_MS,
  DIAL_BACK_SUCCESS_VALID_MS,
  DIAL_BACK_TIMEOUT_MS,
  DIAL_BACKS_AT_ONCE,
  DIAL_BACKS_PER_ASKER_PER_MINUTE,
  DIAL_BACKS_PER_HOST_PER_MINUTE,
  DIAL_BACKS_PER_MINUTE,
  HOSTS_PER_DIAL_BACK,
  MAX_DIAL_BACK_RESULTS,
  MAX_DIAL_BACKS_WAITING,
  MAX_METERED_PEERS
} from './limits.ts'
import { RateMeter } from './rate-meter.ts'

export interface Announced {
  peer: string
  /** Multiaddrs that end in `/p2p/PEER`. */
  addresses: string[]
  met: Reach
  /** The peer that brought the announcement. */
  asker: string
}

interface Job {
  announced: Announced
  done: PromiseWithResolvers<boolean>
}

export class DialBack {
  readonly #network: Pick<DirectoryNetwork, 'dial' | 'getConnections'>
  readonly #clock: Clock
  readonly #log: Log
  readonly #results = new Map<string, { reached: boolean; untilMs: number }>()
  readonly #underWay = new Map<string, Promise<boolean>>()
  readonly #waiting: Job[] = []
  readonly #perAsker: RateMeter
  readonly #perNetwork: RateMeter
  readonly #inAll: RateMeter
  readonly #stopped = new AbortController()
  #running = 0

  constructor(components: { network: Pick<DirectoryNetwork, 'dial' | 'getConnections'>; clock: Clock; log: Log }) {
    this.#network = components.network
    this.#clock = components.clock
    this.#log = components.log
    const minutely = (count: number) => ({ burst: count, perSecond: count / 60 })
    this.#perAsker = new RateMeter(minutely(DIAL_BACKS_PER_ASKER_PER_MINUTE), MAX_METERED_PEERS)
    this.#perNetwork = new RateMeter(minutely(DIAL_BACKS_PER_HOST_PER_MINUTE), MAX_METERED_PEERS)
    this.#inAll = new RateMeter(minutely(DIAL_BACKS_PER_MINUTE), 1)
  }

  /** What is known without dialling; undefined if nothing. */
  known(announced: Announced): boolean | undefined {
    if (this.#hasDialled(announced)) return true
    const result = this.#results.get(keyOf(announced))
    return result === undefined || result.untilMs <= this.#clock.monotonicMs() ? undefined : result.reached
  }

  /** Whether the peer is at one of its addresses. False also when there is no time to look. Never throws. */
  async check(announced: Announced): Promise<boolean> {
    const known = this.known(announced)
    if (known !== undefined) return known
    const key = keyOf(announced)
    const underWay = this.#underWay.get(key)
    if (underWay !== undefined) return underWay
    if (this.#stopped.signal.aborted || this.#waiting.length >= MAX_DIAL_BACKS_WAITING) return false
    // Out of budget: not remembered, so the next renewal tries again. The same goes for the budgets below.
    if (!this.#perAsker.take(announced.asker, this.#clock.monotonicMs())) return false
    const job: Job = { announced, done: Promise.withResolvers() }
    const outcome = job.done.promise.finally(() => this.#underWay.delete(key))
    this.#underWay.set(key, outcome)
    this.#waiting.push(job)
    this.#work()
    return outcome
  }

  stop(): void {
    this.#stopped.abort()
    for (const job of this.#waiting.splice(0)) job.done.resolve(false)
  }

  /** Never rejects: every job's promise tells its callers. */
  #work(): void {
    while (this.#running < DIAL_BACKS_AT_ONCE) {
      const job = this.#waiting.shift()
      if (job === undefined) return
      this.#running++
      void this.#reach(job.announced)
        .then(job.done.resolve)
        .finally(() => {
          this.#running--
          this.#work()
        })
    }
  }

  async #reach(announced: Announced): Promise<boolean> {
    const now = this.#clock.monotonicMs()
    const allowed = announced.addresses.filter(address => mayDial(address, announced.met))
    if (allowed.length === 0) return this.#remember(announced, false)
    const hosts = [...new Map(allowed.map(address => [hostOf(address), networkOf(address)]))].slice(
      0,
      HOSTS_PER_DIAL_BACK
    )
    if (!this.#inAll.take('', now)) return false
    const affordable = hosts.filter(([, network]) => this.#perNetwork.take(network, now)).map(([host]) => host)
    if (affordable.length === 0) return false
    const targets = allowed.filter(address => affordable.includes(hostOf(address))).map(text => multiaddr(text))
    return this.#remember(announced, await this.#dial(announced.peer, targets))
  }

  async #dial(peer: string, targets: Multiaddr[]): Promise<boolean> {
    const before = new Set(this.#network.getConnections(peerIdFromString(peer)).map(connection => connection.id))
    let connection: Connection
    try {
      connection = await withDeadline(
        this.#clock,
        DIAL_BACK_TIMEOUT_MS,
        this.#stopped.signal,
        'TIMEOUT_DIAL',
        // `force`: an open connection, in whichever direction, does not say that the address works.
        signal => this.#network.dial(targets, { signal, force: true })
      )
    } catch (error) {
      this.#log.debug('an announced address was not reached', { peer, targets: targets.join(), error: String(error) })
      return false
    }
    // With another connection there this one has served its purpose; else somebody may have begun to use it.
    if (before.size > 0 && !before.has(connection.id)) {
      await connection.close().catch((error: Error) => connection.abort(error))
    }
    // libp2p may join two dials to one peer, so the address that answered need not be one of these.
    const reached = withPeer(connection, peer)
    return connection.remotePeer.toString() === peer && targets.some(target => target.toString() === reached)
  }

  #remember(announced: Announced, reached: boolean): boolean {
    const key = keyOf(announced)
    const validMs = reached ? DIAL_BACK_SUCCESS_VALID_MS : DIAL_BACK_FAILURE_VALID_MS
    this.#results.delete(key)
    this.#results.set(key, { reached, untilMs: this.#clock.monotonicMs() + validMs })
    if (this.#results.size > MAX_DIAL_BACK_RESULTS) this.#results.delete(this.#results.keys().next().value!)
    return reached
  }

  /** Whether this peer itself has dialled one of the addresses, and still is connected. */
  #hasDialled({ peer, addresses }: Announced): boolean {
    return this.#network
      .getConnections(peerIdFromString(peer))
      .some(c => c.direction === 'outbound' && c.status === 'open' && addresses.includes(withPeer(c, peer)))
  }
}

function withPeer(connection: Connection, peer: string): string {
  const address = connection.remoteAddr.toString()
  return address.endsWith(`/p2p/${peer}`) ? address : `${address}/p2p/${peer}`
}

/** How it was met is part of it: a private address that may not be dialled now may be after another meeting. */
function keyOf(announced: Announced): string {
  return [announced.peer, announced.met, ...announced.addresses.toSorted()].join(' ')
}
