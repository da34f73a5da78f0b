/**
 * One named table of the catalog: text keys, values through a codec.
 *
 * All tables share one LevelDB. A table's keys carry its name and an exclamation mark in front, so its entries lie side
 * by side in the order of their keys.
 */
import type { Level } from 'level'
import { RowanError } from '../errors.ts'
import { catalogError } from './catalog-errors.ts'

export interface Codec<V> {
  encode(value: V): Uint8Array
  /** May throw anything for bytes that it did not make; the table makes it CATALOG_CORRUPT. */
  decode(bytes: Uint8Array): V
}

/** One change of one entry, for Catalog.write. */
export type Operation = { type: 'put'; key: string; value: Uint8Array } | { type: 'del'; key: string }

/** Every method may fail with CATALOG_CORRUPT or STORE_IO; writes also with DISK_FULL. */
export interface Table<V> {
  get(key: string): Promise<V | undefined>
  getSync(key: string): V | undefined
  put(key: string, value: V, options?: { sync?: boolean }): Promise<void>
  delete(key: string, options?: { sync?: boolean }): Promise<void>
  /** In the order of the keys, as the table was when the iteration began. */
  entries(options?: { prefix?: string }): AsyncIterable<[string, V]>
  putOp(key: string, value: V): Operation
  deleteOp(key: string): Operation
}

/** JSON, without a check of shape: whoever reads an entry knows what was written. */
export function jsonCodec<V>(): Codec<V> {
  return {
    encode: value => Buffer.from(JSON.stringify(value)),
    decode: bytes => JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString()) as V
  }
}

export const bytesCodec: Codec<Uint8Array> = {
  encode: value => value,
  decode: bytes => bytes
}

const TABLE_NAME = /^[a-z][a-z0-9-]{0,31}$/
/** Entries read at once by an iteration. */
const ENTRIES_AT_ONCE = 1000

interface Writer {
  write(operations: readonly Operation[], options?: { sync?: boolean }): Promise<void>
}

export class CodedTable<V> implements Table<V> {
  readonly #name: string
  readonly #codec: Codec<V>
  readonly #level: Level<string, Uint8Array>
  readonly #writer: Writer
  readonly #directory: string

  constructor(name: string, codec: Codec<V>, level: Level<string, Uint8Array>, writer: Writer, directory: string) {
    if (!TABLE_NAME.test(name)) throw new RowanError('INTERNAL', `${JSON.stringify(name)} is no name for a table`)
    this.#name = name
    this.#codec = codec
    this.#level = level
    this.#writer = writer
    this.#directory = directory
  }

  async get(key: string): Promise<V | undefined> {
    let bytes: Uint8Array | undefined
    try {
      bytes = await this.#level.get(this.#fullKey(key))
    } catch (error) {
      throw catalogError(error, this.#directory)
    }
    return bytes === undefined ? undefined : this.#decode(key, bytes)
  }

  getSync(key: string): V | undefined {
    let bytes: Uint8Array | undefined
    try {
      bytes = this.#level.getSync(this.#fullKey(key))
    } catch (error) {
      throw catalogError(error, this.#directory)
    }
    return bytes === undefined ? undefined : this.#decode(key, bytes)
  }

  put(key: string, value: V, options?: { sync?: boolean }): Promise<void> {
    return this.#writer.write([this.putOp(key, value)], options)
  }

  delete(key: string, options?: { sync?: boolean }): Promise<void> {
    return this.#writer.write([this.deleteOp(key)], options)
  }

  async *entries(options: { prefix?: string } = {}): AsyncIterable<[string, V]> {
    const first = this.#fullKey(options.prefix ?? '')
    const iterator = this.#level.iterator({ gte: first, lt: `${this.#name}"` })
    try {
      for (;;) {
        const entries = await iterator.nextv(ENTRIES_AT_ONCE)
        for (const [fullKey, bytes] of entries) {
          if (!fullKey.startsWith(first)) return
          const key = fullKey.slice(this.#name.length + 1)
          yield [key, this.#decode(key, bytes)]
        }
        if (entries.length === 0) return
      }
    } catch (error) {
      throw catalogError(error, this.#directory)
    } finally {
      await iterator.close()
    }
  }

  putOp(key: string, value: V): Operation {
    return { type: 'put', key: this.#fullKey(key), value: this.#codec.encode(value) }
  }

  deleteOp(key: string): Operation {
    return { type: 'del', key: this.#fullKey(key) }
  }

  #fullKey(key: string): string {
    return `${this.#name}!${key}`
  }

  #decode(key: string, bytes: Uint8Array): V {
    try {
      return this.#codec.decode(bytes)
    } catch (cause) {
      throw new RowanError(
        'CATALOG_CORRUPT',
        `the entry ${JSON.stringify(key)} of the table ${this.#name} in ${this.#directory} cannot be read`,
        { cause }
      )
    }
  }
}
