/**
 * Which slots are taken: one bit each. Gives the lowest free one, so that blocks that come together lie together and
 * a pool that shrank fills its first segments again.
 */

const BITS = 32
const FULL = 0xffffffff

export class SlotAllocator {
  #words = new Uint32Array(1024)
  /** No slot below this word is free. */
  #firstWord = 0
  #taken = 0

  get taken(): number {
    return this.#taken
  }

  /** No slot from this on is taken. */
  get limit(): number {
    return this.#words.length * BITS
  }

  /** Whether none of `count` slots from `first` on is taken; both are multiples of 32. */
  isFree(first: number, count: number): boolean {
    return this.#words.subarray(first / BITS, (first + count) / BITS).every(word => word === 0)
  }

  isTaken(slot: number): boolean {
    return ((this.#words[Math.floor(slot / BITS)] ?? 0) & (1 << (slot % BITS))) !== 0
  }

  /** Marks one slot as taken, as found on disk. */
  mark(slot: number): void {
    this.#reach(Math.floor(slot / BITS))
    if (this.isTaken(slot)) return
    this.#words[Math.floor(slot / BITS)]! |= 1 << (slot % BITS)
    this.#taken++
  }

  /** Takes the lowest free slot. */
  take(): number {
    let word = this.#firstWord
    while (word < this.#words.length && this.#words[word] === FULL) word++
    this.#firstWord = word
    this.#reach(word)
    // The lowest zero bit: the lowest one bit of the complement.
    const free = ~this.#words[word]!
    const bit = 31 - Math.clz32(free & -free)
    this.#words[word]! |= 1 << bit
    this.#taken++
    return word * BITS + bit
  }

  free(slot: number): void {
    if (!this.isTaken(slot)) return
    const word = Math.floor(slot / BITS)
    this.#words[word]! &= ~(1 << (slot % BITS))
    this.#firstWord = Math.min(this.#firstWord, word)
    this.#taken--
  }

  #reach(word: number): void {
    if (word < this.#words.length) return
    const larger = new Uint32Array(Math.max(word + 1, this.#words.length * 2))
    larger.set(this.#words)
    this.#words = larger
  }
}
