/**
 * What a publisher remembers of single sharers that it was told of: a pure part of the policy of collection.
 *
 * A holder that keeps every lease it got tells the place (sharer-sketch.ts) of each sharer. So the publisher can tell a
 * sharer whose lease was *given back* from one that was only *forgotten*, because those who knew have left:
 *
 * - **given back** (or run out): a majority of the holders were told of it, are there, and no longer know of it. These
 *   are counted one by one, so those who never heard of it do not count, however long they have been there.
 * - **forgotten**: nobody speaks of it, and there is no such majority. It stays in use until it must have run out, or
 *   until a majority of the holders have been there for longer than it has been known (so that one liar cannot invent
 *   sharers that last for months).
 *
 * A holder that comes back from a long absence, or among the closest again, may still know of a lease that was given back
 * meanwhile. While its tenure is shorter than the time since then, its word does not count if a majority of the holders,
 * who have been there for long enough to be told if the sharer had begun anew, do not know of it; until that can be said,
 * it is doubtful, and the poll not clean. Anybody else's word counts, and that of a majority of the holders always.
 *
 * Bounded: MAX_TOLD_SHARERS, and of each a bit for each of MAX_TELLERS holders. What does not fit, or comes from a holder
 * that does not keep every lease, is left to the claims (collection-policy.ts), which know no names.
 */

import { MAX_LEASES_PER_KEY } from '../directory/limits.ts'

/** As many as a holder keeps of one release. */
export const MAX_TOLD_SHARERS = MAX_LEASES_PER_KEY
/** Holders whose word is remembered: bits of a number. More than the HOLDERS_PER_KEY that there are at a time. */
export const MAX_TELLERS = 31

export interface ToldSharer {
  /** Its place in [0, 1). */
  hash: number
  /** How long its lease still runs, at the most. */
  leftMs: number
  /** How long ago its lease may have been put. */
  ageMs: number
  /** Which of the tellers were ever told of it, as bits. */
  tellers: number
  /** Since a majority of those denied it; absent: they did not. */
  givenBackForMs?: number
}

export interface ToldState {
  sharers: ToldSharer[]
  /** Peers by the place of their bit; '' is free. */
  tellers: string[]
}

/** A witness that names all sharers that it knows. */
export interface NamingWitness {
  peer: string
  role: 'holder' | 'replica'
  tenureMs: number
  inUseForMs: number
  hashes: readonly number[]
}

export interface ToldPoll {
  witnesses: readonly NamingWitness[]
  /** How many holders are a majority. */
  needed: number
  /** The tenure of a majority; undefined: none answered. */
  tenureMs: number | undefined
  /** The tenure with which a holder would know of every running machine. */
  knowingTenureMs: number
  elapsedMs: number
  /** How long ago a lease of which this poll tells first may have been put. */
  unheardMs: number
  slackMs: number
}

export interface ToldFound {
  state: ToldState
  /** The longest use whose witness counts; 0: none. */
  toldMs: number
  /** The longest use that nobody speaks of and that was not given back; 0: none. */
  forgottenMs: number
  /** The longest use that was given back, and of which holders tell that may have missed that; 0: none. */
  doubtfulMs: number
  /** The longest use of those for whom there was no room; 0: none. */
  surplusMs: number
}

