/**
 * Can others dial this peer? And so: does it answer the DHT's questions, or only ask?
 *
 * A routing table full of peers that nobody can dial makes every lookup slow, so a desktop behind a home router only
 * asks until somebody proves that it can be called. The proof is an inbound connection: holders dial back whoever
 * announces a replica, so a desktop that can be dialled soon is. A proof from a private network counts only where the
 * whole network is private (a LAN grid, tests on loopback), and a call through a relay proves nothing. What becomes of
 * a peer that nobody can dial is nat.ts.
 */
import { isPrivate } from '@libp2p/utils'
import { multiaddr } from '@multiformats/multiaddr'
import { hostOf, REACH, reachOf, relayOf } from '../directory/addresses.ts'
import type { Log } from '../environment.ts'
import type { RowanPeer } from './peer.ts'

export type ServePolicy = 'auto' | 'always' | 'never'

export interface ServeSituation {
  policy: ServePolicy
  listen: string[]
  announce: string[]
  bootstrap: string[]
}

const ANY_ADDRESS = /^\/(ip4\/0\.0\.0\.0|ip6\/::)\//

/**
 * Whether to answer from the first moment on: when told to, when an address was named on purpose, or when nobody else
 * is known (the first peer of a network must).
 */
export function servesAtStart({ policy, listen, announce, bootstrap }: ServeSituation): boolean {
  if (policy !== 'auto') return policy === 'always'
  if (listen.length === 0) return false
  return announce.length > 0 || bootstrap.length === 0 || listen.some(address => !ANY_ADDRESS.test(address))
}

/** Whether an inbound connection from `remote` proves that the peers of this network can dial us. */
export function provesReachable(remote: string, situation: ServeSituation): boolean {
  if (situation.policy !== 'auto' || situation.listen.length === 0 || relayOf(remote) !== undefined) return false
  const wholeNetworkIsPrivate = situation.bootstrap.every(address => isPrivate(multiaddr(address)))
  return wholeNetworkIsPrivate || !isPrivate(multiaddr(remote))
}

/** Whether this peer's owner says that it can be dialled: what it announces or listens on was named, for the Internet. */
export function isNamedForInternet({ listen, announce }: Pick<ServeSituation, 'listen' | 'announce'>): boolean {
  return listen.length > 0 && (announce.length > 0 || namedPublicHosts(listen).length > 0)
}

/** Hosts of the Internet that were named as addresses to listen on. */
export function namedPublicHosts(listen: readonly string[]): string[] {
  const named = listen.filter(address => !ANY_ADDRESS.test(address) && reachOf(address) === REACH.public)
  return named.map(hostOf)
}

/** Whether somebody beyond every router is at the other end. */
export function isOfInternet(remote: string): boolean {
  return relayOf(remote) === undefined && reachOf(remote) === REACH.public
}

/** Those that others can use first, first: what is announced is cut at a number of addresses. */
export function mostUsefulFirst(addresses: readonly string[]): string[] {
  const use = (address: string) => (isOfInternet(address) ? 0 : relayOf(address) !== undefined ? 1 : 2)
  return addresses.toSorted((a, b) => use(a) - use(b))
}

/** Turns a client into a server at the first proof. Returns what stops watching. */
export function serveWhenReachable(peer: RowanPeer, situation: ServeSituation, log: Log): () => void {
  const onConnection = ({
    detail: connection
  }: {
    detail: { direction: string; remoteAddr: { toString(): string } }
  }) => {
    if (connection.direction !== 'inbound' || peer.services.dht.getMode() === 'server') return
    if (!provesReachable(connection.remoteAddr.toString(), situation)) return
    log.info('others can dial this peer: it now answers the directory’s questions', {
      from: String(connection.remoteAddr)
    })
    peer.services.dht.setMode('server').catch(error => log.warn('cannot become a DHT server', { error: String(error) }))
  }
  peer.addEventListener('connection:open', onConnection)
  return () => peer.removeEventListener('connection:open', onConnection)
}
