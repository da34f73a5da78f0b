/**
 * One map of all frozen layers below a disk's top: which of them has each sector. A look costs the same however many
 * there are.
 *
 * It is made page by page, when a page is first wanted, and never needs to be whole: a page comes from the **saved map**
 * (frozen-map-file.ts), which covers the lowest layers as they were when it was made, and what the layers above those
 * say is **folded** upon it, lowest first. Without a saved map all layers are folded. So nothing depends on the saved
 * map but time: opening reads its directory alone (0.6 MiB for each TiB of disk), and a page costs one read
 * of 4 KiB and one for each layer above that has written there.
 *
 * Freezing another layer changes nothing that is in memory: a page that was made before it notices when it is next
 * looked at. Merging two layers changes where their numbers point.
 *
 * Memory: 10 bytes for each 8 MiB of disk, 32 bytes of directory for each layer and GiB, and at most `maxPageBytes` of pages; those that were not
 * looked at lately go first (the clock algorithm).
 *
 * Owns: the frozen layers and the saved map. Does not own: the order of the layers on disk (chain.ts).
 */
import type { Log } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import type { FrozenLayer } from './frozen-layer.ts'
import { SECTOR_ZERO, SECTORS_PER_PAGE } from './layer-map.ts'
import { CODE_ABSENT, CODE_FINE, CODE_FIRST_LAYER, CODE_ZERO, MAX_LAYER_CODE, OwnerPage } from './owner-page.ts'

/** Where a page of codes may come from, for the lowest layers of the chain. */
export interface SavedPages {
  /** How many of the lowest layers are in it. */
  readonly covers: number
  /** The code of a page of one code; undefined for one that has to be read. */
  uniform(page: number): number | undefined
  /** LAYER_CORRUPT, STORE_IO. */
  read(page: number): OwnerPage
  close(): void
}

export interface FrozenMapLimits {
  maxPageBytes: number
}

/** Pages of 128 GiB of disk, if few sectors in them stand alone. */
const DEFAULT_FROZEN_MAP_LIMITS: FrozenMapLimits = { maxPageBytes: 64 * 1024 * 1024 }

/** In `#uniform`: there is a page, or would be if it were wanted. */
const PAGED = 0xffff

export class FrozenMap {
  readonly sectors: number
  readonly #pageCount: number
  readonly #log: Log
  readonly #limits: FrozenMapLimits
  /** The layers of the path, lowest first, by their number now. */
  #path: FrozenLayer[] = []
  /** For each code, less CODE_FIRST_LAYER, the layer that has the data. */
  #byCode: FrozenLayer[] = []
  #saved: SavedPages | undefined
  /** Layers that are folded upon saved pages, with their codes. */
  #folds: { layer: FrozenLayer; code: number }[] = []
  /** Codes of pages that have one, or PAGED. */
  readonly #uniform: Uint16Array
  readonly #pages: (OwnerPage | undefined)[]
  /** The numbers of the pages in memory; the clock's hand goes round it. */
  readonly #resident: number[] = []
  #hand = 0
  #pageBytes = 0
  /** Grows whenever the layers change. */
  generation = 0
  #inOrder = { generation: -1, codes: new Uint16Array() }
  /** Where the run that `find` found ends. */
  end = 0

  constructor(sectors: number, log: Log, limits: FrozenMapLimits = DEFAULT_FROZEN_MAP_LIMITS) {
    this.sectors = sectors
    this.#pageCount = Math.ceil(sectors / SECTORS_PER_PAGE)
    this.#log = log
    this.#limits = limits
    this.#uniform = new Uint16Array(this.#pageCount)
    this.#pages = new Array<OwnerPage | undefined>(this.#pageCount).fill(undefined)
  }

  /** The layers, lowest first. */
  get path(): readonly FrozenLayer[] {
    return this.#path
  }

  get pageCount(): number {
    return this.#pageCount
  }

  /** Layers that a page has to be put together from, beside what is saved. */
  get unsavedLayers(): number {
    return this.#folds.length
  }

