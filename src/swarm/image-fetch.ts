/**
 * What is being fetched of one image: who waits for which block, and what came that cannot be proved yet.
 *
 * A wanted block is in one of these stages:
 *
 *     deferred   its page is not here, and enough blocks were asked for early already: waits for the page
 *     wanted     the scheduler sees to it
 *     held       it came before its page: 64 KiB that nobody may have yet
 *     storing    its hash was right; it is on its way into the pool, wanted or not, and a guest has it already
 *
 * Nobody gets a block whose hash was not compared with the index, and no node of the index is kept that its parent does not name
 * (LocalImage.addNode). Whoever sent something wrong is accused: the driver drops that peer for good.
 */

import { BLOCK_SIZE_BYTES, INDEX_FANOUT } from '../cluster.ts'
import type { Clock } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import { sha256 } from '../image/hash.ts'
import type { ObtainedBlock } from '../store/block-source.ts'
import { type LocalImage, UNKNOWN, ZERO } from '../store/images.ts'
import type { Timeline } from '../timeline.ts'
import type { BlockStore } from './block-store.ts'
import { plainBlock } from './compression.ts'
import { IndexFetch } from './index-fetch.ts'
import { MAX_EARLY_BLOCKS, MAX_WANTED } from './limits.ts'
import type { IndexPart, MissingReason, NodePlace, Rank } from './messages.ts'
import { blockKey, type SchedulerEvent } from './scheduler-types.ts'
import { TransferCount } from './transfer-count.ts'

/** Who drives the scheduler. */
export interface FetchDriver {
  /** Items that are wanted, over all images. */
  readonly wanted: number
  event(event: SchedulerEvent): void
  /** This peer sent what it may not have sent. */
  accuse(peer: string, error: RowanError): void
}

export interface ImageFetchComponents {
  number: number
  image: LocalImage
  driver: FetchDriver
  store: BlockStore
  line: Timeline
  /** What was fetched of it is counted here. */
  count?: TransferCount
  clock: Clock
  /** A block of this image came into the pool. */
  onStored(block: number): void
}

export interface BlockWaiter {
  rank: Rank
  /** A neighbour waits for it: it is not asked of neighbours that would have to fetch it. */
  relied?: boolean
  resolve(block: ObtainedBlock): void
  reject(error: RowanError): void
}

interface PendingBlock {
  stage: 'deferred' | 'wanted' | 'held' | 'storing'
  rank: Rank
  waiters: Set<BlockWaiter>
  /** Verified, while it is being stored; then the buffer is another's. */
  bytes?: Uint8Array
}

const DEMAND: Rank = 0
const LAST: Rank = 3
const ZERO_BLOCK = new Uint8Array(BLOCK_SIZE_BYTES)

export class ImageFetch {
  readonly image: LocalImage
  readonly number: number
  readonly index: IndexFetch
  readonly count: TransferCount
  readonly #driver: FetchDriver
  readonly #store: BlockStore
  readonly #line: Timeline
  readonly #onStored: (block: number) => void
  readonly #pending = new Map<number, PendingBlock>()
  /** By page that is not here: the blocks that wait for it. */
  readonly #early = new Map<number, Set<number>>()
  readonly #held = new Map<number, { peer: string; bytes: Uint8Array }>()
  #earlyAsked = 0
  #stopped: RowanError | undefined

  constructor(components: ImageFetchComponents) {
    this.image = components.image
    this.number = components.number
    this.count = components.count ?? new TransferCount()
    this.#driver = components.driver
    this.#store = components.store
    this.#line = components.line
    this.#onStored = components.onStored
    this.index = new IndexFetch({
      number: components.number,
      image: components.image,
      driver: components.driver,
      clock: components.clock,
      onPage: page => this.#pageCame(page),
      onPageFailed: (page, error) => this.#pageFailed(page, error)
    })
  }

  /** Whether somebody waits for something. */
  get isBusy(): boolean {
    return this.#pending.size > 0 || this.index.isBusy
  }

  /** Whether somebody here waits for this block, and not only a neighbour. */
  wants(block: number): boolean {
    const pending = this.#pending.get(block)
    return pending !== undefined && [...pending.waiters].some(({ relied }) => relied !== true)
  }

