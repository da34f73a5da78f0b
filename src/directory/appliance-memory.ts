/**
 * What this peer has seen of each appliance, and may not be talked out of: the release rules at a client.
 *
 * - Revocation: a record under a lower delegation than the publisher's highest one seen is refused; one under a higher
 *   delegation supersedes all that were seen under lower ones, whatever their numbers (image/release-order.ts).
 * - Rollback: a record with a lower sequence number than one seen before under its delegation is refused.
 * - Conflict: two different records with one number under one delegation are both refused, until a newer one comes.
 *
 * (The list is that of The Update Framework, specification 1.0, section 1.5.2.) Expiry is the caller's to judge: an
 * expired record is still the highest one seen. What is accepted is on disk before `accept` returns.
 *
 * Owns: the tables `appliances` and `publishers` of the catalog.
 */

import type { Log } from '../environment.ts'
import { RowanError } from '../errors.ts'
import { openLatest, type VerifiedLatest } from '../image/release.ts'
import { compareRecords } from '../image/release-order.ts'
import { type Catalog, type Codec, jsonCodec, type Table } from '../store/catalog.ts'
import { MAX_APPLIANCES_REMEMBERED, MAX_PUBLISHERS_REMEMBERED } from './limits.ts'
import { RememberedAppliance as Stored } from './proto/directory.js'

/** All that is known of an appliance, whether it may be used or not. */
export interface Remembered {
  delegationSequence: number
  sequence: number
  digest: string
  /** Two records with these numbers were seen. */
  conflict: boolean
  /** A later delegation of the publisher revokes the key that signed it. */
  revoked: boolean
  /** When it was first seen here, wall time. */
  seenMs: number
  /** The record; undefined if what was kept of it could not be read again. */
  latest: VerifiedLatest | undefined
}

interface Entry extends Omit<Remembered, 'revoked'> {
  /** The last write of it failed. */
  isDirty: boolean
}

export class ApplianceMemory {
  readonly #catalog: Catalog
  readonly #appliances: Table<Stored | undefined>
  readonly #publishers: Table<number>
  readonly #entries = new Map<string, Entry>()
  /** The highest delegation seen of each publisher. */
  readonly #delegations = new Map<string, number>()

  /** Reads back what was seen before. Throws CATALOG_CORRUPT or STORE_IO. */
  static async open(components: { catalog: Catalog; log: Log }): Promise<ApplianceMemory> {
    const memory = new ApplianceMemory(components)
    await memory.#load(components.log)
    return memory
  }

  private constructor(components: { catalog: Catalog }) {
    this.#catalog = components.catalog
    this.#appliances = components.catalog.table('appliances', storedCodec)
    this.#publishers = components.catalog.table('publishers', jsonCodec<number>())
  }

  /** The newest record of an appliance that may be used; not one in conflict or revoked. It may have expired. */
  get(appliance: string): { latest: VerifiedLatest } | undefined {
    const known = this.state(appliance)
    if (known?.latest === undefined || known.conflict || known.revoked) return undefined
    return { latest: known.latest }
  }

  /** All that is known of an appliance; undefined if it was never seen. */
  state(appliance: string): Remembered | undefined {
    const entry = this.#entries.get(appliance)
    if (entry === undefined) return undefined
    const { delegationSequence, sequence, digest, conflict, seenMs, latest } = entry
    const revoked = delegationSequence < this.#highestDelegation(appliance)
    return { delegationSequence, sequence, digest, conflict, revoked, seenMs, latest }
  }

  /** The highest delegation seen of a publisher; 0 if none was. */
  delegationOf(publisher: string): number {
    return this.#delegations.get(publisher) ?? 0
  }

