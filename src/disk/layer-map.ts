/**
 * What a layer knows about each 512-byte sector: absent (ask below), data (in the layer's data file), zero.
 *
 * Two bits a sector, 16 sectors a word, 16,384 sectors (8 MiB) a page of 4 KiB. A page exists only where something was
 * written, and a page whose sectors all have one state is one of three shared pages: a trimmed 8-TiB disk costs an
 * array of pointers. A run is found word by word, so a 4-KiB read inside one state looks at one or two words (measured:
 * 15 ns).
 *
 * Pages that changed since the last freeze are remembered. `freeze` hands them out as they are at that moment; a later
 * change of a frozen page is made on a copy, until `thaw`.
 *
 * **Memory is bounded.** A page that is neither changed nor frozen is *clean*: the map file says the same. Of those only so many
 * stay in memory, and the one that has been here longest goes first; which was used last is not noted, since that would
 * cost every read. A page that is *away* is read when it is asked for (some 15 µs), and whoever asks hears of
 * an error of that read; `bringIn` asks before something is changed. Changed pages are bounded by checkpoints.
 *
 * Sector numbers reach 2^34 (8 TiB), so they are divided, never shifted.
 */

import { PageSet } from './page-set.ts'

export const SECTOR_BYTES = 512

export const SECTOR_ABSENT = 0
export const SECTOR_DATA = 1
export const SECTOR_ZERO = 2
export type SectorState = typeof SECTOR_ABSENT | typeof SECTOR_DATA | typeof SECTOR_ZERO

export const SECTORS_PER_PAGE = 16_384
export const SECTORS_PER_WORD = 16
export const WORDS_PER_PAGE = SECTORS_PER_PAGE / SECTORS_PER_WORD

/** The sector of a byte of the disk. */
export function sectorOf(offset: number): number {
  return Math.floor(offset / SECTOR_BYTES)
}

/** The first sector behind a range that ends at the byte `end`; of a whole disk, the number of its sectors. */
export function endSector(end: number): number {
  return Math.ceil(end / SECTOR_BYTES)
}

/** A page as it was at a freeze; `uniformState` knows its words if they are all alike. */
export interface FrozenPage {
  number: number
  words: Int32Array
}

/** A word whose 16 sectors all have the state; index: the state. */
const PATTERNS = [0, 0x55555555, 0xaaaaaaaa | 0] as const
/** Pages of one state; shared by all maps, so never written to. */
const UNIFORM_PAGES: Int32Array[] = PATTERNS.map(pattern => new Int32Array(WORDS_PER_PAGE).fill(pattern))

/** The words of a page whose sectors all have the state, not to be written to. */
export function uniformPage(state: SectorState): Int32Array {
  return UNIFORM_PAGES[state]!
}

/** The state of all sectors of a page that a map handed out; undefined if they differ. */
export function uniformState(words: Int32Array): SectorState | undefined {
  const state = UNIFORM_PAGES.indexOf(words)
  return state < 0 ? undefined : (state as SectorState)
}

/** Stands for a page that is in the map file alone. */
const AWAY = new Int32Array(0)

/** Where pages are that were put out of memory: as they were when they were loaded, or last frozen. */
export interface PageSource {
  /** LAYER_CORRUPT, STORE_IO. */
  readPage(page: number): Int32Array
}

/** 64 GiB of disk that are written in part: 32 MiB. */
const DEFAULT_MAX_CLEAN_PAGES = 8192

export class LayerMap {
  readonly sectors: number
  readonly pageCount: number
  readonly #pages: Int32Array[]
  readonly #changed: PageSet
  /** Pages whose words a frozen list still holds. */
  readonly #frozen = new Set<number>()
  /** Pages of their own that are as the source has them, in the order in which they came. */
  readonly #clean = new Set<number>()
  readonly #source: PageSource | undefined
  /** How many pages stay in memory though the source has them. */
  readonly maxCleanPages: number
  #away = 0

