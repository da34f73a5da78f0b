/**
 * Who may be dialled at an address that somebody announced.
 *
 * Anybody can announce anything: 127.0.0.1, the printer at 192.168.1.9, a cloud's metadata service. So an announced
 * address is used only by a peer that met the announcer at least as closely: a loopback address over loopback, a
 * private one over a private or loopback connection, a public one always. A host name may resolve to anything and
 * counts as loopback.
 */

import { BlockList } from 'node:net'
import { multiaddr } from '@multiformats/multiaddr'
import { MAX_ADDRESS_CHARACTERS } from './limits.ts'

/** From far to close; the numbers go over the wire (ReplicaFound.met). */
export const REACH = { public: 0, private: 1, loopback: 2 } as const
export type Reach = (typeof REACH)[keyof typeof REACH]

const loopback = new BlockList()
loopback.addSubnet('127.0.0.0', 8, 'ipv4')
loopback.addSubnet('0.0.0.0', 8, 'ipv4')
loopback.addAddress('::1', 'ipv6')
loopback.addAddress('::', 'ipv6')

/** IANA's special-purpose registries (RFC 6890): what is not a unicast address of the Internet. */
const special = new BlockList()
for (const [network, prefix] of [
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 3]
] as const) {
  special.addSubnet(network, prefix, 'ipv4')
}
/** Inside 2000::/3, but with an IPv4 address inside, for documentation or for tunnels. */
special.addSubnet('2001::', 23, 'ipv6')
special.addSubnet('2001:db8::', 32, 'ipv6')
special.addSubnet('2002::', 16, 'ipv6')
const globalUnicast = new BlockList()
globalUnicast.addSubnet('2000::', 3, 'ipv6')
const mapped = new BlockList()
mapped.addSubnet('::ffff:0:0', 96, 'ipv6')

function reachOfIp(ip: string, family: 'ipv4' | 'ipv6'): Reach {
  // A BlockList looks at the IPv4 rules for an IPv4-mapped address (::ffff:127.0.0.1) by itself.
  if (loopback.check(ip, family)) return REACH.loopback
  if (special.check(ip, family)) return REACH.private
  if (family === 'ipv4' || mapped.check(ip, family) || globalUnicast.check(ip, family)) return REACH.public
  return REACH.private
}

/**
 * How close one must be to an address to use it.
 *
 * @param address - a multiaddr; anything that is not understood counts as loopback, so that it is used least
 */
export function reachOf(address: string): Reach {
  const first = componentsOf(address)?.[0]
  if (first?.value === undefined) return REACH.loopback
  if (first.name === 'ip4') return reachOfIp(first.value, 'ipv4')
  if (first.name === 'ip6') return reachOfIp(first.value, 'ipv6')
  return REACH.loopback
}

/** How a peer was met, by the remote address of its connection; over a relay it could be anybody, from anywhere. */
export function reachMet(remoteAddress: string): Reach {
  const components = componentsOf(remoteAddress)
  if (components?.[0]?.value === undefined || components.some(part => part.name === 'p2p-circuit')) return REACH.public
  const first = components[0]
  if (first.name === 'ip4') return reachOfIp(first.value!, 'ipv4')
  if (first.name === 'ip6') return reachOfIp(first.value!, 'ipv6')
  return REACH.public
}

/** Whether an announced address may be used by one who met the announcer like this. */
export function mayDial(address: string, met: Reach): boolean {
  return reachOf(address) <= met
}

/** The IP or name of an address. */
export function hostOf(address: string): string {
  return componentsOf(address)?.[0]?.value ?? address
}

/**
 * Who an address is, for limits: its host, and of IPv6 the /64, for whoever has one address of that has them all.
 */
export function networkOf(address: string): string {
  const first = componentsOf(address)?.[0]
  if (first?.name !== 'ip6' || first.value === undefined) return first?.value ?? address
  const bytes = multiaddr(`/ip6/${first.value}`).bytes.subarray(1)
  const hex = Buffer.from(bytes).toString('hex')
  // An IPv4 address in IPv6's clothes is that address.
  if (hex.startsWith('00000000000000000000ffff')) return bytes.subarray(12).join('.')
  return `${hex.slice(0, 16)}::/64`
}

/**
 * Whose crowd a connection belongs to, for limits on who asks: of the Internet the /24, of IPv6 the /48, as providers give them to one
 * customer; over a relay, the relay's.
 *
 * @returns undefined at home: a private network has as many peers as it has
 */
export function crowdOf(remoteAddress: string): string | undefined {
  if (reachOf(remoteAddress) !== REACH.public) return undefined
  const network = networkOf(remoteAddress)
  return network.endsWith('::/64') ? `${network.slice(0, 12)}::/48` : `${network.split('.').slice(0, 3).join('.')}.0/24`
}

const HOST_PARTS = ['ip4', 'ip6', 'dns', 'dns4', 'dns6']
const PORT_PARTS = ['tcp', 'udp']
const TRANSPORT_PARTS = ['tls', 'ws', 'wss', 'quic-v1', 'webtransport', 'webrtc-direct', 'certhash']

/**
 * An announced address as it is kept: checked, bounded, without a peer id at its end. It may lead over one relay, which it
 * names by its own address and id: whoever dials it dials the relay's address, so that is what the rules above are about.
 *
 * @returns undefined if it is no address, too long, or names another peer
 */
export function bareAddress(address: string, peer: string): string | undefined {
  if (address.length > MAX_ADDRESS_CHARACTERS + peer.length + 5) return undefined
  const components = componentsOf(address)
  if (components === undefined || components.length < 2) return undefined
  const last = components.at(-1)!
  if (last.name === 'p2p' && last.value !== peer) return undefined
  const bare = last.name === 'p2p' ? components.slice(0, -1) : components
  const relay = bare.at(-1)?.name === 'p2p-circuit' ? bare.at(-2) : undefined
  if (relay !== undefined && (relay.name !== 'p2p' || relay.value === peer)) return undefined
  const dialled = relay === undefined ? bare : bare.slice(0, -2)
  if (dialled.length < 2) return undefined
  // One host, then a port, and behind them nothing that names another host or peer.
  if (!HOST_PARTS.includes(dialled[0]!.name) || !PORT_PARTS.includes(dialled[1]!.name)) return undefined
  if (dialled.slice(2).some(part => !TRANSPORT_PARTS.includes(part.name))) return undefined
  const text = multiaddr(bare).toString()
  return text.length <= MAX_ADDRESS_CHARACTERS ? text : undefined
}

/** The relay that an address leads over, by its id; undefined for a direct one. */
export function relayOf(address: string): string | undefined {
  const components = componentsOf(address) ?? []
  const circuit = components.findIndex(({ name }) => name === 'p2p-circuit')
  return circuit < 1 ? undefined : components[circuit - 1]!.value
}

function componentsOf(address: string) {
  try {
    return multiaddr(address).getComponents()
  } catch {
    // Not an address at all: every caller has its own answer to that.
    return undefined
  }
}
