/**
 * The bytes of a delegation and of a latest record. One encoding each: labels are sorted, and what the encoder would
 * not have written is refused.
 */
import { RowanError } from '../errors.ts'
import { blockCount } from './block.ts'
import { fromHex, toHex } from './hash.ts'
import { Delegation as DelegationMessage, Latest as LatestMessage } from './proto/release.js'
import type { Delegation, Latest, Release } from './release.ts'

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
  const delegation = decoded('delegation', () => DelegationMessage.decode(bytes))
  mustBeCanonical('delegation', bytes, encodeDelegation(delegation))
  return delegation
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
      publishedMs: release.publishedMs
    }))
  })
}

export function decodeLatest(bytes: Uint8Array): Latest {
  const limits = { channels: MAX_CHANNELS, releases: MAX_RELEASES, releases$: { labels: MAX_LABELS } }
  const message = decoded('latest record', () => LatestMessage.decode(bytes, { limits }))
  const latest: Latest = { ...message, releases: message.releases.map(readRelease) }
  mustBeCanonical('latest record', bytes, encodeLatest(latest))
  return latest
}

function readRelease(message: LatestMessage['releases'][number]): Release {
  const { image, labels, ...rest } = message
  return {
    ...rest,
    image: toHex(image),
    blocks: blockCount(rest.sizeBytes),
    // fromEntries defines keys: `__proto__` is a label like any other.
    labels: Object.fromEntries(labels.map(({ key, value }) => [key, value]))
  }
}

function decoded<T>(what: string, decode: () => T): T {
  try {
    return decode()
  } catch (cause) {
    throw new RowanError('RECORD_INVALID', `a ${what} cannot be read`, { cause })
  }
}

function mustBeCanonical(what: string, bytes: Uint8Array, canonical: Uint8Array): void {
  if (Buffer.compare(bytes, canonical) === 0) return
  throw new RowanError('RECORD_INVALID', `a ${what} is not in its canonical encoding`)
}
