/**
 * What a publisher signs: which key may release (delegation), and what an appliance is right now (latest).
 *
 * The chain: the publisher's id is its root key's peer id; the root key signs a delegation to a release key; the
 * release key signs `latest`, which carries the delegation. So one record proves itself, whoever hands it over. No
 * clock is read here: whether something has expired, or is older than something seen before, is the caller's to judge.
 */
import type { PrivateKey } from '@libp2p/interface'
import { RowanError } from '../errors.ts'
import { sha256, toHex } from './hash.ts'
import { splitApplianceId } from './names.ts'
import { checkDelegation, checkLatest } from './release-checks.ts'
import {
  decodeDelegation,
  decodeLatest,
  encodeDelegation,
  encodeLatest,
  MAX_DELEGATION_BYTES,
  MAX_LATEST_BYTES
} from './release-codec.ts'
import { openRecord, sealRecord } from './signed.ts'

/** The root key's permission for a release key. A higher sequence number revokes the lower ones. */
export interface Delegation {
  /** The root key's peer id. */
  publisher: string
  /** The release key's peer id. */
  releaseKey: string
  sequence: number
  issuedMs: number
  expiresMs: number
}

/** One version of an appliance. */
export interface Release {
  version: string
  /** The image's id, 64 hex digits. */
  image: string
  sizeBytes: number
  blocks: number
  zeroBlocks: number
  /** The version that this one was made from. */
  parent?: string
  labels: Record<string, string>
  publishedMs: number
  /** Hex SHA-256 of the boot profile that was recorded for it. */
  profile?: string
  /** Where its files lie on the web (web-seed.ts), if anywhere. */
  webSeeds?: string[]
}

/** A moving pointer to a release. */
export interface Channel {
  name: string
  version: string
  /** 1 to 100: the share of peers that the channel gives `version`; the others stay with `previous`. */
  rolloutPercent: number
  previous?: string
}

/** The state of an appliance. */
export interface Latest {
  /** `PUBLISHER/NAME`. */
  appliance: string
  sequence: number
  issuedMs: number
  expiresMs: number
  channels: Channel[]
  releases: Release[]
  /** The sealed delegation of the key that signed this. */
  delegation: Uint8Array
}

export type VerifiedLatest = Latest & {
  /** The sealed record, to keep and to hand on. */
  bytes: Uint8Array
  delegationSequence: number
  /** Hex SHA-256 of the signed payload: tells two records with one sequence number apart. */
  digest: string
}

/** Throws RECORD_INVALID if the delegation contradicts itself, SIGNATURE_INVALID if `rootKey` is not the publisher's. */
export async function sealDelegation(delegation: Delegation, rootKey: PrivateKey): Promise<Uint8Array> {
  checkDelegation(delegation)
  mustSign('delegation', rootKey.publicKey.toString(), delegation.publisher)
  return sealRecord('rowan-delegation', encodeDelegation(delegation), rootKey)
}

/** Throws RECORD_INVALID or SIGNATURE_INVALID, and nothing else. */
export async function openDelegation(bytes: Uint8Array): Promise<Delegation> {
  const { payload, signer } = await openRecord('rowan-delegation', bytes, { maxBytes: MAX_DELEGATION_BYTES })
  const delegation = decodeDelegation(payload)
  checkDelegation(delegation)
  mustSign('delegation', signer, delegation.publisher)
  return delegation
}

/** Signs after the same checks that openLatest makes, so that no record is made which peers would refuse. */
export async function sealLatest(latest: Latest, releaseKey: PrivateKey): Promise<Uint8Array> {
  checkLatest(latest)
  await checkChain(latest, releaseKey.publicKey.toString())
  const bytes = await sealRecord('rowan-latest', encodeLatest(latest), releaseKey)
  if (bytes.byteLength > MAX_LATEST_BYTES) {
    throw new RowanError(
      'RECORD_INVALID',
      `the record of ${latest.appliance} would have ${bytes.byteLength} bytes; the limit is ${MAX_LATEST_BYTES}`
    )
  }
  return bytes
}

/** Checks the whole chain and every bound. Throws RECORD_INVALID or SIGNATURE_INVALID, and nothing else. */
export async function openLatest(bytes: Uint8Array): Promise<VerifiedLatest> {
  const { payload, signer } = await openRecord('rowan-latest', bytes, { maxBytes: MAX_LATEST_BYTES })
  const latest = decodeLatest(payload)
  checkLatest(latest)
  const delegation = await checkChain(latest, signer)
  // A copy: `bytes` may be a view into a larger message, or a buffer that its owner uses again.
  return {
    ...latest,
    bytes: new Uint8Array(bytes),
    delegationSequence: delegation.sequence,
    digest: toHex(sha256(payload))
  }
}

async function checkChain(latest: Latest, signer: string): Promise<Delegation> {
  const delegation = await openDelegation(latest.delegation)
  const { publisher } = splitApplianceId(latest.appliance)
  if (delegation.publisher !== publisher) {
    throw new RowanError(
      'SIGNATURE_INVALID',
      `the record of ${latest.appliance} carries a delegation by ${delegation.publisher}, who is not its publisher`
    )
  }
  mustSign(`record of ${latest.appliance}`, signer, delegation.releaseKey)
  if (latest.expiresMs > delegation.expiresMs) {
    throw new RowanError('RECORD_INVALID', `the record of ${latest.appliance} outlives its delegation`)
  }
  return delegation
}

function mustSign(what: string, signer: string, expected: string): void {
  if (signer === expected) return
  throw new RowanError('SIGNATURE_INVALID', `a ${what} is signed by ${signer}, which is not ${expected}`)
}
