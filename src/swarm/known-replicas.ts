/**
 * The replicas of one image that this peer has heard of, and how it fared with them.
 */

import type { Random } from '../environment.ts'
import type { RowanError } from '../errors.ts'
import { MAX_KNOWN_REPLICAS } from './limits.ts'

export interface ReplicaHint {
  peer: string
  addresses: string[]
  complete: boolean
}

export interface KnownReplica extends ReplicaHint {
  failures: number
  /** Calls in a row that brought nothing lasting; what `worked` does not clear, or whoever greets and leaves would be called for ever. */
  streak: number
  /** Not called before this time. */
  retryMs: number
  /** What went wrong the last time. */
  problem: string | undefined
}

const FIRST_RETRY_MS = 50
const RETRY_GROWTH = 4
/** Only replicas of images that somebody waits for are called at all: a guest is not kept waiting much longer than they were gone. */
const MAX_RETRY_MS = 8_000

export class KnownReplicas {
  readonly #random: Random
  readonly #known = new Map<string, KnownReplica>()

  constructor(random: Random) {
    this.#random = random
  }

  get size(): number {
    return this.#known.size
  }

  get(peer: string): KnownReplica | undefined {
    return this.#known.get(peer)
  }

  /** Newer addresses replace older ones. When there are too many, those that failed most are forgotten. */
  add(hint: ReplicaHint): void {
    const known = this.#known.get(hint.peer)
    if (known !== undefined) {
      if (hint.addresses.length > 0) known.addresses = hint.addresses
      known.complete = hint.complete
      return
    }
    if (this.#known.size >= MAX_KNOWN_REPLICAS) {
      let worst: KnownReplica | undefined
      for (const other of this.#known.values()) {
        if (other.failures > 0 && other.failures >= (worst?.failures ?? 0)) worst = other
      }
      if (worst === undefined) return
      this.#known.delete(worst.peer)
    }
    this.#known.set(hint.peer, { ...hint, failures: 0, streak: 0, retryMs: 0, problem: undefined })
  }

  /**
   * Somebody's bare word, signed by nobody: it counts where nothing is known and there is room. Else whoever is asked for a block could
   * send a guest away from all others.
   */
  heardOf(hint: ReplicaHint): void {
    if (!this.#known.has(hint.peer) && this.#known.size < MAX_KNOWN_REPLICAS) this.add(hint)
  }

  forget(peer: string): void {
    this.#known.delete(peer)
  }

  /** Those that may be called now: complete ones first, then those that failed least. */
  candidates(nowMs: number): KnownReplica[] {
    return [...this.#known.values()]
      .filter(replica => replica.retryMs <= nowMs)
      .sort((a, b) => a.failures - b.failures || Number(b.complete) - Number(a.complete))
  }

  /** It did not work out; the next try is put off, longer each time, with some chance so that a crowd does not call in step. */
  failed(
    peer: string,
    error: RowanError,
    nowMs: number,
    options: { atLeastMs?: number; wasSteady?: boolean } = {}
  ): void {
    const known = this.#known.get(peer)
    if (known === undefined) return
    const { atLeastMs = 0, wasSteady = false } = options
    known.streak = wasSteady ? 0 : known.streak + 1
    const backoffMs =
      Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * RETRY_GROWTH ** known.streak) * (0.5 + this.#random.unit())
    known.failures++
    known.retryMs = Math.max(known.retryMs, nowMs + Math.max(atLeastMs, backoffMs))
    known.problem = `${error.code}: ${error.message}`
  }

  worked(peer: string): void {
    const known = this.#known.get(peer)
    if (known === undefined) return
    known.failures = 0
    known.problem = undefined
  }

  /** Those that work, for another peer. */
  hints(except: string): ReplicaHint[] {
    return [...this.#known.values()].filter(({ peer, failures }) => peer !== except && failures === 0)
  }

  /** For an error message: who was asked, and what came of it. */
  summary(): string {
    const parts = [...this.#known.values()].map(({ peer, problem }) => `${peer} (${problem ?? 'no answer yet'})`)
    return parts.length === 0 ? 'nobody announces it' : `asked ${parts.join(', ')}`
  }
}
