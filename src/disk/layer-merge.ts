/**
 * Puts all that one frozen layer has into its neighbour, a piece at a time, while both go on being read.
 *
 * The smaller is put into the larger. *Down*, into the lower one: sectors that the upper one has are overwritten in the
 * lower, where nobody sees them, because whoever looks has the upper one before it. *Up*, into the upper one: only sectors
 * that it leaves open are filled in, with what one would find below it anyway. So at no moment does any reader, or any
 * crash, see anything but what it saw before; only the chain's file, later, says that one of the two is needed no more.
 *
 * Data is durable before the map points at it, as in every layer. A merge that was begun before may have ended with a sync that
 * failed, after which the cache shows what is not on the disk, and no sync writes it. So whatever the map shows already is
 * written again.
 */
import type { FrozenLayer } from './frozen-layer.ts'
import {
  type FrozenPage,
  LayerMap,
  SECTOR_ABSENT,
  SECTOR_BYTES,
  SECTOR_DATA,
  SECTOR_ZERO,
  SECTORS_PER_PAGE,
  uniformPage,
  uniformState
} from './layer-map.ts'
import type { Sectors } from './zero-blocks.ts'

export interface MergePace {
  signal: AbortSignal
  /** Called between pieces, with what the last one copied; the next begins when it is done. */
  breathe(copiedBytes: number): Promise<void>
}

const COPY_BYTES = 256 * 1024
/** What is made durable together: so much data at most is copied once more by the next merge, if this one breaks off. */
const BYTES_PER_SYNC = 512 * 1024 * 1024
/** Records of the map likewise. */
const RECORDS_PER_SYNC = 64
/** Pages likewise, nearly all of them without a record: two bits in the file, some tens of bytes here. */
const PAGES_PER_SYNC = 65_536
/** Pages that are all zero, which cost a microsecond, before others have their turn; any other counts as many. */
const ZERO_PAGES_PER_TURN = 4096
const ZERO_PAGES_IN_ANOTHER = 64

/**
 * @param sizeBytes - of the disk
 * @param onZero - told of sectors of `into` that are zero by now and were put there: what lies there in its file is needed no more
 * @returns false if `pace.signal` fired; it can be begun again
 * @throws RowanError LAYER_CORRUPT, STORE_IO, DISK_FULL; nothing is lost
 */
export async function mergeLayers(
  from: FrozenLayer,
  into: FrozenLayer,
  direction: 'down' | 'up',
  sizeBytes: number,
  pace: MergePace,
  onZero: (zero: Sectors) => void = () => undefined
): Promise<boolean> {
  into.mapFile.writeDirectoryAgain()
  const merge = new Merge(from, into, direction, sizeBytes, pace, onZero)
  for (const page of from.mapFile.pages()) {
    if (!(await merge.takePage(page))) return false
  }
  await merge.makeDurable()
  return true
}

class Merge {
  readonly #from: FrozenLayer
  readonly #into: FrozenLayer
  readonly #direction: 'down' | 'up'
  readonly #sizeBytes: number
  readonly #pace: MergePace
  readonly #buffer = Buffer.alloc(COPY_BYTES)
  readonly #onZero: (zero: Sectors) => void
  #pages: FrozenPage[] = []
  /** Since the last sync. */
  #copiedBytes = 0
  #records = 0
  /** Since others had their turn. */
  #looked = 0

  constructor(
    from: FrozenLayer,
    into: FrozenLayer,
    direction: 'down' | 'up',
    sizeBytes: number,
    pace: MergePace,
    onZero: (zero: Sectors) => void
  ) {
    this.#onZero = onZero
    this.#from = from
    this.#into = into
    this.#direction = direction
    this.#sizeBytes = sizeBytes
    this.#pace = pace
  }

  async takePage(page: number): Promise<boolean> {
    const words = this.#takeZeros(page) ?? (await this.#takeRuns(page))
    if (words === undefined) return false
    this.#pages.push({ number: page, words })
    if (uniformState(words) === undefined) this.#records++
    const isMuch =
      this.#records >= RECORDS_PER_SYNC || this.#copiedBytes >= BYTES_PER_SYNC || this.#pages.length >= PAGES_PER_SYNC
    if (isMuch) await this.makeDurable()
    if (++this.#looked >= ZERO_PAGES_PER_TURN) {
      this.#looked = 0
      await this.#pace.breathe(0)
    }
    return !this.#pace.signal.aborted
  }

  /** What becomes of a page that is all zero in the one, where that is seen without its record in the other. */
  #takeZeros(page: number): Int32Array | undefined {
    if (this.#from.mapFile.uniformState(page) !== SECTOR_ZERO) return undefined
    const known = this.#into.mapFile.uniformState(page)
    if (this.#direction === 'down') {
      if (known === undefined || known === SECTOR_DATA)
        this.#onZero({ start: page * SECTORS_PER_PAGE, end: (page + 1) * SECTORS_PER_PAGE })
      return uniformPage(SECTOR_ZERO)
    }
    return known === undefined ? undefined : uniformPage(known === SECTOR_ABSENT ? SECTOR_ZERO : known)
  }

  /** Puts a page of the one into that of the other, run by run. Undefined: it is to end. */
  async #takeRuns(page: number): Promise<Int32Array | undefined> {
    this.#looked += ZERO_PAGES_IN_ANOTHER
    const pageBytes = page * SECTORS_PER_PAGE * SECTOR_BYTES
    const sectors = Math.min(SECTORS_PER_PAGE, Math.ceil((this.#sizeBytes - pageBytes) / SECTOR_BYTES))
    const source = mapOf(this.#from, page, sectors)
    const target = mapOf(this.#into, page, sectors)
    for (let at = 0; at < sectors; ) {
      const state = source.stateAt(at)
      let end = source.runEnd(at, sectors)
      const known = target.stateAt(at)
      if (this.#direction === 'up') end = Math.min(end, target.runEnd(at, sectors))
      if (state !== SECTOR_ABSENT && (this.#direction === 'down' || known === SECTOR_ABSENT)) {
        if (state === SECTOR_DATA && !(await this.#copy(pageBytes, at, end))) return undefined
        const start = page * SECTORS_PER_PAGE
        if (state === SECTOR_ZERO) this.#onZero({ start: start + at, end: start + end })
        target.set(at, end, state)
      }
      at = end
    }
    target.markChanged(0, sectors)
    return target.freeze()[0]!.words
  }

  async makeDurable(): Promise<void> {
    const pages = this.#pages
    if (pages.length === 0) return
    this.#pages = []
    this.#records = 0
    this.#copiedBytes = 0
    await this.#into.data.sync()
    const { mapFile } = this.#into
    await mapFile.prepare(pages)
    await mapFile.write(pages)
    await mapFile.sync()
  }

  async #copy(pageBytes: number, first: number, last: number): Promise<boolean> {
    const end = Math.min(pageBytes + last * SECTOR_BYTES, this.#sizeBytes)
    for (let at = pageBytes + first * SECTOR_BYTES; at < end; at += COPY_BYTES) {
      if (this.#pace.signal.aborted) return false
      const piece = this.#buffer.subarray(0, Math.min(COPY_BYTES, end - at))
      await this.#from.data.read(piece, at)
      await this.#into.data.write(piece, at)
      this.#copiedBytes += piece.length
      await this.#pace.breathe(piece.length)
    }
    return true
  }
}

/** One page of a layer's map by itself. */
function mapOf({ mapFile }: FrozenLayer, page: number, sectors: number): LayerMap {
  const map = new LayerMap(sectors)
  map.load(0, mapFile.readPage(page))
  return map
}