  /** Whether layers were merged since `load`: the saved map does not fit the chain any more. */
  get isOutdated(): boolean {
    return this.#byCode.length !== this.#path.length
  }

  get memoryBytes(): number {
    return this.#pageBytes + this.#pageCount * 10
  }

  /**
   * Begins with these layers, lowest first, and what is saved of the lowest of them. Everything in memory is forgotten.
   *
   * @param saved - its codes are those of the layers in their order
   */
  load(path: readonly FrozenLayer[], saved: SavedPages | undefined): void {
    this.#saved?.close()
    this.#saved = saved
    this.#path = []
    this.#byCode = []
    this.#folds = []
    for (const page of this.#resident) this.#pages[page] = undefined
    this.#resident.length = 0
    this.#pageBytes = 0
    for (let page = 0; page < this.#pageCount; page++) {
      this.#uniform[page] = saved === undefined ? CODE_ABSENT : (saved.uniform(page) ?? PAGED)
    }
    for (const [index, layer] of path.entries()) this.#add(layer, saved !== undefined && index < saved.covers)
    this.generation++
  }

  /** Another layer upon the highest. */
  push(layer: FrozenLayer): void {
    if (CODE_FIRST_LAYER + this.#byCode.length >= MAX_LAYER_CODE) this.load(this.#path, undefined)
    this.#add(layer, false)
    this.generation++
  }

  /** Two neighbours became one: `kept`, one of the two, has all that both had. The other one is not closed. */
  merged(lower: FrozenLayer, upper: FrozenLayer, kept: FrozenLayer): void {
    const gone = kept === lower ? upper : lower
    this.#path = this.#path.filter(layer => layer !== gone)
    this.#byCode = this.#byCode.map(layer => (layer === gone ? kept : layer))
    // A page may hold codes of either, in any order, and `folded` counts: so the row of folds keeps its length.
    this.#folds = this.#folds.map(fold => (fold.layer === gone ? { ...fold, layer: kept } : fold))
    this.generation++
  }

  /**
   * The code of a sector; `end` is then where the run of sectors with this code ends, at most `limit`. Needs
   * `sector < limit`.
   */
  find(sector: number, limit: number): number {
    const page = (sector / SECTORS_PER_PAGE) | 0
    const pageStart = page * SECTORS_PER_PAGE
    const pageEnd = Math.min(pageStart + SECTORS_PER_PAGE, limit)
    const uniform = this.#uniform[page]!
    if (uniform !== PAGED) {
      this.end = pageEnd
      return uniform
    }
    const found = this.#page(page)
    if (typeof found === 'number') {
      this.end = pageEnd
      return found
    }
    if (!found.used) found.used = true
    const inPage = sector - pageStart
    const cell = found.cells[inPage >>> 3]!
    // Nearly every request of a guest lies within 4 KiB.
    if (cell < CODE_FINE && limit <= sector - (inPage & 7) + 8) {
      this.end = limit
      return cell
    }
    this.end = pageStart + found.runEnd(sector - pageStart, pageEnd - pageStart)
    return found.codeAt(sector - pageStart)
  }

  /** The layer of a code that is neither absent nor zero. */
  layerOf(code: number): FrozenLayer {
    return this.#byCode[code - CODE_FIRST_LAYER]!
  }

  /** Whether a page is more than one code, as far as is known: putting it together takes a while. */
  isPaged(page: number): boolean {
    return this.#uniform[page] === PAGED
  }

  /** A page for the saved map, with the codes of the layers in their order now; a number where it has one code. */
  pageToSave(page: number): OwnerPage | number {
    const found = this.#uniform[page] === PAGED ? (this.#pages[page] ?? this.#make(page)) : this.#uniform[page]!
    const codes = this.#codesInOrder()
    const renumber = (code: number) => (code >= CODE_FINE ? code : codes[code]!)
    if (typeof found === 'number') return renumber(found)
    this.#foldRest(page, found)
    const copy = new OwnerPage(found.cells.map(renumber), found.fine.map(renumber))
    copy.compact()
    return copy.uniformCode ?? copy
  }

  close(): void {
    this.#saved?.close()
    for (const layer of this.#path) layer.close()
  }

  /** For each code in use, the one that the layer has by its place in the path. */
  #codesInOrder(): Uint16Array {
    if (this.#inOrder.generation === this.generation) return this.#inOrder.codes
    const places = new Map(this.#path.map((layer, index) => [layer, CODE_FIRST_LAYER + index]))
    const layers = this.#byCode.map(layer => places.get(layer)!)
    this.#inOrder = { generation: this.generation, codes: Uint16Array.from([CODE_ABSENT, CODE_ZERO, ...layers]) }
    return this.#inOrder.codes
  }

  #add(layer: FrozenLayer, isSaved: boolean): void {
    const code = CODE_FIRST_LAYER + this.#byCode.length
    this.#path.push(layer)
    this.#byCode.push(layer)
    if (isSaved) return
    this.#folds.push({ layer, code })
    for (const page of layer.mapFile.pages()) {
      const state = layer.mapFile.uniformState(page)
      this.#uniform[page] = state === undefined ? PAGED : state === SECTOR_ZERO ? CODE_ZERO : code
    }
  }

  #page(number: number): OwnerPage | number {
    const known = this.#pages[number]
    if (known !== undefined) {
      if (known.folded < this.#folds.length) this.#foldRest(number, known)
      return known
    }
    const page = this.#make(number)
    page.compact()
    const uniform = page.uniformCode
    if (uniform !== undefined) {
      this.#uniform[number] = uniform
      return uniform
    }
    this.#keep(number, page)
    return page
  }

  #make(number: number): OwnerPage {
    const page = this.#savedPage(number)
    this.#foldRest(number, page)
    return page
  }

  #savedPage(number: number): OwnerPage {
    const saved = this.#saved
    if (saved === undefined) return new OwnerPage()
    try {
      const uniform = saved.uniform(number)
      return uniform === undefined ? saved.read(number) : OwnerPage.of(uniform)
    } catch (error) {
      // The layers know it too. Where two were merged, the one that is left is folded twice, which changes nothing.
      const { code, message } = asRowanError(error)
      this.#log.warn('a page of the saved map of layers is put together again', { code, message })
      const page = new OwnerPage()
      for (let index = 0; index < saved.covers; index++) {
        const { mapFile } = this.#byCode[index]!
        if (mapFile.hasPage(number)) page.fold(mapFile.readPage(number), CODE_FIRST_LAYER + index)
      }
      page.folded = 0
      return page
    }
  }

  /** Puts in what is not in the page yet. */
  #foldRest(number: number, page: OwnerPage): void {
    const before = page.memoryBytes
    while (page.folded < this.#folds.length) {
      const { layer, code } = this.#folds[page.folded]!
      if (layer.mapFile.hasPage(number)) page.fold(layer.mapFile.readPage(number), code)
      else page.folded++
    }
    if (this.#pages[number] === page) this.#pageBytes += page.memoryBytes - before
  }

  #keep(number: number, page: OwnerPage): void {
    while (this.#pageBytes + page.memoryBytes > this.#limits.maxPageBytes && this.#resident.length > 0) this.#evictOne()
    this.#pages[number] = page
    this.#resident.push(number)
    this.#pageBytes += page.memoryBytes
  }

  #evictOne(): void {
    for (;;) {
      if (this.#hand >= this.#resident.length) this.#hand = 0
      const number = this.#resident[this.#hand]!
      const page = this.#pages[number]
      if (page === undefined) throw new RowanError('INTERNAL', `page ${number} is resident and is not there`)
      if (page.used) {
        page.used = false
        this.#hand++
        continue
      }
      this.#pageBytes -= page.memoryBytes
      this.#pages[number] = undefined
      // The last takes its place; the order is only roughly that of use anyway.
      this.#resident[this.#hand] = this.#resident.at(-1)!
      this.#resident.pop()
      return
    }
  }
}