export function toldAfter(before: ToldState, poll: ToldPoll): ToldFound {
  const tellers = tellersAfter(before, poll.witnesses)
  const { names } = tellers
  const present = poll.witnesses.filter(({ role }) => role === 'holder')
  const presentBits = bitsOf(present, names)
  const telling = new Map<number, NamingWitness[]>()
  for (const witness of poll.witnesses) {
    for (const hash of witness.hashes) {
      const others = telling.get(hash)
      if (others === undefined) telling.set(hash, [witness])
      else others.push(witness)
    }
  }
  const found: ToldFound = {
    state: { sharers: [], tellers: names },
    toldMs: 0,
    forgottenMs: 0,
    doubtfulMs: 0,
    surplusMs: 0
  }
  const knowing = present.filter(({ tenureMs }) => tenureMs >= poll.knowingTenureMs)
  for (const known of before.sharers) {
    const tellingNow = telling.get(known.hash) ?? []
    telling.delete(known.hash)
    const sharer = agedBy(known, poll.elapsedMs, tellers.freedBits)
    const tellingBits = bitsOf(tellingNow, names)
    const isDenied = bitCount(sharer.tellers & presentBits & ~tellingBits) >= poll.needed
    const isUnknown = knowing.filter(witness => !tellingNow.includes(witness)).length >= poll.needed
    const backForMs = sharer.givenBackForMs
    const wasAway = ({ tenureMs }: NamingWitness) => backForMs !== undefined && tenureMs < backForMs
    const isNew = tellingNow.filter(({ role }) => role === 'holder').length >= poll.needed
    const counting = isNew ? tellingNow : tellingNow.filter(witness => !wasAway(witness))
    if (isDenied) sharer.givenBackForMs ??= 0
    else if (counting.length > 0 && !isUnknown) delete sharer.givenBackForMs
    if (counting.length > 0) {
      const toldMs = Math.max(...counting.map(({ inUseForMs }) => inUseForMs))
      found.toldMs = Math.max(found.toldMs, toldMs)
      sharer.leftMs = Math.max(sharer.leftMs, toldMs)
      sharer.tellers |= tellingBits
    } else if (sharer.givenBackForMs === undefined) {
      if (poll.tenureMs !== undefined && poll.tenureMs >= sharer.ageMs - poll.slackMs) continue
      found.forgottenMs = Math.max(found.forgottenMs, sharer.leftMs)
    } else if (tellingNow.length > 0 && !isUnknown) {
      found.doubtfulMs = Math.max(found.doubtfulMs, sharer.leftMs)
    }
    if (sharer.leftMs > 0) found.state.sharers.push(sharer)
  }
  for (const [hash, tellingNow] of telling) {
    const leftMs = Math.max(...tellingNow.map(({ inUseForMs }) => inUseForMs))
    found.toldMs = Math.max(found.toldMs, leftMs)
    if (found.state.sharers.length >= MAX_TOLD_SHARERS) found.surplusMs = Math.max(found.surplusMs, leftMs)
    else found.state.sharers.push({ hash, leftMs, ageMs: poll.unheardMs, tellers: bitsOf(tellingNow, names) })
  }
  return found
}

/** After a time in which nobody watched: leases may have been put in it, so nothing that was given back is sure. */
export function toldPaused(before: ToldState, pauseMs: number, isLong: boolean): ToldState {
  const sharers = before.sharers.map(sharer => ({ ...sharer, ageMs: sharer.ageMs + pauseMs }))
  return { ...before, sharers: isLong ? sharers.filter(({ givenBackForMs }) => givenBackForMs === undefined) : sharers }
}

function agedBy(
  { hash, leftMs, ageMs, tellers, givenBackForMs }: ToldSharer,
  ms: number,
  freedBits: number
): ToldSharer {
  const aged = { hash, leftMs: Math.max(0, leftMs - ms), ageMs: ageMs + ms, tellers: tellers & ~freedBits }
  return givenBackForMs === undefined ? aged : { ...aged, givenBackForMs: givenBackForMs + ms }
}

/** A bit for each holder that tells of somebody; those who are not there make room, and lose theirs. */
function tellersAfter({ tellers }: ToldState, witnesses: readonly NamingWitness[]) {
  const names = [...tellers]
  const present = new Set(witnesses.map(({ peer }) => peer))
  let freedBits = 0
  for (const { peer, role, hashes } of witnesses) {
    if (role !== 'holder' || hashes.length === 0 || names.includes(peer)) continue
    const free = names.length < MAX_TELLERS ? names.length : names.findIndex(name => !present.has(name))
    if (free < 0) continue
    names[free] = peer
    freedBits |= 1 << free
  }
  return { names, freedBits }
}

function bitOf(peer: string, names: readonly string[]): number {
  const at = names.indexOf(peer)
  return at < 0 ? 0 : 1 << at
}

function bitsOf(witnesses: readonly NamingWitness[], names: readonly string[]): number {
  let bits = 0
  for (const { peer } of witnesses) bits |= bitOf(peer, names)
  return bits
}

function bitCount(bits: number): number {
  let count = 0
  for (let rest = bits; rest !== 0; rest &= rest - 1) count++
  return count
}
