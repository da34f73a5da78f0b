/**
 * A holder's table of replicas: for each image up to MAX_REPLICAS_PER_KEY peers that serve it.
 *
 * Incumbents come before newcomers, so a crowd of invented peers cannot push out those that were there. But a record
 * whose address somebody has reached comes before one whose address nobody has: the latter live in what is left over.
 */

import type { Random } from '../environment.ts'
import type { Reach } from './addresses.ts'
import type { HolderLedger, NoRoom } from './holder-ledger.ts'
import type { Change, PutOutcome, PutResult } from './holder-types.ts'
import {
  CLOCK_SKEW_MS,
  MAX_REPLICA_TTL_MS,
  MAX_REPLICAS_PER_KEY,
  MAX_UNVERIFIED_PER_KEY,
  UNVERIFIED_SHARE
} from './limits.ts'
import { takeRandom } from './sampling.ts'

/** What a holder needs to know of a replica record that was opened. */
export interface ReplicaEntry {
  table: 'replicas'
  /** The image. */
  key: string
  /** The replica's peer id. */
  signer: string
  sequence: number
  expiresMs: number
  digest: string
  complete: boolean
  bytes: Uint8Array
  /** Whether this holder has reached it at an announced address. */
  verified: boolean
  /** How this holder met the announcer. */
  met: Reach
}

export interface HeldReplica extends ReplicaEntry {
  /** Since when this holder has had records of this key. */
  heldSinceMs: number
}

interface Key {
  heldSinceMs: number
  replicas: Map<string, HeldReplica>
  unverified: Set<HeldReplica>
}

export class ReplicaTable {
  readonly #ledger: HolderLedger
  readonly #keys = new Map<string, Key>()
  /** Of all keys, oldest first: who goes first when bytes run out. */
  readonly #unverified = new Set<HeldReplica>()
  #unverifiedBytes = 0

  constructor(ledger: HolderLedger) {
    this.#ledger = ledger
  }

  put(entry: ReplicaEntry, now: number): PutResult {
    const changes = this.#dropExpired(this.#keys.get(entry.key), now)
    const before = this.#keys.get(entry.key)?.replicas.get(entry.signer)
    const refusal = sequenceRefusal(entry, before, now)
    if (refusal !== undefined) return { outcome: refusal, changes }
    if (entry.expiresMs <= now) {
      this.#remove(before!)
      return { outcome: 'withdrawn', changes: [...changes, drop(before!)] }
    }
    const heldSinceMs = this.#keys.get(entry.key)?.heldSinceMs ?? now
    const noRoom = this.#makeRoom(entry, before, changes)
    if (noRoom !== undefined) return { outcome: noRoom, changes }
    if (before !== undefined) this.#remove(before)
    const held: HeldReplica = { ...entry, heldSinceMs }
    this.#add(held)
    return { outcome: 'kept', changes: [...changes, { kind: 'keep', record: held }] }
  }

  /** The address of exactly this record was reached. */
  markVerified(image: string, peer: string, digest: string): Change[] {
    const held = this.#keys.get(image)?.replicas.get(peer)
    if (held === undefined || held.verified || held.digest !== digest) return []
    this.#remove(held)
    const verified = { ...held, verified: true }
    this.#add(verified)
    return [{ kind: 'keep', record: verified }]
  }

  heldSinceMs(image: string): number | undefined {
    return this.#keys.get(image)?.heldSinceMs
  }

