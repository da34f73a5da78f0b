/**
 * How many sharers there are, from the few that a holder keeps.
 *
 * Each lease has a place in [0, 1): a hash of its signer and its release. A holder keeps the MAX_LEASES_PER_KEY smallest
 * (a bottom-k sketch), so that all holders keep the same ones and their answers can be merged. What is random is where
 * the k-th smallest lies: the more sharers, the nearer to 0.
 */

import { sha256 } from '../image/hash.ts'
import { MAX_LEASES_PER_KEY, OUTLIER_ALLOWANCE, OUTLIER_FACTOR } from './limits.ts'

/** Bytes of a hash on the wire; two of a million sharers have the same one with a chance of 1 in 500. */
export const HASH_BYTES = 6
export const HASH_SPAN = 2 ** 48

const encoder = new TextEncoder()

/** The place of a lease, in [0, 1). */
export function leaseHash(signer: string, release: string): number {
  const digest = sha256(encoder.encode(`${signer}\n${release}`)) as Buffer
  return digest.readUIntBE(0, HASH_BYTES) / HASH_SPAN
}

/** What one holder says. */
export interface SharerSketch {
  /** Of the leases that it keeps, ascending, each in [0, 1). */
  hashes: readonly number[]
  /** Whether it keeps every valid lease that it got. */
  all: boolean
}

export interface SharerEstimate {
  count: number
  exact: boolean
  /** The relative standard error of a number that is not exact. */
  error?: number
}

/**
 * Estimates how many distinct signers hold a lease, from the k smallest of their hashes.
 *
 * Bar-Yossef et al., "Counting distinct elements in a data stream", 2002. Relative standard error 1/sqrt(k - 2).
 *
 * @param hashes - the smallest hashes seen, ascending, each in [0, 1)
 * @param all - whether these are all there are
 */
export function estimateSharers(hashes: readonly number[], all: boolean): SharerEstimate {
  const k = Math.min(hashes.length, MAX_LEASES_PER_KEY)
  if (all && hashes.length <= MAX_LEASES_PER_KEY) return { count: k, exact: true }
  const threshold = hashes[k - 1] ?? 0
  const estimate = threshold > 0 ? (k - 1) / threshold : k
  return { count: Math.max(k, Math.round(estimate)), exact: false, error: 1 / Math.sqrt(Math.max(1, k - 2)) }
}

/**
 * Merges what several holders say by taking the k smallest of their union.
 *
 * One that claims far more than the middle one is left out: invented hashes cost a liar nothing, and a holder that has
 * missed leases only adds less to the union.
 */
export function mergeSketches(sketches: readonly SharerSketch[]): SharerEstimate {
  const claims = sketches.map(({ hashes, all }) => estimateSharers(hashes, all).count)
  const middle = claims.toSorted((a, b) => a - b)[claims.length >> 1] ?? 0
  const used = sketches.filter((_, i) => claims[i]! <= OUTLIER_FACTOR * middle + OUTLIER_ALLOWANCE)
  const union = [...new Set(used.flatMap(({ hashes }) => hashes))].sort((a, b) => a - b)
  return estimateSharers(
    union,
    used.every(({ all }) => all)
  )
}
