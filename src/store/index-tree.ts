/**
 * What this peer has of an image's index: the nodes lie in the catalog under their hashes, so images that share a part
 * of their tree share its nodes.
 *
 * In memory are the nodes above the pages (at most 129) and the pages used last. A node that comes out of the catalog
 * is hashed again: a rotten one counts as not here, and is fetched like any other.
 */
import { INDEX_FANOUT } from '../cluster.ts'
import type { Log } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import { childCount, nodeCount, positionAt } from '../image/geometry.ts'
import { type Hash, sameHash, sha256, toHex } from '../image/hash.ts'
import type { ImageRoot } from '../image/image-root.ts'
import { decodePacked, type PackedNode } from '../image/index-node.ts'
import type { Table } from './catalog.ts'

/** Pages kept decoded, 35 KiB each. All of an image up to 8 GiB. */
const MAX_CACHED_PAGES = 128

/** A node by its place, and by its hash where that is known: where its parent is here. */
export interface NodeRef {
  level: number
  position: number
  hash: Hash | undefined
}

/** `zero`: the place has no node, everything below it is zero. `unknown`: a node above it is not here. */
export type Place = 'zero' | 'unknown' | Hash

/** A node that was checked, on its way into the catalog. */
export interface TakenNode {
  level: number
  position: number
  key: string
  bytes: Uint8Array
  node: PackedNode
}

export class IndexTree {
  readonly root: ImageRoot
  readonly #nodes: Table<Uint8Array>
  readonly #log: Log
  readonly #upper = new Map<number, PackedNode>()
  /** In the order of their last use. */
  readonly #pages = new Map<number, PackedNode>()
  /** Nodes on their way into the catalog. */
  readonly #arriving = new Map<string, Uint8Array>()

  constructor(root: ImageRoot, nodes: Table<Uint8Array>, log: Log) {
    this.root = root
    this.#nodes = nodes
    this.#log = log
  }

  /** What the node at this place must hash to. */
  hashAt(level: number, position: number): Place {
    const { height, top, blocks } = this.root
    if (level < 0 || level > height || position < 0 || position >= nodeCount(level, blocks)) {
      throw new RowanError('INDEX_INVALID', `an index of ${blocks} blocks has no node ${position} at level ${level}`)
    }
    if (top === undefined) return 'zero'
    if (level === height) return top
    const parentPosition = Math.floor(position / INDEX_FANOUT)
    const parent = this.node(level + 1, parentPosition)
    if (parent === 'zero' || parent === 'unknown') return parent
    return parent.hashAt(position % INDEX_FANOUT) ?? 'zero'
  }

  /** The node at this place; `unknown` if it, or one above it, is not here. */
  node(level: number, position: number): PackedNode | 'zero' | 'unknown' {
    const cache = level === 0 ? this.#pages : this.#upper
    const key = cacheKey(level, position)
    const cached = cache.get(key)
    if (cached !== undefined) {
      if (level === 0) {
        cache.delete(key)
        cache.set(key, cached)
      }
      return cached
    }
    const hash = this.hashAt(level, position)
    if (typeof hash === 'string') return hash
    const bytes = this.#load(hash)
    if (bytes === undefined) return 'unknown'
    return this.#keep(level, position, this.#decode(level, position, bytes))
  }

  /** The bytes of a node that is here. */
  nodeBytes(level: number, position: number): Uint8Array | undefined {
    const hash = this.hashAt(level, position)
    return typeof hash === 'string' ? undefined : this.#load(hash)
  }

  /** The nodes on the path to `block` that are not here, top first. */
  missingNodes(block: number): NodeRef[] {
    const missing: NodeRef[] = []
    for (let level = this.root.height; level >= 0; level--) {
      const position = positionAt(level, block)
      const place = missing.length > 0 ? 'unknown' : this.hashAt(level, position)
      if (place === 'zero') return []
      if (place === 'unknown') missing.push({ level, position, hash: undefined })
      else if (this.node(level, position) === 'unknown') missing.push({ level, position, hash: place })
    }
    return missing
  }

  /** Checks a node against its parent; it is known at once, and `save` must follow. Throws INDEX_INVALID. */
  take(level: number, position: number, bytes: Uint8Array): TakenNode {
    const expected = this.hashAt(level, position)
    if (typeof expected === 'string') {
      const why = expected === 'zero' ? 'everything below it is zero' : 'the node above it is not here'
      throw new RowanError('INDEX_INVALID', `the node ${position} at level ${level} cannot be taken: ${why}`)
    }
    if (!sameHash(sha256(bytes), expected)) {
      throw new RowanError('INDEX_INVALID', `the node ${position} at level ${level} does not have its hash`)
    }
    // The caller's buffer may be a part of a larger one, or be used again.
    const own = Uint8Array.from(bytes)
    const node = this.#decode(level, position, own)
    const key = toHex(expected)
    this.#arriving.set(key, own)
    return { level, position, key, bytes: own, node: this.#keep(level, position, node) }
  }

  /** Keeps a taken node in the catalog. Throws DISK_FULL or STORE_IO, and then it is not known any more. */
  async save({ level, position, key, bytes }: TakenNode): Promise<void> {
    try {
      await this.#nodes.put(key, bytes)
    } catch (error) {
      ;(level === 0 ? this.#pages : this.#upper).delete(cacheKey(level, position))
      throw error
    } finally {
      this.#arriving.delete(key)
    }
  }

  #load(hash: Hash): Uint8Array | undefined {
    const key = toHex(hash)
    const bytes = this.#arriving.get(key) ?? this.#nodes.getSync(key)
    if (bytes === undefined || sameHash(sha256(bytes), hash)) return bytes
    this.#log.warn('a node of an index has rotted, and is dropped', { hash: key })
    this.#nodes.delete(key).catch((error: unknown) => {
      this.#log.warn('a rotten node could not be forgotten', { hash: key, error: asRowanError(error).message })
    })
    return undefined
  }

  #decode(level: number, position: number, bytes: Uint8Array): PackedNode {
    return decodePacked(bytes, { level, childCount: childCount(level, position, this.root.blocks) })
  }

  #keep(level: number, position: number, node: PackedNode): PackedNode {
    if (level > 0) {
      this.#upper.set(cacheKey(level, position), node)
      return node
    }
    this.#pages.set(cacheKey(level, position), node)
    if (this.#pages.size > MAX_CACHED_PAGES) {
      const [oldest] = this.#pages.keys()
      this.#pages.delete(oldest!)
    }
    return node
  }
}

function cacheKey(level: number, position: number): number {
  return level * 2 ** 20 + position
}
