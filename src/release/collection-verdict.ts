/**
 * What collection does with a version, and why, in codes for scripts and in words for people. Pure.
 *
 * Reasons of the first kind stand whatever anybody says: what a channel points at, the last release there is, and what
 * this peer itself has. The others follow from what is known of the version's use, and the publisher may overrule them.
 */

import { type CollectionSettings, type CollectionState, windowMs } from './collection-policy.ts'
import { spellDuration } from './spell.ts'

/** What a record and this peer say of a version. */
export interface VersionFacts {
  /** Channels that point at it. */
  channels: readonly string[]
  /** Channels whose rollout leaves some peers on it. */
  rollouts: readonly string[]
  /** The appliance has no other. */
  isOnly: boolean
  /** Local machines of it. */
  machines: readonly string[]
  /** It was asked to be replicated here. */
  isReplicated: boolean
}

export type ReasonCode =
  | 'channel'
  | 'rollout'
  | 'only-release'
  | 'local-machine'
  | 'replicated'
  | 'in-use'
  | 'forgotten-use'
  | 'doubtful-use'
  | 'not-polled'
  | 'poll-failed'
  | 'no-majority'
  | 'young-holders'
  | 'unused-too-short'
  | 'superseded-too-short'

export interface KeepReason {
  code: ReasonCode
  words: string
  /** How long it stands at least, if nothing changes; absent: nobody can say. */
  leftMs?: number
  /** `--force` does away with it. */
  mayForce: boolean
}

export type Verdict = { action: 'remove' } | { action: 'keep'; reasons: [KeepReason, ...KeepReason[]] }

/** @param options.force - the publisher overrules what is known of the use */
export function judge(
  facts: VersionFacts,
  state: CollectionState,
  settings: CollectionSettings,
  options: { force?: boolean } = {}
): Verdict {
  const standing = standingReasons(facts)
  const [first, ...others] = options.force === true ? standing : [...standing, ...useReasons(facts, state, settings)]
  return first === undefined ? { action: 'remove' } : { action: 'keep', reasons: [first, ...others] }
}

/** When it can go at the earliest, if nobody uses it meanwhile; undefined: that cannot be said. */
export function earliestMs({ reasons }: { reasons: readonly KeepReason[] }): number | undefined {
  let earliest = 0
  for (const { leftMs } of reasons) {
    if (leftMs === undefined) return undefined
    earliest = Math.max(earliest, leftMs)
  }
  return earliest
}

function standingReasons({ channels, rollouts, isOnly, machines, isReplicated }: VersionFacts): KeepReason[] {
  const reasons: KeepReason[] = []
  const add = (code: ReasonCode, words: string) => reasons.push({ code, words, mayForce: false })
  if (channels.length > 0) add('channel', `${theChannels(channels)} at it`)
  if (rollouts.length > 0) add('rollout', `the rollout of ${rollouts.join(', ')} leaves some peers on it`)
  if (isOnly && channels.length === 0) add('only-release', 'it is the only release of the appliance')
  if (machines.length === 1) add('local-machine', `the machine ${machines[0]} here is of it`)
  if (machines.length > 1) add('local-machine', `the machines ${machines.join(', ')} here are of it`)
  if (isReplicated) add('replicated', 'it is replicated here')
  return reasons
}

function theChannels(channels: readonly string[]): string {
  return channels.length === 1 ? `the channel ${channels[0]} points` : `the channels ${channels.join(', ')} point`
}

function useReasons(facts: VersionFacts, state: CollectionState, settings: CollectionSettings): KeepReason[] {
  const wanted = windowMs(settings)
  const reasons: KeepReason[] = []
  const add = (code: ReasonCode, words: string, leftMs?: number) =>
    reasons.push({ code, words, mayForce: true, ...(leftMs === undefined ? {} : { leftMs }) })
  const { last, unusedForMs, supersededForMs = 0 } = state
  switch (last.kind) {
    case 'in-use':
      add('in-use', `in use; the last lease that is known runs for ${spellDuration(last.forMs)}`, last.forMs + wanted)
      break
    case 'forgotten':
      add(
        'forgotten-use',
        `it was in use when last heard of; nobody knows whether that lease was given back, and it runs for ${spellDuration(last.forMs)}`,
        last.forMs + wanted
      )
      break
    case 'doubtful':
      add('doubtful-use', 'holders that were away know a lease that was given back, and too few others can say so yet')
      break
    case 'none':
      add('not-polled', 'nobody has been asked yet who uses it')
      break
    case 'failed':
      add('poll-failed', 'the last question who uses it failed')
      break
    case 'no-majority':
      add('no-majority', `too few holders answered: ${last.answered}, where ${last.needed} are needed`)
      break
    case 'young': {
      const { tenureMs, neededMs } = last
      const has = spellDuration(tenureMs)
      add(
        'young-holders',
        `a majority of its holders has watched it for ${has} only, where ${spellDuration(neededMs)} are needed`,
        neededMs - tenureMs + Math.max(0, wanted - unusedForMs)
      )
      break
    }
    case 'clean':
      if (unusedForMs < wanted) {
        const left = wanted - unusedForMs
        add(
          'unused-too-short',
          `seen unused for ${spellDuration(unusedForMs)}; ${spellDuration(left)} are missing`,
          left
        )
      }
  }
  // What a channel points at is not superseded at all.
  const isPointedAt = facts.channels.length > 0 || facts.rollouts.length > 0
  if (!isPointedAt && supersededForMs < settings.graceMs) {
    const left = settings.graceMs - supersededForMs
    const since = `no channel has pointed at it for ${spellDuration(supersededForMs)}`
    add('superseded-too-short', `${since}; ${spellDuration(left)} of the grace are missing`, left)
  }
  return reasons
}
