/**
 * A replica that is a folder on a web server: the same questions and answers as a replica's over a stream (replica-link.ts), made of
 * requests for files and parts of them (image/web-pack.ts).
 *
 * Each file that is not there is an answer: it does not have that. Whatever else goes wrong ends all of it with an error, because
 * the next request would fare no better; who called it decides when it is tried again. A request brings neighbouring blocks
 * (web-queue.ts), each of which is passed on as soon as its last byte is here. Reading waits while the pool has no room, which holds
 * the server back.
 */

import { BLOCK_SIZE_BYTES, INDEX_FANOUT } from '../cluster.ts'
import { asRowanError, RowanError } from '../errors.ts'
import { MAX_PROFILE_BYTES } from '../image/boot-profile.ts'
import { childCount } from '../image/geometry.ts'
import { decodeImageRoot, imageIdOf, MAX_ROOT_BYTES } from '../image/image-root.ts'
import { MAX_NODE_BYTES } from '../image/index-node.ts'
import {
  decodeRangeIndex,
  nodeFile,
  packFile,
  profileFile,
  type RangeIndex,
  rangeIndexBytes,
  rootFile
} from '../image/web-pack.ts'
import { MAX_IMAGES_PER_STREAM, MAX_RANGE_INDEXES, MAX_WEB_REQUESTS } from './limits.ts'
import type { Rank } from './messages.ts'
import type { ReplicaEvents } from './replica-client.ts'
import type { ReplicaLink } from './replica-link.ts'
import { blockKey, type ItemKey, itemOf } from './scheduler-types.ts'
import type { WebNetwork } from './web-network.ts'
import { WebQueue } from './web-queue.ts'

interface OpenedImage {
  id: string
  answered: boolean
  /** Of its blocks; 0 before the root came. */
  blocks: number
}

const NOTHING = new Uint8Array(0)

export class WebSeedClient implements ReplicaLink {
  readonly peer: string
  readonly #url: string
  readonly #network: WebNetwork
  readonly #events: ReplicaEvents
  readonly #images = new Map<number, OpenedImage>()
  readonly #queue = new WebQueue()
  /** By the key of their page's first block, the least recently used first. */
  readonly #indexes = new Map<ItemKey, RangeIndex>()
  /** Pages whose range index is on its way. */
  readonly #fetchedIndexes = new Set<ItemKey>()
  readonly #stop = new AbortController()
  #running = 0
  #pauses = 0
  #greeted = false

  /** @param url - ends with a slash */
  constructor(peer: string, url: string, components: { network: WebNetwork; events: ReplicaEvents }) {
    this.peer = peer
    this.#url = url
    this.#network = components.network
    this.#events = components.events
  }

  get ended(): boolean {
    return this.#stop.signal.aborted
  }

  get greeted(): boolean {
    return this.#greeted
  }

  get paused(): boolean {
    return this.#pauses > 0
  }

  get hasRoom(): boolean {
    return this.#images.size < MAX_IMAGES_PER_STREAM
  }

  hasOpened(image: number): boolean {
    return this.#images.has(image)
  }

  awaits(image: number): boolean {
    return this.#images.get(image)?.answered === false
  }

  /** It says so at once, and does not speak by itself. */
  lacks(): boolean {
    return false
  }

  /** The index does not follow by itself: its nodes are files like others. */
  open(image: number, id: string): void {
    const opened: OpenedImage = { id, answered: false, blocks: 0 }
    this.#images.set(image, opened)
    this.#run(() => this.#root(image, opened))
  }

