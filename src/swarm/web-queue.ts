/**
 * What was asked of a web seed and is not on its way, and which of it goes into one request.
 *
 * The most urgent item goes first, of equals the one that waits longest. A block takes with it those neighbours in the pack that are
 * wanted, too: before it as urgent ones, so that nothing holds it up, behind it any. Blocks of zeros between take no place.
 */
import { INDEX_FANOUT } from '../cluster.ts'
import type { RangeIndex } from '../image/web-pack.ts'
import { MAX_WEB_SPAN_BYTES } from './limits.ts'
import type { Rank } from './messages.ts'
import { blockKey, type ItemKey, itemOf } from './scheduler-types.ts'

export class WebQueue {
  readonly #ranks = new Map<ItemKey, Rank>()

  add(key: ItemKey, rank: Rank): void {
    this.#ranks.set(key, rank)
  }

  raise(key: ItemKey, rank: Rank): void {
    const before = this.#ranks.get(key)
    if (before !== undefined && rank < before) this.#ranks.set(key, rank)
  }

  /** @returns whether it was still here */
  remove(key: ItemKey): boolean {
    return this.#ranks.delete(key)
  }

  removeImage(image: number): void {
    for (const key of this.#ranks.keys()) if (itemOf(key).image === image) this.#ranks.delete(key)
  }

  clear(): void {
    this.#ranks.clear()
  }

  /** The next item that `may` go; it stays here. */
  first(may: (key: ItemKey) => boolean): ItemKey | undefined {
    let best: ItemKey | undefined
    let bestRank = Number.POSITIVE_INFINITY
    for (const [key, rank] of this.#ranks) {
      if (rank >= bestRank || !may(key)) continue
      best = key
      bestRank = rank
    }
    return best
  }

  /** Takes a block and its neighbours out: numbers of blocks, in order, each with a length in the pack. */
  takeSpan(image: number, block: number, index: RangeIndex): number[] {
    const rank = this.#ranks.get(blockKey(image, block))
    const page = block - (block % INDEX_FANOUT)
    const end = (number: number) => index.end(number - page)
    const start = (number: number) => index.start(number - page)
    const span = [block]
    const isEmpty = (number: number) => index.length(number - page) === 0
    for (let before = block - 1; before >= page && end(block) - start(before) <= MAX_WEB_SPAN_BYTES; before--) {
      if (isEmpty(before)) continue
      const other = this.#ranks.get(blockKey(image, before))
      if (other === undefined || rank === undefined || other > rank) break
      span.unshift(before)
    }
    const first = span[0]!
    for (let next = block + 1; next < page + index.blocks && end(next) - start(first) <= MAX_WEB_SPAN_BYTES; next++) {
      if (isEmpty(next)) continue
      if (!this.#ranks.has(blockKey(image, next))) break
      span.push(next)
    }
    for (const number of span) this.#ranks.delete(blockKey(image, number))
    return span
  }
}