  /** Blocks that are waited for, by rank. */
  get waiting(): number[] {
    const counts = [0, 0, 0, 0]
    for (const { rank, waiters } of this.#pending.values()) if (waiters.size > 0) counts[rank]!++
    return counts
  }

  /** See BlockSource.want. Concurrent wants of one block are one request; the most urgent rank counts. */
  want(block: number, rank: Rank, signal?: AbortSignal): Promise<ObtainedBlock> {
    const { promise, resolve, reject } = Promise.withResolvers<ObtainedBlock>()
    if (signal?.aborted) return Promise.reject(new RowanError('ABORTED', `block ${block} is not wanted any more`))
    const onAbort = () => {
      giveUp()
      reject(new RowanError('ABORTED', `block ${block} is not wanted any more`))
    }
    const giveUp = this.request(block, {
      rank,
      resolve: obtained => {
        signal?.removeEventListener('abort', onAbort)
        resolve(obtained)
      },
      reject: error => {
        signal?.removeEventListener('abort', onAbort)
        reject(error)
      }
    })
    signal?.addEventListener('abort', onAbort, { once: true })
    return promise
  }

  /**
   * Sees to it that a block comes, and tells `waiter`, at once where it is here already.
   *
   * @returns what makes `waiter` wait no more
   */
  request(block: number, waiter: BlockWaiter): () => void {
    const nothing = () => undefined
    if (this.#stopped !== undefined) {
      waiter.reject(this.#stopped)
      return nothing
    }
    const slot = this.image.locate(block)
    if (slot >= 0 || slot === ZERO) {
      waiter.resolve(obtainedFrom(slot))
      return nothing
    }
    if (waiter.rank !== DEMAND && this.#driver.wanted >= MAX_WANTED && !this.#pending.has(block)) {
      waiter.reject(new RowanError('LIMIT_EXCEEDED', `more than ${MAX_WANTED} blocks would be wanted at a time`))
      return nothing
    }
    const pending = this.#pendingFor(block, waiter, slot === UNKNOWN)
    pending.waiters.add(waiter)
    serveGuests(pending)
    return () => {
      pending.waiters.delete(waiter)
      if (this.#pending.get(block) === pending) this.#abandonIfUnwanted(block, pending)
    }
  }

  /** A block came. Returns a promise for when the next may. */
  blockCame(
    peer: string,
    block: number,
    body: Uint8Array,
    compressed: boolean,
    wireBytes: number
  ): Promise<void> | undefined {
    this.count.wire(peer, wireBytes)
    this.#driver.event({ type: 'answered', peer, key: blockKey(this.number, block), bytes: wireBytes })
    const pending = this.#pending.get(block)
    // The twin of a block that another peer gave first.
    if (pending?.stage === 'held' || pending?.stage === 'storing') return undefined
    const where = this.image.locate(block)
    if (pending === undefined && (where >= 0 || where === UNKNOWN)) return undefined
    let bytes: Uint8Array
    try {
      bytes = plainBlock(body, compressed)
    } catch (error) {
      this.#driver.accuse(peer, asRowanError(error, 'BLOCK_INVALID'))
      return undefined
    }
    if (where !== UNKNOWN) return this.#accept(peer, block, bytes, pending)
    if (pending !== undefined) pending.stage = 'held'
    this.#held.set(block, { peer, bytes })
    this.#driver.event({ type: 'done', key: blockKey(this.number, block) })
    return undefined
  }

  blocksMissing(peer: string, blocks: number[], reason: MissingReason): void {
    for (const block of blocks) {
      this.#driver.event({ type: 'missing', peer, key: blockKey(this.number, block), reason })
    }
  }

  /** Nodes of the index came, asked for or not. Resolves when they are kept. */
  nodesCame(peer: string, parts: IndexPart[], missing: NodePlace[]): Promise<void> {
    for (const part of parts) this.count.wire(peer, part.bytes.byteLength)
    return this.index.came(peer, parts, missing)
  }

  /** Nobody gets anything any more. */
  stop(error: RowanError): void {
    this.#stopped = error
    this.index.stop(error)
    for (const [block, pending] of [...this.#pending]) this.#fail(block, pending, error)
  }

  #pendingFor(block: number, { rank, relied = false }: BlockWaiter, isUnknown: boolean): PendingBlock {
    let pending = this.#pending.get(block)
    const isNew = pending === undefined
    if (pending === undefined) {
      pending = { stage: 'wanted', rank, waiters: new Set() }
      this.#pending.set(block, pending)
    } else if (rank >= pending.rank) return pending
    pending.rank = rank
    if (isUnknown) {
      const page = Math.floor(block / INDEX_FANOUT)
      if (isNew) {
        const early = this.#early.get(page)
        if (early === undefined) this.#early.set(page, new Set([block]))
        else early.add(block)
        if (this.#earlyAsked >= MAX_EARLY_BLOCKS) pending.stage = 'deferred'
        else this.#earlyAsked++
      }
      this.index.wantPage(page, rank)
    }
    this.#line.markOnce('first block wanted')
    const key = blockKey(this.number, block)
    if (pending.stage === 'wanted') this.#driver.event({ type: 'want', key, rank, relied })
    return pending
  }

  #abandonIfUnwanted(block: number, pending: PendingBlock): void {
    // What is here already is kept, wanted or not.
    if (pending.waiters.size > 0 || pending.stage === 'storing') return
    this.#driver.event({ type: 'cancel', key: blockKey(this.number, block) })
    this.#remove(block, pending)
  }

  #remove(block: number, pending: PendingBlock): void {
    this.#pending.delete(block)
    this.#held.delete(block)
    const page = Math.floor(block / INDEX_FANOUT)
    const early = this.#early.get(page)
    if (!early?.delete(block)) return
    if (early.size === 0) this.#early.delete(page)
    if (pending.stage !== 'deferred') this.#earlyAsked--
  }

  /** Checks a block against the index; its page is here. */
  #accept(
    peer: string,
    block: number,
    bytes: Uint8Array,
    pending: PendingBlock | undefined
  ): Promise<void> | undefined {
    const hash = this.image.hashOf(block)
    if (hash === undefined || Buffer.compare(sha256(bytes), hash) !== 0) {
      const message = `block ${block} of the image ${this.image.id} does not have its hash`
      this.#driver.accuse(peer, new RowanError('BLOCK_INVALID', message))
      return undefined
    }
    this.count.block(peer)
    this.#line.markOnce('first block', { peer })
    if (pending?.rank === DEMAND) this.#line.markOnce('first block that the guest waited for', { peer })
    this.#driver.event({ type: 'done', key: blockKey(this.number, block) })
    this.#storing(block, bytes, pending)
    return this.#store.add({
      hash,
      block: bytes,
      urgent: pending?.rank === DEMAND,
      stored: slot => {
        this.image.stored(block, slot)
        this.#onStored(block)
        this.#finish(block, slot)
      },
      failed: error => this.#notKept(block, error)
    })
  }

