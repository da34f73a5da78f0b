/**
 * Counts the blocks of an image's pages that are here, from the index and the pool's table alone.
 */
import { INDEX_FANOUT } from '../cluster.ts'
import { nodeCount } from '../image/geometry.ts'
import type { PackedNode } from '../image/index-node.ts'
import type { IndexTree } from './index-tree.ts'
import type { PageCounts } from './page-counts.ts'
import type { Pool } from './pool.ts'

export class PageCounter {
  readonly #tree: IndexTree
  readonly #pool: Pick<Pool, 'find'>
  readonly #counts: PageCounts
  readonly #pages: number

  /** @param pages - of the image */
  constructor(components: { tree: IndexTree; pool: Pick<Pool, 'find'>; counts: PageCounts; pages: number }) {
    this.#tree = components.tree
    this.#pool = components.pool
    this.#counts = components.counts
    this.#pages = components.pages
  }

  /** Counts a page without making its slot page. */
  page(page: number): void {
    const node = this.#tree.node(0, page)
    if (node === 'unknown') return
    if (node === 'zero') {
      this.#counts.set(page, 0, 0)
      return
    }
    let here = 0
    for (let index = 0; index < node.childCount; index++) {
      const hash = node.hashAt(index)
      if (hash !== undefined && this.#pool.find(hash) !== -1) here++
    }
    this.#counts.set(page, here, node.presentCount)
  }

  /** Counts what the nodes above the pages say: where nothing is but zeros. */
  upper(): void {
    if (this.#tree.root.top === undefined) {
      for (let page = 0; page < this.#pages; page++) this.#counts.set(page, 0, 0)
      return
    }
    for (let level = this.#tree.root.height; level > 0; level--) {
      for (let position = 0; position < nodeCount(level, this.#tree.root.blocks); position++) {
        const node = this.#tree.node(level, position)
        if (typeof node !== 'string') this.zeros(level, position, node)
      }
    }
  }

  /** The pages below the absent children of a node above them are known, and need nothing. */
  zeros(level: number, position: number, node: PackedNode): void {
    const pagesPerChild = INDEX_FANOUT ** (level - 1)
    for (let child = 0; child < node.childCount; child++) {
      if (node.has(child)) continue
      const first = (position * INDEX_FANOUT + child) * pagesPerChild
      const end = Math.min(first + pagesPerChild, this.#pages)
      for (let page = first; page < end; page++) this.#counts.set(page, 0, 0)
    }
  }
}
