/**
 * Who was told of the lease of a release: the peers to tell when it is given back.
 *
 * One that was among the closest and is so no longer keeps what it was told until it would have run out, and may be asked
 * again, as a holder or as a replica. Kept in memory, for as long as the release is shared: after a restart only those
 * who are among the closest then hear of it.
 */

import { MAX_PEERS_TOLD } from './limits.ts'
import type { CloserPeer } from './routing.ts'

export class ToldPeers {
  readonly #byRelease = new Map<string, Map<string, CloserPeer>>()

  /** The last told are remembered. */
  add(release: string, peers: readonly CloserPeer[]): void {
    const told = this.#byRelease.get(release) ?? new Map<string, CloserPeer>()
    this.#byRelease.set(release, told)
    for (const peer of peers) {
      told.delete(peer.peer)
      told.set(peer.peer, peer)
      if (told.size > MAX_PEERS_TOLD) told.delete(told.keys().next().value!)
    }
  }

  /** Those that are not among `others`. */
  beside(release: string, others: readonly CloserPeer[]): CloserPeer[] {
    const names = new Set(others.map(({ peer }) => peer))
    return [...(this.#byRelease.get(release)?.values() ?? [])].filter(({ peer }) => !names.has(peer))
  }

  forget(release: string): void {
    this.#byRelease.delete(release)
  }
}