  release(image: number): void {
    this.#images.delete(image)
    this.#queue.removeImage(image)
    for (const key of this.#indexes.keys()) if (itemOf(key).image === image) this.#indexes.delete(key)
  }

  request(keys: ItemKey[], rank: Rank): void {
    for (const key of keys) if (this.#images.has(itemOf(key).image)) this.#queue.add(key, rank)
    this.#pump()
  }

  raise(keys: ItemKey[], rank: Rank): void {
    for (const key of keys) this.#queue.raise(key, rank)
  }

  /** What is not on its way is answered at once: it does not come. */
  callOff(keys: ItemKey[]): void {
    for (const key of keys) {
      const item = itemOf(key)
      if (item.kind !== 'block' || !this.#queue.remove(key)) continue
      queueMicrotask(() => {
        if (!this.ended) this.#events.missing(item.image, [item.block], 'cancelled')
      })
    }
  }

  /** What is under way from a web seed is bounded by its requests. */
  credit(): void {}

  end(error?: RowanError): void {
    if (this.ended) return
    this.#queue.clear()
    this.#stop.abort(error ?? new RowanError('ABORTED', 'the web seed is not needed any more'))
    this.#events.ended(error)
  }

  /** Sends what may be sent. */
  #pump(): void {
    while (!this.ended && this.#running < MAX_WEB_REQUESTS) {
      const key = this.#queue.first(each => !this.#fetchedIndexes.has(this.#pageKey(each)))
      if (key === undefined) return
      const item = itemOf(key)
      const opened = this.#images.get(item.image)
      if (opened === undefined || (item.kind === 'node' && !this.#queue.remove(key))) {
        this.#queue.remove(key)
        continue
      }
      if (item.kind === 'node') this.#run(() => this.#node(opened, item))
      else this.#runBlock(opened, item)
    }
  }

  #runBlock(opened: OpenedImage, { image, block }: { image: number; block: number }): void {
    const pageKey = this.#pageKey(blockKey(image, block))
    const index = this.#indexes.get(pageKey)
    const page = Math.floor(block / INDEX_FANOUT)
    if (index === undefined) {
      this.#fetchedIndexes.add(pageKey)
      this.#run(() => this.#rangeIndex(opened, image, page).finally(() => this.#fetchedIndexes.delete(pageKey)))
      return
    }
    this.#indexes.delete(pageKey)
    this.#indexes.set(pageKey, index)
    if (index.length(block % INDEX_FANOUT) === 0) {
      this.#queue.remove(blockKey(image, block))
      // Not before the index was heard: the scheduler must not be called in the middle of its own action.
      queueMicrotask(() => {
        if (!this.ended) this.#events.missing(image, [block], 'zero')
      })
      return
    }
    const blocks = this.#queue.takeSpan(image, block, index)
    this.#run(() => this.#span(opened, image, page, index, blocks))
  }

  /** One request, counted; its failure is the end of all. */
  #run(work: () => Promise<void>): void {
    this.#running++
    work()
      .catch(cause => this.end(asRowanError(cause, 'WEB_SEED_UNREACHABLE', this.#url)))
      .finally(() => {
        this.#running--
        this.#pump()
      })
  }

  async #root(image: number, opened: OpenedImage): Promise<void> {
    const [root, profile = NOTHING] = await Promise.all([
      this.#file(rootFile(opened.id), MAX_ROOT_BYTES),
      this.#file(profileFile(opened.id), MAX_PROFILE_BYTES)
    ])
    if (this.ended) return
    if (!this.#greeted) {
      this.#greeted = true
      this.#events.greeted()
    }
    if (this.#images.get(image) !== opened) return
    opened.answered = true
    // The receiver accuses whoever sends another root; only the right one is worth a look.
    if (root !== undefined && imageIdOf(root) === opened.id) opened.blocks = decodeImageRoot(root).blocks
    await this.#events.image(image, {
      ...{ root: root ?? NOTHING, top: NOTHING, complete: true, follow: 0, profile }
    })
  }

  async #node(
    opened: OpenedImage,
    { image, level, position }: { image: number; level: number; position: number }
  ): Promise<void> {
    const bytes = await this.#file(nodeFile(opened.id, level, position), MAX_NODE_BYTES)
    if (!this.#isOpen(image, opened)) return
    if (bytes === undefined) await this.#events.nodes(image, [], [{ level, position }])
    else await this.#events.nodes(image, [{ level, position, bytes }], [])
  }

  async #rangeIndex(opened: OpenedImage, image: number, page: number): Promise<void> {
    const blocks = childCount(0, page, opened.blocks)
    const length = rangeIndexBytes(blocks)
    const range = { from: 0, length }
    const bytes = await this.#file(packFile(opened.id, page), length, range)
    if (!this.#isOpen(image, opened)) return
    if (bytes === undefined) this.#lacks(image, page)
    else this.#remember(this.#pageKey(blockKey(image, page * INDEX_FANOUT)), decodeRangeIndex(bytes, { page, blocks }))
  }

  /** The pack is not there. */
  #lacks(image: number, page: number): void {
    const missing: number[] = []
    for (let block = page * INDEX_FANOUT; block < (page + 1) * INDEX_FANOUT; block++) {
      if (this.#queue.remove(blockKey(image, block))) missing.push(block)
    }
    if (missing.length > 0) this.#events.missing(image, missing, 'absent')
  }

  #remember(pageKey: ItemKey, index: RangeIndex): void {
    this.#indexes.set(pageKey, index)
    if (this.#indexes.size <= MAX_RANGE_INDEXES) return
    const [oldest] = this.#indexes.keys()
    if (oldest !== undefined) this.#indexes.delete(oldest)
  }

  /** Blocks that lie next to each other, passed on one by one. */
  async #span(opened: OpenedImage, image: number, page: number, index: RangeIndex, blocks: number[]): Promise<void> {
    const inPage = (block: number) => block - page * INDEX_FANOUT
    const from = index.start(inPage(blocks[0]!))
    const length = index.end(inPage(blocks.at(-1)!)) - from
    const url = this.#url + packFile(opened.id, page)
    const body = await this.#network.get({ url, range: { from, length }, maxBytes: length, signal: this.#stop.signal })
    if (body === undefined) {
      if (this.#isOpen(image, opened)) this.#events.missing(image, blocks, 'absent')
      return
    }
    const bytes = Buffer.allocUnsafeSlow(length)
    let filled = 0
    let next = 0
    for await (const chunk of body) {
      if (!this.#isOpen(image, opened)) return
      bytes.set(chunk, filled)
      filled += chunk.byteLength
      this.#events.progress()
      for (let block = blocks[next]; block !== undefined; block = blocks[++next]) {
        const [start, end] = [index.start(inPage(block)) - from, index.end(inPage(block)) - from]
        if (end > filled) break
        if (!this.#isOpen(image, opened)) return
        const isPlain = end - start === BLOCK_SIZE_BYTES
        // Whoever takes a plain block takes its buffer.
        const part = isPlain ? Uint8Array.from(bytes.subarray(start, end)) : bytes.subarray(start, end)
        await this.#held(this.#events.block(image, block, part, !isPlain, part.byteLength))
      }
    }
  }

  async #held(room: void | Promise<void>): Promise<void> {
    if (room === undefined) return
    this.#pauses++
    try {
      await room
    } finally {
      this.#pauses--
    }
  }

  /** A small file, or the beginning of one, in memory. */
  async #file(
    name: string,
    maxBytes: number,
    range?: { from: number; length: number }
  ): Promise<Uint8Array | undefined> {
    const request = { url: this.#url + name, maxBytes, signal: this.#stop.signal, ...(range && { range }) }
    const body = await this.#network.get(request)
    if (body === undefined) return undefined
    const chunks: Uint8Array[] = []
    for await (const chunk of body) {
      chunks.push(chunk)
      if (!this.ended) this.#events.progress()
    }
    return Uint8Array.from(Buffer.concat(chunks))
  }

  #isOpen(image: number, opened: OpenedImage): boolean {
    return !this.ended && this.#images.get(image) === opened
  }

  /** Nodes have none; their own keys are never among the pages'. */
  #pageKey(key: ItemKey): ItemKey {
    const item = itemOf(key)
    return item.kind === 'node' ? key : blockKey(item.image, item.block - (item.block % INDEX_FANOUT))
  }
}
