/**
 * When a version of an appliance may go: a pure policy, without clock, dice or network.
 *
 * A version goes when it was seen unused for a window of max(grace, 2 × the running TTL), and nothing else keeps it. A
 * poll asks the holders of the release and replicas of its image (directory/sharer-count.ts); each of them is a witness
 * with a tenure, the time for which it has answered for this release without a gap. A poll is *clean* when no witness
 * knows of a use, and a majority of the holders answered with a tenure in which every running machine would have told
 * them. A use ends the run of clean polls. That the grace is counted from publishing and from the last use follows from
 * this: no run is older than the one or the other. Only the time since no channel points at the version is counted apart.
 *
 * Five things are less obvious.
 *
 * **Want of witnesses.** Peers come and go: if each poll of seven days had to have a majority that has been there for
 * seven days, nothing would ever go where computers stay on for a day or two (measured in sim/: 0 of 20 worlds). What a
 * tenure must prove is that its holder would know, and each running machine tells all holders three times in a TTL. So
 * two TTLs are enough, and a poll without a majority of such holders neither counts nor ends the run, unless none is
 * clean for maxUnsureMs. Nothing is removed after a poll that is not clean itself.
 *
 * **Named uses.** Holders leave, and take with them what they were told; a machine that is switched off tells nobody
 * again. So the policy remembers every sharer that it was ever told of, and tells a lease that was given back from one
 * that everybody has forgotten: see told-sharers.ts.
 *
 * **Claims.** Uses that were told without names, by holders that do not keep every lease, are remembered until the longest
 * runs out, each with its age: see told-claims.ts. One that is not given back counts like a use that is told.
 *
 * **The circle.** Who loses the network finds fewer and fewer holders, in the end only itself, and has a majority of
 * those. So a majority is of the most holders that were found in the last CIRCLE_MEMORY_MS, and by half as many in each
 * such time after.
 *
 * **Time.** Only time that this peer has watched is counted, from a clock that cannot jump. What a pause may have been
 * (a restart, a sleep) makes claims older and never shorter, and ends the run if it may have been longer than MAX_GAP_MS.
 *
 * **Liars** can keep a version for longer, each for MAX_CLAIM_MS after it was last heard; the publisher may overrule them.
 * To have one removed that is in use, they must be a majority of the holders, or all that ever knew of the use.
 */

import { MAX_KEEP_TTL_MS, MISSED_FOR_MS } from '../directory/limits.ts'
import { type Claim, claimsAfter, claimsPaused } from './told-claims.ts'
import { type NamingWitness, type ToldState, toldAfter, toldPaused } from './told-sharers.ts'

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS

/** Holders forget their tenure after an hour of silence, so a run of polls does not outlive one either. */
export const MAX_GAP_MS = HOUR_MS
/** No lease holds for longer, whoever tells it. */
export const MAX_CLAIM_MS = MAX_KEEP_TTL_MS
/** How long the largest circle of holders is remembered; then half of it, and so on. */
export const CIRCLE_MEMORY_MS = 30 * DAY_MS
/** What answers of one poll may differ by without being another lease. */
const MAX_SLACK_MS = 60_000

export interface CollectionSettings {
  graceMs: number
  runningTtlMs: number
}

export interface PollWitness {
  peer: string
  role: 'holder' | 'replica'
  tenureMs: number
  /** How long the longest use that it knows of still runs; 0 if it knows none. */
  inUseForMs: number
  /** The places of the sharers that it knows (sharer-sketch.ts), if these are all; absent: it does not name them all. */
  hashes?: readonly number[]
}

export interface Poll {
  /** All holders that were found, whether they answered or not. */
  holdersAsked: number
  /** Those that answered. */
  witnesses: readonly PollWitness[]
}

export interface Observation {
  /** Null when it failed. */
  poll: Poll | null
  /** Since the observation before, while this peer was watching; 0 for the first, and after a pause. */
  elapsedMs: number
  /** A channel pointed at the version at any time since, or a rollout left some peers on it. */
  pointedAt: boolean
}

/** How the last poll went, and if it was not clean, why. */
export type PollOutcome =
  | { kind: 'none' | 'failed' | 'clean' }
  | { kind: 'in-use'; forMs: number }
  | { kind: 'forgotten'; forMs: number }
  | { kind: 'doubtful' }
  | { kind: 'no-majority'; answered: number; needed: number }
  | { kind: 'young'; tenureMs: number; neededMs: number }

