/**
 * A page of the merged map of the frozen layers: which of them has each sector of 8 MiB.
 *
 * Guests write 4 KiB, so a page has one **code** for each 4 KiB, two bytes, and only a cell whose 8 sectors differ points
 * at 8 codes of its own. Codes: absent (the image has it), zero, or a layer by its number.
 */
import { SECTORS_PER_PAGE, SECTORS_PER_WORD } from './layer-map.ts'

export const CODE_ABSENT = 0
export const CODE_ZERO = 1
/** The code of layer 0; those of others follow. */
export const CODE_FIRST_LAYER = 2
/** From here on, the rest of the number says which fine cell. */
export const CODE_FINE = 0x8000
export const MAX_LAYER_CODE = CODE_FINE - 1

export const SECTORS_PER_CELL = 8
export const CELLS_PER_PAGE = SECTORS_PER_PAGE / SECTORS_PER_CELL
const CELLS_PER_WORD = SECTORS_PER_WORD / SECTORS_PER_CELL
/** Two bits for each of the 8 sectors. */
const CELL_MASK = 0xffff
const CELL_DATA = 0x5555
const CELL_ZERO = 0xaaaa

export class OwnerPage {
  readonly cells: Uint16Array
  /** 8 codes for each fine cell. */
  fine: Uint16Array
  #fineCells: number
  /** Layers that are in it. */
  folded = 0
  /** Looked at since it was last considered for eviction. */
  used = true

  constructor(cells = new Uint16Array(CELLS_PER_PAGE), fine = new Uint16Array(0)) {
    this.cells = cells
    this.fine = fine
    this.#fineCells = fine.length / SECTORS_PER_CELL
  }

  /** A page of one code. */
  static of(code: number): OwnerPage {
    return new OwnerPage(new Uint16Array(CELLS_PER_PAGE).fill(code))
  }

  get fineCells(): number {
    return this.#fineCells
  }

  get memoryBytes(): number {
    return this.cells.byteLength + this.fine.byteLength
  }

  /** The code of the page, if it has but one. */
  get uniformCode(): number | undefined {
    const code = this.cells[0]!
    if (code >= CODE_FINE) return undefined
    for (const each of this.cells) if (each !== code) return undefined
    return code
  }

  codeAt(sectorInPage: number): number {
    const code = this.cells[sectorInPage >>> 3]!
    return code < CODE_FINE ? code : this.fine[((code - CODE_FINE) << 3) + (sectorInPage & 7)]!
  }

  /** Where the run of sectors with the code of `sectorInPage` ends, at most `end`. */
  runEnd(sectorInPage: number, end: number): number {
    const code = this.codeAt(sectorInPage)
    let at = sectorInPage
    while (at < end) {
      const cell = this.cells[at >>> 3]!
      if (cell === code) {
        at = (at | 7) + 1
      } else if (cell >= CODE_FINE) {
        const first = (cell - CODE_FINE) << 3
        do {
          if (this.fine[first + (at & 7)] !== code) return Math.min(at, end)
          at++
        } while ((at & 7) !== 0)
      } else {
        return Math.min(at, end)
      }
    }
    return end
  }

  /** Puts a layer upon what is in the page: its sectors with data get `code`, its zeros CODE_ZERO. */
  fold(words: Int32Array, code: number): void {
    for (let index = 0; index < words.length; index++) {
      const word = words[index]!
      if (word === 0) continue
      const cell = index * CELLS_PER_WORD
      this.#foldCell(cell, word & CELL_MASK, code)
      this.#foldCell(cell + 1, word >>> 16, code)
    }
    this.folded++
  }

  #foldCell(cell: number, bits: number, code: number): void {
    if (bits === 0) return
    if (bits === CELL_DATA) this.cells[cell] = code
    else if (bits === CELL_ZERO) this.cells[cell] = CODE_ZERO
    else this.#foldSectors(cell, bits, code)
  }

  #foldSectors(cell: number, bits: number, code: number): void {
    const before = this.cells[cell]!
    const place = before >= CODE_FINE ? before - CODE_FINE : this.#newFineCell(before)
    const first = place * SECTORS_PER_CELL
    for (let sector = 0; sector < SECTORS_PER_CELL; sector++) {
      const state = (bits >>> (sector * 2)) & 3
      if (state === 1) this.fine[first + sector] = code
      else if (state === 2) this.fine[first + sector] = CODE_ZERO
    }
    this.cells[cell] = CODE_FINE + place
  }

  /** A cell that became coarse again leaves its fine cell unused, so there may be none left before all are in use. */
  #newFineCell(code: number): number {
    if (this.#fineCells === CELLS_PER_PAGE) this.#compact()
    const place = this.#fineCells++
    if (this.fine.length < this.#fineCells * SECTORS_PER_CELL) {
      const grown = new Uint16Array(Math.min(CELLS_PER_PAGE, Math.max(4, place * 2)) * SECTORS_PER_CELL)
      grown.set(this.fine)
      this.fine = grown
    }
    this.fine.fill(code, place * SECTORS_PER_CELL, (place + 1) * SECTORS_PER_CELL)
    return place
  }

  /** Drops fine cells that nothing points at, and those whose sectors are all alike. */
  compact(): void {
    this.#compact()
    this.fine = this.fine.slice(0, this.#fineCells * SECTORS_PER_CELL)
  }

  #compact(): void {
    const old = this.fine
    const kept = new Uint16Array(old.length)
    let count = 0
    for (let cell = 0; cell < CELLS_PER_PAGE; cell++) {
      const code = this.cells[cell]!
      if (code < CODE_FINE) continue
      const first = (code - CODE_FINE) * SECTORS_PER_CELL
      const sectors = old.subarray(first, first + SECTORS_PER_CELL)
      if (sectors.every(each => each === sectors[0])) {
        this.cells[cell] = sectors[0]!
      } else {
        kept.set(sectors, count * SECTORS_PER_CELL)
        this.cells[cell] = CODE_FINE + count++
      }
    }
    this.fine = kept
    this.#fineCells = count
  }
}
