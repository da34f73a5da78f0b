/**
 * At which holders one lease needs to be renewed: a pure policy, without timers, dice or network.
 *
 * A holder that is full keeps the leases with the smallest hashes. One whose hash is far above the largest of these
 * changes nothing there but the number that the others keep up as well, so it may rest there for one TTL. Only that
 * holder's own word counts for that: one that lies keeps leases away from itself and from nobody else.
 *
 * A lease that rests at all holders is not renewed at all. Once in a TTL one of the holders, chosen by chance, is asked
 * whether it is still so; if it is not, or nobody answers, the lease is renewed everywhere. So those who rest notice that
 * their number fell, most of them within one TTL, however many holders lie.
 */

import { FAR_ABOVE } from './limits.ts'
import type { CloserPeer } from './routing.ts'

/** Whether a lease may rest at a holder that keeps those below `threshold` (1: all). */
export function isFarAbove(hash: number, threshold: number): boolean {
  return hash > FAR_ABOVE * threshold
}

export class SharerLease {
  #circle: readonly CloserPeer[] = []
  /** For each of the circle until when the lease rests there; 0: it does not. */
  #restUntilMs: number[] = []
  #isResting = false

  /** Whether it rested at all holders when it was last renewed. */
  get isResting(): boolean {
    return this.#isResting
  }

  /** The holders as they were last found. */
  get circle(): readonly CloserPeer[] {
    return this.#circle
  }

  /** Whom to renew it at, of the holders as they are now. */
  targets(circle: readonly CloserPeer[], now: number): CloserPeer[] {
    if (circle !== this.#circle) {
      const before = new Map(this.#circle.map(({ peer }, i) => [peer, this.#restUntilMs[i] ?? 0]))
      this.#restUntilMs = circle.map(({ peer }) => before.get(peer) ?? 0)
      this.#circle = circle
    }
    this.#isResting = false
    return circle.filter((_, i) => !(this.#restUntilMs[i]! > now))
  }

  /** A holder took the lease, and said whether it may rest there. */
  heard(peer: string, mayRest: boolean, untilMs: number): void {
    const at = this.#circle.findIndex(holder => holder.peer === peer)
    if (at >= 0) this.#restUntilMs[at] = mayRest ? untilMs : 0
  }

  /** All holders have answered, or not. */
  settle(now: number): void {
    this.#isResting = this.#circle.length > 0 && this.#restUntilMs.every(untilMs => untilMs > now)
  }

  /** One of the holders was asked; `undefined`: none of those tried answered. */
  probed(mayRest: boolean | undefined, untilMs: number): void {
    this.#restUntilMs.fill(mayRest === true ? untilMs : 0)
    this.#isResting = mayRest === true
  }
}