  /**
   * Random replicas of an image, partial ones among them: three quarters full ones if there are as many, so that who
   * wants everything finds it, and the others are not forgotten. Those that nobody has reached only fill what is left.
   */
  sample(image: string, count: number, now: number, random: Random): HeldReplica[] {
    const live = [...(this.#keys.get(image)?.replicas.values() ?? [])].filter(held => held.expiresMs > now)
    const full = takeRandom(
      live.filter(held => held.verified && held.complete),
      count,
      random
    )
    const partial = takeRandom(
      live.filter(held => held.verified && !held.complete),
      count,
      random
    )
    const partialWanted = Math.max(Math.floor(count / 4), count - full.length)
    const chosenPartial = partial.slice(0, partialWanted)
    const chosen = [...full.slice(0, count - chosenPartial.length), ...chosenPartial]
    const rest = takeRandom(
      live.filter(held => !held.verified),
      count - chosen.length,
      random
    )
    return [...chosen, ...rest]
  }

  /** Puts back what was kept before a restart; it was checked when it came. */
  restore(held: HeldReplica): boolean {
    const key = this.#keys.get(held.key)
    if (key?.replicas.has(held.signer) || (key?.replicas.size ?? 0) >= MAX_REPLICAS_PER_KEY) return false
    const noRoom = this.#ledger.refusal('replicas', held.signer, held.bytes.byteLength, key === undefined)
    if (noRoom !== undefined) return false
    this.#add(held)
    return true
  }

  expire(now: number): Change[] {
    return [...this.#keys.values()].flatMap(key => this.#dropExpired(key, now))
  }

  /** Makes place for a record, or says why there is none. Who must go is added to `changes`. */
  #makeRoom(
    entry: ReplicaEntry,
    before: HeldReplica | undefined,
    changes: Change[]
  ): NoRoom | 'unverified' | undefined {
    const key = this.#keys.get(entry.key)
    const isNewcomer = before === undefined
    if (!entry.verified && (isNewcomer || before.verified)) {
      if ((key?.unverified.size ?? 0) >= MAX_UNVERIFIED_PER_KEY) return 'unverified'
      const limit = this.#ledger.limitBytes('replicas') * UNVERIFIED_SHARE
      if (this.#unverifiedBytes + entry.bytes.byteLength > limit) return 'unverified'
    }
    if (isNewcomer && (key?.replicas.size ?? 0) >= MAX_REPLICAS_PER_KEY) {
      const victim = entry.verified ? first(key!.unverified) : undefined
      if (victim === undefined) return entry.verified ? 'full-key' : 'unverified'
      this.#remove(victim)
      changes.push(drop(victim))
    }
    for (;;) {
      const isNewKey = !this.#keys.has(entry.key)
      const size = entry.bytes.byteLength
      const noRoom = this.#ledger.refusal('replicas', entry.signer, size, isNewKey, before?.bytes.byteLength)
      if (noRoom !== 'full') return noRoom
      const victim = entry.verified ? first(this.#unverified, before) : undefined
      if (victim === undefined) return entry.verified ? 'full' : 'unverified'
      this.#remove(victim)
      changes.push(drop(victim))
    }
  }

  #dropExpired(key: Key | undefined, now: number): Change[] {
    const gone = [...(key?.replicas.values() ?? [])].filter(held => held.expiresMs <= now)
    for (const held of gone) this.#remove(held)
    return gone.map(drop)
  }

  #add(held: HeldReplica): void {
    let key = this.#keys.get(held.key)
    if (key === undefined) {
      key = { heldSinceMs: held.heldSinceMs, replicas: new Map(), unverified: new Set() }
      this.#keys.set(held.key, key)
      this.#ledger.addKey('replicas')
    }
    key.replicas.set(held.signer, held)
    this.#ledger.add('replicas', held.signer, held.bytes.byteLength)
    if (held.verified) return
    key.unverified.add(held)
    this.#unverified.add(held)
    this.#unverifiedBytes += held.bytes.byteLength
  }

  #remove(held: HeldReplica): void {
    const key = this.#keys.get(held.key)
    if (key?.replicas.get(held.signer) !== held) return
    key.replicas.delete(held.signer)
    this.#ledger.remove('replicas', held.signer, held.bytes.byteLength)
    if (key.unverified.delete(held)) {
      this.#unverified.delete(held)
      this.#unverifiedBytes -= held.bytes.byteLength
    }
    if (key.replicas.size > 0) return
    this.#keys.delete(held.key)
    this.#ledger.removeKey('replicas')
  }
}

/** What sequence number and times say; undefined for a record that may be kept, or that withdraws another. */
function sequenceRefusal(entry: ReplicaEntry, before: HeldReplica | undefined, now: number): PutOutcome | undefined {
  if (before === undefined) {
    if (entry.expiresMs <= now) return 'expired'
  } else {
    if (entry.sequence < before.sequence) return 'older'
    if (entry.sequence === before.sequence) return entry.digest === before.digest ? 'known' : 'conflict'
  }
  return entry.expiresMs > now + MAX_REPLICA_TTL_MS + CLOCK_SKEW_MS ? 'future' : undefined
}

function first<T>(set: Set<T>, except?: T): T | undefined {
  for (const item of set) if (item !== except) return item
  return undefined
}

function drop(held: HeldReplica): Change {
  return { kind: 'drop', table: 'replicas', key: held.key, signer: held.signer }
}
