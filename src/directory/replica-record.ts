/**
 * What a replica says of itself: which image it serves, wholly or partly, and where it can be reached.
 *
 * Signed with the peer's own key, so the record proves who made it, not that the addresses are his: a holder dials
 * back for that (dial-back.ts). A record that has expired already is valid: with a higher sequence number it
 * withdraws an earlier one.
 */

import type { PrivateKey } from '@libp2p/interface'
import { RowanError } from '../errors.ts'
import { fromHex, quote, toHex } from '../image/hash.ts'
import { openRecord, sealRecord } from '../image/signed.ts'
import { bareAddress } from './addresses.ts'
import { MAX_ADDRESSES_PER_REPLICA, MAX_REPLICA_RECORD_BYTES } from './limits.ts'
import { ReplicaPayload } from './proto/directory.js'

export interface ReplicaRecord {
  /** The image's id, 64 hex digits. */
  image: string
  /** The replica's peer id, which is also the signer. */
  peer: string
  /** Multiaddrs that end in `/p2p/PEER`, at most MAX_ADDRESSES_PER_REPLICA. */
  addresses: string[]
  /** Whether it has every block. */
  complete: boolean
  /** Of two records by one peer for one image, the higher counts. */
  sequence: number
  expiresMs: number
}

/**
 * Signs a replica record. Addresses that nobody could use are left out, and those beyond the limit.
 *
 * Throws RECORD_INVALID for a record that peers would refuse.
 */
export async function sealReplica(record: ReplicaRecord, privateKey: PrivateKey): Promise<Uint8Array> {
  const bare = record.addresses.map(address => bareAddress(address, record.peer)).filter(text => text !== undefined)
  const payload: ReplicaPayload = {
    image: new Uint8Array(fromHex(record.image)),
    peer: record.peer,
    addresses: [...new Set(bare)].slice(0, MAX_ADDRESSES_PER_REPLICA),
    complete: record.complete,
    sequence: record.sequence,
    expiresMs: record.expiresMs
  }
  checked(payload, privateKey.publicKey.toString())
  return sealRecord('rowan-replica', ReplicaPayload.encode(payload), privateKey)
}

/** Checks signature, signer and bounds, but no clock. Throws RECORD_INVALID or SIGNATURE_INVALID, and nothing else. */
export async function openReplica(bytes: Uint8Array): Promise<ReplicaRecord> {
  const { payload, signer } = await openRecord('rowan-replica', bytes, { maxBytes: MAX_REPLICA_RECORD_BYTES })
  return checked(decode(payload), signer)
}

function decode(bytes: Uint8Array): ReplicaPayload {
  let payload: ReplicaPayload
  let canonical: Uint8Array
  try {
    payload = ReplicaPayload.decode(bytes, { limits: { addresses: MAX_ADDRESSES_PER_REPLICA } })
    canonical = ReplicaPayload.encode(payload)
  } catch (cause) {
    throw new RowanError('RECORD_INVALID', 'a replica record cannot be read', { cause })
  }
  if (Buffer.compare(bytes, canonical) !== 0) throw invalid('it is not in its canonical encoding')
  return payload
}

function checked(payload: ReplicaPayload, signer: string): ReplicaRecord {
  if (payload.image.byteLength !== 32) throw invalid(`an image id of ${payload.image.byteLength} bytes`)
  if (payload.peer !== signer) {
    throw new RowanError('SIGNATURE_INVALID', `a replica record of ${quote(payload.peer)} is signed by ${signer}`)
  }
  if (payload.addresses.length === 0) throw invalid('it has no address that could be used')
  for (const address of payload.addresses) {
    if (bareAddress(address, payload.peer) !== address) throw invalid(`its address ${quote(address)}`)
  }
  for (const [what, value] of [
    ['sequence number', payload.sequence],
    ['expiry', payload.expiresMs]
  ] as const) {
    if (!Number.isSafeInteger(value) || value < 0) throw invalid(`its ${what} is ${value}`)
  }
  return {
    image: toHex(payload.image),
    peer: payload.peer,
    addresses: payload.addresses.map(address => `${address}/p2p/${payload.peer}`),
    complete: payload.complete,
    sequence: payload.sequence,
    expiresMs: payload.expiresMs
  }
}

function invalid(what: string): RowanError {
  return new RowanError('RECORD_INVALID', `a replica record is refused: ${what}`)
}
