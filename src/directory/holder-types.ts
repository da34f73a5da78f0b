/** What the tables of a holder have in common: what came of a put, and what must be written down because of it. */

import type { HeldLatest } from './held-latest.ts'
import type { HeldLease, ReleaseNote } from './held-leases.ts'
import type { HeldReplica } from './held-replicas.ts'
import type { HeldTable, NoRoom } from './holder-ledger.ts'

export type PutOutcome =
  /** It is kept from now on. */
  | 'kept'
  /** It was kept already. */
  | 'known'
  /** A lease that there is no place for among those kept; the number that covers all of these has it. */
  | 'counted'
  /** It has expired, or gives a lease back, but is newer than the signer's record here, which is gone. */
  | 'withdrawn'
  | 'expired'
  /** Issued, or to expire, too far in the future by this holder's clock. */
  | 'future'
  /** A record with a higher sequence number is kept. */
  | 'older'
  /** Another record with the same sequence number is kept. */
  | 'conflict'
  /** Signed under a delegation that a later one has revoked. */
  | 'revoked'
  /** Nobody has reached an announced address, and there is no room for such records. */
  | 'unverified'
  | NoRoom

export type HeldRecord = HeldLatest | HeldReplica | HeldLease

/** What the holder's store must write. */
export type Change =
  | { kind: 'keep'; record: HeldRecord }
  | { kind: 'drop'; table: HeldTable; key: string; signer: string }
  /** What is known of a release beside its leases; undefined: nothing any more. */
  | { kind: 'note'; release: string; note: ReleaseNote | undefined }

export interface PutResult {
  outcome: PutOutcome
  changes: Change[]
}
