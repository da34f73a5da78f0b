/**
 * Peers that gave wrong bytes, remembered across restarts.
 *
 * A block is hashed before it is served, so an honest peer with a rotten disk gives none: who gives a wrong one wants to, or runs
 * something broken. It is not asked again for a month. Forgetting one costs a block; so what cannot be written is only logged.
 */
import type { Clock, Log } from '../environment.ts'
import { asRowanError } from '../errors.ts'
import { type Catalog, jsonCodec, type Table } from '../store/catalog.ts'
import { MAX_REMEMBERED_LIARS } from './limits.ts'

const REMEMBER_MS = 30 * 24 * 60 * 60_000

interface Lie {
  atMs: number
  code: string
}

export class KnownLiars {
  readonly #table: Table<Lie>
  readonly #clock: Pick<Clock, 'now'>
  readonly #log: Log
  readonly #peers = new Set<string>()

  /** Reads who is remembered; those of more than a month ago are forgotten. */
  static async open(components: { catalog: Catalog; clock: Pick<Clock, 'now'>; log: Log }): Promise<KnownLiars> {
    const liars = new KnownLiars(components)
    const now = components.clock.now()
    for await (const [peer, { atMs }] of liars.#table.entries()) {
      // A clock that was set back must not keep anybody for ever.
      const isFresh = atMs > now - REMEMBER_MS && atMs < now + REMEMBER_MS
      if (isFresh && liars.#peers.size < MAX_REMEMBERED_LIARS) liars.#peers.add(peer)
      else await liars.#table.delete(peer)
    }
    return liars
  }

  private constructor({ catalog, clock, log }: { catalog: Catalog; clock: Pick<Clock, 'now'>; log: Log }) {
    this.#table = catalog.table('liars', jsonCodec<Lie>())
    this.#clock = clock
    this.#log = log
  }

  /** Remembered when this was opened, or noted since. */
  get peers(): ReadonlySet<string> {
    return this.#peers
  }

  note(peer: string, code: string): void {
    if (this.#peers.has(peer) || this.#peers.size >= MAX_REMEMBERED_LIARS) return
    this.#peers.add(peer)
    this.#table.put(peer, { atMs: this.#clock.now(), code }).catch(cause => {
      const error = asRowanError(cause, 'STORE_IO')
      this.#log.warn('a peer that lied is remembered only until the next start', { peer, code: error.code })
    })
  }
}
