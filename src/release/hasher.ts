/**
 * From an open image to blocks in the pool and nodes in the store: the main thread's half of publishing.
 *
 * The hashing thread (hash-worker.ts) posts chunks of hashed blocks in image order. Here each hash goes into the index,
 * and a block that the pool does not have goes to the pool, asynchronously; its chunk goes back to the worker once it is
 * stored. So memory is the chunks and the index nodes in flight, however large the image is, and nothing here runs for
 * longer than some milliseconds at a time: guests' disks are served by the same thread.
 * The pool makes blocks durable in the background all the while, so little is left to wait for at the end.
 */
import { Worker } from 'node:worker_threads'
import { BLOCK_SIZE_BYTES, HASH_SIZE_BYTES } from '../cluster.ts'
import type { Log } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import { blockCount } from '../image/block.ts'
import type { Hash } from '../image/hash.ts'
import type { ImageRoot } from '../image/image-root.ts'
import { IndexBuilder } from '../image/index-builder.ts'
import type { HashWorkerInput, HashWorkerMessage, HashWorkerReply } from './hash-worker.ts'
import { mapExtents } from './holes.ts'
import type { ImageInput } from './image-input.ts'

/** Chunks on their way between reading and storing: 16 MiB together. */
const CHUNKS = 4
const CHUNK_BYTES = 4 * 1024 * 1024

/** The part of the pool that publishing needs. */
export interface BlockStore {
  find(hash: Hash): number
  isSuspect(slot: number): boolean
  confirm(slot: number, hash: Hash): boolean
  putMany(entries: { hash: Hash; block: Uint8Array }[]): Promise<number[]>
  sync(): Promise<void>
}

/** The part of an index writer that hashing needs; whoever called finishes it. */
export interface NodeStore {
  add(hash: Hash, nodeBytes: Uint8Array): void
  readonly isFull: boolean
  drain(): Promise<void>
}

export interface HashedImage {
  id: string
  root: ImageRoot
  rootBytes: Uint8Array
  /** Distinct blocks that the pool did not have before. */
  newBlocks: number
}

interface Components {
  pool: BlockStore
  nodes: NodeStore
  log: Log
}

interface Options {
  /** How many of the image's bytes are done, holes included. */
  onProgress?: ((doneBytes: number, ofBytes: number) => void) | undefined
  signal?: AbortSignal | undefined
  qemuImg?: string | undefined
}

/**
 * Hashes an image, puts its blocks into the pool and its nodes into `nodes`. The blocks survive power loss when this
 * resolves. When it rejects, what was kept so far is harmless: nothing refers to it.
 *
 * @throws RowanError IMAGE_CHANGED, IMAGE_UNREADABLE, DISK_FULL, POOL_FULL, ABORTED
 */
export async function hashImage(input: ImageInput, components: Components, options: Options): Promise<HashedImage> {
  const { log } = components
  const map = await mapExtents(input, { log, signal: options.signal, qemuImg: options.qemuImg })
  return new Hashing(input, components, options).run(map)
}

class Hashing {
  readonly #input: ImageInput
  readonly #components: Components
  readonly #options: Options
  readonly #chunks = Array.from({ length: CHUNKS }, () => new SharedArrayBuffer(CHUNK_BYTES))
  readonly #builder: IndexBuilder
  /** Hashes that are being stored: a block that comes twice is stored once. At most as many as the chunks hold. */
  readonly #underway = new Set<string>()
  readonly #stores = new Set<Promise<void>>()
  #newBlocks = 0
  /** Rejected by whatever goes wrong first; ends the work wherever it stands. */
  readonly #failure = Promise.withResolvers<never>()

  constructor(input: ImageInput, components: Components, options: Options) {
    this.#input = input
    this.#components = components
    this.#options = options
    this.#failure.promise.catch(() => {}) // whoever races it has the error
    this.#builder = new IndexBuilder((hash, bytes) => components.nodes.add(hash, bytes))
  }

