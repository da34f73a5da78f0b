/**
 * What is wanted, in lines.
 *
 * An item stands in the line of its rank (*waiting*, oldest first), or a live peer owes it (*asked*), or nobody who is connected has
 * it (*parked*, by image). It is in exactly one of these places until it is done or not wanted any more.
 */

import { PRIORITIES } from '../store/block-source.ts'
import type { Rank } from './messages.ts'
import { type ItemKey, itemOf } from './scheduler-types.ts'

export interface WantedItem {
  readonly key: ItemKey
  readonly image: number
  rank: Rank
  place: 'waiting' | 'asked' | 'parked'
  /** Nobody is asked to fetch it on behalf: a neighbour relies on this peer for it, or a neighbour could not. */
  onlyDirect: boolean
  /** Peers that owe it, stalled ones included. */
  readonly askedOf: Set<string>
}

export class WantedItems {
  readonly #items = new Map<ItemKey, WantedItem>()
  readonly #waiting: Map<ItemKey, WantedItem>[] = PRIORITIES.map(() => new Map())
  readonly #parked = new Map<number, Map<ItemKey, WantedItem>>()

  get size(): number {
    return this.#items.size
  }

  get(key: ItemKey): WantedItem | undefined {
    return this.#items.get(key)
  }

  /** A new item, at the end of its line. */
  add(key: ItemKey, rank: Rank): WantedItem {
    const item: WantedItem = {
      key,
      image: itemOf(key).image,
      rank,
      place: 'waiting',
      onlyDirect: false,
      askedOf: new Set()
    }
    this.#items.set(key, item)
    this.#waiting[rank]!.set(key, item)
    return item
  }

  remove(item: WantedItem): void {
    this.#items.delete(item.key)
    this.#takeOut(item)
  }

  /** To the end of a more urgent line, if it is waiting. */
  raise(item: WantedItem, rank: Rank): void {
    if (item.place === 'waiting') {
      this.#waiting[item.rank]!.delete(item.key)
      this.#waiting[rank]!.set(item.key, item)
    }
    item.rank = rank
  }

  /** (Back) into its line. */
  queue(item: WantedItem): void {
    this.#takeOut(item)
    item.place = 'waiting'
    this.#waiting[item.rank]!.set(item.key, item)
  }

  asked(item: WantedItem): void {
    this.#takeOut(item)
    item.place = 'asked'
  }

  /** @returns whether it is the first of its image to be parked */
  park(item: WantedItem): boolean {
    this.#takeOut(item)
    item.place = 'parked'
    const parked = this.#parked.get(item.image)
    if (parked === undefined) this.#parked.set(item.image, new Map([[item.key, item]]))
    else parked.set(item.key, item)
    return parked === undefined
  }

  line(rank: Rank): ReadonlyMap<ItemKey, WantedItem> {
    return this.#waiting[rank]!
  }

  get anyParked(): boolean {
    return this.#parked.size > 0
  }

  /** The parked items of one image, oldest first. A copy: they may be queued while it is read. */
  parkedOf(image: number): WantedItem[] {
    return [...(this.#parked.get(image)?.values() ?? [])]
  }

  /** The images with parked items, and the most urgent rank among those. */
  parkedImages(): { image: number; rank: Rank }[] {
    return [...this.#parked].map(([image, items]) => {
      let rank: Rank = 3
      for (const item of items.values()) if (item.rank < rank) rank = item.rank
      return { image, rank }
    })
  }

  #takeOut(item: WantedItem): void {
    if (item.place === 'waiting') this.#waiting[item.rank]!.delete(item.key)
    if (item.place !== 'parked') return
    const parked = this.#parked.get(item.image)
    parked?.delete(item.key)
    if (parked?.size === 0) this.#parked.delete(item.image)
  }
}
