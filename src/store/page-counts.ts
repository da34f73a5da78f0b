/**
 * How many data blocks each index page of an image has, and how many of them are here. Six bytes a page.
 */
export class PageCounts {
  readonly #here: Uint16Array
  readonly #data: Uint16Array
  readonly #known: Uint8Array
  #knownPages = 0
  #hereInAll = 0
  #dataInAll = 0

  constructor(pages: number) {
    this.#here = new Uint16Array(pages)
    this.#data = new Uint16Array(pages)
    this.#known = new Uint8Array(pages)
  }

  /** Data blocks that are here, of the pages that are known. */
  get here(): number {
    return this.#hereInAll
  }

  /** Data blocks of the pages that are known. */
  get data(): number {
    return this.#dataInAll
  }

  /** Whether every page is known. */
  get isComplete(): boolean {
    return this.#knownPages === this.#known.length
  }

  isKnown(page: number): boolean {
    return this.#known[page] === 1
  }

  /** Whether the page is known and all its data blocks are here. */
  isFull(page: number): boolean {
    return this.isKnown(page) && this.#here[page] === this.#data[page]
  }

  /** Whether none of the page's blocks can go: it is not counted, or none is here. */
  isEmpty(page: number): boolean {
    return this.#known[page] !== 1 || this.#here[page] === 0
  }

  set(page: number, here: number, data: number): void {
    this.unset(page)
    this.#here[page] = here
    this.#data[page] = data
    this.#known[page] = 1
    this.#knownPages++
    this.#hereInAll += here
    this.#dataInAll += data
  }

  unset(page: number): void {
    if (!this.isKnown(page)) return
    this.#hereInAll -= this.#here[page]!
    this.#dataInAll -= this.#data[page]!
    this.#known[page] = 0
    this.#knownPages--
  }

  /** One block of the page came (1) or went (-1). */
  change(page: number, by: 1 | -1): void {
    this.#here[page]! += by
    this.#hereInAll += by
  }
}