  async run(map: Buffer | undefined): Promise<HashedImage> {
    const { path, fd, sizeBytes } = this.#input
    const worker = new Worker(new URL('./hash-worker.ts', import.meta.url), {
      workerData: { fd, sizeBytes, map, chunks: this.#chunks } satisfies HashWorkerInput,
      execArgv: ['--disable-warning=ExperimentalWarning'],
      name: 'rowan-hash'
    })
    const { signal } = this.#options
    const stop = () => this.#failure.reject(new RowanError('ABORTED', `publishing ${path} was stopped`))
    const ended = new Promise<void>(resolve => {
      worker.on('message', (message: HashWorkerMessage) => {
        try {
          if (this.#take(message, worker)) resolve()
        } catch (error) {
          this.#failure.reject(error)
        }
      })
    })
    worker.once('error', error => this.#failure.reject(asRowanError(error, 'INTERNAL', `hashing ${path}`)))
    worker.once('exit', status =>
      this.#failure.reject(new RowanError('INTERNAL', `hashing ${path} ended early (${status})`))
    )
    signal?.addEventListener('abort', stop, { once: true })
    if (signal?.aborted === true) stop()
    try {
      return await Promise.race([this.#failure.promise, this.#finish(ended)])
    } finally {
      signal?.removeEventListener('abort', stop)
      // The descriptor may be closed, and its number used again, once this returns: no thread may still read from it.
      await worker.terminate()
      await Promise.allSettled(this.#stores)
    }
  }

  /** What comes when the worker is done: the top of the index, what is still being stored, and durability. */
  async #finish(ended: Promise<void>): Promise<HashedImage> {
    await ended
    const image = this.#builder.finish(this.#input.sizeBytes)
    await Promise.all(this.#stores)
    await this.#components.pool.sync()
    return { ...image, newBlocks: this.#newBlocks }
  }

  /** Takes one message of the worker; true at the end of the image. */
  #take(message: HashWorkerMessage, worker: Worker): boolean {
    switch (message.kind) {
      case 'failed':
        throw new RowanError(message.code, `${this.#input.path} ${message.says}`)
      case 'passed':
        this.#progress(message.blocks)
        return false
      case 'end':
        this.#builder.addZero(message.zerosBefore)
        this.#progress(blockCount(this.#input.sizeBytes))
        return true
      case 'blocks': {
        const { chunk } = message
        const recycle = () => worker.postMessage(chunk satisfies HashWorkerReply)
        this.#store(this.#index(message), recycle)
        return false
      }
    }
  }

  /** Puts a chunk's hashes into the index; returns the blocks that the pool does not have. */
  #index({ chunk, zerosBefore, places, hashes }: Extract<HashWorkerMessage, { kind: 'blocks' }>) {
    const { pool } = this.#components
    const missing: { hash: Hash; block: Uint8Array }[] = []
    for (let index = 0; index < places.length; index++) {
      const hash = hashes.subarray(index * HASH_SIZE_BYTES, (index + 1) * HASH_SIZE_BYTES)
      if (zerosBefore[index]! > 0) this.#builder.addZero(zerosBefore[index]!)
      this.#builder.add(hash)
      const slot = pool.find(hash)
      // After an unclean stop a slot is only as good as its hash; the right bytes are at hand now.
      if (slot >= 0 && (!pool.isSuspect(slot) || pool.confirm(slot, hash))) continue
      const key = keyOf(hash)
      if (this.#underway.has(key)) continue
      this.#underway.add(key)
      missing.push({
        hash,
        block: new Uint8Array(this.#chunks[chunk]!, places[index]! * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES)
      })
    }
    return missing
  }

  /** Stores blocks, then calls `recycle`; bounded by the number of chunks. */
  #store(missing: { hash: Hash; block: Uint8Array }[], recycle: () => void): void {
    const store = this.#keep(missing).then(recycle, error => this.#failure.reject(error))
    this.#stores.add(store)
    store.finally(() => this.#stores.delete(store))
  }

  async #keep(missing: { hash: Hash; block: Uint8Array }[]): Promise<void> {
    const { pool, nodes } = this.#components
    if (nodes.isFull) await nodes.drain()
    if (missing.length === 0) return
    await pool.putMany(missing)
    for (const { hash } of missing) this.#underway.delete(keyOf(hash))
    this.#newBlocks += missing.length
  }

  #progress(blocks: number): void {
    const { sizeBytes } = this.#input
    this.#options.onProgress?.(Math.min(blocks * BLOCK_SIZE_BYTES, sizeBytes), sizeBytes)
  }
}

function keyOf(hash: Hash): string {
  return Buffer.from(hash.buffer, hash.byteOffset, hash.byteLength).toString('latin1')
}
