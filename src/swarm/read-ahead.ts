/**
 * Read-ahead for a disk whose next reads nobody knows: what a guest touched first, and what that says about what comes.
 *
 * A step machine. Where it is known which file is read (file-layout.ts), the rest of that is what comes; where it ends, a few blocks
 * around, because files that are read together mostly lie together. Not of a file that was here without having been guessed: who
 * brought that brings the rest, as a profile does. Else two guesses, from first touches alone:
 *
 * - *Streams*: touches that go on where an earlier one was, forwards with gaps, or with one stride, backwards too. A stream's window
 *   doubles with each touch that fits, up to half the reach, and from there on grows with what the stream has shown.
 * - *Neighbours*: the guest waits for a block that no stream expected. File systems put together what belongs together, so the
 *   aligned group of blocks around it comes, too; half of it where nothing in the area was touched yet.
 *
 * How far either goes (the *reach*) follows from what became of the guesses: it doubles while many of them are touched, and
 * halves while few are. On a Debian boot over 68 ms and 50 Mbit/s, simulated from its recorded reads, the guest waits 80 s without
 * any of this, for 47 MB; 13.5 s with both guesses, for 68 MB; 14.5 s where files are known, for 52 MB.
 */

import type { FilePlace } from './file-layout.ts'

export interface ReadAheadLimits {
  /** Blocks fetched ahead and not touched, that touches have not earned. */
  unearnedBlocks: number
}

interface Stream {
  last: number
  /** Between touches; 1 also takes gaps. Undefined while there was one touch only. */
  stride: number | undefined
  /** 0 while the stride is a guess. */
  window: number
  /** Touches that fitted. */
  fitting: number
}

const MAX_STREAMS = 32
/** A stride above this is chance. */
const MAX_STRIDE = 64
/** Gaps that a forward stream takes from the start. */
const MAX_GAP = 4
const FIRST_WINDOW = 4
export const MIN_REACH = 2
export const MAX_REACH = 16
/** Touches of a stream for each block of its window, beyond half the reach; and the largest window. */
const FITTING_FOR_ONE = 4
export const MAX_STREAM_WINDOW = 64
/** Blocks around one in which a known file ends. */
const AROUND_FILE = 4
/** An area is 8 MiB; this many are remembered as touched. */
const AREA_BLOCKS = 128
const MAX_AREAS = 4096
/** A guess is a miss when this many later ones were made and it was not touched. */
const PATIENCE_GUESSES = 512
/** Guesses that are judged at a time, and the shares of them that change the reach. */
const JUDGED_GUESSES = 64
const GOOD_SHARE = 0.3
const POOR_SHARE = 0.15
/** Blocks fetched in vain that a touched guess pays for. */
const WASTE_EARNED = 3

export class ReadAhead {
  readonly #limits: ReadAheadLimits
  /** The last that was touched at the end. */
  readonly #streams: Stream[] = []
  /** Guesses that were fetched and not touched, oldest first. */
  readonly #guesses = new Set<number>()
  readonly #areas = new Set<number>()
  #reach = MAX_REACH
  #touchedGuesses = 0
  #missedGuesses = 0
  #judged = { touched: 0, missed: 0 }

  constructor(limits: ReadAheadLimits) {
    this.#limits = limits
  }

  /** Blocks around one that was waited for. */
  get reach(): number {
    return this.#reach
  }