  /** Also what was called off: whoever wants it before it is stored must find it here, and not ask the scheduler for it. */
  #storing(block: number, bytes: Uint8Array, known: PendingBlock | undefined): void {
    const pending: PendingBlock = known ?? { stage: 'storing', rank: LAST, waiters: new Set() }
    if (known === undefined) this.#pending.set(block, pending)
    pending.stage = 'storing'
    pending.bytes = bytes
    serveGuests(pending)
  }

  #finish(block: number, slot: number): void {
    const pending = this.#pending.get(block)
    if (pending === undefined) return
    this.#remove(block, pending)
    for (const waiter of pending.waiters) waiter.resolve(obtainedFrom(slot))
  }

  #fail(block: number, pending: PendingBlock, error: RowanError): void {
    this.#driver.event({ type: 'cancel', key: blockKey(this.number, block) })
    this.#remove(block, pending)
    for (const waiter of pending.waiters) waiter.reject(error)
  }

  /** The pool is full, or failed: guests have the bytes already, and who wanted to have it kept gets the error. */
  #notKept(block: number, error: RowanError): void {
    const pending = this.#pending.get(block)
    if (pending === undefined) return
    this.#remove(block, pending)
    for (const waiter of pending.waiters) waiter.reject(error)
  }

  /** Now the blocks of this page can be told right from wrong. */
  #pageCame(page: number): void {
    this.#line.markOnce('first page of the index')
    if (this.image.indexComplete) this.#line.markOnce('whole index')
    for (const block of [...(this.#early.get(page) ?? [])]) {
      const pending = this.#pending.get(block)
      if (pending === undefined) continue
      const held = this.#held.get(block)
      const slot = this.image.locate(block)
      if (slot >= 0 || slot === ZERO) {
        this.#driver.event({ type: 'done', key: blockKey(this.number, block) })
        this.#finish(block, slot)
        continue
      }
      // From here on it is a block like any other.
      if (pending.stage !== 'deferred') this.#earlyAsked--
      this.#held.delete(block)
      if (pending.stage === 'wanted' || pending.stage === 'storing') continue
      pending.stage = 'wanted'
      this.#driver.event({ type: 'want', key: blockKey(this.number, block), rank: pending.rank })
      if (held !== undefined) void this.#accept(held.peer, block, held.bytes, pending)
    }
    this.#early.delete(page)
  }

  #pageFailed(page: number, error: RowanError): void {
    for (const block of [...(this.#early.get(page) ?? [])]) {
      const pending = this.#pending.get(block)
      if (pending !== undefined) this.#fail(block, pending, error)
    }
  }
}

/** To be made for each who waits: the bytes are theirs, and a disk's thread takes them away. */
function obtainedFrom(slot: number): ObtainedBlock {
  return slot === ZERO ? { bytes: ZERO_BLOCK.slice() } : { slot }
}

/** A guest need not wait until its block is stored, which takes as long as the host's disk is busy. */
function serveGuests({ bytes, waiters }: PendingBlock): void {
  if (bytes === undefined) return
  for (const waiter of waiters) {
    // What a neighbour waits for is served from the pool.
    if (waiter.rank !== DEMAND || waiter.relied) continue
    waiters.delete(waiter)
    // A copy: the buffer is used for another block once this one is stored, and a disk's thread takes what it is given.
    waiter.resolve({ bytes: new Uint8Array(bytes) })
  }
}
