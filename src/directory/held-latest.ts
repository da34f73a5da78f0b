/**
 * A holder's table of `latest`: for each appliance the newest record (image/release-order.ts), until it expires.
 *
 * Two different records with one number under one delegation prove that the publisher's key signed both, so neither can
 * be trusted: both are kept, as the evidence, and given to whoever asks, until a newer one comes.
 *
 * A higher delegation of a publisher revokes what is held under lower ones, in all appliances: it is given out no more,
 * and goes, so that what a stolen key has signed takes none of the publisher's room.
 */

import type { VerifiedLatest } from '../image/release.ts'
import { compareRecords } from '../image/release-order.ts'
import type { HolderLedger } from './holder-ledger.ts'
import type { Change, PutOutcome, PutResult } from './holder-types.ts'
import { CLOCK_SKEW_MS, IMAGES_PER_LATEST_ANSWER, MAX_LATEST_TTL_MS } from './limits.ts'

/** What a holder needs to know of a `latest` that was opened. */
export interface LatestRecord {
  table: 'latest'
  /** The appliance, `PUBLISHER/NAME`. */
  key: string
  /** The publisher: the release key is his to change. */
  signer: string
  sequence: number
  issuedMs: number
  expiresMs: number
  digest: string
  delegationSequence: number
  /** The images that its channels point to, stable first: whose replicas ride along in an answer. */
  images: string[]
  bytes: Uint8Array
}

export interface HeldLatest extends LatestRecord {
  /** Since when this holder has had a record of this key. */
  heldSinceMs: number
  /** Another record with the same numbers. */
  conflicting?: Uint8Array
}

/** What a holder needs of a verified record. */
export function latestRecordOf(latest: VerifiedLatest): LatestRecord {
  const imageOf = new Map(latest.releases.map(release => [release.version, release.image]))
  const channels = latest.channels.toSorted((a, b) => Number(b.name === 'stable') - Number(a.name === 'stable'))
  const versions = [...channels.map(c => c.version), ...channels.flatMap(c => c.previous ?? [])]
  const images = versions.map(version => imageOf.get(version)).filter(image => image !== undefined)
  return {
    table: 'latest',
    key: latest.appliance,
    signer: latest.appliance.slice(0, latest.appliance.indexOf('/')),
    sequence: latest.sequence,
    issuedMs: latest.issuedMs,
    expiresMs: latest.expiresMs,
    digest: latest.digest,
    delegationSequence: latest.delegationSequence,
    images: [...new Set(images)].slice(0, IMAGES_PER_LATEST_ANSWER),
    bytes: latest.bytes
  }
}

export class LatestTable {
  readonly #ledger: HolderLedger
  readonly #held = new Map<string, HeldLatest>()
  /** The highest delegation seen of each publisher with records here, and their keys; a lower one is revoked. */
  readonly #publishers = new Map<string, { delegation: number; keys: Set<string> }>()

  constructor(ledger: HolderLedger) {
    this.#ledger = ledger
  }

