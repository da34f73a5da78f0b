/**
 * A token bucket for each of a bounded number of names.
 *
 * When there are more names than places the one longest unused is forgotten: it starts again with a full bucket.
 */

export class RateMeter {
  readonly #rate: { burst: number; perSecond: number }
  readonly #maxNames: number
  readonly #buckets = new Map<string, { tokens: number; atMs: number }>()

  constructor(rate: { burst: number; perSecond: number }, maxNames: number) {
    this.#rate = rate
    this.#maxNames = maxNames
  }

  /** Takes one token; false if there is none. `nowMs` is monotonic. */
  take(name: string, nowMs: number): boolean {
    const { burst, perSecond } = this.#rate
    const bucket = this.#buckets.get(name) ?? { tokens: burst, atMs: nowMs }
    this.#buckets.delete(name)
    this.#buckets.set(name, bucket)
    if (this.#buckets.size > this.#maxNames) this.#buckets.delete(this.#buckets.keys().next().value!)
    bucket.tokens = Math.min(burst, bucket.tokens + ((nowMs - bucket.atMs) / 1000) * perSecond)
    bucket.atMs = nowMs
    if (bucket.tokens < 1) return false
    bucket.tokens--
    return true
  }
}
