/**
 * Fetches blocks before a guest asks for them: along a boot profile; where there is none, or the guest leaves it, by read-ahead.
 *
 * The policies are in profile-replay.ts and read-ahead.ts; here their choices become wants of the image's fetch, at ranks below demand,
 * and come back as news. A block is asked for only once its page of the index is here: it may be in the pool under another image, or all zero.
 *
 * Owns: what it asked for, which is given up with it. One for each open disk.
 */
import { INDEX_FANOUT } from '../cluster.ts'
import type { Log } from '../environment.ts'
import type { RowanError } from '../errors.ts'
import type { BootProfile } from '../image/boot-profile.ts'
import { ABSENT, type LocalImage, UNKNOWN } from '../store/images.ts'
import { FileLayout } from './file-layout.ts'
import type { BlockWaiter } from './image-fetch.ts'
import { MAX_PROFILE_PAGES, MAX_PROFILE_WASTE, MAX_UNEARNED_READ_AHEAD, PROFILE_WINDOW_BLOCKS } from './limits.ts'
import type { Rank } from './messages.ts'
import { ProfileReplay, type ReplayProgress } from './profile-replay.ts'
import { ReadAhead } from './read-ahead.ts'

/** What is needed of an ImageFetch. */
export interface AheadFetch {
  readonly image: Pick<LocalImage, 'id' | 'root' | 'locate' | 'verified'>
  readonly index: { page(page: number, rank: Rank, signal?: AbortSignal): Promise<void> }
  request(block: number, waiter: BlockWaiter): () => void
}

export interface AheadView {
  /** Along the profile; undefined where there is none. */
  profile: ReplayProgress | undefined
  /** Blocks that read-ahead fetched: those that were touched, and those that were not (yet). */
  readAhead: { touched: number; untouched: number }
}

const READ_AHEAD: Rank = 1
const PROFILE: Rank = 2
/** Where every boot begins: the first 512 KiB, which the group around a first read would be. */
const FRONT_BLOCKS = 8
/** Blocks to learn from that are not here yet; what is beyond is not learnt from. */
const MAX_LESSONS = 256
const MAX_RECENT = 64
const MAX_UNPLACED = 8

export class BootAhead {
  readonly #fetch: AheadFetch
  readonly #log: Log
  readonly #replay: ProfileReplay
  readonly #readAhead = new ReadAhead({ unearnedBlocks: MAX_UNEARNED_READ_AHEAD })
  readonly #layout: FileLayout
  /** Blocks that the guest touched, and that tell where files lie once they are here. */
  readonly #lessons = new Set<number>()
  /** The last that it touched: some are still on their way. */
  readonly #recent = new Set<number>()
  /** The last that it waited for, and no file was known for. */
  readonly #unplaced: { block: number; inBlock: number }[] = []
  /** Not everything that the guest touched was here. A disk that is, for all that its guest reads, needs nothing ahead. */
  #hasMissed = false
  readonly #stop = new AbortController()
  readonly #underWay = new Map<number, () => void>()
  readonly #pages = new Set<number>()
  /** What keeps blocks out of the pool; then nothing is fetched ahead any more. */
  #failure: RowanError | undefined
  /** Too much is wanted at present: until the guest touches something else. */
  #isFull = false

  readonly #ended: () => void

