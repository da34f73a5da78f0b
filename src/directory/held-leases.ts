/**
 * A holder's table of sharers: for each release up to MAX_LEASES_PER_KEY leases, and one number.
 *
 * Kept are the leases with the smallest hashes (sharer-sketch.ts). The number is the latest expiry of any valid lease
 * that was not kept, for whatever reason: so a crowd of invented sharers may push real ones out of the table, but not
 * out of sight. Who asks whether a release is in use gets the later of the number and the last lease's expiry.
 *
 * Tenure: a lease that nobody renews here says nothing, so a holder also tells for how long it has answered for this
 * release. That begins when it is first asked or told of it, and anew when it then hears nothing for
 * TENURE_CONTACT_GAP_MS: it may not have been among the closest meanwhile. (It also begins anew when its clock is set by
 * that much.) Releases without leases are remembered for that only, and give way to others.
 *
 * Leases are not kept as they were signed: nothing is proved with them again, and a million sharers fit in 1 MiB.
 */

import type { HolderLedger } from './holder-ledger.ts'
import type { Change, PutOutcome, PutResult } from './holder-types.ts'
import {
  CLOCK_SKEW_MS,
  MAX_GIVEN_BACK_PER_KEY,
  MAX_KEEP_TTL_MS,
  MAX_LEASES_PER_KEY,
  MAX_LEASES_PER_SIGNER,
  MAX_RELEASES_HELD,
  MAX_RUNNING_TTL_MS,
  REFILL_BELOW,
  TENURE_CONTACT_GAP_MS
} from './limits.ts'

/** What a holder needs to know of a lease that was opened. */
export interface LeaseEntry {
  table: 'sharers'
  /** The release. */
  key: string
  /** The sharer's pseudonym. */
  signer: string
  /** In [0, 1); see leaseHash. */
  hash: number
  sequence: number
  issuedMs: number
  runningUntilMs: number
  keepUntilMs: number
  givenBack: boolean
}

export type HeldLease = Omit<LeaseEntry, 'issuedMs'>

/** What a holder knows of a release beside its leases. With the key '' of all releases that it had no room for. */
export interface ReleaseNote {
  sinceMs: number
  contactMs: number
  /** The latest expiry of any valid lease that is not kept. */
  unkeptUntilMs: number
}

export interface SharersFound {
  /** Of the leases kept that have not expired, ascending. */
  hashes: number[]
  /** Every valid lease that came is among them. */
  all: boolean
  /** Leases with hashes from here on are not kept; 1 when all are. */
  threshold: number
  /** When the last valid lease expires, kept or not; 0 when none is known. */
  inUseUntilMs: number
  tenureMs: number
}

interface Key extends ReleaseNote {
  name: string
  /** By signer, those given back among them. */
  held: Map<string, HeldLease>
  /** Those not given back, ascending by hash. */
  live: HeldLease[]
  /** The last end of these, or UNKNOWN: to be looked for, which with a full table costs as much as ten puts. */
  liveUntilMs: number
  /** No lease expires before. */
  nextExpiryMs: number
}

const OVERFLOW = ''
const UNKNOWN = -1

export class LeaseTable {
  readonly #ledger: HolderLedger
  readonly #keys = new Map<string, Key>()
  /** Of releases that there was no room for. */
  #overflowUntilMs = 0

  constructor(ledger: HolderLedger) {
    this.#ledger = ledger
  }

