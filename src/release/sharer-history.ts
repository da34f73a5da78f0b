/**
 * How many used each own version: one sample an hour, for a year, kept here alone.
 *
 * Owns: the table `sharer-history` (release and hour -> sample).
 */
import type { Catalog, Codec, Operation, Table } from '../store/catalog.ts'

export const SAMPLE_EVERY_MS = 3_600_000
/** A year of hours. */
const MAX_SAMPLES = 366 * 24

export interface SharerSample {
  /** Wall time. */
  atMs: number
  /** Null when too few holders answered. */
  count: number | null
  exact: boolean
  /** Of an estimate, the relative standard error. */
  error?: number
}

export class SharerHistory {
  readonly #catalog: Catalog
  readonly #table: Table<SharerSample | undefined>

  constructor(catalog: Catalog) {
    this.#catalog = catalog
    this.#table = catalog.table('sharer-history', sampleCodec)
  }

  /** Keeps a sample, in the place of one of the same hour; the oldest beyond MAX_SAMPLES go. @throws DISK_FULL, STORE_IO */
  async add(release: string, sample: SharerSample): Promise<void> {
    const keys: string[] = []
    for await (const [key] of this.#table.entries({ prefix: prefixOf(release) })) keys.push(key)
    const key = keyOf(release, sample.atMs)
    const surplus = keys.filter(each => each !== key).slice(0, -(MAX_SAMPLES - 1))
    const operations = keys.length < MAX_SAMPLES ? [] : surplus.map(each => this.#table.deleteOp(each))
    await this.#catalog.write([...operations, this.#table.putOp(key, sample)])
  }

  /** The oldest first. @throws STORE_IO */
  async of(release: string): Promise<SharerSample[]> {
    const samples: SharerSample[] = []
    for await (const [, sample] of this.#table.entries({ prefix: prefixOf(release) })) {
      if (sample !== undefined) samples.push(sample)
    }
    return samples
  }

  /** What forgets a release. @throws STORE_IO */
  async forgetOps(release: string): Promise<Operation[]> {
    const operations: Operation[] = []
    for await (const [key] of this.#table.entries({ prefix: prefixOf(release) })) {
      operations.push(this.#table.deleteOp(key))
    }
    return operations
  }
}

function prefixOf(release: string): string {
  return `${release} `
}

function keyOf(release: string, atMs: number): string {
  const hour = Math.max(0, Math.floor(atMs / SAMPLE_EVERY_MS))
  return `${prefixOf(release)}${String(hour).padStart(12, '0')}`
}

/** Undefined stands for a sample that cannot be read. */
export const sampleCodec: Codec<SharerSample | undefined> = {
  encode: sample => Buffer.from(JSON.stringify(sample ?? null)),
  decode(bytes) {
    try {
      const { atMs, count, exact, error } = JSON.parse(Buffer.from(bytes).toString()) as SharerSample
      if (!Number.isFinite(atMs) || (count !== null && !(count >= 0)) || typeof exact !== 'boolean') return undefined
      return { atMs, count, exact, ...(Number.isFinite(error) ? { error: error! } : {}) }
    } catch {
      return undefined
    }
  }
}
