/** What only a running daemon can tell about itself: its network and its store. The rest of `doctor` is doctor.ts. */
import type { Pool } from '../store/pool.ts'
import type { DoctorRow } from './command-results.ts'
import { routingTableSize } from './join.ts'
import type { Reachability } from './nat.ts'
import type { RowanPeer } from './peer.ts'
import { formatSize } from './units.ts'

/** Share of the quota from which on it is worth a word. */
const NEARLY_FULL = 0.9

export function checkPeer(components: {
  peer: RowanPeer
  pool: Pool
  quotaBytes: number
  reachability: Reachability
}): DoctorRow[] {
  const { peer, pool, quotaBytes } = components
  const connected = peer.getPeers().length
  const known = routingTableSize(peer.services.dht)
  const serves = peer.services.dht.getMode() === 'server'
  const { blocks, bytes } = pool.usage
  return [
    {
      check: 'network',
      ok: connected > 0,
      detail: `${connected} ${connected === 1 ? 'peer' : 'peers'} connected, ${known} in the routing table`,
      advice: connected > 0 ? '' : 'Name a peer to join through: `rowan up --bootstrap ADDRESS`.'
    },
    reachability(components.reachability, serves),
    {
      check: 'pool',
      ok: bytes < quotaBytes * NEARLY_FULL,
      detail: `${blocks} ${blocks === 1 ? 'block' : 'blocks'}, ${formatSize(bytes)}${Number.isFinite(quotaBytes) ? ` of ${formatSize(quotaBytes)}` : ''}`,
      advice: bytes < quotaBytes * NEARLY_FULL ? '' : 'Raise `[pool] quota`, or remove machines and replicas.'
    }
  ]
}

function reachability(state: Reachability, serves: boolean): DoctorRow {
  const detail = `${describeReachability(state)}${serves ? '; it keeps records for others' : ''}`
  const advice =
    state.how === 'none'
      ? 'Forward a port of your router and name it with `--announce`, if you want to be a replica for strangers.'
      : ''
  return { check: 'reachability', ok: state.how !== 'none', detail, advice }
}

/** In a sentence, for a person. */
export function describeReachability({ how, relays, relayedPeers }: Reachability): string {
  const guests = relayedPeers === 0 ? '' : `; ${relayedPeers} that nobody can dial are called through it`
  switch (how) {
    case 'direct':
      return `others can dial this peer${guests}`
    case 'relay':
      return `nobody can dial this peer, a router is in between; it is called through ${relays.join(' and ')}, and calls back`
    case 'none':
      return 'nobody has dialled this peer yet: it fetches, and serves whom it calls, but is no replica for strangers'
    case 'off':
      return 'this peer calls others and listens nowhere, as it was told'
  }
}
