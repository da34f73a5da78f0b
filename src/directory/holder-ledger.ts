/**
 * What a holder has granted to whom, and whether there is room for more.
 *
 * A table has a share of all bytes and a number of keys; a signer has a number of records and of bytes over all
 * tables. Keys are free to invent, so the shares and not the signers protect against a crowd of them; incumbents stay.
 */

import {
  MAX_BYTES_PER_SIGNER,
  MAX_KEYS_PER_TABLE,
  MAX_RECORDS_PER_SIGNER,
  RECORD_OVERHEAD_BYTES,
  TABLE_SHARE
} from './limits.ts'

export type HeldTable = 'latest' | 'replicas' | 'sharers'
export type NoRoom = 'full' | 'full-key' | 'full-signer'

interface Account {
  records: number
  bytes: number
}

export class HolderLedger {
  readonly #quotaBytes: number
  readonly #tables: Record<HeldTable, Account & { keys: number }> = {
    latest: { records: 0, bytes: 0, keys: 0 },
    replicas: { records: 0, bytes: 0, keys: 0 },
    sharers: { records: 0, bytes: 0, keys: 0 }
  }
  readonly #signers = new Map<string, Account>()

  /** @param quotaBytes - for all tables together */
  constructor(quotaBytes: number) {
    this.#quotaBytes = quotaBytes
  }

  /** The bytes a table may fill. */
  limitBytes(table: HeldTable): number {
    return Math.floor(this.#quotaBytes * TABLE_SHARE[table])
  }

  /** Why a record of `bytes` has no room; undefined if it has. `replaces` are the bytes it takes the place of. */
  refusal(table: HeldTable, signer: string, bytes: number, isNewKey: boolean, replaces?: number): NoRoom | undefined {
    const account = this.#signers.get(signer)
    const grows = cost(bytes) - (replaces === undefined ? 0 : cost(replaces))
    if (replaces === undefined && (account?.records ?? 0) >= MAX_RECORDS_PER_SIGNER) return 'full-signer'
    if (grows > 0 && (account?.bytes ?? 0) + grows > MAX_BYTES_PER_SIGNER) return 'full-signer'
    if (isNewKey && this.#tables[table].keys >= MAX_KEYS_PER_TABLE) return 'full'
    if (grows > 0 && this.#tables[table].bytes + grows > this.limitBytes(table)) return 'full'
    return undefined
  }

  add(table: HeldTable, signer: string, bytes: number): void {
    this.#change(table, signer, 1, cost(bytes))
  }

  remove(table: HeldTable, signer: string, bytes: number): void {
    this.#change(table, signer, -1, -cost(bytes))
  }

  addKey(table: HeldTable): void {
    this.#tables[table].keys++
  }

  removeKey(table: HeldTable): void {
    this.#tables[table].keys--
  }

  /** How many records of a signer there are, over all tables. */
  recordsOf(signer: string): number {
    return this.#signers.get(signer)?.records ?? 0
  }

  /** What a table holds now. */
  usage(table: HeldTable): { records: number; bytes: number; keys: number } {
    return { ...this.#tables[table] }
  }

  #change(table: HeldTable, signer: string, records: number, bytes: number): void {
    const account = this.#signers.get(signer) ?? { records: 0, bytes: 0 }
    account.records += records
    account.bytes += bytes
    if (account.records === 0) this.#signers.delete(signer)
    else this.#signers.set(signer, account)
    this.#tables[table].records += records
    this.#tables[table].bytes += bytes
  }
}

/** What a record of so many bytes is charged with. */
export function cost(bytes: number): number {
  return bytes + RECORD_OVERHEAD_BYTES
}
