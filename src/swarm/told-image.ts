/**
 * What one requester was told about one image here, and what it is to be told next: which blocks are here, and whether it is helped.
 */

import { INDEX_FANOUT } from '../cluster.ts'
import { nodeCount } from '../image/geometry.ts'
import type { LocalImage } from '../store/images.ts'
import { MAX_HAVE_PAGES, MAX_HAVE_PAGES_PER_MESSAGE } from './limits.ts'
import { type HavePage, haveFrame } from './messages.ts'

export class ToldImage {
  readonly image: LocalImage
  readonly #handle: number
  /** Whether this requester's blocks are fetched on its behalf. */
  readonly #helps: () => boolean
  #complete: boolean
  #toldHelps = false
  /** Pages with blocks that came, or went, since the requester was told. */
  readonly #news = new Set<number>()
  readonly #endUse: () => void
  /** It was told that all is here, and now some of it is not: everything is told again. */
  #tellAll = false

  constructor(handle: number, image: LocalImage, helps: () => boolean) {
    this.#handle = handle
    this.image = image
    this.#helps = helps
    this.#complete = image.complete
    this.#endUse = image.use()
  }

  /** The requester needs it no longer. */
  end(): void {
    this.#endUse()
  }

  /** Whether the requester was told that all is here. */
  get complete(): boolean {
    return this.#complete
  }

  stored(block: number): void {
    if (!this.#complete) this.#note(Math.floor(block / INDEX_FANOUT))
  }

  lost(pages: readonly number[]): void {
    this.#tellAll ||= this.#complete
    this.#complete = false
    for (const page of pages) this.#note(page)
  }

  /** The frames that tell all that is here. */
  all(): Uint8Array[] {
    return this.#frames(pagesHere(this.image))
  }

  /** The frames that tell what is new since the last time; none if nothing is. */
  news(): Uint8Array[] {
    if (this.#complete) return []
    const pages = this.#tellAll ? pagesHere(this.image) : [...this.#news]
    const isNews = this.#tellAll || pages.length > 0 || this.image.complete || this.#toldHelps !== this.#helps()
    this.#news.clear()
    this.#tellAll = false
    return isNews ? this.#frames(pages) : []
  }

  #note(page: number): void {
    if (this.#news.size < MAX_HAVE_PAGES) this.#news.add(page)
  }

  #frames(pages: number[]): Uint8Array[] {
    this.#complete = this.image.complete
    this.#toldHelps = this.#helps()
    const news: HavePage[] = this.#complete
      ? []
      : pages.map(page => ({ page, bitmap: wholeBitmap(this.image.haveBitmap(page)) }))
    const frames: Uint8Array[] = []
    for (let i = 0; i === 0 || i < news.length; i += MAX_HAVE_PAGES_PER_MESSAGE) {
      const part = news.slice(i, i + MAX_HAVE_PAGES_PER_MESSAGE)
      frames.push(haveFrame(this.#handle, this.#complete, part, this.#toldHelps))
    }
    return frames
  }
}

/** The pages whose index is here, up to what a requester will remember. */
function pagesHere(image: LocalImage): number[] {
  const pages: number[] = []
  const count = nodeCount(0, image.root.blocks)
  for (let page = 0; page < count && pages.length < MAX_HAVE_PAGES; page++) {
    if (image.haveBitmap(page)?.some(bits => bits !== 0)) pages.push(page)
  }
  return pages
}

/** The bitmap of an image's last page is as short as the page; on the wire all are of one length. */
function wholeBitmap(bits: Uint8Array | undefined): Uint8Array {
  const whole = new Uint8Array(INDEX_FANOUT / 8)
  whole.set(bits ?? [])
  return whole
}
