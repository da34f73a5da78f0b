/**
 * Signed records: libp2p signed envelopes with a domain of rowan's for each kind.
 *
 * The domain is part of what is signed, so a record of one kind can never be passed off as another. Only Ed25519 keys
 * sign. As with the index there is one encoding: an envelope that is not what its encoder would have written is refused.
 */
import type { PrivateKey } from '@libp2p/interface'
import { RecordEnvelope } from '@libp2p/peer-record'
import { RowanError } from '../errors.ts'

export const RECORD_KINDS = ['rowan-delegation', 'rowan-latest', 'rowan-replica', 'rowan-lease'] as const
export type RecordKind = (typeof RECORD_KINDS)[number]

export interface OpenedRecord {
  payload: Uint8Array
  /** The peer id of the key that signed. */
  signer: string
}

/** The type of the payload within its domain; another layout of a record is another number. */
function payloadType(kind: RecordKind): Uint8Array {
  return Buffer.from(`/rowan/record/${kind.slice('rowan-'.length)}/1`)
}

/** Signs `payload` as a record of this kind. Throws KEY_INVALID for a key that is not Ed25519. */
export async function sealRecord(kind: RecordKind, payload: Uint8Array, key: PrivateKey): Promise<Uint8Array> {
  if (key.type !== 'Ed25519') throw new RowanError('KEY_INVALID', `records are signed with Ed25519, not ${key.type}`)
  const record = {
    domain: kind,
    codec: payloadType(kind),
    marshal: () => payload,
    equals: () => false
  }
  const envelope = await RecordEnvelope.seal(record, key)
  return envelope.marshal()
}

/** What kind of record these bytes say they are; undefined for none that is known. Checks no signature. */
export function recordKindOf(bytes: Uint8Array): RecordKind | undefined {
  let type: Uint8Array
  try {
    type = RecordEnvelope.createFromProtobuf(bytes).payloadType
  } catch {
    // Whoever opens it says what is wrong with it.
    return undefined
  }
  return RECORD_KINDS.find(kind => Buffer.compare(type, payloadType(kind)) === 0)
}

/**
 * Checks the envelope and its signature; what the payload says is the caller's to check.
 *
 * Throws RECORD_INVALID (malformed, too large, another kind's) or SIGNATURE_INVALID, and nothing else.
 */
export async function openRecord(
  kind: RecordKind,
  bytes: Uint8Array,
  limits: { maxBytes: number }
): Promise<OpenedRecord> {
  if (bytes.byteLength > limits.maxBytes) {
    throw new RowanError('RECORD_INVALID', `a ${kind} record of ${bytes.byteLength} bytes; limit ${limits.maxBytes}`)
  }
  const envelope = decodeEnvelope(kind, bytes)
  if (envelope.publicKey.type !== 'Ed25519') {
    throw new RowanError('RECORD_INVALID', `a ${kind} record is signed with ${envelope.publicKey.type}, not Ed25519`)
  }
  if (Buffer.compare(envelope.payloadType, payloadType(kind)) !== 0) {
    throw new RowanError('RECORD_INVALID', `a ${kind} record carries a payload of another type`)
  }
  let isValid: boolean
  try {
    isValid = await envelope.validate(kind)
  } catch (cause) {
    throw new RowanError('SIGNATURE_INVALID', `the signature of a ${kind} record cannot be checked`, { cause })
  }
  // An Ed25519 key's text is its peer id.
  const signer = envelope.publicKey.toString()
  if (!isValid) throw new RowanError('SIGNATURE_INVALID', `the signature of a ${kind} record by ${signer} is wrong`)
  return { payload: envelope.payload, signer }
}

function decodeEnvelope(kind: RecordKind, bytes: Uint8Array): RecordEnvelope {
  let envelope: RecordEnvelope
  let canonical: Uint8Array
  try {
    envelope = RecordEnvelope.createFromProtobuf(bytes)
    canonical = envelope.marshal()
  } catch (cause) {
    throw new RowanError('RECORD_INVALID', `a ${kind} record cannot be read`, { cause })
  }
  if (Buffer.compare(bytes, canonical) !== 0) {
    throw new RowanError('RECORD_INVALID', `a ${kind} record is not in its canonical encoding`)
  }
  return envelope
}