  put(entry: LeaseEntry, now: number): PutResult {
    const refusal = timeRefusal(entry, now)
    if (refusal !== undefined) return { outcome: refusal, changes: [] }
    const changes: Change[] = []
    let key = this.#keys.get(entry.key)
    if (key === undefined) {
      if (entry.givenBack) return { outcome: 'withdrawn', changes }
      if (this.#ledger.recordsOf(entry.signer) >= MAX_LEASES_PER_SIGNER) return { outcome: 'full-signer', changes }
      key = this.#makeKey(entry.key, now, changes)
      if (key === undefined) return { outcome: 'full', changes: this.#overflow(until(entry), now) }
    }
    this.#touch(key, now)
    this.#prune(key, now, changes)
    const before = key.held.get(entry.signer)
    const known = before && sequenceRefusal(entry, before)
    if (known !== undefined) return { outcome: known, changes }
    const { table, signer, hash, sequence, runningUntilMs, keepUntilMs, givenBack } = entry
    const lease = { table, key: key.name, signer, hash, sequence, runningUntilMs, keepUntilMs, givenBack }
    if (entry.givenBack) return this.#giveBack(key, lease, before, changes)
    if (before !== undefined) this.#drop(key, before, changes)
    else if (this.#ledger.recordsOf(entry.signer) >= MAX_LEASES_PER_SIGNER) return { outcome: 'full-signer', changes }
    return { outcome: this.#keep(key, lease, changes), changes }
  }

  /** What is known of a release, with or without the hashes; to ask counts as contact. */
  find(release: string, now: number, options = { hashes: true }): { found: SharersFound; changes: Change[] } {
    const changes: Change[] = []
    const key = this.#keys.get(release) ?? this.#makeKey(release, now, changes)
    if (key === undefined) {
      const inUseUntilMs = live(this.#overflowUntilMs, now)
      return { found: { hashes: [], all: false, threshold: 1, inUseUntilMs, tenureMs: 0 }, changes }
    }
    this.#touch(key, now)
    this.#prune(key, now, changes)
    const unkeptUntilMs = live(Math.max(key.unkeptUntilMs, this.#overflowUntilMs), now)
    return {
      found: {
        hashes: options.hashes ? key.live.map(({ hash }) => hash) : [],
        all: unkeptUntilMs === 0,
        threshold: this.#threshold(key, now),
        inUseUntilMs: Math.max(unkeptUntilMs, this.#liveUntil(key)),
        tenureMs: now - key.sinceMs
      },
      changes
    }
  }

  expire(now: number): Change[] {
    const changes: Change[] = []
    for (const key of this.#keys.values()) {
      this.#prune(key, now, changes)
      if (key.held.size > 0 || key.unkeptUntilMs > now || Math.abs(now - key.contactMs) <= TENURE_CONTACT_GAP_MS)
        continue
      this.#forget(key, changes)
    }
    if (this.#overflowUntilMs !== 0 && this.#overflowUntilMs <= now) changes.push(...this.#overflow(0, now))
    return changes
  }

  /** Puts back what was known of a release before a restart; before its leases. */
  restoreNote(release: string, note: ReleaseNote): boolean {
    if (release === OVERFLOW) {
      this.#overflowUntilMs = note.unkeptUntilMs
      return true
    }
    if (this.#keys.has(release) || this.#keys.size >= MAX_RELEASES_HELD) return false
    this.#addKey(release, note)
    return true
  }

  /** Puts back a lease; it was checked when it came. */
  restore(lease: HeldLease): boolean {
    const key = this.#keys.get(lease.key)
    if (key === undefined || key.held.has(lease.signer)) return false
    if (this.#ledger.refusal('sharers', lease.signer, 0, false) !== undefined) return false
    if (!lease.givenBack && key.live.length >= MAX_LEASES_PER_KEY) return false
    this.#add(key, lease)
    return true
  }

  /** A lease that was kept is not any more, and did not end: it counts as one that is not kept, or nobody can say what it was. */
  lost(release: string, untilMs: number | undefined, now: number): void {
    const key = this.#keys.get(release)
    if (key === undefined) return
    if (untilMs === undefined) key.sinceMs = now
    else key.unkeptUntilMs = Math.max(key.unkeptUntilMs, untilMs)
  }

  noteOf(release: string): ReleaseNote | undefined {
    const key = this.#keys.get(release)
    return key && noteOf(key)
  }

  #keep(key: Key, lease: HeldLease, changes: Change[]): PutOutcome {
    const largest = key.live.at(-1)
    const isFull =
      key.live.length >= MAX_LEASES_PER_KEY || this.#ledger.refusal('sharers', lease.signer, 0, false) !== undefined
    if (isFull && (largest === undefined || lease.hash >= largest.hash)) {
      this.#unkept(key, until(lease), changes)
      return 'counted'
    }
    if (isFull) {
      this.#drop(key, largest!, changes)
      this.#unkept(key, until(largest!), changes)
    }
    this.#add(key, lease)
    changes.push({ kind: 'keep', record: lease })
    return 'kept'
  }

  #giveBack(key: Key, lease: HeldLease, before: HeldLease | undefined, changes: Change[]): PutResult {
    // What was not kept cannot be taken back: its expiry is in the number.
    if (before === undefined) return { outcome: 'withdrawn', changes }
    this.#drop(key, before, changes)
    if (key.held.size - key.live.length >= MAX_GIVEN_BACK_PER_KEY) {
      for (const old of key.held.values()) {
        if (!old.givenBack) continue
        this.#drop(key, old, changes)
        break
      }
    }
    if (this.#ledger.refusal('sharers', lease.signer, 0, false) === undefined) {
      this.#add(key, lease)
      changes.push({ kind: 'keep', record: lease })
    }
    return { outcome: 'withdrawn', changes }
  }

  #liveUntil(key: Key): number {
    if (key.liveUntilMs === UNKNOWN) {
      key.liveUntilMs = 0
      for (const lease of key.live) key.liveUntilMs = Math.max(key.liveUntilMs, until(lease))
    }
    return key.liveUntilMs
  }

  #threshold(key: Key, now: number): number {
    const isShort = key.live.length < MAX_LEASES_PER_KEY
    const wasFull = key.unkeptUntilMs > now && key.live.length >= MAX_LEASES_PER_KEY * REFILL_BELOW
    return isShort && !wasFull ? 1 : key.live.at(-1)!.hash
  }

  #unkept(key: Key, untilMs: number, changes: Change[]): void {
    if (untilMs <= key.unkeptUntilMs) return
    key.unkeptUntilMs = untilMs
    changes.push(note(key))
  }

  #overflow(untilMs: number, now: number): Change[] {
    if (untilMs !== 0 && untilMs <= this.#overflowUntilMs) return []
    this.#overflowUntilMs = untilMs
    const state = { sinceMs: now, contactMs: now, unkeptUntilMs: untilMs }
    return [{ kind: 'note', release: OVERFLOW, note: untilMs === 0 ? undefined : state }]
  }

  /** Somebody asks for the release or tells of it. */
  #touch(key: Key, now: number): void {
    if (Math.abs(now - key.contactMs) > TENURE_CONTACT_GAP_MS || key.sinceMs > now) key.sinceMs = now
    key.contactMs = now
  }

  #prune(key: Key, now: number, changes: Change[]): void {
    if (key.nextExpiryMs > now) return
    key.nextExpiryMs = Infinity
    for (const lease of [...key.held.values()]) {
      if (until(lease) <= now) this.#drop(key, lease, changes)
      else key.nextExpiryMs = Math.min(key.nextExpiryMs, until(lease))
    }
  }

  #makeKey(release: string, now: number, changes: Change[]): Key | undefined {
    if (this.#keys.size >= MAX_RELEASES_HELD) {
      const idle = this.#idleKey(now)
      if (idle === undefined) return undefined
      this.#forget(idle, changes)
    }
    const key = this.#addKey(release, { sinceMs: now, contactMs: now, unkeptUntilMs: 0 })
    changes.push(note(key))
    return key
  }

  /** One that only its tenure is remembered of: the one that came first. */
  #idleKey(now: number): Key | undefined {
    for (const key of this.#keys.values()) {
      if (key.held.size === 0 && key.unkeptUntilMs <= now) return key
    }
    return undefined
  }

  #addKey(name: string, { sinceMs, contactMs, unkeptUntilMs }: ReleaseNote): Key {
    const held = new Map<string, HeldLease>()
    const key: Key = { name, sinceMs, contactMs, unkeptUntilMs, held, live: [], liveUntilMs: 0, nextExpiryMs: Infinity }
    this.#keys.set(name, key)
    this.#ledger.addKey('sharers')
    return key
  }

  #forget(key: Key, changes: Change[]): void {
    this.#keys.delete(key.name)
    this.#ledger.removeKey('sharers')
    changes.push({ kind: 'note', release: key.name, note: undefined })
  }

