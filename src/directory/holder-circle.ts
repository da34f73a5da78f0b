/**
 * The peers that hold a key, as one thing to ask: found by routing, asked over the wire, or, for this peer itself,
 * answered on the spot.
 */

import type { Clock } from '../environment.ts'
import { REACH } from './addresses.ts'
import type { DirectoryClient, HolderAnswer } from './directory-client.ts'
import type { DirectoryService } from './directory-service.ts'
import { type DirectoryRequest, TABLE } from './messages.ts'
import { pollHolders } from './poll-holders.ts'
import type { CensusOptions, CloserPeer, Routing } from './routing.ts'

export interface PutAnswer {
  asked: number
  kept: number
  /** For each holder that does not keep it, who and why. */
  refused: string[]
}

export interface Put {
  table: number
  record: Uint8Array<ArrayBuffer>
}

/** More to ask in the request of a put, and what to do with the answer. */
export interface AlsoAsked {
  request: () => Partial<DirectoryRequest>
  answered: (holder: CloserPeer, answer: HolderAnswer, signal: AbortSignal) => Promise<void>
}

/** Outcomes after which a replica record or a lease of ours is where it should be, or will be; a newer one is ours as well. */
const SETTLED = new Set(['kept', 'known', 'pending', 'older', 'withdrawn', 'counted'])

export class HolderCircle {
  readonly #routing: Routing
  readonly #client: DirectoryClient
  readonly #service: DirectoryService
  readonly #clock: Clock
  readonly #self: string
  readonly #serve: boolean
  readonly #lookupTimeoutMs: number
  readonly #stopped: AbortSignal

  constructor(
    components: {
      routing: Routing
      client: DirectoryClient
      service: DirectoryService
      clock: Clock
      stopped: AbortSignal
    },
    settings: { self: string; serve: boolean; lookupTimeoutMs: number }
  ) {
    this.#routing = components.routing
    this.#client = components.client
    this.#service = components.service
    this.#clock = components.clock
    this.#stopped = components.stopped
    this.#self = settings.self
    this.#serve = settings.serve
    this.#lookupTimeoutMs = settings.lookupTimeoutMs
  }

  /** The holders of a key. What was found when time is up, or the signal aborts, has to do. */
  async of(
    key: Uint8Array,
    parent: AbortSignal | undefined,
    options: { census?: Omit<CensusOptions, 'signal'> } = {}
  ): Promise<CloserPeer[]> {
    const expired = new AbortController()
    const timer = this.#clock.after(this.#lookupTimeoutMs, () => expired.abort())
    try {
      const signal = AbortSignal.any([this.signal(parent), expired.signal])
      const closest = await (options.census === undefined
        ? this.#routing.closestPeers(key, { signal })
        : this.#routing.census(key, { signal, ...options.census }))
      return closest.filter(({ peer }) => peer !== this.#self || this.#serve)
    } finally {
      timer.cancel()
    }
  }

  /** The same, to ask a question: this peer's own holder costs nothing, close to the key or not. */
  async toAsk(key: Uint8Array, parent: AbortSignal | undefined): Promise<CloserPeer[]> {
    const holders = await this.of(key, parent)
    if (!this.#serve || holders.some(holder => holder.peer === this.#self)) return holders
    return [{ peer: this.#self, addresses: [] }, ...holders]
  }

  /** This peer, if it keeps records and is not among `holders`. */
  self(holders: ReadonlySet<string>): CloserPeer[] {
    return this.#serve && !holders.has(this.#self) ? [{ peer: this.#self, addresses: [] }] : []
  }

  /** Throws what DirectoryClient.ask throws. */
  async ask(holder: CloserPeer, request: Partial<DirectoryRequest>, signal: AbortSignal): Promise<HolderAnswer> {
    if (holder.peer !== this.#self) return this.#client.ask(holder, request, { signal })
    const asker = { peer: this.#self, met: REACH.loopback }
    return { response: await this.#service.answer({ puts: [], ...request }, asker), met: REACH.loopback }
  }

  /**
   * Puts a record to every holder of a key.
   *
   * @param also - more to ask in the same request, and what to do with the answer
   */
  async put(key: Uint8Array, put: Put, parent: AbortSignal | undefined, also?: AlsoAsked): Promise<PutAnswer> {
    return this.putTo(await this.of(key, parent), put, parent, also)
  }

  /** The same, to these holders. */
  async putTo(
    holders: readonly CloserPeer[],
    put: Put,
    parent: AbortSignal | undefined,
    also?: AlsoAsked
  ): Promise<PutAnswer> {
    let kept = 0
    const refused: string[] = []
    const { asked, failed } = await pollHolders(
      holders,
      async (holder, signal) => {
        const answer = await this.ask(holder, { ...also?.request(), puts: [put] }, signal)
        const outcome = answer.response.outcomes[0] ?? 'no outcome'
        if (isKept(put.table, outcome)) kept++
        else refused.push(`${holder.peer}: ${outcome}`)
        await also?.answered(holder, answer, signal)
      },
      () => false,
      this.signal(parent)
    )
    return { asked: asked.length, kept, refused: [...refused, ...failed.map(({ peer, code }) => `${peer}: ${code}`)] }
  }

  /** Aborts with `parent`, and when the directory stops. */
  signal(parent: AbortSignal | undefined): AbortSignal {
    return parent === undefined ? this.#stopped : AbortSignal.any([parent, this.#stopped])
  }
}

function isKept(table: number, outcome: string): boolean {
  return table === TABLE.latest ? outcome === 'kept' || outcome === 'known' : SETTLED.has(outcome)
}
