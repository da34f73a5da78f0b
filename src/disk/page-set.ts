/**
 * Numbers of pages, as one bit each: a trim of the largest disk puts a million in, which took a Set most of a second.
 */
export class PageSet implements Iterable<number> {
  readonly #words: Int32Array
  #size = 0

  /** @param pageCount - numbers are below it */
  constructor(pageCount: number) {
    this.#words = new Int32Array(Math.ceil(pageCount / 32))
  }

  get size(): number {
    return this.#size
  }

  has(page: number): boolean {
    return ((this.#words[page >>> 5]! >>> (page & 31)) & 1) === 1
  }

  add(page: number): void {
    if (this.has(page)) return
    this.#words[page >>> 5]! |= 1 << (page & 31)
    this.#size++
  }

  delete(page: number): void {
    if (!this.has(page)) return
    this.#words[page >>> 5]! &= ~(1 << (page & 31))
    this.#size--
  }

  /** Ascending. It may be changed meanwhile. */
  *[Symbol.iterator](): Generator<number> {
    for (let index = 0; index < this.#words.length; index++) {
      if (this.#words[index] === 0) continue
      for (let bit = 0; bit < 32; bit++) if (((this.#words[index]! >>> bit) & 1) === 1) yield index * 32 + bit
    }
  }
}
