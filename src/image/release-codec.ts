/**
 * The bytes of a delegation and of a latest record. One encoding each: labels are sorted, and what the encoder would
 * not have written is refused.
 */
import { RowanError } from '../errors.ts'
import { blockCount } from './block.ts'
import { fromHex, toHex } from './hash.ts'
import { Delegation as DelegationMessage, Latest as LatestMessage } from './proto/release.js'
import type { Delegation, Latest, Release } from './release.ts'
import { MAX_WEB_SEEDS } from './web-seed.ts'

/** Sealed. Two peer ids, three numbers, a key and a signature are under 400 bytes. */
export const MAX_DELEGATION_BYTES = 1024
/** Sealed. */
export const MAX_LATEST_BYTES = 256 * 1024
export const MAX_RELEASES = 512
export const MAX_CHANNELS = 64
export const MAX_LABELS = 32

export function encodeDelegation(delegation: Delegation): Uint8Array {
  return DelegationMessage.encode(delegation)
}

export function decodeDelegation(bytes: Uint8Array): Delegation {
  return decoded('delegation', bytes, () => DelegationMessage.decode(bytes), encodeDelegation)
}

export function encodeLatest(latest: Latest): Uint8Array {
  return LatestMessage.encode({
    ...latest,
    delegation: new Uint8Array(latest.delegation),
    releases: latest.releases.map(release => ({
      version: release.version,
      image: new Uint8Array(fromHex(release.image)),
      sizeBytes: release.sizeBytes,
      zeroBlocks: release.zeroBlocks,
      ...(release.parent === undefined ? {} : { parent: release.parent }),
      labels: Object.keys(release.labels)
        .sort()
        .map(key => ({ key, value: release.labels[key]! })),
      publishedMs: release.publishedMs,
      ...(release.profile === undefined ? {} : { profile: new Uint8Array(fromHex(release.profile)) }),
      webSeeds: release.webSeeds ?? []
    }))
  })
}

export function decodeLatest(bytes: Uint8Array): Latest {
  const limits = {
    channels: MAX_CHANNELS,
    releases: MAX_RELEASES,
    releases$: { labels: MAX_LABELS, webSeeds: MAX_WEB_SEEDS }
  }
  const decode = (): Latest => {
    const message = LatestMessage.decode(bytes, { limits })
    return { ...message, releases: message.releases.map(readRelease) }
  }
  return decoded('latest record', bytes, decode, encodeLatest)
}

function readRelease(message: LatestMessage['releases'][number]): Release {
  const { image, labels, profile, webSeeds, ...rest } = message
  return {
    ...rest,
    image: toHex(image),
    blocks: blockCount(rest.sizeBytes),
    // fromEntries defines keys: `__proto__` is a label like any other.
    labels: Object.fromEntries(labels.map(({ key, value }) => [key, value])),
    ...(profile === undefined ? {} : { profile: toHex(profile) }),
    ...(webSeeds.length === 0 ? {} : { webSeeds })
  }
}

function decoded<T>(what: string, bytes: Uint8Array, decode: () => T, encode: (message: T) => Uint8Array): T {
  let message: T
  let canonical: Uint8Array
  try {
    message = decode()
    // Throws for numbers beyond 2^53, which come out of `decode` rounded.
    canonical = encode(message)
  } catch (cause) {
    throw new RowanError('RECORD_INVALID', `a ${what} cannot be read`, { cause })
  }
  if (Buffer.compare(bytes, canonical) !== 0) {
    throw new RowanError('RECORD_INVALID', `a ${what} is not in its canonical encoding`)
  }
  return message
}