  #add(key: Key, lease: HeldLease): void {
    key.held.set(lease.signer, lease)
    key.nextExpiryMs = Math.min(key.nextExpiryMs, until(lease))
    this.#ledger.add('sharers', lease.signer, 0)
    if (lease.givenBack) return
    key.live.splice(placeOf(key.live, lease.hash), 0, lease)
    if (key.liveUntilMs !== UNKNOWN) key.liveUntilMs = Math.max(key.liveUntilMs, until(lease))
  }

  #drop(key: Key, lease: HeldLease, changes: Change[]): void {
    key.held.delete(lease.signer)
    this.#ledger.remove('sharers', lease.signer, 0)
    changes.push({ kind: 'drop', table: 'sharers', key: key.name, signer: lease.signer })
    if (lease.givenBack) return
    let at = placeOf(key.live, lease.hash)
    while (key.live[at] !== lease) at++
    key.live.splice(at, 1)
    if (until(lease) >= key.liveUntilMs) key.liveUntilMs = UNKNOWN
  }
}

/** Until when a lease holds. */
export function until(lease: { runningUntilMs: number; keepUntilMs: number }): number {
  return Math.max(lease.runningUntilMs, lease.keepUntilMs)
}

function timeRefusal(entry: LeaseEntry, now: number): PutOutcome | undefined {
  if (until(entry) <= now) return 'expired'
  if (entry.issuedMs > now + CLOCK_SKEW_MS) return 'future'
  if (entry.runningUntilMs > now + MAX_RUNNING_TTL_MS + CLOCK_SKEW_MS) return 'future'
  if (entry.keepUntilMs > now + MAX_KEEP_TTL_MS + CLOCK_SKEW_MS) return 'future'
  return undefined
}

function sequenceRefusal(entry: LeaseEntry, before: HeldLease): PutOutcome | undefined {
  if (entry.sequence > before.sequence) return undefined
  if (entry.sequence < before.sequence) return 'older'
  const isSame = until(entry) === until(before) && entry.givenBack === before.givenBack
  return isSame ? 'known' : 'conflict'
}

/** Where a hash is, or belongs, in an ascending list: before the first that is not smaller. */
function placeOf(list: readonly HeldLease[], hash: number): number {
  let from = 0
  let to = list.length
  while (from < to) {
    const middle = (from + to) >> 1
    if (list[middle]!.hash < hash) from = middle + 1
    else to = middle
  }
  return from
}

function live(untilMs: number, now: number): number {
  return untilMs > now ? untilMs : 0
}

function note(key: Key): Change {
  return { kind: 'note', release: key.name, note: noteOf(key) }
}

function noteOf({ sinceMs, contactMs, unkeptUntilMs }: Key): ReleaseNote {
  return { sinceMs, contactMs, unkeptUntilMs }
}
