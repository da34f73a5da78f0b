/**
 * One boot profile out of several peers' recordings: by majority and median rank.
 *
 * Each profile gives each block a rank, its place in the order; a block that it does not name has the rank infinity. The merged rank is
 * the upper median over all profiles, and blocks whose median is infinite are left out. So a block is in only if most of them name it,
 * and where less than half of the peers lie, the median of a block lies between two honest ranks, or above an honest one: liars cannot bring in a
 * block that no honest peer has recorded, keep one out that all honest ones have, or put one in front of the earliest honest place.
 */
import { type BootProfile, MAX_PROFILE_ENTRIES, type ProfileEntry } from './boot-profile.ts'

/** @param profiles - one for each peer, each a decoded one: no block twice */
export function mergeProfiles(profiles: readonly BootProfile[]): BootProfile {
  if (profiles.length <= 1) return profiles[0] ?? []
  const median = Math.floor(profiles.length / 2)
  const votes = new Map<number, { ranks: number[]; timesMs: number[] }>()
  for (const profile of profiles) {
    for (const [rank, { block, atMs }] of profile.entries()) {
      const vote = votes.get(block)
      if (vote === undefined) votes.set(block, { ranks: [rank], timesMs: [atMs] })
      else {
        vote.ranks.push(rank)
        vote.timesMs.push(atMs)
      }
    }
  }
  const merged: (ProfileEntry & { rank: number })[] = []
  for (const [block, { ranks, timesMs }] of votes) {
    const rank = nth(ranks, median)
    const atMs = nth(timesMs, median)
    if (rank !== undefined && atMs !== undefined) merged.push({ block, rank, atMs })
  }
  // The block decides between equal ranks, so that the order of the peers does not.
  merged.sort((a, b) => a.rank - b.rank || a.block - b.block)
  let lastMs = 0
  return merged.slice(0, MAX_PROFILE_ENTRIES).map(({ block, atMs }) => {
    lastMs = Math.max(lastMs, atMs)
    return { block, atMs: lastMs }
  })
}

/** The n-th smallest, counted from 0; undefined where those that are missing, which are infinite, come first. */
function nth(values: number[], n: number): number | undefined {
  return values.sort((a, b) => a - b)[n]
}
