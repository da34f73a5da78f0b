/**
 * What the layers of a machine take on the host's disk: how much of the quota is left, and when space is worth some trouble.
 *
 * The trouble is to *fold*: what a guest overwrites or trims in its top has its space in the layer below, too, and where nobody
 * needs that apart the top is frozen, so that the two are merged. That costs some syncs, and what the smaller of the two holds is
 * copied. So it is done once after a snapshot was discarded, when a write was refused, and, short of the quota, for a top that has
 * grown.
 */
import { LOOK_EVERY_BYTES } from './disk-reserve.ts'

/** The part of the quota that is left when it is short. */
const SHORT = 0.25
const WORTH_FOLDING_BYTES = 16 * 1024 * 1024

interface Allocated {
  allocatedBytes: number
}

export interface LayerSpaceComponents {
  /** The layers that take writes now. */
  tops: () => Iterable<Allocated>
  /** What all layers but the tops take. */
  frozenBytes: () => number
  /** Called when a guest asks for room and there is little. */
  onShort: () => void
}

export class LayerSpace {
  readonly #quotaBytes: number
  readonly #components: LayerSpaceComponents
  #frozenBytes = 0
  #isWanted = false

  /** @param quotaBytes - Infinity: there is none */
  constructor(quotaBytes: number, components: LayerSpaceComponents) {
    this.#quotaBytes = quotaBytes
    this.#components = components
  }

  /** What the data of all layers, and the logs of the tops, take. */
  get allocatedBytes(): number {
    let sum = this.#frozenBytes
    for (const top of this.#components.tops()) sum += top.allocatedBytes
    return sum
  }

  /** Bytes that a guest may still have. */
  room(): number {
    const room = this.#quotaBytes - this.allocatedBytes
    if (room < LOOK_EVERY_BYTES) this.#isWanted = true
    if (this.#isShort(room)) this.#components.onShort()
    return room
  }

  /** Looks at the frozen layers anew, where there is a quota. */
  measure(): void {
    if (this.#quotaBytes !== Number.POSITIVE_INFINITY) this.#frozenBytes = this.#components.frozenBytes()
  }

  /** Somebody has given something up to have space. */
  want(): void {
    this.#isWanted = true
  }

  /** What was wanted is done. */
  folded(): void {
    this.#isWanted = false
  }

  /** Whether any of these tops, which can be folded and are not empty, is to be. */
  isWorthFolding(tops: readonly Allocated[]): boolean {
    if (tops.length === 0) return false
    if (this.#isWanted) return true
    if (!this.#isShort(this.#quotaBytes - this.allocatedBytes)) return false
    return tops.some(top => top.allocatedBytes >= WORTH_FOLDING_BYTES)
  }

  #isShort(room: number): boolean {
    return room < this.#quotaBytes * SHORT
  }
}
