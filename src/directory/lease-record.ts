/**
 * What a sharer says of itself: that it uses a release, and until when that holds unless it says so again.
 *
 * Signed under a pseudonym (pseudonyms.ts), so it tells nothing but that. One record has both ends: `runningUntilMs`,
 * soon, while a machine runs, and `keepUntilMs`, far away, while a machine with layers of its own exists. A record with
 * `givenBack` takes back those with lower sequence numbers; it says until when the last of them would have held, because
 * so long it must be remembered, or the old one could be replayed.
 */

import type { PrivateKey } from '@libp2p/interface'
import { RowanError } from '../errors.ts'
import { quote } from '../image/hash.ts'
import { parseApplianceRef } from '../image/names.ts'
import { openRecord, sealRecord } from '../image/signed.ts'
import { MAX_LEASE_RECORD_BYTES } from './limits.ts'
import { LeasePayload } from './proto/directory.js'

export interface Lease {
  /** `PUBLISHER/NAME@VERSION`. */
  release: string
  /** Of two records by one signer for one release, the higher counts. */
  sequence: number
  issuedMs: number
  /** 0: no machine runs. */
  runningUntilMs: number
  /** 0: no machine has layers of its own. */
  keepUntilMs: number
  givenBack: boolean
}

/** Signs a lease. Throws RECORD_INVALID for one that peers would refuse. */
export async function sealLease(lease: Lease, pseudonym: PrivateKey): Promise<Uint8Array> {
  return sealRecord('rowan-lease', LeasePayload.encode(checked(lease)), pseudonym)
}

/** Checks signature and bounds, but no clock. Throws RECORD_INVALID or SIGNATURE_INVALID, and nothing else. */
export async function openLease(bytes: Uint8Array): Promise<Lease & { signer: string }> {
  const { payload, signer } = await openRecord('rowan-lease', bytes, { maxBytes: MAX_LEASE_RECORD_BYTES })
  let lease: LeasePayload
  let canonical: Uint8Array
  try {
    lease = LeasePayload.decode(payload)
    canonical = LeasePayload.encode(lease)
  } catch (cause) {
    throw new RowanError('RECORD_INVALID', 'a lease cannot be read', { cause })
  }
  if (Buffer.compare(payload, canonical) !== 0) throw invalid('it is not in its canonical encoding')
  return { ...checked(lease), signer }
}

/** `PUBLISHER/NAME@VERSION`; throws RECORD_INVALID for anything else. */
export function checkRelease(release: string): string {
  let ref: ReturnType<typeof parseApplianceRef>
  try {
    ref = parseApplianceRef(release)
  } catch (cause) {
    throw new RowanError('RECORD_INVALID', `${quote(release)} is no release`, { cause })
  }
  if (ref.publisher !== undefined && ref.version !== undefined) return release
  throw new RowanError('RECORD_INVALID', `${quote(release)} is no release; it is PUBLISHER/NAME@VERSION`)
}

/** The appliance of a release that was checked. */
export function applianceOf(release: string): string {
  return release.slice(0, release.indexOf('@'))
}

function checked(lease: Lease): Lease {
  const { release, sequence, issuedMs, runningUntilMs, keepUntilMs, givenBack } = lease
  checkRelease(release)
  for (const [what, value] of Object.entries({ sequence, issuedMs, runningUntilMs, keepUntilMs })) {
    if (!Number.isSafeInteger(value) || value < 0) throw invalid(`its ${what} is ${value}`)
  }
  if (Math.max(runningUntilMs, keepUntilMs) <= issuedMs) throw invalid('it does not hold for any time')
  return { release, sequence, issuedMs, runningUntilMs, keepUntilMs, givenBack }
}

function invalid(what: string): RowanError {
  return new RowanError('RECORD_INVALID', `a lease is refused: ${what}`)
}