  put(record: LatestRecord, now: number): PutResult {
    const before = this.#live(record.key, now)
    const refusal = this.#refusal(record, before, now)
    if (refusal !== undefined) return { outcome: refusal, changes: [] }
    if (before !== undefined && compareRecords(record, before) === 0) return this.#conflict(before, record)
    // What has expired or is revoked, and no sweep has taken away yet, gives its place.
    const obsolete = this.#obsoleteFor(record, before)
    for (const held of obsolete) this.#remove(held)
    const noRoom = this.#ledger.refusal(
      'latest',
      record.signer,
      record.bytes.byteLength,
      before === undefined,
      before && sizeOf(before)
    )
    const gone = obsolete.filter(held => held.key !== record.key || noRoom !== undefined).map(drop)
    if (noRoom !== undefined) return { outcome: noRoom, changes: gone }
    if (before !== undefined) this.#remove(before)
    const held: HeldLatest = { ...record, heldSinceMs: before?.heldSinceMs ?? now }
    this.#add(held)
    return { outcome: 'kept', changes: [...gone, { kind: 'keep', record: held }] }
  }

  /** The record of an appliance that has neither expired nor been revoked. */
  get(appliance: string, now: number): HeldLatest | undefined {
    return this.#live(appliance, now)
  }

  /** Puts back what was kept before a restart; it was checked when it came. */
  restore(held: HeldLatest): boolean {
    if (this.#held.has(held.key) || held.delegationSequence < this.#delegationOf(held.signer)) return false
    if (this.#ledger.refusal('latest', held.signer, sizeOf(held), true) !== undefined) return false
    this.#add(held)
    return true
  }

  expire(now: number): Change[] {
    const gone = [...this.#held.values()].filter(held => !this.#isLive(held, now))
    for (const held of gone) this.#remove(held)
    return gone.map(drop)
  }

  #refusal(record: LatestRecord, before: HeldLatest | undefined, now: number): PutOutcome | undefined {
    if (record.expiresMs <= now) return 'expired'
    if (record.issuedMs > now + CLOCK_SKEW_MS) return 'future'
    if (record.expiresMs > now + MAX_LATEST_TTL_MS + CLOCK_SKEW_MS) return 'future'
    if (record.delegationSequence < this.#delegationOf(record.signer)) return 'revoked'
    const order = before === undefined ? 1 : compareRecords(record, before)
    if (before === undefined || order > 0) return undefined
    if (order < 0) return 'older'
    if (before.conflicting !== undefined) return 'conflict'
    return before.digest === record.digest ? 'known' : undefined
  }

  #conflict(before: HeldLatest, record: LatestRecord): PutResult {
    const bytes = sizeOf(before) + record.bytes.byteLength
    if (this.#ledger.refusal('latest', record.signer, bytes, false, sizeOf(before)) !== undefined) {
      // No room for the evidence. The incumbent stays; whoever meets both records elsewhere refuses both.
      return { outcome: 'conflict', changes: [] }
    }
    this.#remove(before)
    const held: HeldLatest = {
      ...before,
      conflicting: record.bytes,
      expiresMs: Math.max(before.expiresMs, record.expiresMs)
    }
    this.#add(held)
    return { outcome: 'conflict', changes: [{ kind: 'keep', record: held }] }
  }

  #live(appliance: string, now: number): HeldLatest | undefined {
    const held = this.#held.get(appliance)
    return held !== undefined && this.#isLive(held, now) ? held : undefined
  }

  #isLive(held: HeldLatest, now: number): boolean {
    return held.expiresMs > now && held.delegationSequence >= this.#delegationOf(held.signer)
  }

  #delegationOf(publisher: string): number {
    return this.#publishers.get(publisher)?.delegation ?? 0
  }

  /** What goes when `record` comes, other than `before`, which it replaces. */
  #obsoleteFor(record: LatestRecord, before: HeldLatest | undefined): HeldLatest[] {
    const keys = this.#publishers.get(record.signer)?.keys ?? []
    return [...keys]
      .map(key => this.#held.get(key)!)
      .filter(held => held !== before)
      .filter(held => held.key === record.key || held.delegationSequence < record.delegationSequence)
  }

  #add(held: HeldLatest): void {
    this.#held.set(held.key, held)
    this.#ledger.addKey('latest')
    this.#ledger.add('latest', held.signer, sizeOf(held))
    const seen = this.#publishers.get(held.signer) ?? { delegation: 0, keys: new Set() }
    seen.delegation = Math.max(seen.delegation, held.delegationSequence)
    seen.keys.add(held.key)
    this.#publishers.set(held.signer, seen)
  }

  #remove(held: HeldLatest): void {
    this.#held.delete(held.key)
    this.#ledger.removeKey('latest')
    this.#ledger.remove('latest', held.signer, sizeOf(held))
    const seen = this.#publishers.get(held.signer)
    seen?.keys.delete(held.key)
    if (seen?.keys.size === 0) this.#publishers.delete(held.signer)
  }
}

function sizeOf(held: HeldLatest): number {
  return held.bytes.byteLength + (held.conflicting?.byteLength ?? 0)
}

function drop(held: HeldLatest): Change {
  return { kind: 'drop', table: 'latest', key: held.key, signer: held.signer }
}
