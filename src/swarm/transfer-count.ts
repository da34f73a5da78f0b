/**
 * What was fetched of an image, in all and from each peer.
 */

import { BLOCK_SIZE_BYTES } from '../cluster.ts'
import { MAX_COUNTED_PEERS } from './limits.ts'

export interface Transferred {
  /** Verified blocks. */
  blocks: number
  /** Their plain bytes. */
  bytes: number
  /** What crossed the wire for them and for the index, duplicates included. */
  wireBytes: number
}

export interface ImageTransfers extends Transferred {
  perPeer: Record<string, Transferred>
}

/** Peers beyond the bound are counted together. */
const OTHERS = 'others'

export class TransferCount {
  readonly #total: Transferred = { blocks: 0, bytes: 0, wireBytes: 0 }
  readonly #peers = new Map<string, Transferred>()

  block(peer: string): void {
    for (const count of [this.#total, this.#of(peer)]) {
      count.blocks++
      count.bytes += BLOCK_SIZE_BYTES
    }
  }

  wire(peer: string, bytes: number): void {
    for (const count of [this.#total, this.#of(peer)]) count.wireBytes += bytes
  }

  view(): ImageTransfers {
    const perPeer = Object.fromEntries([...this.#peers].map(([peer, count]) => [peer, { ...count }]))
    return { ...this.#total, perPeer }
  }

  #of(peer: string): Transferred {
    const name = this.#peers.has(peer) || this.#peers.size < MAX_COUNTED_PEERS ? peer : OTHERS
    let count = this.#peers.get(name)
    if (count === undefined) {
      count = { blocks: 0, bytes: 0, wireBytes: 0 }
      this.#peers.set(name, count)
    }
    return count
  }
}
