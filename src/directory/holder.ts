/**
 * What this peer keeps for others: a pure step machine, without clock, disk or network.
 *
 * Records come in opened (signature, chain and bounds are checked by image/ and replica-record.ts); the holder judges
 * what only it can know: time, what it holds already, and whether there is room. Each step returns what a store must
 * write down, so that the simulator can run this very code. Each table lives in a file of its own.
 *
 * Tenure: a holder knows since when it has had records of a key, without a gap. Who asks whether something exists can
 * tell a holder that would know from one that has just come.
 */

import type { Random } from '../environment.ts'
import { type HeldLatest, type LatestRecord, LatestTable } from './held-latest.ts'
import { type LeaseEntry, LeaseTable, type ReleaseNote, type SharersFound } from './held-leases.ts'
import { type HeldReplica, type ReplicaEntry, ReplicaTable } from './held-replicas.ts'
import { type HeldTable, HolderLedger } from './holder-ledger.ts'
import type { Change, HeldRecord, PutResult } from './holder-types.ts'
import { REPLICAS_PER_ANSWER } from './limits.ts'

export interface LatestFound {
  held: HeldLatest | undefined
  /** Of the current images of its channels. */
  replicas: HeldReplica[]
}

export interface ReplicasFound {
  replicas: HeldReplica[]
  heldSinceMs: number | undefined
}

export class Holder {
  readonly #random: Random
  readonly #ledger: HolderLedger
  readonly #latest: LatestTable
  readonly #replicas: ReplicaTable
  readonly #sharers: LeaseTable

  constructor(components: { random: Random }, settings: { quotaBytes: number }) {
    this.#random = components.random
    this.#ledger = new HolderLedger(settings.quotaBytes)
    this.#latest = new LatestTable(this.#ledger)
    this.#replicas = new ReplicaTable(this.#ledger)
    this.#sharers = new LeaseTable(this.#ledger)
  }

  /** @param now - wall time in milliseconds, as in all steps */
  put(record: LatestRecord | ReplicaEntry | LeaseEntry, now: number): PutResult {
    if (record.table === 'sharers') return this.#sharers.put(record, now)
    return record.table === 'latest' ? this.#latest.put(record, now) : this.#replicas.put(record, now)
  }

  /** Somebody has reached the peer of this very record at an address that it announces. */
  markVerified(image: string, peer: string, digest: string): Change[] {
    return this.#replicas.markVerified(image, peer, digest)
  }

  /** The record of an appliance, with a random sample of who serves its current images. */
  getLatest(appliance: string, now: number): LatestFound {
    const held = this.#latest.get(appliance, now)
    const images = held?.images ?? []
    const replicas: HeldReplica[] = []
    for (const [i, image] of images.entries()) {
      // What one image does not use of its share is there for the next.
      const share = Math.ceil((REPLICAS_PER_ANSWER - replicas.length) / (images.length - i))
      replicas.push(...this.#replicas.sample(image, share, now, this.#random))
    }
    return { held, replicas }
  }

  getReplicas(image: string, now: number): ReplicasFound {
    const replicas = this.#replicas.sample(image, REPLICAS_PER_ANSWER, now, this.#random)
    return { replicas, heldSinceMs: replicas.length === 0 ? undefined : this.#replicas.heldSinceMs(image) }
  }

  /** The sharers of a release. To be asked is noted (see held-leases.ts), so this changes something too. */
  getSharers(release: string, now: number, options?: { hashes: boolean }): { found: SharersFound; changes: Change[] } {
    return this.#sharers.find(release, now, options)
  }

  /** Forgets what has expired. What has expired is never given out, swept or not. */
  expire(now: number): Change[] {
    return [...this.#latest.expire(now), ...this.#replicas.expire(now), ...this.#sharers.expire(now)]
  }

  /** Puts back a record that was kept before a restart. False if it does not fit (any more). */
  restore(record: HeldRecord): boolean {
    if (record.table === 'sharers') return this.#sharers.restore(record)
    return record.table === 'latest' ? this.#latest.restore(record) : this.#replicas.restore(record)
  }

  /** Puts back what was known of a release before a restart; to be called before its leases are put back. */
  restoreNote(release: string, note: ReleaseNote): boolean {
    return this.#sharers.restoreNote(release, note)
  }

  /** A lease of this release that is not given back cannot be put back; `untilMs` is undefined where it cannot be read. */
  lostLease(release: string, untilMs: number | undefined, now: number): void {
    this.#sharers.lost(release, untilMs, now)
  }

  /** What is known of a release beside its leases. */
  noteOf(release: string): ReleaseNote | undefined {
    return this.#sharers.noteOf(release)
  }

  usage(table: HeldTable): { records: number; bytes: number; keys: number } {
    return this.#ledger.usage(table)
  }
}
