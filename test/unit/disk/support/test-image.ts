/**
 * An image whose bytes are known, whose blocks are here, zero, or to be waited for, as a test says.
 */
import { BLOCK_SIZE_BYTES } from '../../../../src/cluster.ts'
import type { BaseImage, SlotReader } from '../../../../src/disk/image-reader.ts'
import { RowanError } from '../../../../src/errors.ts'
import type { BlockSource, ObtainedBlock } from '../../../../src/store/block-source.ts'

const ZERO = -1
const ABSENT = -2

export class TestImage implements BaseImage, SlotReader, BlockSource {
  readonly id = 'ab'.repeat(32)
  readonly root: { sizeBytes: number }
  /** Blocks that are not here. */
  readonly missing = new Set<number>()
  readonly zeros = new Set<number>()
  /** Blocks whose slots cannot be read. */
  readonly unreadable = new Set<number>()
  /** What was asked for, in order. */
  readonly wanted: number[] = []
  /** Accesses of the pool that gave bytes. */
  poolReads = 0
  /** Reads that went aside. */
  asides = 0
  /** Those that went into nowhere, in order. */
  readonly warmed: { slot: number; offsetInBlock: number; lengthBytes: number }[] = []
  /** How urgently, in order. */
  readonly priorities: string[] = []
  /** When set, `want` answers with bytes: the pool cannot keep the block. */
  poolIsFull = false
  /** How often a block that came is gone again before it is read. */
  evictions = 0
  /** Off: a wanted block comes by itself. */
  held = false
  readonly #pool = new Map<number, Uint8Array>()
  #waiting: { block: number; come: () => void }[] = []

  constructor(sizeBytes: number) {
    this.root = { sizeBytes }
  }

  get waiting(): number[] {
    return this.#waiting.map(({ block }) => block)
  }

  /** Lets the n-th of the blocks that are waited for come. */
  release(index = 0): void {
    this.#waiting.splice(index % Math.max(1, this.#waiting.length), 1)[0]?.come()
  }

  /** Fills `target` with the image's bytes: each differs from its neighbours and from those a block or a sector away. */
  expected(offset: number, target: Uint8Array): Uint8Array {
    for (let index = 0; index < target.length; index++) {
      const at = offset + index
      const block = Math.floor(at / BLOCK_SIZE_BYTES)
      target[index] = this.zeros.has(block) ? 0 : (at * 7 + Math.floor(at / 512) * 13 + block * 101) & 0xff
    }
    return target
  }

  locate(block: number): number {
    if (this.zeros.has(block)) return ZERO
    if (this.missing.has(block)) return ABSENT
    return block
  }

  peek(block: number): number {
    return this.locate(block)
  }

  recheck(block: number): boolean {
    if (!this.unreadable.has(block)) return true
    this.missing.add(block)
    return false
  }

  /** As the pool's: into the slots behind it, too. */
  readSync(slot: number, offsetInBlock: number, target: Uint8Array): void {
    for (let done = 0; done < target.length; ) {
      const at = slot + Math.floor((offsetInBlock + done) / BLOCK_SIZE_BYTES)
      const inBlock = (offsetInBlock + done) % BLOCK_SIZE_BYTES
      const count = Math.min(BLOCK_SIZE_BYTES - inBlock, target.length - done)
      target.set(this.#slot(at).subarray(inBlock, inBlock + count), done)
      done += count
    }
    this.poolReads++
  }

  #slot(slot: number): Uint8Array {
    if (this.unreadable.has(slot)) throw new RowanError('STORE_IO', `slot ${slot} cannot be read`)
    let block = this.#pool.get(slot)
    if (block === undefined) {
      block = this.expected(slot * BLOCK_SIZE_BYTES, new Uint8Array(BLOCK_SIZE_BYTES))
      this.#pool.set(slot, block)
    }
    return block
  }

  warm(slot: number, offsetInBlock: number, lengthBytes: number, done: () => void): void {
    this.asides++
    this.warmed.push({ slot, offsetInBlock, lengthBytes })
    setImmediate(done)
  }

  /** Set: reads aside give bytes, when the turn is over. */
  keepsSlots = false

  get readAside(): SlotReader['readAside'] {
    if (!this.keepsSlots) return undefined
    return (slot, offsetInBlock, target, done) => {
      this.asides++
      setImmediate(() => {
        if (this.unreadable.has(slot)) {
          target.fill(0xee)
          done(false)
          return
        }
        this.readSync(slot, offsetInBlock, target)
        done(true)
      })
    }
  }

  async want(
    _image: string,
    block: number,
    priority: string,
    options?: { signal?: AbortSignal }
  ): Promise<ObtainedBlock> {
    this.wanted.push(block)
    this.priorities.push(priority)
    if (this.held) {
      await new Promise<void>((resolve, reject) => {
        this.#waiting.push({ block, come: resolve })
        options?.signal?.addEventListener('abort', () => reject(new RowanError('ABORTED', 'aborted')))
      })
    }
    if (this.poolIsFull) {
      return { bytes: this.expected(block * BLOCK_SIZE_BYTES, new Uint8Array(BLOCK_SIZE_BYTES)) }
    }
    if (this.evictions > 0) this.evictions--
    else {
      this.missing.delete(block)
      this.unreadable.delete(block)
    }
    return { slot: block }
  }
}

/** All that a disk over this image needs. */
export function components(image: TestImage, bootId = 'boot-1') {
  const warnings: { message: string; values: Record<string, unknown> | undefined }[] = []
  const log = {
    debug: () => {},
    info: () => {},
    warn: (message: string, values?: Record<string, unknown>) => {
      warnings.push({ message, values })
    }
  }
  const clock = { ms: 0, monotonicMs: () => clock.ms }
  return { image, pool: image, source: image, log, clock, bootId, warnings }
}
