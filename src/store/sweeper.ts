/**
 * Frees what only certain images need, and what no image needs.
 *
 * Which blocks these are a survey tells (survey.ts), made as if the images that go were not known: what then has no reason
 * to stay is theirs alone, or nobody's. It follows what changes meanwhile, and blocks go in batches, before each of which it
 * is checked again. A block that a publisher holds, or that has only just come, is left.
 *
 * Afterwards an image can be forgotten (Images.forget); until then a sweep that was cut short is simply made again.
 */
import { BLOCK_SIZE_BYTES } from '../cluster.ts'
import type { Log } from '../environment.ts'
import { nodeCount } from '../image/geometry.ts'
import { REASON, reasonIn } from './eviction.ts'
import type { Images, LocalImage } from './images.ts'
import type { Pool } from './pool.ts'
import { type StayReasons, Survey } from './survey.ts'

/** Dropped at once, with one write of the table. */
const BLOCKS_PER_BATCH = 1024
/** Pages of an index between two turns of everybody else: about 2 ms. */
const PAGES_AT_A_STRETCH = 4
/** How often a sweep that something came in the way of begins again at once. */
const MAX_TRIES = 4

export interface SweeperComponents {
  pool: Pool
  images: Images
  /** Of images that go, those reasons do not count. */
  stay: StayReasons
  log: Log
}

/** Bytes of blocks that are here. */
export interface Measured {
  /** By image, in the order that was asked for: what it needs alone, or together with images behind it. */
  byImage: Map<string, number>
  /** Of no image that is known here. */
  unusedBytes: number
}

export class Sweeper {
  readonly #components: SweeperComponents

  constructor(components: SweeperComponents) {
    this.#components = components
  }

  /**
   * What would be freed if `going` went, after `gone` has: each block counts once.
   *
   * @throws CATALOG_CORRUPT, STORE_IO
   */
  async measure(going: readonly string[], gone: readonly string[] = []): Promise<Measured> {
    const survey = await this.#survey(new Set([...going, ...gone]))
    try {
      const counted = new Set<number>()
      const byImage = new Map<string, number>()
      for (const id of [...going, ...gone]) {
        const before = counted.size
        for (const slot of await this.#loose(survey, id)) counted.add(slot)
        if (!byImage.has(id)) byImage.set(id, (counted.size - before) * BLOCK_SIZE_BYTES)
      }
      let unused = 0
      for (const [slot, standing] of survey.standings.entries()) {
        if (reasonIn(standing) === REASON.none && !counted.has(slot)) unused++
      }
      const asked = new Map(going.map(id => [id, byImage.get(id) ?? 0]))
      return { byImage: asked, unusedBytes: unused * BLOCK_SIZE_BYTES }
    } finally {
      survey.close()
    }
  }

  /**
   * Drops the blocks that only this image needs.
   *
   * @param mayGo - asked before each batch: whether the image is still to go
   * @returns the bytes that went, and whether all of them did
   * @throws CATALOG_CORRUPT, STORE_IO, DISK_FULL
   */
  async sweep(id: string, mayGo: () => boolean): Promise<{ freedBytes: number; isDone: boolean }> {
    return this.#drop(new Set([id]), mayGo, survey => this.#loose(survey, id))
  }

  /** Drops the blocks of no image that is known here. @throws as sweep */
  async sweepUnused(): Promise<{ freedBytes: number; isDone: boolean }> {
    return this.#drop(
      new Set(),
      () => true,
      async ({ standings }) => {
        const slots: number[] = []
        for (const [slot, standing] of standings.entries()) if (reasonIn(standing) === REASON.none) slots.push(slot)
        return slots
      }
    )
  }

  async #drop(
    gone: ReadonlySet<string>,
    mayGo: () => boolean,
    choose: (survey: Survey) => Promise<number[]>
  ): Promise<{ freedBytes: number; isDone: boolean }> {
    let freed = 0
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const survey = await this.#survey(gone)
      try {
        const { went, isDone } = await this.#dropOnce(survey, mayGo, await choose(survey))
        freed += went
        if (isDone || !mayGo()) return { freedBytes: freed * BLOCK_SIZE_BYTES, isDone }
      } finally {
        survey.close()
      }
    }
    return { freedBytes: freed * BLOCK_SIZE_BYTES, isDone: false }
  }

  async #dropOnce(survey: Survey, mayGo: () => boolean, slots: number[]): Promise<{ went: number; isDone: boolean }> {
    const { pool } = this.#components
    let went = 0
    for (let first = 0; first < slots.length; first += BLOCKS_PER_BATCH) {
      if (survey.isOutdated || !mayGo()) return { went, isDone: false }
      const batch = slots
        .slice(first, first + BLOCKS_PER_BATCH)
        .filter(slot => reasonIn(survey.standings[slot] ?? 0) === REASON.none)
      went += await pool.evict(batch)
    }
    return { went, isDone: mayGo() }
  }

  async #survey(gone: ReadonlySet<string>): Promise<Survey> {
    const { pool, images, stay } = this.#components
    const survey = await Survey.make({
      pool,
      images: {
        uses: images.uses,
        index: id => images.index(id),
        async *list() {
          for await (const id of images.list()) if (!gone.has(id)) yield id
        },
        onPage: listener =>
          images.onPage((image: LocalImage, page: number) => {
            if (!gone.has(image.id)) listener(image, page)
          })
      },
      stay: { reasons: () => new Map([...stay.reasons()].filter(([id]) => !gone.has(id))) }
    })
    survey.leaveHeld()
    return survey
  }

  /** The slots of an image's blocks that have no reason to stay. */
  async #loose({ standings }: Survey, id: string): Promise<number[]> {
    const { pool, images } = this.#components
    const index = await images.index(id)
    if (index === undefined) return []
    const slots = new Set<number>()
    let untilRest = PAGES_AT_A_STRETCH
    for (let page = 0; page < nodeCount(0, index.root.blocks); page++) {
      const node = index.node(0, page)
      for (let at = 0; typeof node !== 'string' && at < node.childCount; at++) {
        const hash = node.hashAt(at)
        const slot = hash === undefined ? -1 : pool.find(hash)
        if (slot >= 0 && reasonIn(standings[slot] ?? 0) === REASON.none) slots.add(slot)
      }
      if (--untilRest > 0) continue
      untilRest = PAGES_AT_A_STRETCH
      await new Promise(resolve => setImmediate(resolve))
    }
    return [...slots]
  }
}