/** What is known of one version's use. Plain JSON. */
export interface CollectionState {
  /** From the first to the last clean poll of the run that is not over. */
  unusedForMs: number
  /** For how long no poll has been clean since, for want of witnesses; 0 outside of a run. */
  unsureForMs: number
  /** Clean polls in the run. */
  polls: number
  /** Since a poll found it in use, or took it for that; absent: never. */
  sinceUseMs?: number
  /** Uses that were told without names: the oldest and shortest first. */
  claims: Claim[]
  /** Uses that were told with the sharer's place. */
  told: ToldState
  /** Since a majority of the holders was last heard. */
  unheardMs: number
  circle: { holders: number; forMs: number }
  /** Since it was first seen that no channel points at it; absent: when last seen, one did. */
  supersededForMs?: number
  last: PollOutcome
}

export function newCollectionState(): CollectionState {
  return {
    unusedForMs: 0,
    unsureForMs: 0,
    polls: 0,
    claims: [],
    told: { sharers: [], tellers: [] },
    unheardMs: 0,
    circle: { holders: 0, forMs: 0 },
    last: { kind: 'none' }
  }
}

/** For how long a version must be seen unused. */
export function windowMs({ graceMs, runningTtlMs }: CollectionSettings): number {
  return Math.max(graceMs, 2 * runningTtlMs)
}

/** The tenure with which a holder would know of every running machine: each renews three times in a TTL. */
export function knowingTenureMs({ runningTtlMs }: CollectionSettings): number {
  return 2 * runningTtlMs
}

/**
 * For how long a run of clean polls outlives a want of witnesses. When half of the holders leave, there is no majority
 * until they are no longer missed, and then until those in their place have a tenure. Who comes in their place may have
 * left in the same hour, and is then missed as long.
 */
export function maxUnsureMs({ runningTtlMs }: CollectionSettings): number {
  return 2 * MISSED_FOR_MS + 4 * runningTtlMs
}

/** How long the longest use that was told, and not given back, still runs; 0: none. */
export function useLeftMs({ claims, told }: CollectionState): number {
  const named = told.sharers.filter(({ givenBackForMs }) => givenBackForMs === undefined).map(({ leftMs }) => leftMs)
  return Math.max(claims.at(-1)?.leftMs ?? 0, ...named)
}

/** The state after one more observation. */
export function observe(
  before: CollectionState,
  { poll, elapsedMs, pointedAt }: Observation,
  settings: CollectionSettings
): CollectionState {
  const circle = circleAfter(before.circle, poll?.holdersAsked ?? 0, elapsedMs)
  const needed = Math.floor(circle.holders / 2) + 1
  const witnesses = (poll?.witnesses ?? []).map(bounded)
  const tenureMs = poll === null ? undefined : tenureOfMajority(poll, needed)
  const unheardMs = before.unheardMs + elapsedMs
  const found = { needed, tenureMs, elapsedMs, unheardMs, slackMs: slackMs(settings) }
  const named = toldAfter(before.told, {
    witnesses: witnesses.filter(namesAll),
    knowingTenureMs: knowingTenureMs(settings),
    ...found
  })
  const unnamed = witnesses.filter(witness => !namesAll(witness)).map(({ inUseForMs }) => inUseForMs)
  const claimed = Math.max(0, named.surplusMs, ...unnamed)
  const claims = claimsAfter(before.claims, { told: claimed, ...found })
  const told = Math.max(named.toldMs, claimed)
  const leftMs = Math.max(named.forgottenMs, claims.at(-1)?.leftMs ?? 0)
  const last = outcomeOf(poll, { told, tenureMs, needed, leftMs, isDoubtful: named.doubtfulMs > 0 }, settings)
  const inUse = told > 0 || leftMs > 0
  const sinceUseMs = inUse ? 0 : before.sinceUseMs === undefined ? undefined : before.sinceUseMs + elapsedMs
  const supersededMs = before.supersededForMs === undefined ? 0 : before.supersededForMs + elapsedMs
  return {
    ...runAfter(before, last, inUse, elapsedMs, settings),
    ...(sinceUseMs === undefined ? {} : { sinceUseMs }),
    claims,
    told: named.state,
    unheardMs: tenureMs === undefined ? unheardMs : 0,
    circle,
    ...(pointedAt ? {} : { supersededForMs: supersededMs }),
    last
  }
}