  /**
   * @param sectors - of the disk; all are absent at first
   * @param source - without it all pages stay in memory
   * @param maxCleanPages - at least two, the first and the last page of a change
   */
  constructor(sectors: number, source?: PageSource, maxCleanPages = DEFAULT_MAX_CLEAN_PAGES) {
    this.sectors = sectors
    this.#source = source
    this.maxCleanPages = source === undefined ? Number.POSITIVE_INFINITY : maxCleanPages
    this.pageCount = Math.ceil(sectors / SECTORS_PER_PAGE)
    this.#changed = new PageSet(this.pageCount)
    this.#pages = new Array<Int32Array>(this.pageCount).fill(UNIFORM_PAGES[SECTOR_ABSENT]!)
  }

  get changedPages(): number {
    return this.#changed.size
  }

  /** Pages that are in memory because the map file says the same. */
  get cleanPages(): number {
    return this.#clean.size
  }

  /** Whether all of it is in memory; if not, to look at all of it is to read from the disk. */
  get isWhole(): boolean {
    return this.#away === 0
  }

  stateAt(sector: number): SectorState {
    const page = (sector / SECTORS_PER_PAGE) | 0
    const inPage = sector - page * SECTORS_PER_PAGE
    return ((this.#words(page)[inPage >>> 4]! >>> ((inPage & 15) << 1)) & 3) as SectorState
  }

  /** Where the run of sectors that have the state of `sector` ends, at most `end`. Needs `sector < end`. */
  runEnd(sector: number, end: number): number {
    const state = this.stateAt(sector)
    const pattern = PATTERNS[state]!
    const uniform = UNIFORM_PAGES[state]
    let at = sector
    while (at < end) {
      const page = (at / SECTORS_PER_PAGE) | 0
      const pageStart = page * SECTORS_PER_PAGE
      const pageEnd = Math.min(pageStart + SECTORS_PER_PAGE, end)
      const words = this.#words(page)
      if (words !== uniform) {
        const inPage = at - pageStart
        const different = pageStart + firstDifference(words, pattern, inPage, pageEnd - pageStart)
        if (different < pageEnd) return different
      }
      at = pageEnd
    }
    return end
  }

  /** Whether all sectors of a range that is not empty have the state. */
  allAre(state: SectorState, start: number, end: number): boolean {
    return this.stateAt(start) === state && this.runEnd(start, end) === end
  }

  /** Reads what `set` needs of pages that are away, so that it cannot fail. LAYER_CORRUPT, STORE_IO. */
  bringIn(start: number, end: number): void {
    const bringFirst = () => start % SECTORS_PER_PAGE !== 0 && this.#words((start / SECTORS_PER_PAGE) | 0)
    bringFirst()
    if (end % SECTORS_PER_PAGE === 0) return
    this.#words(((end - 1) / SECTORS_PER_PAGE) | 0)
    // It may have gone for the last one.
    bringFirst()
  }

  /** Gives a range of sectors a state, and marks its pages as changed. */
  set(start: number, end: number, state: SectorState): void {
    let at = start
    while (at < end) {
      const page = (at / SECTORS_PER_PAGE) | 0
      const pageStart = page * SECTORS_PER_PAGE
      const pageEnd = Math.min(pageStart + SECTORS_PER_PAGE, this.sectors)
      const upTo = Math.min(pageEnd, end)
      this.#changed.add(page)
      this.#clean.delete(page)
      if (at === pageStart && upTo === pageEnd) {
        this.#frozen.delete(page)
        this.#replace(page, UNIFORM_PAGES[state]!)
      } else {
        fill(this.#ownPage(page), PATTERNS[state]!, at - pageStart, upTo - pageStart)
      }
      at = upTo
    }
  }

  /** Puts in a page that was read from the layer's map file; it does not count as changed. */
  load(page: number, words: Int32Array): void {
    this.#frozen.delete(page)
    this.#replace(page, words)
    this.#collapse(page)
    if (!this.#changed.has(page)) this.#nowClean(page)
  }

  /** The source has the page, and nobody needs it yet. */
  leaveAway(page: number): void {
    this.#replace(page, AWAY)
  }

  /** Marks the pages of a range as changed though they may not differ from what is on disk. */
  markChanged(start: number, end: number): void {
    const last = ((end - 1) / SECTORS_PER_PAGE) | 0
    for (let page = (start / SECTORS_PER_PAGE) | 0; page <= last; page++) {
      this.#changed.add(page)
      this.#clean.delete(page)
    }
  }

  /**
   * Changed pages as they are now, by number; they do not count as changed afterwards. Ends with `thaw`.
   *
   * @param maxPages - all of them, if absent
   * @throws RowanError LAYER_CORRUPT, STORE_IO where one that was only marked as changed is away; nothing is frozen then
   */
  freeze(maxPages = Number.POSITIVE_INFINITY): FrozenPage[] {
    const frozen: FrozenPage[] = []
    for (const number of this.#changed) {
      if (frozen.length >= maxPages) break
      this.#words(number)
      this.#collapse(number)
      frozen.push({ number, words: this.#pages[number]! })
    }
    for (const { number, words } of frozen) {
      this.#changed.delete(number)
      if (!isShared(words)) this.#frozen.add(number)
    }
    return frozen
  }

  /** The frozen pages are not needed any more; those that were not written (`unwritten`) count as changed again. */
  thaw(unwritten: FrozenPage[] = []): void {
    for (const { number } of unwritten) this.#changed.add(number)
    const frozen = [...this.#frozen]
    this.#frozen.clear()
    for (const number of frozen) if (!this.#changed.has(number)) this.#nowClean(number)
  }

  /** The words of a page, wherever they are. */
  #words(page: number): Int32Array {
    const words = this.#pages[page]!
    if (words !== AWAY) return words
    this.load(page, this.#source!.readPage(page))
    return this.#pages[page]!
  }

  #nowClean(page: number): void {
    if (isShared(this.#pages[page]!)) return
    this.#clean.add(page)
    if (this.#clean.size <= this.maxCleanPages) return
    const [longest = page] = this.#clean
    this.#clean.delete(longest)
    this.#replace(longest, AWAY)
  }

  #replace(page: number, words: Int32Array): void {
    if (this.#pages[page] === AWAY) this.#away--
    if (words === AWAY) this.#away++
    this.#pages[page] = words
  }

  /** The words of a page, private to this map, to be written to. */
  #ownPage(page: number): Int32Array {
    const words = this.#words(page)
    if (!isShared(words) && !this.#frozen.delete(page)) return words
    const own = words.slice()
    this.#pages[page] = own
    return own
  }

  /** A page of one state is replaced by the shared one. */
  #collapse(page: number): void {
    const words = this.#pages[page]!
    if (isShared(words)) return
    for (const [state, pattern] of PATTERNS.entries()) {
      if (words[0] !== pattern) continue
      const used = Math.min(SECTORS_PER_PAGE, this.sectors - page * SECTORS_PER_PAGE)
      if (firstDifference(words, pattern, 0, used) >= used) this.#pages[page] = UNIFORM_PAGES[state]!
    }
  }
}

function isShared(words: Int32Array): boolean {
  return words === UNIFORM_PAGES[0] || words === UNIFORM_PAGES[1] || words === UNIFORM_PAGES[2]
}

/** The first sector of the page, from `start` on, that has another state than the pattern's; at least `end` if none. */
function firstDifference(words: Int32Array, pattern: number, start: number, end: number): number {
  const firstWord = start >>> 4
  const within = (words[firstWord]! ^ pattern) >>> ((start & 15) << 1)
  if (within !== 0) return start + (trailingZeros(within) >>> 1)
  const wordEnd = (end + 15) >>> 4
  let word = firstWord + 1
  while (word < wordEnd && words[word] === pattern) word++
  return word < wordEnd ? word * SECTORS_PER_WORD + (trailingZeros(words[word]! ^ pattern) >>> 1) : end
}

function fill(words: Int32Array, pattern: number, start: number, end: number): void {
  const firstWord = start >>> 4
  const lastWord = (end - 1) >>> 4
  const headMask = -1 << ((start & 15) << 1)
  const tailMask = -1 >>> (30 - (((end - 1) & 15) << 1))
  if (firstWord === lastWord) {
    setMasked(words, firstWord, pattern, headMask & tailMask)
    return
  }
  setMasked(words, firstWord, pattern, headMask)
  words.fill(pattern, firstWord + 1, lastWord)
  setMasked(words, lastWord, pattern, tailMask)
}

function setMasked(words: Int32Array, word: number, pattern: number, mask: number): void {
  words[word] = (words[word]! & ~mask) | (pattern & mask)
}

function trailingZeros(word: number): number {
  return 31 - Math.clz32(word & -word)
}
