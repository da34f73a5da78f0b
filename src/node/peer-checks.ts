/** What only a running daemon can tell about itself: its network and its store. The rest of `doctor` is doctor.ts. */
import type { Pool } from '../store/pool.ts'
import type { DoctorRow } from './daemon-api.ts'
import { routingTableSize } from './join.ts'
import type { RowanPeer } from './peer.ts'
import { formatSize } from './units.ts'

/** Share of the quota from which on it is worth a word. */
const NEARLY_FULL = 0.9

export function checkPeer(components: {
  peer: RowanPeer
  pool: Pool
  quotaBytes: number
  listens: boolean
}): DoctorRow[] {
  const { peer, pool, quotaBytes, listens } = components
  const connected = peer.getPeers().length
  const known = routingTableSize(peer.services.dht)
  const addresses = peer.getMultiaddrs().length
  const serves = peer.services.dht.getMode() === 'server'
  const { blocks, bytes } = pool.usage
  return [
    {
      check: 'network',
      ok: connected > 0,
      detail: `${connected} peers connected, ${known} in the routing table`,
      advice: connected > 0 ? '' : 'Name a peer to join through: `rowan up --bootstrap ADDRESS`.'
    },
    reachability(serves, listens, addresses),
    {
      check: 'pool',
      ok: bytes < quotaBytes * NEARLY_FULL,
      detail: `${blocks} blocks, ${formatSize(bytes)}${Number.isFinite(quotaBytes) ? ` of ${formatSize(quotaBytes)}` : ''}`,
      advice: bytes < quotaBytes * NEARLY_FULL ? '' : 'Raise `[pool] quota`, or remove machines and replicas.'
    }
  ]
}

function reachability(serves: boolean, listens: boolean, addresses: number): DoctorRow {
  const check = 'reachability'
  if (!listens)
    return { check, ok: true, detail: 'this peer calls others and listens nowhere, as it was told', advice: '' }
  if (serves) {
    const detail = `this peer can be dialled (${addresses} addresses) and keeps records for others`
    return { check, ok: true, detail, advice: '' }
  }
  return {
    check,
    ok: false,
    detail: 'nobody has dialled this peer yet: it fetches, and serves whom it calls, but is no replica for strangers',
    advice: 'Forward a port of your router and name it with `--announce`, if you want to be a replica.'
  }
}