  constructor(fetch: AheadFetch, log: Log, ended: () => void = () => undefined) {
    this.#fetch = fetch
    this.#log = log
    this.#ended = ended
    const { blocks, zeroBlocks } = fetch.image.root
    this.#layout = new FileLayout(blocks)
    this.#replay = new ProfileReplay({
      windowBlocks: PROFILE_WINDOW_BLOCKS,
      unusedBlocks: Math.floor((blocks - zeroBlocks) * MAX_PROFILE_WASTE)
    })
  }

  get view(): AheadView {
    const profile = this.#replay.hasProfile ? this.#replay.progress : undefined
    return { profile, readAhead: this.#readAhead.outcome }
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

  /** Fetches what every boot needs first, while the guest starts, if nothing more is known of this one. */
  begin(): void {
    if (this.#isOver || this.#replay.hasProfile) return
    if (this.#fetch.image.locate(0) === UNKNOWN) {
      this.#awaitPage(0, () => this.begin())
      return
    }
    for (let block = 0; block < Math.min(FRONT_BLOCKS, this.#fetch.image.root.blocks); block++) this.#guess(block)
  }

  /**
   * The guest touched a block for the first time.
   *
   * @param inBlock - from this byte of it on
   */
  touched(block: number, inBlock = 0): void {
    this.#replay.touched(block)
    this.#isFull = false
    if (this.#isOver) return
    const where = this.#fetch.image.locate(block)
    const isHere = where !== ABSENT && where !== UNKNOWN
    if (!isHere) this.#hasMissed = true
    const isMissing = !isHere && !this.#underWay.has(block)
    if (isMissing) for (const other of this.#replay.onwards(block)) this.#askForProfile(other, READ_AHEAD)
    // What the profile names comes by itself, and what lies beside that was not read by others.
    if (!this.#replay.names(block)) this.#readOn(block, inBlock, isMissing)
    this.#study(block)
    this.#advance()
  }

  stop(): void {
    this.#stop.abort()
    for (const giveUp of [...this.#underWay.values()]) giveUp()
    this.#underWay.clear()
    this.#ended()
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
      // What read-ahead has under way comes all the same.
      if (where === ABSENT && !this.#underWay.has(block)) this.#askForProfile(block, PROFILE)
      else this.#replay.passed()
    }
  }

  #askForProfile(block: number, rank: Rank): void {
    if (!this.#isAskable(block)) return
    this.#replay.asked(block)
    this.#ask(block, rank, {
      came: () => this.#replay.came(block),
      failed: () => this.#replay.failed(block)
    })
  }

  /** Notes where files lie from what the guest has read, as soon as that is here. */
  #study(block: number): void {
    this.#recent.add(block)
    const [oldest] = this.#recent
    if (this.#recent.size > MAX_RECENT) this.#recent.delete(oldest!)
    this.#noteLesson(block)
    if (this.#hasMissed) this.#takeLessons()
  }

  #noteLesson(block: number): void {
    if (this.#layout.teaches(block) && this.#lessons.size < MAX_LESSONS) this.#lessons.add(block)
  }

  #takeLessons(): void {
    for (const lesson of this.#lessons) {
      if (this.#fetch.image.locate(lesson) < 0) continue
      this.#lessons.delete(lesson)
      this.#fetch.image.verified(lesson).then(
        bytes => this.#learn(lesson, bytes),
        (error: RowanError) => this.#fail(error)
      )
    }
  }

  #learn(lesson: number, bytes: Uint8Array | undefined): void {
    if (this.#isOver || bytes === undefined) return
    for (const other of this.#layout.learn(lesson, bytes)) {
      // Only what comes for the guest: nothing is fetched to learn from it.
      if (this.#recent.has(other) || this.#fetch.image.locate(other) >= 0) this.#noteLesson(other)
    }
    this.#takeLessons()
    for (const { block, inBlock } of this.#unplaced.splice(0)) {
      const file = this.#layout.place(block, inBlock)
      if (file === undefined) this.#unplaced.push({ block, inBlock })
      else this.#guessAll(this.#readAhead.placed(file))
    }
  }

  /** Read-ahead from a block that no profile names. */
  #readOn(block: number, inBlock: number, isMissing: boolean): void {
    const file = this.#layout.place(block, inBlock)
    if (file === undefined && isMissing) {
      this.#unplaced.push({ block, inBlock })
      if (this.#unplaced.length > MAX_UNPLACED) this.#unplaced.shift()
    }
    const ahead = this.#readAhead.touched(block, isMissing, file)
    if (this.#hasMissed) this.#guessAll(ahead)
  }

  #guessAll(others: readonly number[]): void {
    const { blocks } = this.#fetch.image.root
    for (const other of others) {
      if (other < 0 || other >= blocks || this.#underWay.size >= PROFILE_WINDOW_BLOCKS) continue
      if (!this.#replay.names(other)) this.#guess(other)
    }
  }

  #guess(block: number): void {
    if (!this.#isAskable(block)) return
    this.#readAhead.asked(block)
    this.#ask(block, READ_AHEAD, { came: () => undefined, failed: () => undefined })
  }

  #isAskable(block: number): boolean {
    return !this.#isFull && !this.#underWay.has(block) && this.#fetch.image.locate(block) === ABSENT
  }

  #ask(block: number, rank: Rank, tell: { came(): void; failed(): void }): void {
    this.#underWay.set(block, () => undefined)
    const giveUp = this.#fetch.request(block, {
      rank,
      resolve: () => {
        this.#underWay.delete(block)
        tell.came()
        this.#advance()
      },
      reject: error => {
        this.#underWay.delete(block)
        tell.failed()
        if (error.code === 'LIMIT_EXCEEDED') this.#isFull = true
        else this.#fail(error)
      }
    })
    if (this.#underWay.has(block)) this.#underWay.set(block, giveUp)
  }

  #fail(error: RowanError): void {
    if (this.#isOver) return
    // A guest gets its blocks all the same: demand does not pass here.
    this.#failure = error
    const { code, message } = error
    this.#log.info('nothing is fetched ahead of the guest any more', { image: this.#fetch.image.id, code, message })
  }

  #awaitPage(page: number, came = () => this.#advance()): void {
    if (this.#pages.has(page)) return
    this.#pages.add(page)
    this.#fetch.index.page(page, PROFILE, this.#stop.signal).then(
      () => {
        this.#pages.delete(page)
        came()
      },
      (error: RowanError) => this.#fail(error)
    )
  }
}
