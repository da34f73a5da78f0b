/**
 * Disks served by threads over a real pool that is too small for their image; what is not here is put there by a source
 * that evicts what is in the way, as the swarm and the evictor would.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { BLOCK_SIZE_BYTES } from '../../../../src/cluster.ts'
import { RowanError } from '../../../../src/errors.ts'
import type { DiskThreadInput } from '../../../../src/machine/disk-messages.ts'
import { DiskThread, type DiskThreadComponents, type StartThread } from '../../../../src/machine/disk-thread.ts'
import { startDiskThread } from '../../../../src/node/disk-thread.ts'
import { systemClock } from '../../../../src/node/system.ts'
import type { BlockSource, ObtainedBlock } from '../../../../src/store/block-source.ts'
import type { LocalImage } from '../../../../src/store/images.ts'
import { temporaryFolder } from '../../../tools/folders.ts'
import { NbdClient } from '../../../tools/nbd-client.ts'
import { blockOf, hashOf, imageOf, openStore, type TestStore } from '../../store/tools.ts'

/** Blocks that came last are not evicted at once: who waited for them reads them first. */
const SPARED_BLOCKS = 8

/** Another script than the daemon's, with the same limits but for memory. */
export function threadOf(script: string, maxHeapMb = 64): StartThread {
  return (input: DiskThreadInput) =>
    new Worker(new URL(script, import.meta.url), {
      workerData: input,
      execArgv: ['--disable-warning=ExperimentalWarning'],
      resourceLimits: { maxOldGenerationSizeMb: maxHeapMb, maxYoungGenerationSizeMb: 16 }
    })
}

export class ServedDisks implements BlockSource {
  readonly store: TestStore
  readonly image: LocalImage
  readonly blocks: number
  /** Blocks asked for. */
  readonly wanted: number[] = []
  /** How many were given up by who asked. */
  abandoned = 0
  /** While it is set, nothing comes. */
  isHeld = false
  readonly #folder: string
  readonly #disks: DiskThread[] = []
  readonly #recent: number[] = []
  #isClosed = false

  private constructor(folder: string, store: TestStore, image: LocalImage) {
    this.#folder = folder
    this.store = store
    this.image = image
    this.blocks = image.root.blocks
  }

  /** @param here - whether the image's blocks are here at the start; block 3 is all zero, and is nowhere */
  static async open(options: { blocks: number; quotaBlocks?: number; here?: boolean }): Promise<ServedDisks> {
    const { blocks, quotaBlocks = blocks, here = false } = options
    const folder = await temporaryFolder()
    const store = await openStore(folder, { quotaBytes: quotaBlocks * BLOCK_SIZE_BYTES })
    const parts = Array.from({ length: blocks }, (_, block) => (block === 3 ? 1 : hashOf(block)))
    const { rootBytes, nodes } = imageOf(parts)
    const image = await store.images.create(rootBytes)
    for (const [, node] of nodes) await image.addNode(0, 0, node)
    const served = new ServedDisks(folder, store, image)
    for (let block = 0; here && block < blocks; block++) {
      if (block !== 3) image.stored(block, await store.pool.put(hashOf(block), blockOf(block)))
    }
    return served
  }

  async serve(options: Partial<DiskThreadComponents> & { name?: string } = {}): Promise<{
    disk: DiskThread
    socketPath: string
  }> {
    const { name = 'disk', ...others } = options
    const { pool, log } = this.store
    const socketPath = join(this.#folder, `${name}.sock`)
    const layers = join(this.#folder, name)
    await mkdir(layers, { recursive: true })
    const disk = await DiskThread.open(
      {
        ...{ image: this.image, pool, source: this, log, clock: systemClock, bootId: 'boot' },
        ...{ startThread: startDiskThread, touches: { touched: () => undefined } },
        ...others
      },
      {
        disk: { folder: join(layers, 'layers'), machine: name, readOnly: false, create: true },
        ...{ socketPath, name, description: 'a test' }
      }
    )
    this.#disks.push(disk)
    await disk.serve()
    return { disk, socketPath }
  }

  async want(
    _image: string,
    block: number,
    _priority: string,
    { signal }: { signal?: AbortSignal } = {}
  ): Promise<ObtainedBlock> {
    this.wanted.push(block)
    while (!this.#isClosed) {
      if (signal?.aborted) {
        this.abandoned++
        throw new RowanError('ABORTED', 'nobody waits any more')
      }
      if (!this.isHeld) {
        const slot = await this.#put(block)
        if (slot !== undefined) return { slot }
      }
      await new Promise(resolve => setTimeout(resolve, 1))
    }
    throw new RowanError('DISK_CLOSED', 'the test is over')
  }

  async #put(block: number): Promise<number | undefined> {
    const { pool } = this.store
    try {
      const slot = await pool.put(hashOf(block), blockOf(block))
      this.image.stored(block, slot)
      this.#recent.push(block)
      if (this.#recent.length > SPARED_BLOCKS) this.#recent.shift()
      return slot
    } catch (error) {
      if (!(error instanceof RowanError) || error.code !== 'POOL_FULL') throw error
      await this.evictMost()
      return undefined
    }
  }

  /** All but what came last; now and then that, too, so that whole segments go. */
  async evictMost(all = Math.random() < 0.1): Promise<void> {
    const { pool } = this.store
    const spared = new Set(all ? [] : this.#recent.map(block => pool.find(hashOf(block))))
    const slots: number[] = []
    for (let slot = 0; slot < pool.slotLimit; slot++) if (pool.has(slot) && !spared.has(slot)) slots.push(slot)
    await pool.evict(slots)
  }

  async close(): Promise<void> {
    this.#isClosed = true
    for (const disk of this.#disks) await disk.close().catch(() => undefined)
    await this.store.close()
  }
}

/** Whether these bytes, from `offset` on, are the image's. */
export function isRight(bytes: Buffer, offset: number): boolean {
  for (let at = 0; at < bytes.length; at += BLOCK_SIZE_BYTES) {
    const block = (offset + at) / BLOCK_SIZE_BYTES
    const expected = block === 3 ? Buffer.alloc(BLOCK_SIZE_BYTES) : blockOf(block)
    if (!bytes.subarray(at, at + BLOCK_SIZE_BYTES).equals(expected)) return false
  }
  return true
}

export async function clientOf(socketPath: string): Promise<NbdClient> {
  return await NbdClient.open(socketPath, '')
}