  /** The newest usable record of every appliance seen. */
  all(): { latest: VerifiedLatest }[] {
    return [...this.#entries.keys()].map(appliance => this.get(appliance)).filter(found => found !== undefined)
  }

  /**
   * Takes note of a verified record.
   *
   * @returns 'same' if it is the newest one known already
   * @throws LATEST_ROLLBACK, LATEST_CONFLICT, SIGNATURE_INVALID (a revoked delegation), LIMIT_EXCEEDED, or what the
   * catalog throws when it cannot write: then the record counts until the restart
   */
  async accept(latest: VerifiedLatest, nowMs: number): Promise<'newer' | 'same'> {
    const { appliance } = latest
    const highest = this.#highestDelegation(appliance)
    if (latest.delegationSequence < highest) {
      throw new RowanError(
        'SIGNATURE_INVALID',
        `record ${latest.sequence} of ${appliance} is signed under delegation ${latest.delegationSequence}, ` +
          `which delegation ${highest} has revoked`
      )
    }
    const known = this.#entries.get(appliance)
    const order = known === undefined ? 1 : compareRecords(latest, known)
    if (known !== undefined && order < 0) {
      throw new RowanError(
        'LATEST_ROLLBACK',
        `record ${latest.sequence} of ${appliance} is older than record ${known.sequence}, which was seen before`
      )
    }
    if (known !== undefined && order === 0) return this.#acceptAgain(known, latest)
    this.#checkRoom(appliance)
    const entry: Entry = {
      delegationSequence: latest.delegationSequence,
      sequence: latest.sequence,
      digest: latest.digest,
      conflict: false,
      seenMs: nowMs,
      latest,
      isDirty: false
    }
    this.#entries.set(appliance, entry)
    this.#delegations.set(publisherOf(appliance), latest.delegationSequence)
    await this.#write(appliance, entry)
    return 'newer'
  }

  /** A record with the numbers of the newest one: the same, or a conflict. */
  async #acceptAgain(known: Entry, latest: VerifiedLatest): Promise<'same'> {
    const isOther = latest.digest !== known.digest
    if (isOther) {
      known.isDirty ||= !known.conflict
      known.conflict = true
    }
    // An entry that could not be read again is whole from here on.
    if (!isOther && known.latest === undefined) known.latest = latest
    if (known.isDirty) await this.#write(latest.appliance, known)
    if (!known.conflict) return 'same'
    throw new RowanError(
      'LATEST_CONFLICT',
      `two different records of ${latest.appliance} carry the number ${latest.sequence}; both are refused`
    )
  }

  #highestDelegation(appliance: string): number {
    return this.delegationOf(publisherOf(appliance))
  }

  #checkRoom(appliance: string): void {
    for (const [what, map, key, limit] of [
      ['appliances', this.#entries, appliance, MAX_APPLIANCES_REMEMBERED],
      ['publishers', this.#delegations, publisherOf(appliance), MAX_PUBLISHERS_REMEMBERED]
    ] as const) {
      if (map.has(key) || map.size < limit) continue
      throw new RowanError('LIMIT_EXCEEDED', `${limit} ${what} are remembered already; ${key} is not`)
    }
  }

  async #write(appliance: string, entry: Entry): Promise<void> {
    entry.isDirty = true
    const publisher = publisherOf(appliance)
    await this.#catalog.write(
      [
        this.#appliances.putOp(appliance, {
          delegationSequence: entry.delegationSequence,
          sequence: entry.sequence,
          digest: entry.digest,
          bytes: new Uint8Array(entry.latest?.bytes ?? []),
          conflict: entry.conflict,
          seenMs: entry.seenMs
        }),
        this.#publishers.putOp(publisher, this.#highestDelegation(appliance))
      ],
      { sync: true }
    )
    entry.isDirty = false
  }

  async #load(log: Log): Promise<void> {
    for await (const [publisher, sequence] of this.#publishers.entries()) this.#delegations.set(publisher, sequence)
    for await (const [appliance, stored] of this.#appliances.entries()) {
      if (stored === undefined) {
        log.warn('what was remembered of an appliance cannot be read', { appliance })
        continue
      }
      const { delegationSequence, sequence, digest, conflict, seenMs } = stored
      const latest = await this.#reopened(appliance, stored, log)
      this.#entries.set(appliance, { delegationSequence, sequence, digest, conflict, seenMs, latest, isDirty: false })
    }
  }

  /** Its number stays in force even if its bytes are spoiled. */
  async #reopened(appliance: string, stored: Stored, log: Log): Promise<VerifiedLatest | undefined> {
    try {
      return await openLatest(stored.bytes)
    } catch (error) {
      log.warn('the remembered record of an appliance is damaged', { appliance, error: String(error) })
      return undefined
    }
  }
}

function publisherOf(appliance: string): string {
  return appliance.slice(0, appliance.indexOf('/'))
}

/** Undefined stands for an entry that cannot be read. */
const storedCodec: Codec<Stored | undefined> = {
  encode: stored => (stored === undefined ? new Uint8Array(0) : Stored.encode(stored)),
  decode(bytes) {
    try {
      return Stored.decode(bytes)
    } catch {
      // Told by #load, which knows the appliance.
      return undefined
    }
  }
}
