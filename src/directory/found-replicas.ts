/**
 * Turns the replica records of many holders' answers into replicas that may be dialled.
 *
 * A holder's word counts for order only (who was reached comes first, and not by its own word); the signature is
 * checked here. An address is kept if both this peer met the holder, and the holder met the replica, from close enough
 * (addresses.ts).
 *
 * A record that has expired is tried after all others: holders drop those by their own clocks, so what they still give is more likely
 * fresh, and the clock here ahead. The worst that follows is a call that nobody answers.
 */

import type { Random } from '../environment.ts'
import { RowanError } from '../errors.ts'
import { mayDial, type Reach } from './addresses.ts'
import { MAX_REPLICAS_FOUND } from './limits.ts'
import { digestOf, type ReplicaFound } from './messages.ts'
import { openReplica, type ReplicaRecord } from './replica-record.ts'
import { takeRandom } from './sampling.ts'

interface Found {
  record: Uint8Array
  /** Holders that say they have reached it; two are enough to know one that is not the replica itself. */
  reachedBy: string[]
  met: Reach
}

/** So wrong a clock may be. Older records are refused. */
const MAX_CLOCK_ERROR_MS = 2 * 24 * 60 * 60_000
/** More than this are not even looked at: twenty holders with their 32 each. */
const MAX_CANDIDATES = 640

export class FoundReplicas {
  readonly #found = new Map<string, Found>()

  /** @param holder - who gave this answer, and how it was met */
  add(replicas: readonly ReplicaFound[], holder: { peer: string; met: Reach }): void {
    for (const { record, verified, met } of replicas) {
      const digest = digestOf(record)
      const closest = Math.min(met, holder.met) as Reach
      const found = this.#found.get(digest) ?? { record, reachedBy: [], met: closest }
      if (!this.#found.has(digest) && this.#found.size >= MAX_CANDIDATES) return
      this.#found.set(digest, found)
      if (verified && found.reachedBy.length < 2) found.reachedBy.push(holder.peer)
      found.met = Math.max(found.met, closest) as Reach
    }
  }

  get size(): number {
    return this.#found.size
  }

  /**
   * Opens what was found: of each peer and image the newest record with an address that may be used, unexpired ones first,
   * and among those the ones that a holder has reached.
   *
   * @returns the replicas, at most MAX_REPLICAS_FOUND, and how many records were refused
   */
  async open(
    accept: (record: ReplicaRecord) => boolean,
    now: number,
    random: Random
  ): Promise<{ replicas: ReplicaRecord[]; bad: number }> {
    const newest = new Map<string, { record: ReplicaRecord; isReached: boolean }>()
    let bad = 0
    // Shuffled, or everybody who starts would turn to the same replicas, and one holder could decide to which.
    const shuffled = takeRandom([...this.#found.values()], this.#found.size, random)
    for (const found of shuffled.toSorted((a, b) => Number(b.reachedBy.length > 0) - Number(a.reachedBy.length > 0))) {
      if (newest.size >= MAX_REPLICAS_FOUND) break
      const record = await openOrUndefined(found.record)
      if (record === undefined) {
        bad++
        continue
      }
      const addresses = record.addresses.filter(address => mayDial(address, found.met))
      const key = `${record.image}/${record.peer}`
      const isNewest = record.sequence > (newest.get(key)?.record.sequence ?? -1)
      const isTooOld = record.expiresMs <= now - MAX_CLOCK_ERROR_MS
      if (!isNewest || isTooOld || addresses.length === 0 || !accept(record)) continue
      const isReached = found.reachedBy.some(holder => holder !== record.peer)
      newest.set(key, { record: { ...record, addresses }, isReached })
    }
    const rank = ({ record, isReached }: { record: ReplicaRecord; isReached: boolean }) =>
      (record.expiresMs > now ? 2 : 0) + (isReached ? 1 : 0)
    const ordered = [...newest.values()].toSorted((a, b) => rank(b) - rank(a))
    return { replicas: ordered.map(({ record }) => record), bad }
  }
}

/** A record that does not open is counted, not told: a holder may have been lied to as well. */
async function openOrUndefined(bytes: Uint8Array): Promise<ReplicaRecord | undefined> {
  try {
    return await openReplica(bytes)
  } catch (error) {
    if (error instanceof RowanError) return undefined
    throw error
  }
}
