/**
 * Keeps what a holder holds over a restart, in a table of the catalog.
 *
 * Changes are written behind: a holder is one of twenty, and every record comes again at the next renewal, so losing
 * the last moments to a power cut costs nothing. For the same reason an entry that cannot be read is dropped, and a
 * disk that is full stops the writing, not the holding.
 *
 * What could not be written comes first in the next write. For a lease may not come again for months, and a holder that
 * claimed its tenure after a restart without the leases of that time would be a false witness: the mark that it was awake
 * goes in the same write, so either all of it is there, or its tenure begins anew. One write is under way at a time, or what failed
 * could come behind what is newer. A lease that cannot be put back (the owner gave less memory, or its entry is damaged) is not
 * passed over in silence either: it goes on counting as one that is not kept, or the tenure of its release begins anew.
 */

import type { Log } from '../environment.ts'
import { asRowanError } from '../errors.ts'
import { type Catalog, type Codec, jsonCodec, type Operation, type Table } from '../store/catalog.ts'
import type { Reach } from './addresses.ts'
import { type HeldLease, type ReleaseNote, until } from './held-leases.ts'
import type { Holder } from './holder.ts'
import type { HeldTable } from './holder-ledger.ts'
import type { Change, HeldRecord } from './holder-types.ts'
import { TENURE_GAP_MS } from './limits.ts'
import { StoredLease, HeldRecord as StoredRecord } from './proto/directory.js'

const TABLE_NUMBER = { latest: 1, replicas: 2 } as const

type EnvelopeRecord = Exclude<HeldRecord, HeldLease>
/** Changes that wait for a disk that takes them; with more, the tenure begins anew at the next start. */
export const MAX_UNWRITTEN = 65_536

/** Without what its key says already. */
type LeaseRow = Omit<HeldLease, 'table' | 'key' | 'signer'>

export class HolderStore {
  readonly #catalog: Pick<Catalog, 'write'>
  readonly #records: Table<EnvelopeRecord | undefined>
  readonly #leases: Table<LeaseRow | undefined>
  readonly #notes: Table<ReleaseNote>
  readonly #marks: Table<number>
  readonly #log: Log
  /** By key, the last change of each. */
  readonly #unwritten = new Map<string, Operation>()
  #writing: Promise<void> = Promise.resolve()
  #hasLost = false

  constructor(components: { catalog: Catalog; log: Log }) {
    this.#catalog = components.catalog
    this.#records = components.catalog.table('holder', recordCodec)
    this.#leases = components.catalog.table('holder-leases', leaseCodec)
    this.#notes = components.catalog.table('holder-releases', jsonCodec<ReleaseNote>())
    this.#marks = components.catalog.table('holder-marks', jsonCodec<number>())
    this.#log = components.log
  }

