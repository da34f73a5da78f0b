/**
 * Uses of a version that its publisher was told of without names: pure, a part of collection-policy.ts.
 *
 * A holder that does not keep every lease says only for how long the longest use that it knows still runs. That is a
 * *claim*, remembered until it runs out. When nobody speaks of it any more before that is over, it was given back only if
 * a majority of the holders have a tenure as long as the claim's age, which is counted from the last poll before it was
 * first told: so they were there when the lease was put, and now know better. It is not enough that they were there when
 * it was *last* told, for then those who never heard of it outnumber those who knew, once these have left one by one.
 *
 * A witness tells the longest use that it knows and hides the others behind it, so a claim does not replace older and
 * shorter ones; they stand beside it with their own age, until they run out. Where holders come and go, a version may so
 * stay for as long as a lease could still be out that everybody has forgotten.
 */

/** Claims that are remembered of one version; beyond that two become one that protects at least as much. */
export const MAX_CLAIMS = 32

/** A use that was told. Of two claims the older one is the shorter. */
export interface Claim {
  /** How long it still runs. */
  leftMs: number
  /** How long ago its lease may have been put. */
  ageMs: number
}

/**
 * The claims after a poll: those that have run out are gone, those that were given back last as long as what is still
 * told, and what is told for longer than any of them is a new one.
 */
export function claimsAfter(
  before: readonly Claim[],
  found: { told: number; tenureMs: number | undefined; elapsedMs: number; unheardMs: number; slackMs: number }
): Claim[] {
  const { told, tenureMs = Number.NEGATIVE_INFINITY, elapsedMs, unheardMs, slackMs: slack } = found
  const aged: Claim[] = []
  for (const claim of before) {
    const ageMs = claim.ageMs + elapsedMs
    const leftMs = claim.leftMs - elapsedMs
    // A holder's tenure began when the first poll reached it, not when this peer took down the answers.
    const isKnownBetter = tenureMs >= ageMs - slack
    const claimedMs = isKnownBetter ? Math.min(leftMs, told) : leftMs
    // The older one of two of the same length is the harder to take back.
    if (claimedMs > (aged.at(-1)?.leftMs ?? 0)) aged.push({ leftMs: claimedMs, ageMs })
  }
  const longest = aged.at(-1)
  if (longest !== undefined && told > longest.leftMs && told - longest.leftMs <= slack) longest.leftMs = told
  else if (told > (longest?.leftMs ?? 0)) aged.push({ leftMs: told, ageMs: unheardMs })
  return merged(aged)
}

/** The claims after a time in which nobody watched: older, and never shorter. */
export function claimsPaused(before: readonly Claim[], pauseMs: number): Claim[] {
  return before.map(({ leftMs, ageMs }) => ({ leftMs, ageMs: ageMs + pauseMs }))
}

/** No more than MAX_CLAIMS: the two whose ends are the closest become one with the age of the older. */
function merged(claims: Claim[]): Claim[] {
  while (claims.length > MAX_CLAIMS) {
    let closest = 0
    for (let i = 1; i + 1 < claims.length; i++) {
      if (gapAfter(claims, i) < gapAfter(claims, closest)) closest = i
    }
    const [older, younger] = [claims[closest]!, claims[closest + 1]!]
    claims.splice(closest, 2, { leftMs: younger.leftMs, ageMs: older.ageMs })
  }
  return claims
}

function gapAfter(claims: readonly Claim[], i: number): number {
  return claims[i + 1]!.leftMs - claims[i]!.leftMs
}