  /** Guesses that the guest touched, and those that it did not (yet). */
  get outcome(): { touched: number; untouched: number } {
    return { touched: this.#touchedGuesses, untouched: this.#missedGuesses + this.#guesses.size }
  }

  /**
   * The guest touched a block for the first time.
   *
   * @param isMissing - it has to wait for it
   * @param file - what it reads there, if that is known
   * @returns blocks to have here soon, the likeliest first; some may be here, or outside the image
   */
  touched(block: number, isMissing: boolean, file?: FilePlace): number[] {
    const wasGuess = this.#guesses.delete(block)
    if (wasGuess) this.#judge(true)
    const stream = this.#follow(block)
    const isKnownArea = this.#noteArea(block)
    const rest = file !== undefined && (isMissing || wasGuess) ? [...file.behind, ...file.before] : []
    const ahead = file === undefined ? stream : rest
    // A file that goes on says itself what comes; where it ends, what is read with it mostly lies beside it.
    if (isMissing && (file === undefined || file.behind.length === 0)) {
      const around = isKnownArea ? this.#reach : this.#reach / 2
      const group = file === undefined ? around : Math.min(AROUND_FILE, this.#reach)
      const first = Math.floor(block / group) * group
      for (let other = block + 1; other < first + group; other++) ahead.push(other)
      for (let other = block - 1; other >= first; other--) ahead.push(other)
    }
    return this.#withinBounds(ahead)
  }

  /** What was touched a moment ago turns out to be of this file. @returns as `touched` */
  placed(file: FilePlace): number[] {
    return this.#withinBounds(file.behind)
  }

  /** One of those blocks was not here, and is fetched. */
  asked(block: number): void {
    this.#guesses.add(block)
    if (this.#guesses.size <= PATIENCE_GUESSES) return
    const [oldest] = this.#guesses
    this.#guesses.delete(oldest!)
    this.#judge(false)
  }

  #withinBounds(ahead: readonly number[]): number[] {
    const { unearnedBlocks } = this.#limits
    const room = unearnedBlocks + WASTE_EARNED * this.#touchedGuesses - this.outcome.untouched
    return ahead.slice(0, Math.max(0, room))
  }

  /** @returns whether something near was touched before */
  #noteArea(block: number): boolean {
    const area = Math.floor(block / AREA_BLOCKS)
    if (this.#areas.has(area)) return true
    if (this.#areas.size >= MAX_AREAS) this.#areas.clear()
    this.#areas.add(area)
    return false
  }

  #judge(wasTouched: boolean): void {
    if (wasTouched) this.#touchedGuesses++
    else this.#missedGuesses++
    const judged = this.#judged
    if (wasTouched) judged.touched++
    else judged.missed++
    const count = judged.touched + judged.missed
    if (count < JUDGED_GUESSES) return
    const share = judged.touched / count
    if (share >= GOOD_SHARE) this.#reach = Math.min(MAX_REACH, this.#reach * 2)
    if (share <= POOR_SHARE) this.#reach = Math.max(MIN_REACH, this.#reach / 2)
    this.#judged = { touched: 0, missed: 0 }
  }

  /** What the stream that this touch belongs to will touch next. */
  #follow(block: number): number[] {
    const stream = this.#streamOf(block)
    if (stream === undefined) {
      this.#streams.push({ last: block, stride: undefined, window: 0, fitting: 0 })
      if (this.#streams.length > MAX_STREAMS) this.#streams.shift()
      return []
    }
    this.#streams.splice(this.#streams.indexOf(stream), 1)
    this.#streams.push(stream)
    const step = block - stream.last
    stream.last = block
    if (stream.stride === undefined && (step < 0 || step > MAX_GAP)) {
      stream.stride = step
      return []
    }
    stream.stride ??= 1
    stream.fitting++
    const doubled = Math.min(this.#reach / 2, Math.max(FIRST_WINDOW, stream.window * 2))
    stream.window = Math.min(MAX_STREAM_WINDOW, Math.max(doubled, Math.floor(stream.fitting / FITTING_FOR_ONE)))
    return Array.from({ length: stream.window }, (_, index) => block + (index + 1) * stream.stride!)
  }

  /** The one that expected this block, else the last one that it may be the second touch of. */
  #streamOf(block: number): Stream | undefined {
    let second: Stream | undefined
    for (let index = this.#streams.length - 1; index >= 0; index--) {
      const stream = this.#streams[index]!
      const step = block - stream.last
      if (step === stream.stride) return stream
      if ((stream.stride ?? 1) === 1 && step > 0 && step <= Math.max(MAX_GAP, stream.window)) return stream
      if (stream.stride === undefined && Math.abs(step) <= MAX_STRIDE) second ??= stream
    }
    return second
  }
}