  /** Fills an empty holder with what was kept. Returns how many records came back. */
  async load(holder: Holder, now: number): Promise<number> {
    const awakeMs = await this.#marks.get('awake')
    // Whoever slept may have missed records, so the tenure of all keys begins now.
    const hasSlept = awakeMs === undefined || now - awakeMs > TENURE_GAP_MS || awakeMs > now + TENURE_GAP_MS
    const obsolete: Operation[] = []
    let count = 0
    for await (const [key, record] of this.#records.entries()) {
      if (record === undefined) this.#log.warn('an entry of the holder cannot be read; dropped', { key })
      const heldSinceMs = hasSlept ? now : record?.heldSinceMs
      if (record !== undefined && record.expiresMs > now && holder.restore({ ...record, heldSinceMs: heldSinceMs! })) {
        count++
      } else {
        obsolete.push(this.#records.deleteOp(key))
      }
    }
    count += await this.#loadLeases(holder, hasSlept, now, obsolete)
    await this.#write(obsolete)
    await this.awake(now)
    return count
  }

  async #loadLeases(holder: Holder, hasSlept: boolean, now: number, obsolete: Operation[]): Promise<number> {
    for await (const [release, note] of this.#notes.entries()) {
      // Nobody could have told it anything while it was down, and if that was short, nothing was missed.
      const known = { ...note, sinceMs: hasSlept ? now : note.sinceMs, contactMs: now }
      if (!holder.restoreNote(release, known)) obsolete.push(this.#notes.deleteOp(release))
    }
    let count = 0
    const amended = new Set<string>()
    for await (const [row, lease] of this.#leases.entries()) {
      const at = row.lastIndexOf('/')
      const key = row.slice(0, at)
      const held = lease && { ...lease, table: 'sharers' as const, key, signer: row.slice(at + 1) }
      const isOver = held !== undefined && until(held) <= now
      if (held !== undefined && !isOver && holder.restore(held)) {
        count++
        continue
      }
      obsolete.push(this.#leases.deleteOp(row))
      if (isOver || held?.givenBack) continue
      holder.lostLease(key, held && until(held), now)
      amended.add(key)
    }
    for (const release of amended) {
      const note = holder.noteOf(release)
      if (note !== undefined) obsolete.push(this.#notes.putOp(release, note))
    }
    return count
  }

  /** Writes down what a step of the holder has changed. */
  async apply(changes: readonly Change[]): Promise<void> {
    await this.#write(changes.map(change => this.#operation(change)))
  }

  #operation(change: Change): Operation {
    if (change.kind === 'note') {
      const { release, note } = change
      return note === undefined ? this.#notes.deleteOp(release) : this.#notes.putOp(release, note)
    }
    const what = change.kind === 'keep' ? change.record : change
    const row = keyOf(what)
    if (change.kind === 'drop') return (what.table === 'sharers' ? this.#leases : this.#records).deleteOp(row)
    const { record } = change
    return record.table === 'sharers' ? this.#leases.putOp(row, record) : this.#records.putOp(row, record)
  }

  /** Notes that the holder is at its post. */
  async awake(now: number): Promise<void> {
    await this.#write([this.#marks.putOp('awake', this.#hasLost ? 0 : now)])
  }

  #write(operations: Operation[]): Promise<void> {
    if (operations.length > 0) this.#writing = this.#writing.then(() => this.#writeNow(operations))
    return this.#writing
  }

  /** Never rejects. */
  async #writeNow(operations: Operation[]): Promise<void> {
    const late = [...this.#unwritten.values()]
    this.#unwritten.clear()
    try {
      await this.#catalog.write([...late, ...operations])
    } catch (cause) {
      this.#keepForLater([...late, ...operations])
      const error = asRowanError(cause, 'STORE_IO')
      this.#log.warn('what the holder keeps could not be written down', { code: error.code, message: error.message })
    }
  }

  #keepForLater(operations: readonly Operation[]): void {
    for (const operation of operations) this.#unwritten.set(operation.key, operation)
    for (const key of this.#unwritten.keys()) {
      if (this.#unwritten.size <= MAX_UNWRITTEN) break
      this.#unwritten.delete(key)
      this.#hasLost = true
    }
  }
}

function keyOf(record: { table: HeldTable; key: string; signer: string }): string {
  if (record.table === 'sharers') return `${record.key}/${record.signer}`
  return record.table === 'latest' ? `latest/${record.key}` : `replicas/${record.key}/${record.signer}`
}

/** Undefined stands for an entry that cannot be read. */
const leaseCodec: Codec<LeaseRow | undefined> = {
  encode: lease => (lease === undefined ? new Uint8Array(0) : StoredLease.encode(lease)),
  decode(bytes) {
    try {
      const { hash, sequence, runningUntilMs, keepUntilMs, givenBack } = StoredLease.decode(bytes)
      return { hash, sequence, runningUntilMs, keepUntilMs, givenBack }
    } catch {
      // Dropped by `load`: it comes again at the next renewal.
      return undefined
    }
  }
}

/** Undefined stands for an entry that cannot be read. */
const recordCodec: Codec<EnvelopeRecord | undefined> = {
  encode(record) {
    if (record === undefined) return new Uint8Array(0)
    const common = {
      table: TABLE_NUMBER[record.table],
      key: record.key,
      signer: record.signer,
      sequence: record.sequence,
      expiresMs: record.expiresMs,
      digest: record.digest,
      bytes: new Uint8Array(record.bytes),
      heldSinceMs: record.heldSinceMs,
      delegationSequence: 0,
      images: [] as string[],
      conflicting: new Uint8Array(0),
      complete: false,
      verified: false,
      met: 0
    }
    if (record.table === 'replicas') {
      return StoredRecord.encode({
        ...common,
        complete: record.complete,
        verified: record.verified,
        met: record.met
      })
    }
    return StoredRecord.encode({
      ...common,
      delegationSequence: record.delegationSequence,
      images: record.images,
      conflicting: new Uint8Array(record.conflicting ?? [])
    })
  },

  decode(bytes) {
    let stored: StoredRecord
    try {
      stored = StoredRecord.decode(bytes)
    } catch {
      // Told by `load`, which knows the key.
      return undefined
    }
    const { key, signer, sequence, expiresMs, digest, heldSinceMs } = stored
    const common = { key, signer, sequence, expiresMs, digest, heldSinceMs, bytes: new Uint8Array(stored.bytes) }
    if (stored.table === TABLE_NUMBER.replicas) {
      const { complete, verified } = stored
      return { table: 'replicas', ...common, complete, verified, met: Math.min(stored.met, 2) as Reach }
    }
    if (stored.table !== TABLE_NUMBER.latest) return undefined
    const { delegationSequence, images } = stored
    const conflict = stored.conflicting.byteLength > 0 ? { conflicting: new Uint8Array(stored.conflicting) } : {}
    return { table: 'latest', ...common, issuedMs: 0, delegationSequence, images, ...conflict }
  }
}
