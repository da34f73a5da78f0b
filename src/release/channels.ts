/**
 * Moving a channel to a release, and what the peers that are not yet meant stay with.
 */
import { RowanError } from '../errors.ts'
import type { Channel } from '../image/release.ts'
import { MAX_CHANNELS } from '../image/release-codec.ts'

/** @throws RowanError CHANNEL_INVALID unless it is a whole number from 1 to 100 */
export function checkRollout(percent: number): number {
  if (Number.isInteger(percent) && percent >= 1 && percent <= 100) return percent
  throw new RowanError('CHANNEL_INVALID', `a rollout of ${percent} % is not a whole number from 1 to 100`)
}

/**
 * The channels after `name` was pointed at `version` for `rolloutPercent` of the peers.
 *
 * Below 100 the others stay with `previous`: the last version that all of them were meant to have. So a second release
 * in the middle of a rollout does not move those whom the first had not reached.
 *
 * @param appliance - how to call it in errors
 * @throws RowanError CHANNEL_INVALID where there is nothing for the others to stay with; LIMIT_EXCEEDED
 */
export function moveChannel(
  channels: readonly Channel[],
  move: { name: string; version: string; rolloutPercent: number },
  appliance: string
): Channel[] {
  const { name, version, rolloutPercent } = move
  const old = channels.find(channel => channel.name === name)
  if (old === undefined && channels.length >= MAX_CHANNELS) {
    throw new RowanError('LIMIT_EXCEEDED', `${appliance} has ${channels.length} channels; the limit is ${MAX_CHANNELS}`)
  }
  const settled = old === undefined || old.version === version ? old?.previous : (old.previous ?? old.version)
  const moved: Channel = { name, version, rolloutPercent: 100 }
  if (rolloutPercent < 100 && settled !== version) {
    if (settled === undefined) {
      const says = old === undefined ? 'has had no release yet' : `has given ${version} to all already`
      throw new RowanError(
        'CHANNEL_INVALID',
        `the channel ${name} of ${appliance} ${says}: its rollout can only be 100`
      )
    }
    moved.rolloutPercent = rolloutPercent
    moved.previous = settled
  }
  return old === undefined ? [...channels, moved] : channels.map(channel => (channel === old ? moved : channel))
}

export function sameChannel(a: Channel | undefined, b: Channel | undefined): boolean {
  return (
    a?.name === b?.name &&
    a?.version === b?.version &&
    a?.rolloutPercent === b?.rolloutPercent &&
    a?.previous === b?.previous
  )
}
