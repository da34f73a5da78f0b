/**
 * What this peer's publisher has released: the sealed record of each of its appliances, kept in the catalog.
 *
 * The record is the state: sequence number, channels, releases and times are all in it, so nothing can contradict what
 * was signed.
 */
import { RowanError } from '../errors.ts'
import { openLatest, type VerifiedLatest } from '../image/release.ts'
import { bytesCodec, type Catalog, type Table } from '../store/catalog.ts'

/** Each is renewed daily and announced. */
const MAX_OWN_APPLIANCES = 1024

export class OwnAppliances {
  readonly #table: Table<Uint8Array>
  readonly #latest = new Map<string, VerifiedLatest>()
  readonly #listeners = new Set<(latest: VerifiedLatest) => void>()

  private constructor(table: Table<Uint8Array>) {
    this.#table = table
  }

  /** @throws RowanError CATALOG_CORRUPT */
  static async open(catalog: Catalog): Promise<OwnAppliances> {
    const own = new OwnAppliances(catalog.table('own-appliances', bytesCodec))
    for await (const [appliance, bytes] of own.#table.entries()) {
      try {
        own.#latest.set(appliance, await openLatest(bytes))
      } catch (cause) {
        throw new RowanError('CATALOG_CORRUPT', `the own record of ${appliance} cannot be read`, { cause })
      }
    }
    return own
  }

  get(appliance: string): VerifiedLatest | undefined {
    return this.#latest.get(appliance)
  }

  /** @throws RowanError LIMIT_EXCEEDED when one more would be too many */
  checkRoom(appliance: string): void {
    if (this.#latest.has(appliance) || this.#latest.size < MAX_OWN_APPLIANCES) return
    throw new RowanError('LIMIT_EXCEEDED', `${MAX_OWN_APPLIANCES} own appliances is the limit`)
  }

  /** Durable, with everything written to the catalog before, when it resolves. @throws DISK_FULL, STORE_IO */
  async keep(latest: VerifiedLatest): Promise<void> {
    await this.#table.put(latest.appliance, latest.bytes, { sync: true })
    this.#latest.set(latest.appliance, latest)
    for (const listener of this.#listeners) listener(latest)
  }

  /** Called, synchronously, for each record that is kept from now on. */
  onKept(listener: (latest: VerifiedLatest) => void): void {
    this.#listeners.add(listener)
  }

  /** Takes back a `keep`. @throws DISK_FULL, STORE_IO */
  async restore(appliance: string, before: VerifiedLatest | undefined): Promise<void> {
    if (before !== undefined) return this.keep(before)
    await this.#table.delete(appliance, { sync: true })
    this.#latest.delete(appliance)
  }

  all(): VerifiedLatest[] {
    return [...this.#latest.values()]
  }
}
