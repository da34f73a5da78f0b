/**
 * Fetches blocks before a guest asks for them: along a boot profile, and beside the path where the guest leaves it.
 *
 * The policy is in profile-replay.ts; here its choices become wants of the image's fetch, at ranks below demand, and come back
 * as news. A block is asked for only once its page of the index is here: it may be in the pool under another image, or all zero.
 *
 * Owns: what it asked for, which is given up with it. One for each open disk.
 */
import { INDEX_FANOUT } from '../cluster.ts'
import type { Log } from '../environment.ts'
import type { RowanError } from '../errors.ts'
import type { BootProfile } from '../image/boot-profile.ts'
import { ABSENT, type LocalImage, UNKNOWN } from '../store/images.ts'
import type { BlockWaiter } from './image-fetch.ts'
import { MAX_PROFILE_PAGES, MAX_PROFILE_WASTE, PROFILE_WINDOW_BLOCKS } from './limits.ts'
import type { Rank } from './messages.ts'
import { ProfileReplay, type ReplayProgress } from './profile-replay.ts'

/** What is needed of an ImageFetch. */
export interface AheadFetch {
  readonly image: Pick<LocalImage, 'id' | 'root' | 'locate'>
  readonly index: { page(page: number, rank: Rank, signal?: AbortSignal): Promise<void> }
  request(block: number, waiter: BlockWaiter): () => void
}

export interface AheadView {
  /** Along the profile; undefined where there is none. */
  profile: ReplayProgress | undefined
}

const READ_AHEAD: Rank = 1
const PROFILE: Rank = 2

export class BootAhead {
  readonly #fetch: AheadFetch
  readonly #log: Log
  readonly #replay: ProfileReplay
  readonly #stop = new AbortController()
  readonly #underWay = new Map<number, () => void>()
  readonly #pages = new Set<number>()
  /** What keeps blocks out of the pool; then nothing is fetched ahead any more. */
  #failure: RowanError | undefined
  /** Too much is wanted at present: until the guest touches something else. */
  #isFull = false

  constructor(fetch: AheadFetch, log: Log) {
    this.#fetch = fetch
    this.#log = log
    const { blocks, zeroBlocks } = fetch.image.root
    this.#replay = new ProfileReplay({
      windowBlocks: PROFILE_WINDOW_BLOCKS,
      unusedBlocks: Math.floor((blocks - zeroBlocks) * MAX_PROFILE_WASTE)
    })
  }

  get view(): AheadView {
    return { profile: this.#replay.hasProfile ? this.#replay.progress : undefined }
  }

  /** Fetches along this profile from now on. */
  follow(profile: BootProfile): void {
    this.#replay.follow(profile)
    // In the order in which they will be needed, and before the blocks: an image above 4 GiB has not sent them unasked.
    const pages = new Set(profile.map(({ block }) => Math.floor(block / INDEX_FANOUT)))
    for (const page of [...pages].slice(0, MAX_PROFILE_PAGES)) {
      if (this.#fetch.image.locate(page * INDEX_FANOUT) === UNKNOWN) this.#awaitPage(page)
    }
    this.#advance()
  }

  /** The guest touched a block for the first time. */
  touched(block: number): void {
    this.#replay.touched(block)
    this.#isFull = false
    if (this.#isOver) return
    if (this.#replay.hasProfile && this.#fetch.image.locate(block) < 0) {
      for (const other of this.#replay.onwards(block)) this.#ask(other, READ_AHEAD)
    }
    this.#advance()
  }

  stop(): void {
    this.#stop.abort()
    for (const giveUp of [...this.#underWay.values()]) giveUp()
    this.#underWay.clear()
  }

  get #isOver(): boolean {
    return this.#failure !== undefined || this.#stop.signal.aborted
  }

  /** As far as the window goes, or to the first block whose page is not here. */
  #advance(): void {
    while (!this.#isOver && !this.#isFull) {
      const block = this.#replay.next()
      if (block === undefined) return
      const where = this.#fetch.image.locate(block)
      if (where === UNKNOWN) {
        this.#awaitPage(Math.floor(block / INDEX_FANOUT))
        return
      }
      if (where === ABSENT) this.#ask(block, PROFILE)
      else this.#replay.passed()
    }
  }

  #ask(block: number, rank: Rank): void {
    if (this.#underWay.has(block) || this.#fetch.image.locate(block) !== ABSENT) return
    this.#replay.asked(block)
    this.#underWay.set(block, () => undefined)
    const giveUp = this.#fetch.request(block, {
      rank,
      resolve: () => this.#settled(block),
      reject: error => this.#failed(block, error)
    })
    if (this.#underWay.has(block)) this.#underWay.set(block, giveUp)
  }

  #settled(block: number): void {
    this.#underWay.delete(block)
    this.#replay.came(block)
    this.#advance()
  }

  #failed(block: number, error: RowanError): void {
    this.#underWay.delete(block)
    this.#replay.failed(block)
    if (error.code === 'LIMIT_EXCEEDED') this.#isFull = true
    else this.#fail(error)
  }

  #fail(error: RowanError): void {
    if (this.#isOver) return
    // A guest gets its blocks all the same: demand does not pass here.
    this.#failure = error
    const { code, message } = error
    this.#log.info('nothing is fetched ahead of the guest any more', { image: this.#fetch.image.id, code, message })
  }

  #awaitPage(page: number): void {
    if (this.#pages.has(page)) return
    this.#pages.add(page)
    this.#fetch.index.page(page, PROFILE, this.#stop.signal).then(
      () => {
        this.#pages.delete(page)
        this.#advance()
      },
      (error: RowanError) => this.#fail(error)
    )
  }
}
