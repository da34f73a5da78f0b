/**
 * What libp2p remembers of other peers: in memory, and within bounds.
 *
 * libp2p's own store has none, so whoever connects under ever new ids, or tells ever more addresses of itself, fills the
 * memory with it. Here the peers that were longest of no use are forgotten, and one with too much to say is not taken
 * down. Of the DHT's records nothing is kept or looked for: rowan has its own (src/directory), but anybody may send some.
 */
import { NotFoundError } from '@libp2p/interface'
import type { Libp2pOptions } from 'libp2p'
import { RowanError } from '../errors.ts'

type Datastore = NonNullable<Libp2pOptions['datastore']>
type Key = Parameters<Datastore['put']>[0]
type Pair = { key: Key; value: Uint8Array }
type Query = Parameters<Datastore['query']>[0]
type KeyQuery = Parameters<Datastore['queryKeys']>[0]
type Source<T> = Iterable<T> | AsyncIterable<T>

/** Peers remembered, and the bytes of what is known of one. One with eight addresses has under 2 KiB. */
export const MAX_ENTRIES = 4096
export const MAX_ENTRY_BYTES = 16 * 1024
/** Where kad-dht keeps records and providers. */
export const DHT_PREFIX = '/dht'

export class PeerDatastore implements Datastore {
  /** Longest unused first. */
  readonly #entries = new Map<string, Pair>()

  /** @throws RowanError LIMIT_EXCEEDED; what is known is then as it was */
  put(key: Key, value: Uint8Array): Key {
    const name = key.toString()
    if (isOfDht(name)) return key
    if (value.byteLength > MAX_ENTRY_BYTES) {
      const says = `${value.byteLength} bytes about a peer; ${MAX_ENTRY_BYTES} is the limit`
      throw new RowanError('LIMIT_EXCEEDED', says)
    }
    this.#entries.delete(name)
    this.#entries.set(name, { key, value })
    if (this.#entries.size > MAX_ENTRIES) this.#entries.delete(this.#entries.keys().next().value!)
    return key
  }

  get(key: Key): Uint8Array {
    const name = key.toString()
    const found = this.#entries.get(name)
    if (found === undefined) throw new NotFoundError()
    this.#entries.delete(name)
    this.#entries.set(name, found)
    return found.value
  }

  has(key: Key): boolean {
    return this.#entries.has(key.toString())
  }

  delete(key: Key): void {
    this.#entries.delete(key.toString())
  }

  async *putMany(source: Source<Pair>): AsyncGenerator<Key> {
    for await (const { key, value } of source) yield this.put(key, value)
  }

  async *getMany(source: Source<Key>): AsyncGenerator<Pair> {
    for await (const key of source) yield { key, value: this.get(key) }
  }

  async *deleteMany(source: Source<Key>): AsyncGenerator<Key> {
    for await (const key of source) {
      this.delete(key)
      yield key
    }
  }

  batch(): ReturnType<Datastore['batch']> {
    const steps: (() => void)[] = []
    return {
      put: (key, value) => void steps.push(() => this.put(key, value)),
      delete: key => void steps.push(() => this.delete(key)),
      commit: () => {
        for (const step of steps.splice(0)) step()
      }
    }
  }

  *query(query: Query): Generator<Pair> {
    yield* select([...this.#under(query.prefix)], query, pair => pair)
  }

  *queryKeys(query: KeyQuery): Generator<Key> {
    yield* select([...this.#under(query.prefix)], query, pair => pair.key)
  }

  *#under(prefix = ''): Generator<Pair> {
    if (isOfDht(prefix)) return
    for (const [name, pair] of this.#entries) if (name.startsWith(prefix)) yield pair
  }
}

function isOfDht(name: string): boolean {
  return name === DHT_PREFIX || name.startsWith(`${DHT_PREFIX}/`)
}

/** What a query asks for, out of all that has its prefix. */
function select<T>(
  pairs: Pair[],
  query: {
    filters?: ((item: T) => boolean)[]
    orders?: ((a: T, b: T) => number)[]
    offset?: number
    limit?: number
  },
  as: (pair: Pair) => T
): T[] {
  let items = pairs.map(as)
  for (const filter of query.filters ?? []) items = items.filter(item => filter(item))
  for (const order of query.orders ?? []) items = items.toSorted(order)
  const { offset = 0, limit = items.length } = query
  return items.slice(offset, offset + limit)
}
