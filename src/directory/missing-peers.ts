/**
 * For how long a holder that does not answer is missed: a pure policy.
 *
 * Who asks for the witness of a majority must not take the few that are left for all there are. But leases follow
 * within a renewal to whoever is closest now, and Kademlia's tables name dead peers for a very long time; so after
 * MISSED_FOR_MS without an answer a peer is gone, and no longer one of those that a majority is of.
 */

import { MAX_MISSING_PEERS, MISSED_FOR_MS } from './limits.ts'

export class MissingPeers {
  /** Since when; those that were missed first come first. */
  readonly #sinceMs = new Map<string, number>()

  /** @param now - monotonic milliseconds, as in all steps */
  noAnswer(peer: string, now: number): void {
    if (this.#sinceMs.has(peer)) return
    this.#sinceMs.set(peer, now)
    if (this.#sinceMs.size > MAX_MISSING_PEERS) this.#sinceMs.delete(this.#sinceMs.keys().next().value!)
  }

  answered(peer: string): void {
    this.#sinceMs.delete(peer)
  }

  isGone(peer: string, now: number): boolean {
    const sinceMs = this.#sinceMs.get(peer)
    return sinceMs !== undefined && now - sinceMs >= MISSED_FOR_MS
  }
}
