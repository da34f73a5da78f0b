/**
 * Which release a peer gets from a channel that is being rolled out.
 */
import { RowanError } from '../errors.ts'
import { sha256 } from './hash.ts'
import type { Latest, Release } from './release.ts'

export const DEFAULT_CHANNEL = 'stable'

/**
 * The release that `who` (a peer id) gets.
 *
 * The draw is a hash of who asks, of what, and of the version, so it is the same at every call and on every peer, a
 * larger percentage only adds peers, and each version draws anew: not always the same peers go first.
 *
 * Throws VERSION_UNKNOWN if the appliance has no such version or channel.
 */
export function chooseRelease(latest: Latest, want: { version?: string; channel?: string }, who: string): Release {
  if (want.version !== undefined) return releaseOf(latest, want.version)
  const name = want.channel ?? DEFAULT_CHANNEL
  const channel = latest.channels.find(candidate => candidate.name === name)
  if (channel === undefined) {
    const known = latest.channels.map(candidate => candidate.name).join(', ') || 'none'
    throw new RowanError('VERSION_UNKNOWN', `${latest.appliance} has no channel ${name}; it has: ${known}`)
  }
  if (channel.previous === undefined) return releaseOf(latest, channel.version)
  const draw = drawPercent(`${who}/${latest.appliance}/${name}/${channel.version}`)
  return releaseOf(latest, draw < channel.rolloutPercent ? channel.version : channel.previous)
}

/** 0 to 99, evenly enough: 2^48 mod 100 favours the first 56 by 1 in 10^12. */
function drawPercent(text: string): number {
  const digest = sha256(Buffer.from(text))
  return Buffer.from(digest.buffer, digest.byteOffset, 6).readUIntBE(0, 6) % 100
}

function releaseOf(latest: Latest, version: string): Release {
  const release = latest.releases.find(candidate => candidate.version === version)
  if (release !== undefined) return release
  const known = latest.releases.map(candidate => candidate.version).join(', ') || 'none'
  throw new RowanError('VERSION_UNKNOWN', `${latest.appliance} has no version ${version}; it has: ${known}`)
}