/** The run of clean polls: a use ends it at once, a want of witnesses when it lasts. */
function runAfter(
  before: CollectionState,
  last: PollOutcome,
  inUse: boolean,
  elapsedMs: number,
  settings: CollectionSettings
): Pick<CollectionState, 'unusedForMs' | 'unsureForMs' | 'polls'> {
  const sinceCleanMs = before.unsureForMs + elapsedMs
  const goesOn = before.polls > 0 && !inUse && elapsedMs <= MAX_GAP_MS && sinceCleanMs <= maxUnsureMs(settings)
  if (last.kind !== 'clean') {
    const { unusedForMs, polls } = before
    return goesOn ? { unusedForMs, unsureForMs: sinceCleanMs, polls } : { unusedForMs: 0, unsureForMs: 0, polls: 0 }
  }
  if (!goesOn) return { unusedForMs: 0, unsureForMs: 0, polls: 1 }
  return { unusedForMs: before.unusedForMs + sinceCleanMs, unsureForMs: 0, polls: before.polls + 1 }
}

function bounded(witness: PollWitness): PollWitness {
  return { ...witness, inUseForMs: Math.min(MAX_CLAIM_MS, Math.max(0, witness.inUseForMs)) }
}

/** It names all sharers that it knows, and knows of some if it says that there is a use. */
function namesAll(witness: PollWitness): witness is PollWitness & NamingWitness {
  const { hashes, inUseForMs } = witness
  return hashes !== undefined && hashes.length > 0 === inUseForMs > 0
}

/**
 * The state after a time in which this peer did not watch.
 *
 * @param pauseMs - the longest that it may have been; undefined: nobody knows
 */
export function paused(before: CollectionState, pauseMs: number | undefined): CollectionState {
  const atMostMs = pauseMs === undefined || !(pauseMs >= 0) ? MAX_CLAIM_MS : Math.min(pauseMs, MAX_CLAIM_MS)
  const claims = claimsPaused(before.claims, atMostMs)
  const isLong = atMostMs > MAX_GAP_MS
  const told = toldPaused(before.told, atMostMs, isLong)
  const after = { ...before, claims, told, unheardMs: before.unheardMs + atMostMs }
  return isLong ? { ...after, unusedForMs: 0, unsureForMs: 0, polls: 0 } : after
}

/** The tenure that so many holders have at least; undefined when fewer answered. */
function tenureOfMajority({ witnesses }: Poll, needed: number): number | undefined {
  const tenures = witnesses.filter(({ role }) => role === 'holder').map(witness => witness.tenureMs)
  return tenures.sort((a, b) => b - a)[needed - 1]
}

function circleAfter(before: CollectionState['circle'], asked: number, elapsedMs: number): CollectionState['circle'] {
  const forMs = before.forMs + elapsedMs
  if (asked >= before.holders) return { holders: asked, forMs: 0 }
  if (forMs <= CIRCLE_MEMORY_MS) return { holders: before.holders, forMs }
  return { holders: Math.max(asked, Math.floor(before.holders / 2)), forMs: 0 }
}

function outcomeOf(
  poll: Poll | null,
  found: { told: number; tenureMs: number | undefined; needed: number; leftMs: number; isDoubtful: boolean },
  settings: CollectionSettings
): PollOutcome {
  const { told, tenureMs, needed, leftMs, isDoubtful } = found
  if (poll === null) return { kind: 'failed' }
  if (told > 0) return { kind: 'in-use', forMs: told }
  if (leftMs > 0) return { kind: 'forgotten', forMs: leftMs }
  const answered = poll.witnesses.filter(({ role }) => role === 'holder').length
  if (tenureMs === undefined) return { kind: 'no-majority', answered, needed }
  const neededMs = knowingTenureMs(settings)
  if (tenureMs < neededMs) return { kind: 'young', tenureMs, neededMs }
  return { kind: isDoubtful ? 'doubtful' : 'clean' }
}

/** Less than the time between two polls, whatever the TTL. */
function slackMs({ runningTtlMs }: CollectionSettings): number {
  return Math.min(MAX_SLACK_MS, runningTtlMs / 6)
}
