/**
 * What is kept of a version's use over a restart: the policy's state, the last count, and when it was written down.
 *
 * An entry that cannot be read is none: its version is watched anew, as if nobody had ever been asked.
 */
import type { Codec } from '../store/catalog.ts'
import { type CollectionState, MAX_CLAIM_MS, newCollectionState, type PollOutcome } from './collection-policy.ts'
import { type Claim, MAX_CLAIMS } from './told-claims.ts'
import { MAX_TELLERS, MAX_TOLD_SHARERS, type ToldSharer, type ToldState } from './told-sharers.ts'

export interface CollectionRecord {
  state: CollectionState
  /** Wall time. */
  savedMs: number
}

/** 1,000 years; no duration here is longer. */
const MAX_MS = 1000 * 365 * 86_400_000
const MAX_COUNT = 1e9
const MAX_PEER_ID_CHARACTERS = 128

export const collectionCodec: Codec<CollectionRecord | undefined> = {
  encode: record => Buffer.from(JSON.stringify(record ?? null)),
  decode(bytes) {
    try {
      return decode(JSON.parse(Buffer.from(bytes).toString()))
    } catch {
      return undefined
    }
  }
}

/** Throws a TypeError for anything that the policy would not have made. */
function decode(value: unknown): CollectionRecord {
  const { state, savedMs } = fields(value)
  const { unusedForMs, unsureForMs, polls, sinceUseMs, claims, told, unheardMs, circle, supersededForMs, last } =
    fields(state)
  const { holders, forMs } = fields(circle)
  return {
    savedMs: number(savedMs, MAX_MS),
    state: {
      ...newCollectionState(),
      unusedForMs: number(unusedForMs, MAX_MS),
      unsureForMs: number(unsureForMs, MAX_MS),
      polls: number(polls, Number.MAX_SAFE_INTEGER),
      ...(sinceUseMs === undefined ? {} : { sinceUseMs: number(sinceUseMs, MAX_MS) }),
      claims: claimsOf(claims),
      told: toldOf(told),
      unheardMs: number(unheardMs, MAX_MS),
      circle: { holders: number(holders, MAX_COUNT), forMs: number(forMs, MAX_MS) },
      ...(supersededForMs === undefined ? {} : { supersededForMs: number(supersededForMs, MAX_MS) }),
      last: outcomeOf(last)
    }
  }
}

function claimsOf(value: unknown): Claim[] {
  if (!Array.isArray(value) || value.length > MAX_CLAIMS) throw new TypeError('claims')
  const claims: Claim[] = []
  for (const each of value) {
    const { leftMs, ageMs } = fields(each)
    const claim = { leftMs: number(leftMs, MAX_CLAIM_MS), ageMs: number(ageMs, MAX_MS) }
    if (claim.leftMs <= (claims.at(-1)?.leftMs ?? 0)) throw new TypeError('claims out of order')
    claims.push(claim)
  }
  return claims
}

function toldOf(value: unknown): ToldState {
  const { sharers, tellers } = fields(value)
  if (!Array.isArray(sharers) || sharers.length > MAX_TOLD_SHARERS) throw new TypeError('sharers')
  if (!Array.isArray(tellers) || tellers.length > MAX_TELLERS) throw new TypeError('tellers')
  if (tellers.some(name => typeof name !== 'string' || name.length > MAX_PEER_ID_CHARACTERS))
    throw new TypeError('a teller')
  const hashes = new Set<number>()
  const known = sharers.map(each => {
    const { hash, leftMs, ageMs, tellers: bits, givenBackForMs } = fields(each)
    const sharer: ToldSharer = {
      hash: number(hash, 1),
      leftMs: number(leftMs, MAX_CLAIM_MS),
      ageMs: number(ageMs, MAX_MS),
      tellers: number(bits, 2 ** MAX_TELLERS - 1),
      ...(givenBackForMs === undefined ? {} : { givenBackForMs: number(givenBackForMs, MAX_MS) })
    }
    if (!Number.isInteger(sharer.tellers) || hashes.has(sharer.hash)) throw new TypeError('a sharer')
    hashes.add(sharer.hash)
    return sharer
  })
  return { sharers: known, tellers: tellers as string[] }
}

function outcomeOf(value: unknown): PollOutcome {
  const { kind, forMs, answered, needed, tenureMs, neededMs } = fields(value)
  switch (kind) {
    case 'none':
    case 'failed':
    case 'clean':
    case 'doubtful':
      return { kind }
    case 'in-use':
    case 'forgotten':
      return { kind, forMs: number(forMs, MAX_CLAIM_MS) }
    case 'no-majority':
      return { kind, answered: number(answered, MAX_COUNT), needed: number(needed, MAX_COUNT) }
    case 'young':
      return { kind, tenureMs: number(tenureMs, MAX_MS), neededMs: number(neededMs, MAX_MS) }
    default:
      throw new TypeError('an outcome')
  }
}

function fields(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new TypeError('an object')
  return value as Record<string, unknown>
}

function number(value: unknown, max: number): number {
  if (typeof value !== 'number' || !(value >= 0) || value > max) throw new TypeError('a number')
  return value
}
