/**
 * What a delegation and a latest record must fulfil, whoever signed them. Every failure is RECORD_INVALID.
 */
import { peerIdFromString } from '@libp2p/peer-id'
import { RowanError } from '../errors.ts'
import { blockCount } from './block.ts'
import { fromHex, quote } from './hash.ts'
import { checkName, checkSize, type NamedThing, splitApplianceId } from './names.ts'
import type { Channel, Delegation, Latest, Release } from './release.ts'
import { MAX_CHANNELS, MAX_LABELS, MAX_RELEASES } from './release-codec.ts'
import { checkWebSeeds } from './web-seed.ts'

/** Of a label's key and of its value, each in UTF-8. */
export const MAX_LABEL_BYTES = 256
const MAX_PEER_ID_CHARACTERS = 128

export function checkDelegation(delegation: Delegation): void {
  checkPeerId(delegation.publisher, 'publisher')
  checkPeerId(delegation.releaseKey, 'release key')
  checkTimes(delegation)
}

export function checkLatest(latest: Latest): void {
  checkPeerId(within(() => splitApplianceId(latest.appliance)).publisher, 'publisher')
  checkTimes(latest)
  atMost('releases', latest.releases.length, MAX_RELEASES)
  atMost('channels', latest.channels.length, MAX_CHANNELS)
  const versions = new Set<string>()
  for (const release of latest.releases) {
    checkRelease(release)
    if (versions.has(release.version)) throw invalid(`it has two releases with the version ${quote(release.version)}`)
    versions.add(release.version)
  }
  const names = new Set<string>()
  for (const channel of latest.channels) {
    checkChannel(channel, versions)
    if (names.has(channel.name)) throw invalid(`it has two channels with the name ${quote(channel.name)}`)
    names.add(channel.name)
  }
}

function checkRelease(release: Release): void {
  name(release.version, 'version')
  if (release.parent !== undefined) name(release.parent, 'version')
  within(() => fromHex(release.image))
  if (release.profile !== undefined) within(() => fromHex(release.profile!))
  within(() => checkWebSeeds(release.webSeeds))
  within(() => checkSize(release.sizeBytes, `the release ${release.version}`))
  const blocks = blockCount(release.sizeBytes)
  if (release.blocks !== blocks)
    throw invalid(`${release.blocks} blocks, where its size of ${release.sizeBytes} has ${blocks}`)
  checkCount('zero blocks', release.zeroBlocks)
  if (release.zeroBlocks > blocks) throw invalid(`${release.zeroBlocks} zero blocks of ${blocks}`)
  checkCount('time of publishing', release.publishedMs)
  const labels = Object.entries(release.labels)
  atMost('labels', labels.length, MAX_LABELS)
  for (const text of labels.flat()) {
    // A lone surrogate would not come back from UTF-8 as it went in.
    if (typeof text !== 'string' || !text.isWellFormed()) throw invalid('a label that is no text')
    atMost("bytes of a label's key or value", Buffer.byteLength(text), MAX_LABEL_BYTES)
  }
}

function checkChannel(channel: Channel, versions: ReadonlySet<string>): void {
  name(channel.name, 'channel')
  const { rolloutPercent } = channel
  if (!Number.isInteger(rolloutPercent) || rolloutPercent < 1 || rolloutPercent > 100) {
    throw invalid(`the channel ${channel.name} has a rollout of ${rolloutPercent} %, which is not 1 to 100`)
  }
  for (const version of [channel.version, channel.previous]) {
    if (version === undefined || versions.has(version)) continue
    throw invalid(`the channel ${channel.name} names the version ${quote(version)}, which is not among its releases`)
  }
}

function checkPeerId(text: string, what: string): void {
  // An Ed25519 key's id, in the one form that the signer's is compared with.
  const id = text.length > MAX_PEER_ID_CHARACTERS ? undefined : within(() => peerIdFromString(text))
  if (id?.type !== 'Ed25519' || id.toString() !== text) {
    throw invalid(`its ${what} ${quote(text)} is not the peer id of an Ed25519 key`)
  }
}

function checkTimes(record: { sequence: number; issuedMs: number; expiresMs: number }): void {
  checkCount('sequence number', record.sequence)
  checkCount('time of issue', record.issuedMs)
  checkCount('expiry', record.expiresMs)
  if (record.expiresMs <= record.issuedMs) {
    throw invalid(`it expires at ${record.expiresMs}, not after its issue at ${record.issuedMs}`)
  }
}

function checkCount(what: string, value: number): void {
  if (!Number.isSafeInteger(value) || value < 0) throw invalid(`its ${what} is ${value}`)
}

function atMost(what: string, count: number, limit: number): void {
  if (count > limit) throw invalid(`${count} ${what}; the limit is ${limit}`)
}

function name(text: string, what: NamedThing): void {
  within(() => checkName(text, what))
}

/** What is another error elsewhere is here a fault of the record. */
function within<T>(check: () => T): T {
  try {
    return check()
  } catch (cause) {
    throw invalid(cause instanceof Error ? cause.message : String(cause), cause)
  }
}

function invalid(what: string, cause?: unknown): RowanError {
  return new RowanError('RECORD_INVALID', `a publisher's record is refused: ${what}`, { cause })
}
