/**
 * What the next record of an appliance says, once a release is on it or some are off: pure, without keys or store.
 *
 * A release never changes: the same version with another image is refused. Only its boot profile and its web seeds
 * may come later or be others, because they are advice and no part of what was released. Channels move as channels.ts says.
 */
import { isDeepStrictEqual } from 'node:util'
import { RowanError } from '../errors.ts'
import type { Channel, Latest, Release } from '../image/release.ts'
import { MAX_RELEASES } from '../image/release-codec.ts'
import { DEFAULT_CHANNEL } from '../image/rollout.ts'
import { moveChannel, sameChannel } from './channels.ts'
import type { HashedImage } from './hasher.ts'

export interface WantedRelease {
  version: string
  image: Pick<HashedImage, 'id' | 'root'>
  /** The hash of its boot profile; undefined: none, or the one that it has. */
  profile: string | undefined
  /** Default: stable, for a new version; none, for one that exists. */
  channel?: string | undefined
  /** 1 to 100, default 100. */
  rollout?: number | undefined
  labels?: Record<string, string> | undefined
  /** URLs; undefined: none, or those that it has. */
  webSeeds?: string[] | undefined
}

/**
 * @param base - the newest record that is known, if there is one
 * @returns undefined when that says all this already
 * @throws RowanError RELEASE_EXISTS, CHANNEL_INVALID, LIMIT_EXCEEDED
 */
export function recordWith(
  appliance: string,
  base: Latest | undefined,
  wanted: WantedRelease,
  nowMs: number
): { releases: Release[]; channels: Channel[] } | undefined {
  const { version, image, profile, labels = {}, webSeeds } = wanted
  const name = wanted.channel ?? DEFAULT_CHANNEL
  const releases = base?.releases ?? []
  const channels = base?.channels ?? []
  const before = channels.find(channel => channel.name === name)
  const move = { name, version, rolloutPercent: wanted.rollout ?? 100 }

  const existing = releases.find(release => release.version === version)
  if (existing !== undefined) {
    if (existing.image !== image.id) {
      const says = `${appliance}@${version} exists with the image ${existing.image}, not ${image.id}`
      throw new RowanError('RELEASE_EXISTS', `${says}; releases are immutable`)
    }
    if (wanted.labels !== undefined && !isDeepStrictEqual(wanted.labels, { ...existing.labels })) {
      const says = `${appliance}@${version} exists with other labels: ${shown(existing.labels)}`
      throw new RowanError('RELEASE_EXISTS', `${says}; releases are immutable`)
    }
    // Publishing an old version again must not move the default channel back to it by itself.
    const isAsked = wanted.channel !== undefined || wanted.rollout !== undefined
    const moved = isAsked ? moveChannel(channels, move, appliance) : channels
    const isSame = sameChannel(
      before,
      moved.find(channel => channel.name === name)
    )
    const isSameProfile = profile === undefined || profile === existing.profile
    const isSameSeeds = webSeeds === undefined || webSeeds.join() === existing.webSeeds?.join()
    if (isSame && isSameProfile && isSameSeeds) return undefined
    const changed = { ...existing, ...(profile && { profile }), ...(webSeeds && { webSeeds }) }
    return { releases: releases.map(each => (each === existing ? changed : each)), channels: moved }
  }

  if (releases.length >= MAX_RELEASES) {
    throw new RowanError('LIMIT_EXCEEDED', `${appliance} has ${releases.length} releases; the limit is ${MAX_RELEASES}`)
  }
  const parent = before?.version ?? channels.find(channel => channel.name === DEFAULT_CHANNEL)?.version
  const release: Release = {
    version,
    image: image.id,
    sizeBytes: image.root.sizeBytes,
    blocks: image.root.blocks,
    zeroBlocks: image.root.zeroBlocks,
    ...(parent === undefined ? {} : { parent }),
    labels,
    publishedMs: nowMs,
    ...(profile === undefined ? {} : { profile }),
    ...(webSeeds === undefined ? {} : { webSeeds })
  }
  return { releases: [...releases, release], channels: moveChannel(channels, move, appliance) }
}

function shown(labels: Record<string, string>): string {
  const texts = Object.entries(labels).map(([name, value]) => `${name}=${value}`)
  return texts.length === 0 ? 'none' : texts.join(', ')
}

/** Of the versions that are wanted to go, those that may by the record itself: no channel needs them, and one is left. */
export function removable({ releases, channels }: Latest, wanted: readonly string[]): Release[] {
  const needed = new Set(channels.flatMap(({ version, previous }) => [version, previous]))
  const going = releases.filter(({ version }) => wanted.includes(version) && !needed.has(version))
  return going.length === releases.length ? going.slice(0, -1) : going
}

/** A version that exists in another size need not be hashed to be refused. @throws RowanError RELEASE_EXISTS */
export function checkSameSize(base: Latest | undefined, appliance: string, version: string, sizeBytes: number): void {
  const existing = base?.releases.find(release => release.version === version)
  if (existing === undefined || existing.sizeBytes === sizeBytes) return
  const says = `${appliance}@${version} exists with ${existing.sizeBytes} bytes, not ${sizeBytes}`
  throw new RowanError('RELEASE_EXISTS', `${says}; releases are immutable`)
}
